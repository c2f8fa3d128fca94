"""Whose loader it is: cases one by one, then what holds whatever is plugged in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import (
    ClassName,
    Device,
    DeviceId,
    SerialAddress,
    Sighting,
    UsbAddress,
    UsbFacts,
)
from firmwarden.service.identity import ClassRule, Roll, roll

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

PANEL: Final = ClassName("panel")
LIFT: Final = ClassName("lift")
PANEL_USB: Final = (0x1209, 0x0001)
LIFT_USB: Final = (0x1209, 0x0002)
ROM: Final = (0x0483, 0xDF11)
OWN: Final = (0x1209, 0x1001)

BY_PORT: Final = ClassRule(name=PANEL, dfu=True, usb=PANEL_USB, loader=ROM)
BY_SERIAL: Final = replace(BY_PORT, by_serial=True)
LIFT_BY_PORT: Final = ClassRule(name=LIFT, dfu=True, usb=LIFT_USB, loader=ROM)
OWN_LOADER: Final = replace(BY_SERIAL, loader=OWN)
AT_1: Final = replace(BY_PORT, place="usb-0000:00:14.0-1")


def place(number: int) -> str:
    return f"usb-0000:00:14.0-{number}"


def seen(at: int, ids: tuple[int, int] = PANEL_USB, serial: str | None = None) -> Sighting:
    return Sighting(
        address=UsbAddress(topology=f"1-{at}"),
        usb=UsbFacts(vendor_id=ids[0], product_id=ids[1], serial=serial, topology=f"1-{at}", port=place(at)),
    )


def rom(at: int, serial: str | None = "FFFFFFFEFFFF") -> Sighting:
    """The serial number is one that was seen on many clones."""
    return seen(at, ROM, serial)


def known(
    id_: str,
    at: int,
    *,
    serial: str = "",
    half_done: bool = False,
    entered: bool = False,
    device_class: ClassName = PANEL,
) -> Device:
    return Device(
        id=DeviceId(id_),
        device_class=device_class,
        key=f"serial:{serial}" if serial else f"port:{place(at)}",
        port=place(at),
        serial=serial,
        complete=not half_done,
        entered=entered,
    )


def told(found: Roll) -> dict[int, str]:
    """By place: the id of the unit, or the key of a new one, or "?" and who may be meant."""
    answers = {int(presence.port[-1]): presence.known or f"new {presence.key}" for presence in found.present}
    for conflict in found.conflicts:
        for port in conflict.ports:
            answers[int(port[-1])] = " ".join(("?", *conflict.devices))
    return answers


@dataclass(frozen=True, kw_only=True)
class Case:
    rules: Sequence[ClassRule]
    scan: Sequence[Sighting]
    known: Sequence[Device] = ()
    means: dict[int, str]
    says: str = ""


CASES: Final = {
    # --- applications
    "an application by its place": Case(
        rules=[BY_PORT],
        scan=[seen(1, serial="A"), seen(2, serial="A")],
        known=[known("p1", 1)],
        means={1: "p1", 2: f"new port:{place(2)}"},
    ),
    "an application by its serial number": Case(
        rules=[BY_SERIAL],
        scan=[seen(2, serial="A"), seen(3, serial="B")],
        known=[known("p1", 1, serial="A")],
        means={2: "p1", 3: "new serial:B"},
    ),
    "two applications with one serial number": Case(
        rules=[BY_SERIAL],
        scan=[seen(1, serial="A"), seen(2, serial="A")],
        known=[known("p1", 1, serial="A")],
        means={1: "? p1", 2: "? p1"},
        says="show the same serial number A",
    ),
    "an application without the serial number by which its class goes": Case(
        rules=[BY_SERIAL], scan=[seen(1)], means={1: "?"}, says="has no serial number"
    ),
    "an application at a place that is not its class's": Case(rules=[AT_1], scan=[seen(2)], means={}),
    "an application that shows itself under the ids of the ROM, told by its place": Case(
        rules=[replace(BY_PORT, usb=ROM, place=place(1))],
        scan=[rom(1), rom(2)],
        means={1: f"new port:{place(1)}"},
    ),
    "an application that keeps its ids in its own loader": Case(
        rules=[replace(BY_SERIAL, loader=PANEL_USB)],
        scan=[seen(2, serial="A")],
        known=[known("p1", 1, serial="A")],
        means={2: "p1"},
    ),
    # --- ROMs
    "a ROM where its unit was": Case(rules=[BY_PORT], scan=[rom(1)], known=[known("p1", 1)], means={1: "p1"}),
    "a ROM where a unit by serial number was": Case(
        rules=[BY_SERIAL], scan=[rom(1)], known=[known("p1", 1, serial="A")], means={1: "p1"}
    ),
    "a ROM with the serial number of a unit that was elsewhere": Case(
        rules=[BY_SERIAL],
        scan=[rom(2, "A")],
        known=[known("p1", 1, serial="A")],
        means={2: "?"},
        says="the loader 0483:df11, which many products have, is at usb-0000:00:14.0-2, where no unit of panel was "
        "before: plug it in where it was before, or say which it is with `firmwarden adopt usb-0000:00:14.0-2 DEVICE`",
    ),
    "a ROM at an unknown place": Case(
        rules=[BY_PORT], scan=[rom(1)], means={1: "?"}, says='`identity = "port"` and `port` in `match`'
    ),
    "a ROM at a place that the class names": Case(
        rules=[AT_1], scan=[rom(1)], means={1: f"new port:{place(1)}"}
    ),
    "a ROM at a place that the class names, but it goes by serial number": Case(
        rules=[replace(AT_1, by_serial=True)], scan=[rom(1)], means={1: "?"}
    ),
    "a ROM at a place that no class names": Case(rules=[AT_1], scan=[rom(2)], means={}),
    "a ROM at a place that two classes name": Case(
        rules=[AT_1, replace(LIFT_BY_PORT, place="usb-*")],
        scan=[rom(1)],
        means={1: "?"},
        says="a new unit of lift or panel: narrow `port` in `match` of all but one",
    ),
    "a ROM where units of two classes were": Case(
        rules=[BY_SERIAL, LIFT_BY_PORT],
        scan=[rom(1)],
        known=[known("p1", 1, serial="A"), known("l1", 1, device_class=LIFT)],
        means={1: "? l1 p1"},
        says="may be that of l1 or p1: say which it is with `firmwarden adopt usb-0000:00:14.0-1 DEVICE`, or "
        "`firmwarden forget` those that will not come back",
    ),
    "a ROM where two units were": Case(
        rules=[BY_SERIAL],
        scan=[rom(1)],
        known=[known("p1", 1, serial="A"), known("p2", 1, serial="B")],
        means={1: "? p1 p2"},
    ),
    "a ROM where two units were, one of which runs elsewhere": Case(
        rules=[BY_SERIAL],
        scan=[rom(1), seen(2, serial="B")],
        known=[known("p1", 1, serial="A"), known("p2", 1, serial="B")],
        means={1: "p1", 2: "p2"},
    ),
    "two ROMs with one serial number": Case(
        rules=[BY_SERIAL],
        scan=[rom(1, "A"), rom(2, "A")],
        known=[known("p1", 1, serial="A"), known("p2", 2, serial="B")],
        means={1: "p1", 2: "p2"},
    ),
    "the ROM of a unit that was left in it, at another place": Case(
        rules=[BY_SERIAL],
        scan=[rom(2)],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="B")],
        means={2: "? p1"},
        says="Left in its loader was p1 at usb-0000:00:14.0-1: plug it in there again, or say which it is",
    ),
    "a ROM where a unit ran, while one that was left in it is missing": Case(
        rules=[BY_SERIAL],
        scan=[rom(3)],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C")],
        means={3: "? p1 p3"},
        says="may be that of p1 or p3: say which it is with `firmwarden adopt usb-0000:00:14.0-3 DEVICE`, or "
        "`firmwarden forget` those that will not come back",
    ),
    "a ROM where a unit ran, while one of another class that was brought into it is missing": Case(
        rules=[BY_PORT, replace(LIFT_BY_PORT, by_serial=True)],
        scan=[rom(3)],
        known=[known("p3", 3), known("l1", 1, serial="A", entered=True, device_class=LIFT)],
        means={3: "? l1 p3"},
    ),
    "by port, a ROM where a unit ran, while one that was left in it is missing": Case(
        rules=[BY_PORT],
        scan=[rom(3)],
        known=[known("p1", 1, half_done=True), known("p3", 3)],
        means={3: "p3"},
    ),
    "a ROM at a place that the class names, while one of another class that was left in it is missing": Case(
        rules=[AT_1, replace(LIFT_BY_PORT, by_serial=True)],
        scan=[rom(1)],
        known=[known("l2", 2, serial="A", half_done=True, device_class=LIFT)],
        means={1: "? l2"},
        says="may be that of l2: say which it is with",
    ),
    "a ROM where a unit was left, while another one that was is missing": Case(
        rules=[BY_SERIAL],
        scan=[rom(3)],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C", half_done=True)],
        means={3: "p3"},
    ),
    "a ROM into which its unit was brought, while one that was left in it is missing": Case(
        rules=[BY_SERIAL],
        scan=[rom(3)],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C", entered=True)],
        means={3: "p3"},
    ),
    "a ROM where a unit ran, while one that was left in it is where it was": Case(
        rules=[BY_SERIAL],
        scan=[rom(3), rom(1)],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C")],
        means={1: "p1", 3: "p3"},
    ),
    "a ROM where a unit ran, while one that was left in it runs elsewhere": Case(
        rules=[BY_SERIAL],
        scan=[rom(3), seen(4, serial="A")],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C")],
        means={3: "p3", 4: "p1"},
    ),
    "a ROM where a unit was whose application runs elsewhere": Case(
        rules=[BY_SERIAL],
        scan=[rom(1), seen(2, serial="A")],
        known=[known("p1", 1, serial="A")],
        means={1: "?", 2: "p1"},
    ),
    "by port, a ROM where a unit was, and an application elsewhere": Case(
        rules=[BY_PORT],
        scan=[rom(1), seen(2)],
        known=[known("p1", 1)],
        means={1: "p1", 2: f"new port:{place(2)}"},
    ),
    "a ROM while another unit of the class is being updated": Case(
        rules=[BY_PORT],
        scan=[rom(2)],
        known=[known("p1", 1, half_done=True)],
        means={2: "? p1"},
    ),
    # --- loaders of the product's own
    "a loader with its unit's serial number, where it was, while one that was left in it is missing": Case(
        rules=[OWN_LOADER],
        scan=[seen(3, OWN, "C")],
        known=[known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="C")],
        means={3: "p3"},
    ),
    "a loader with its unit's serial number": Case(
        rules=[OWN_LOADER],
        scan=[seen(2, OWN, "A")],
        known=[known("p1", 1, serial="A"), known("p2", 2, serial="B")],
        means={2: "p1"},
    ),
    "a loader with another serial number, where its unit was": Case(
        rules=[OWN_LOADER],
        scan=[seen(1, OWN, "loader")],
        known=[known("p1", 1, serial="A")],
        means={1: "p1"},
    ),
    "a loader without a serial number, where its unit was": Case(
        rules=[OWN_LOADER], scan=[seen(1, OWN)], known=[known("p1", 1, serial="A")], means={1: "p1"}
    ),
    "a loader without a serial number, elsewhere": Case(
        rules=[OWN_LOADER], scan=[seen(2, OWN)], known=[known("p1", 1, serial="A")], means={2: "?"}
    ),
    "a new unit in the product's own loader": Case(
        rules=[OWN_LOADER], scan=[seen(1, OWN, "C")], means={1: "new serial:C"}
    ),
    "a new unit by port in the product's own loader": Case(
        rules=[replace(OWN_LOADER, by_serial=False)],
        scan=[seen(1, OWN, "C")],
        means={1: f"new port:{place(1)}"},
    ),
    "a loader that two products share, told apart by serial number": Case(
        rules=[replace(OWN_LOADER, serial="P*"), replace(OWN_LOADER, name=LIFT, usb=LIFT_USB, serial="L*")],
        scan=[seen(1, OWN, "P7")],
        means={1: "new serial:P7"},
    ),
    "a loader and an application with one serial number": Case(
        rules=[OWN_LOADER],
        scan=[seen(1, OWN, "A"), seen(2, serial="A")],
        known=[known("p1", 1, serial="A")],
        means={1: "? p1", 2: "? p1"},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_inv4_whose_loader_it_is(case: Case) -> None:
    found = roll(case.rules, case.scan, case.known)
    assert told(found) == case.means
    assert case.says in " ".join(conflict.detail for conflict in found.conflicts)


def test_inv4_a_loader_that_is_known_to_be_another_is_still_nobodys() -> None:
    """Nor does it take a rival from a unit: only who is named changes."""
    lost, ran = known("p1", 1, serial="A", half_done=True), known("p3", 3, serial="B")
    (riddle,) = roll([BY_SERIAL], [rom(2)], [lost, ran], others={rom(2): {lost.id}}).conflicts
    assert (riddle.devices, riddle.place) == ((), place(2))
    (riddle,) = roll([BY_SERIAL], [rom(2)], [lost, ran], others={rom(3): {lost.id}}).conflicts
    assert riddle.devices == (lost.id,)
    (riddle,) = roll([BY_SERIAL], [rom(3)], [lost, ran], others={rom(3): {lost.id}}).conflicts
    assert riddle.devices == (lost.id, ran.id)


def test_inv4_a_unit_in_its_rom_keeps_the_serial_number_of_its_application() -> None:
    (unit,) = roll([BY_SERIAL], [rom(1, "another")], [known("p1", 1, serial="A")]).present
    assert (unit.serial, unit.moved_from) == ("A", None)
    (new,) = roll([AT_1], [rom(1, "another")], []).present
    assert new.serial == ""


def test_inv4_only_a_loader_of_which_nothing_is_told_has_a_place_for_a_person_to_name() -> None:
    (riddle,) = roll([BY_SERIAL], [rom(1)], []).conflicts
    assert riddle.place == place(1)
    (other,) = roll([BY_SERIAL], [seen(1)], []).conflicts
    assert other.place == ""


def test_ttys_are_for_the_other_classes() -> None:
    tty = Sighting(
        address=SerialAddress(path="/dev/ttyACM0"),
        usb=replace(seen(1).usb or UsbFacts(vendor_id=0, product_id=0), interface=0),
    )
    assert not BY_PORT.matches(tty)
    assert replace(BY_PORT, dfu=False, loader=None).matches(tty)
    assert not replace(BY_PORT, dfu=False, loader=None).matches(seen(1))


def test_inv4_units_of_one_serial_number_are_not_told_apart_by_an_interface() -> None:
    (said,) = roll([BY_SERIAL], [seen(1, serial="A"), seen(2, serial="A")], []).conflicts
    assert 'unplug all but one, or tell them apart by `identity = "port"`, then' in said.detail


def test_inv4_a_loader_with_the_number_of_a_unit_that_is_new_makes_a_number_that_is_here_twice() -> None:
    lift = replace(LIFT_BY_PORT, by_serial=True, loader=OWN)
    found = roll([OWN_LOADER, lift], [seen(1, OWN, "B"), seen(2, PANEL_USB, "B")], [])
    assert found.present == ()
    (twice,) = found.conflicts
    assert twice.ports == ("usb:1-1", "usb:1-2")


def test_inv4_a_number_that_is_here_twice_says_more_than_where_a_unit_was() -> None:
    lift = replace(LIFT_BY_PORT, by_serial=True, loader=OWN)
    was_here = known("lift-0", 1, serial="B", device_class=LIFT)
    assert roll([lift], [seen(1, OWN, "A"), seen(2, LIFT_USB, "A")], [was_here]).present == ()
    assert roll([lift], [seen(1, OWN, "A"), seen(2, OWN, "A")], [was_here]).present == ()


def test_inv4_a_unit_that_its_loader_tells_elsewhere_is_not_where_it_was() -> None:
    lift = replace(LIFT_BY_PORT, by_serial=True, loader=OWN)
    moved = known("lift-0", 4, serial="A", device_class=LIFT)
    stayed = known("lift-1", 4, serial="B", device_class=LIFT)
    found = roll([lift], [seen(1, OWN, "A"), seen(4, OWN)], [moved, stayed])
    assert [(unit.known, unit.port) for unit in found.present] == [
        ("lift-0", place(1)),
        ("lift-1", place(4)),
    ]


def test_without_a_name_for_the_place_topology_makes_one() -> None:
    sighting = seen(3)
    assert sighting.usb is not None
    nameless = replace(sighting, usb=replace(sighting.usb, port=""))
    assert [unit.port for unit in roll([BY_PORT], [nameless], []).present] == ["usb-1-3"]


# --- whatever is plugged in --------------------------------------------------------------------------

_places = st.integers(1, 4)
_sightings = st.builds(
    seen, _places, st.sampled_from([PANEL_USB, LIFT_USB, ROM, ROM, OWN]), st.sampled_from([None, "A", "B"])
)
_scans = st.lists(_sightings, max_size=4, unique_by=lambda sighting: str(sighting.address))
_configurations = st.tuples(
    st.sampled_from([BY_PORT, BY_SERIAL, OWN_LOADER, AT_1, replace(BY_SERIAL, serial="A")]),
    st.none() | st.sampled_from([LIFT_BY_PORT, replace(LIFT_BY_PORT, by_serial=True, loader=OWN)]),
).map(lambda rules: [rule for rule in rules if rule is not None])
_stores = st.lists(
    st.tuples(st.sampled_from([PANEL, LIFT]), _places, st.sampled_from(["", "A", "B"]), st.booleans()),
    max_size=5,
).map(
    lambda entries: list(
        {
            (device.device_class, device.key): device
            for number, (name, at, serial, half_done) in enumerate(entries)
            for device in (
                known(f"{name}-{number}", at, serial=serial, half_done=half_done, device_class=name),
            )
        }.values()
    )
)


@given(_configurations, _scans, _stores, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_seen_changes_nothing(
    rules: list[ClassRule], scan: list[Sighting], store: list[Device], random: Random
) -> None:
    before = roll(rules, scan, store)
    for listed in (rules, scan, store):
        random.shuffle(listed)
    assert roll(rules, scan, store) == before


@given(_configurations, _scans, _stores)
def test_inv4_no_unit_is_at_two_places_and_no_place_has_two_units(
    rules: list[ClassRule], scan: list[Sighting], store: list[Device]
) -> None:
    found = roll(rules, scan, store)
    places = [presence.port for presence in found.present]
    units = [presence.known for presence in found.present if presence.known is not None]
    identities = [(presence.device_class, presence.key) for presence in found.present]
    for listed in (places, units, identities):
        assert len(set(listed)) == len(listed)
    # Nobody is lost either.
    matched = {str(sighting.address) for sighting in scan if any(rule.matches(sighting) for rule in rules)}
    sorted_out = [str(presence.sighting.address) for presence in found.present]
    sorted_out += [port for conflict in found.conflicts for port in conflict.ports]
    assert sorted(sorted_out) == sorted(matched)


@given(_configurations, _scans, _stores)
def test_inv4_a_rom_is_only_ever_the_unit_that_was_there(
    rules: list[ClassRule], scan: list[Sighting], store: list[Device]
) -> None:
    by_id = {device.id: device for device in store}
    for presence in roll(rules, scan, store).present:
        usb = presence.sighting.usb
        if usb is not None and (usb.vendor_id, usb.product_id) == ROM:
            if presence.known is None:
                assert presence.key == f"port:{usb.port}"
            else:
                assert by_id[presence.known].port == usb.port


@given(_configurations, _scans, _stores)
def test_inv4_what_is_present_stays_present_when_nothing_changes(
    rules: list[ClassRule], scan: list[Sighting], store: list[Device]
) -> None:
    first = roll(rules, scan, store)
    kept = {device.id: device for device in store}
    for number, presence in enumerate(first.present):
        id_ = presence.known or DeviceId(f"new-{number}")
        new = Device(id=id_, device_class=presence.device_class, key=presence.key)
        kept[id_] = replace(kept.get(id_, new), port=presence.port, serial=presence.serial)
    second = roll(rules, scan, kept.values())
    assert [(unit.device_class, unit.key) for unit in second.present] == [
        (unit.device_class, unit.key) for unit in first.present
    ]
    assert all(unit.known is not None and unit.moved_from is None for unit in second.present)
