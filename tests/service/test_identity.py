"""Which unit is behind each port: the rules one by one, then what holds whatever is plugged in."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import ClassName, Device, DeviceId, SerialAddress, Sighting, TcpAddress, UsbFacts
from firmwarden.service.identity import ClassRule, Conflict, Presence, Roll, roll

PANEL = ClassName("panel")
LIFT = ClassName("lift")
PANEL_USB = (0x04D8, 0x000A)


def adapter(
    tty: str,
    port: str = "1",
    *,
    serial: str | None = "A1",
    interface: int = 0,
    usb: tuple[int, int] = PANEL_USB,
    links: Sequence[str] = (),
) -> Sighting:
    return Sighting(
        address=SerialAddress(path=f"/dev/{tty}"),
        links=tuple(sorted(links)),
        usb=UsbFacts(
            vendor_id=usb[0],
            product_id=usb[1],
            serial=serial,
            topology=f"1-{port}",
            interface=interface,
            port=f"usb-0000:00:14.0-{port}-if{interface}",
        ),
    )


def device(key: str, *, port: str = "", id_: str = "panel-1", device_class: ClassName = PANEL) -> Device:
    return Device(id=DeviceId(id_), device_class=device_class, key=key, port=port)


def at(port: str, interface: int = 0) -> str:
    return f"usb-0000:00:14.0-{port}-if{interface}"


def only(found: Roll) -> Presence:
    assert found.conflicts == ()
    (presence,) = found.present
    return presence


def conflict(found: Roll) -> Conflict:
    (said,) = found.conflicts
    return said


BY_SERIAL = ClassRule(name=PANEL, usb=PANEL_USB, by_serial=True)
BY_PORT = ClassRule(name=PANEL, usb=PANEL_USB)


# --- which class -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (ClassRule(name=PANEL, usb=PANEL_USB), True),
        (ClassRule(name=PANEL, usb=(0x04D8, 0x000B)), False),
        (ClassRule(name=PANEL, serial="A?"), True),
        (ClassRule(name=PANEL, serial="a?"), False),
        (ClassRule(name=PANEL, serial="B*"), False),
        (ClassRule(name=PANEL, interface=0), True),
        (ClassRule(name=PANEL, interface=2), False),
        (ClassRule(name=PANEL, path="/dev/ttyACM0"), True),
        (ClassRule(name=PANEL, path="/dev/ttyACM*"), True),
        (ClassRule(name=PANEL, path="/dev/*"), True),
        (ClassRule(name=PANEL, path="/dev/serial/by-id/usb-Acme_Panel_*"), True),
        (ClassRule(name=PANEL, path="/dev/serial/by-id/usb-Acme_Lift_*"), False),
        (ClassRule(name=PANEL, path="/dev/serial/by-path/*"), False),
        (ClassRule(name=PANEL, path="/dev/serial/*"), False),
        (ClassRule(name=PANEL, path="/dev/ttyACM*", usb=PANEL_USB, serial="A1", interface=0), True),
        (ClassRule(name=PANEL, path="/dev/ttyACM*", usb=(1, 2), serial="A1", interface=0), False),
        (ClassRule(name=PANEL, path="/dev/ttyUSB*", usb=PANEL_USB), False),
        (ClassRule(name=PANEL, tcp=(TcpAddress(host="h", port=1),)), False),
        (ClassRule(name=PANEL), False),
    ],
)
def test_everything_that_is_given_must_hold(rule: ClassRule, matches: bool) -> None:
    sighting = adapter("ttyACM0", links=["/dev/serial/by-id/usb-Acme_Panel_A1-if00"])

    assert rule.matches(sighting) is matches


def test_what_is_not_usb_is_matched_by_path_alone() -> None:
    port = Sighting(address=SerialAddress(path="/dev/ttyAMA0"))

    assert ClassRule(name=PANEL, path="/dev/ttyAMA0").matches(port)
    for rule in (
        BY_PORT,
        ClassRule(name=PANEL, serial="*"),
        ClassRule(name=PANEL, interface=0, path="/dev/tty*"),
    ):
        assert not rule.matches(port)


def test_a_tcp_endpoint_is_matched_by_its_address() -> None:
    here = Sighting(address=TcpAddress(host="10.0.0.5", port=4000))
    rule = ClassRule(name=PANEL, tcp=(TcpAddress(host="10.0.0.5", port=4000),))

    presence = only(roll([rule], [here], []))

    assert (presence.key, presence.sighting) == ("port:tcp-10.0.0.5:4000", here)
    assert not replace(rule, tcp=(TcpAddress(host="10.0.0.5", port=4001),)).matches(here)


def test_what_no_class_matches_is_left_alone() -> None:
    assert roll([BY_PORT], [adapter("ttyUSB0", usb=(1, 2))], []) == Roll(present=(), conflicts=())


def test_the_rate_is_that_of_the_class() -> None:
    presence = only(roll([replace(BY_PORT, baud=9600)], [adapter("ttyACM0")], []))

    assert presence.sighting.address == SerialAddress(path="/dev/ttyACM0", baud=9600)


# --- identity by port --------------------------------------------------------------------------------


def test_by_port_the_key_has_the_interface() -> None:
    found = roll([BY_PORT], [adapter("ttyACM0", interface=0), adapter("ttyACM1", interface=2)], [])

    assert [presence.key for presence in found.present] == [f"port:{at('1', 0)}", f"port:{at('1', 2)}"]


def test_by_port_a_unit_at_another_port_is_a_new_one() -> None:
    known = device(f"port:{at('1')}", port=at("1"))

    assert only(roll([BY_PORT], [adapter("ttyACM0", "1")], [known])).known == known.id
    elsewhere = only(roll([BY_PORT], [adapter("ttyACM0", "2")], [known]))
    assert (elsewhere.known, elsewhere.moved_from) == (None, None)


def test_by_port_the_serial_number_of_the_cable_says_nothing() -> None:
    known = device(f"port:{at('1')}", port=at("1"))

    presence = only(roll([BY_PORT], [adapter("ttyACM0", "1", serial="another cable")], [known]))

    assert (presence.known, presence.serial) == (known.id, "another cable")


def test_by_port_the_number_of_the_tty_says_nothing() -> None:
    known = device(f"port:{at('1')}", port=at("1"))

    assert only(roll([BY_PORT], [adapter("ttyACM7", "1")], [known])).known == known.id


def test_without_a_name_for_the_port_topology_and_interface_make_one() -> None:
    sighting = adapter("ttyACM0")
    assert sighting.usb is not None
    sighting = replace(sighting, usb=replace(sighting.usb, port=""))

    assert only(roll([BY_PORT], [sighting], [])).port == "usb-1-1-if0"


def test_a_pty_is_known_by_the_link_that_the_class_names() -> None:
    rule = ClassRule(name=PANEL, path="/run/sim/panel-*")
    node = Sighting(
        address=SerialAddress(path="/run/other/a"),
        links=("/dev/pts/5", "/run/sim/panel-1", "/run/sim/panel-2"),
    )

    presence = only(roll([rule], [node], []))

    assert (presence.key, presence.port) == ("port:/run/sim/panel-1", "/run/sim/panel-1")


# --- identity by serial number -----------------------------------------------------------------------


def test_by_serial_a_unit_that_moved_is_the_same() -> None:
    known = device("serial:A1", port=at("1"))

    presence = only(roll([BY_SERIAL], [adapter("ttyACM0", "2")], [known]))

    assert (presence.known, presence.port, presence.moved_from) == (known.id, at("2"), at("1"))


def test_by_serial_a_unit_that_stayed_did_not_move() -> None:
    known = device("serial:A1", port=at("1"))

    assert only(roll([BY_SERIAL], [adapter("ttyACM0", "1")], [known])).moved_from is None
    assert only(roll([BY_SERIAL], [adapter("ttyACM0", "1")], [replace(known, port="")])).moved_from is None


def test_by_serial_two_units_may_change_places() -> None:
    known = [device("serial:A1", port=at("1")), device("serial:B2", port=at("2"), id_="panel-2")]

    found = roll([BY_SERIAL], [adapter("ttyACM0", "2"), adapter("ttyACM1", "1", serial="B2")], known)

    assert found.conflicts == ()
    assert [(presence.known, presence.moved_from) for presence in found.present] == [
        ("panel-1", at("1")),
        ("panel-2", at("2")),
    ]


@pytest.mark.parametrize(
    "occupant",
    [
        adapter("ttyUSB9", "1", serial=None),
        adapter("ttyUSB9", "1", serial="another", usb=(1, 2)),
        adapter("ttyUSB9", "1", serial="A1", usb=(1, 2)),
    ],
    ids=["without serial number", "a loader may show another", "one of no class"],
)
def test_inv4_a_serial_number_elsewhere_while_its_old_place_is_taken_is_a_conflict(
    occupant: Sighting,
) -> None:
    known = device("serial:A1", port=at("1"))
    rule = replace(BY_SERIAL, serial="A*")

    found = roll([rule], [adapter("ttyACM0", "2"), occupant], [known])

    said = conflict(found)
    assert found.present == ()
    assert (said.ports, said.devices) == (("/dev/ttyACM0",), (known.id,))
    assert "/dev/ttyUSB9" in said.detail
    assert "unplug" in said.detail
    assert f"firmwarden forget {known.id}" in said.detail


def test_inv4_one_serial_number_twice_is_a_conflict_of_both() -> None:
    known = device("serial:A1", port=at("1"))

    found = roll(
        [BY_SERIAL], [adapter("ttyACM1", "2"), adapter("ttyACM0", "1"), adapter("ttyACM2", "3")], [known]
    )

    said = conflict(found)
    assert found.present == ()
    assert said.ports == ("/dev/ttyACM0", "/dev/ttyACM1", "/dev/ttyACM2")
    assert said.devices == (known.id,)
    assert said.detail == (
        "/dev/ttyACM0, /dev/ttyACM1 and /dev/ttyACM2 show the same serial number A1, and class panel knows its "
        "units by it: unplug all but one, or tell them apart by `interface` in `match` or by "
        '`identity = "port"`, then `systemctl reload firmwarden`'
    )


def test_inv4_without_a_serial_number_nothing_else_is_taken_for_it() -> None:
    known = device("serial:A1", port=at("1"))

    found = roll([BY_SERIAL], [adapter("ttyACM0", "1", serial=None)], [known])

    said = conflict(found)
    assert found.present == ()
    assert said.devices == (known.id,), "a loader may hide the serial number of the unit that was there"
    assert "/dev/ttyACM0 has no serial number" in said.detail
    assert 'identity = "port"' in said.detail


def test_inv4_a_port_without_usb_has_no_serial_number() -> None:
    rule = ClassRule(name=PANEL, path="/dev/ttyAMA0", by_serial=True)

    assert (
        "no serial number"
        in conflict(roll([rule], [Sighting(address=SerialAddress(path="/dev/ttyAMA0"))], [])).detail
    )


def test_inv4_two_classes_for_one_port_are_a_conflict() -> None:
    lift = ClassRule(name=LIFT, path="/dev/ttyACM*")
    known = [device("serial:A1"), device(f"port:{at('1')}", id_="lift-1", device_class=LIFT)]

    found = roll([BY_SERIAL, lift], [adapter("ttyACM0")], known)

    said = conflict(found)
    assert found.present == ()
    assert (said.classes, said.devices) == ((LIFT, PANEL), ("lift-1", "panel-1"))
    assert said.detail.startswith("/dev/ttyACM0 matches the classes lift and panel: narrow `match`")


def test_several_boards_on_one_adapter_are_told_apart_by_interface() -> None:
    rules = [replace(BY_SERIAL, interface=0), replace(BY_SERIAL, name=LIFT, interface=1)]

    found = roll(rules, [adapter("ttyUSB0", interface=0), adapter("ttyUSB1", interface=1)], [])

    assert found.conflicts == ()
    assert [presence.device_class for presence in found.present] == [LIFT, PANEL]


def test_inv4_a_conflict_ends_as_soon_as_the_plugs_are_clear() -> None:
    known = device("serial:A1", port=at("1"))
    clone = adapter("ttyACM1", "2")
    assert roll([BY_SERIAL], [adapter("ttyACM0", "1"), clone], [known]).present == ()

    assert only(roll([BY_SERIAL], [clone], [known])).known == known.id


# --- whatever is plugged in --------------------------------------------------------------------------

_ports = st.sampled_from(["1", "2", "3"])
_serials = st.sampled_from([None, "A1", "B2"])
_usb = st.sampled_from([PANEL_USB, (1, 2)])
_adapters = st.builds(
    lambda number, port, serial, interface, usb: adapter(
        f"ttyACM{number}",
        port,
        serial=serial,
        interface=interface,
        usb=usb,
        links=[f"/dev/serial/by-id/usb-{usb[0]}_{serial}"],
    ),
    st.integers(0, 9),
    _ports,
    _serials,
    st.integers(0, 1),
    _usb,
)
_others = st.sampled_from(
    [
        Sighting(address=SerialAddress(path="/dev/ttyAMA0"), links=("/dev/serial0",)),
        Sighting(address=SerialAddress(path="/run/sim/panel-1"), links=("/run/sim/panel-2",)),
        Sighting(address=TcpAddress(host="h", port=1)),
        Sighting(address=TcpAddress(host="h", port=2)),
    ]
)
# A scan names each port once.
_scans = st.lists(_adapters | _others, max_size=8, unique_by=lambda sighting: str(sighting.address))
_rules = st.builds(
    ClassRule,
    name=st.sampled_from([PANEL, LIFT, ClassName("pump")]),
    by_serial=st.booleans(),
    path=st.sampled_from([None, "/dev/ttyACM*", "/dev/serial/by-id/*_A1", "/run/sim/*", "/dev/serial0"]),
    usb=st.none() | _usb,
    serial=st.none() | st.sampled_from(["*", "A*"]),
    interface=st.none() | st.integers(0, 1),
) | st.builds(ClassRule, name=st.just(ClassName("net")), tcp=st.just((TcpAddress(host="h", port=1),)))
_configurations = st.lists(_rules, max_size=4, unique_by=lambda rule: rule.name)
_keys = st.sampled_from(
    ["serial:A1", "serial:B2", f"port:{at('1')}", f"port:{at('2', 1)}", "port:/run/sim/panel-1"]
)
_stores = st.lists(
    st.tuples(st.sampled_from([PANEL, LIFT]), _keys, st.sampled_from(["", at("1"), at("2"), at("3", 1)])),
    max_size=5,
    unique_by=lambda entry: entry[:2],
).map(
    lambda entries: [
        device(key, port=port, device_class=name, id_=f"{name}-{number}")
        for number, (name, key, port) in enumerate(entries)
    ]
)


@given(_configurations, _scans, _stores)
def test_inv4_every_port_is_in_exactly_one_place(
    rules: list[ClassRule], scan: list[Sighting], known: list[Device]
) -> None:
    found = roll(rules, scan, known)

    placed = [str(presence.sighting.address) for presence in found.present]
    placed += [port for said in found.conflicts for port in said.ports]
    matched = [str(sighting.address) for sighting in scan if any(rule.matches(sighting) for rule in rules)]
    assert sorted(placed) == sorted(matched)


@given(_configurations, _scans, _stores)
def test_inv4_no_unit_is_at_two_places(
    rules: list[ClassRule], scan: list[Sighting], known: list[Device]
) -> None:
    found = roll(rules, scan, known)

    identities = [(presence.device_class, presence.key) for presence in found.present]
    units = [presence.known for presence in found.present if presence.known is not None]
    assert len(set(identities)) == len(identities)
    assert len(set(units)) == len(units)
    assert set(units) <= {item.id for item in known}
    by_id = {item.id: item for item in known}
    for presence in found.present:
        if presence.known is not None:
            unit = by_id[presence.known]
            assert (unit.device_class, unit.key) == (presence.device_class, presence.key)


@given(_configurations, _scans, _stores, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_seen_changes_nothing(
    rules: list[ClassRule], scan: list[Sighting], known: list[Device], random: Random
) -> None:
    before = roll(rules, scan, known)
    for listed in (rules, scan, known):
        random.shuffle(listed)

    assert roll(rules, scan, known) == before


@given(_configurations, _scans, _stores)
def test_inv4_what_is_present_stays_present_when_nothing_changes(
    rules: list[ClassRule], scan: list[Sighting], known: list[Device]
) -> None:
    """Enrolling who is here and keeping where it is, as the registry does, brings no conflict and no move."""
    first = roll(rules, scan, known)
    kept = {item.id: item for item in known}
    for number, presence in enumerate(first.present):
        id_ = presence.known or DeviceId(f"new-{number}")
        kept[id_] = device(presence.key, port=presence.port, device_class=presence.device_class, id_=id_)

    second = roll(rules, scan, kept.values())

    assert [(p.device_class, p.key) for p in second.present] == [
        (p.device_class, p.key) for p in first.present
    ]
    assert all(presence.known is not None and presence.moved_from is None for presence in second.present)
    assert [said.ports for said in second.conflicts] == [said.ports for said in first.conflicts]
