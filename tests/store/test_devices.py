"""Units: ids that stay, keys that move, and what survives being forgotten or adopted."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.errors import Refused
from firmwarden.model import Action, ClassName, Device, DeviceId, JobState, LatchScope, Outcome, Wear
from support.stored import CAUSE, NOON, PANEL, enroll, image, release

if TYPE_CHECKING:
    from firmwarden.store.ledger import Ledger


def wear_out(ledger: Ledger, device: DeviceId, number: int, now: float = NOON) -> None:
    """Run a job on the device that starts one erase and fails."""
    attempt = ledger.claim(ledger.create_job(device, release(number), now).id, now)
    ledger.erase_starting(attempt.id, now)
    ledger.finish(attempt.id, Outcome.FAILED, now=now, cause=CAUSE)
    ledger.move(attempt.job, JobState.FAILED, now=now, cause=CAUSE)


def get(ledger: Ledger, id_: DeviceId) -> Device:
    device = ledger.device(id_)
    assert device is not None
    return device


def test_an_id_follows_from_class_and_key(ledger: Ledger) -> None:
    device = ledger.enroll(PANEL, "serial:A1", label="lobby", port="/dev/ttyACM0", serial="A1", now=NOON)
    # printf 'panel\0serial:A1' | sha256sum | cut -c1-64 | xxd -r -p | base32
    assert device == Device(
        id=DeviceId("e4ph2g"),
        device_class=PANEL,
        key="serial:A1",
        label="lobby",
        port="/dev/ttyACM0",
        serial="A1",
        first_seen=NOON,
        last_seen=NOON,
    )
    assert ledger.devices() == [device]
    assert ledger.device(DeviceId("nobody")) is None
    with pytest.raises(ValueError, match=f"panel serial:A1 is enrolled already, as {device.id}"):
        ledger.enroll(PANEL, "serial:A1", label="", port="", serial="", now=NOON)


def test_an_id_that_is_taken_makes_the_next_one_longer(ledger: Ledger) -> None:
    first = enroll(ledger, 1)
    # Its unit moved on to another key; the one that now has the old key wants the same id.
    ledger.adopt(enroll(ledger, 2), first)
    second = enroll(ledger, 1)
    assert len(first) == 6
    assert len(second) == 7
    assert second.startswith(first)


def test_what_is_seen_and_what_runs_is_recorded(ledger: Ledger) -> None:
    id_ = enroll(ledger, 1)
    ledger.seen(id_, port="/dev/ttyACM7", serial="1", label="hall", now=NOON + 5)
    ledger.set_running(
        id_, version="2.0.0", sequence=7, image=image(2), evidence="END acknowledged", now=NOON + 6
    )
    assert get(ledger, id_) == Device(
        id=id_,
        device_class=PANEL,
        key="serial:1",
        label="hall",
        port="/dev/ttyACM7",
        serial="1",
        running_version="2.0.0",
        running_sequence=7,
        running_image=image(2),
        running_evidence="END acknowledged",
        complete=True,
        first_seen=NOON,
        last_seen=NOON + 6,
    )
    assert ledger.set_complete(id_, complete=None).complete is None
    assert ledger.set_complete(id_, complete=False).complete is False
    assert ledger.pin(id_, "1.0.0").pinned == "1.0.0"
    assert ledger.pin(id_, None).pinned is None


def test_inv5_a_forgotten_unit_comes_back_with_its_wear_and_latches(ledger: Ledger) -> None:
    id_ = enroll(ledger, 1)
    wear_out(ledger, id_, 1)
    ledger.create_job(id_, release(2), NOON)
    latch = ledger.latch(LatchScope.DEVICE, device=id_, image=None, cause=CAUSE, attempt=None, now=NOON)
    ledger.set_running(id_, version="1.0.0", sequence=None, image=image(1), evidence="seen", now=NOON)
    ledger.pin(id_, "1.0.0")
    ledger.hold(id_, "fair", "ann", NOON)
    ledger.forget(id_)

    assert ledger.device(id_) is None
    assert ledger.devices() == []
    assert ledger.jobs(limit=9) == []
    assert ledger.attempts(None, 9) == []
    assert ledger.holds() == []
    assert ledger.needed_images() == set()
    assert ledger.latches() == [latch]

    assert enroll(ledger, 1, NOON + 9) == id_
    device = get(ledger, id_)
    assert (device.running_version, device.complete, device.pinned) == (None, None, None)
    assert (device.first_seen, device.last_seen) == (NOON, NOON + 9)
    assert ledger.wear(id_, NOON) == Wear(today=1, life=1)


def test_a_forgotten_unit_is_nobody(ledger: Ledger) -> None:
    id_, other = enroll(ledger, 1), enroll(ledger, 2)
    ledger.forget(id_)
    for request in (
        lambda: ledger.forget(id_),
        lambda: ledger.pin(id_, None),
        lambda: ledger.adopt(id_, other),
        lambda: ledger.adopt(other, id_),
    ):
        with pytest.raises(Refused, match=f"there is no device {id_}; `firmwarden devices` lists them"):
            request()
    for call in (
        lambda: ledger.seen(id_, port="", serial="", label="", now=NOON),
        lambda: ledger.create_job(id_, release(1), NOON),
    ):
        with pytest.raises(LookupError, match=f"no device {id_}"):
            call()


@pytest.mark.parametrize("which", ["new", "old"])
def test_a_unit_that_is_written_to_is_neither_forgotten_nor_adopted(ledger: Ledger, which: str) -> None:
    new, old = enroll(ledger, 1), enroll(ledger, 2)
    busy = new if which == "new" else old
    job = ledger.create_job(busy, release(1), NOON).id
    ledger.claim(job, NOON)
    with pytest.raises(Refused, match=f"{busy} is being updated by job {job}; wait"):
        ledger.adopt(new, old)
    with pytest.raises(Refused, match=f"{busy} is being updated by job {job}; wait"):
        ledger.forget(busy)


def test_units_that_cannot_be_one_are_not_adopted(ledger: Ledger) -> None:
    panel = enroll(ledger, 1)
    lamp = ledger.enroll(ClassName("lamp"), "serial:1", label="", port="", serial="", now=NOON).id
    assert lamp != panel
    with pytest.raises(Refused, match="not one unit"):
        ledger.adopt(panel, lamp)
    with pytest.raises(Refused, match="cannot adopt itself"):
        ledger.adopt(panel, panel)


def test_inv5_adopting_joins_all_that_is_recorded(ledger: Ledger) -> None:
    old, new = enroll(ledger, 1), enroll(ledger, 2, NOON + 50)
    wear_out(ledger, old, 1)
    wear_out(ledger, new, 1)
    wear_out(ledger, old, 2, NOON + 2 * 86_400)
    keep = ledger.create_job(old, release(3), NOON)
    double = ledger.create_job(new, release(3), NOON)
    moved = ledger.create_job(new, release(4), NOON)
    for unit in (old, new):
        ledger.latch(LatchScope.PAIR, device=unit, image=image(1), cause=CAUSE, attempt=None, now=NOON)
    ledger.hold(new, "fair", "ann", NOON)
    ledger.pin(old, "1.0.0")
    ledger.set_running(
        old, version="1.0.0", sequence=None, image=image(9), evidence="END acknowledged", now=NOON
    )
    ledger.record(Action(at=NOON, who="ann", what="hold", target=new))
    replacement = get(ledger, new)

    device = ledger.adopt(new, old)

    assert ledger.devices() == [device]
    assert (device.id, device.key, device.port, device.serial) == (old, "serial:2", replacement.port, "2")
    assert (device.pinned, device.first_seen, device.last_seen) == ("1.0.0", NOON, NOON + 50)
    # The erase on the new record is what is known last.
    assert (device.complete, device.running_version) == (False, None)
    assert ledger.wear(old, NOON + 2 * 86_400) == Wear(today=1, life=3)
    assert ledger.wear(old, NOON).today == 3
    assert ledger.totals(old) == {Outcome.FAILED: 3}
    assert {job.id for job in ledger.open_jobs()} == {keep.id, moved.id}
    superseded = ledger.job(double.id)
    assert superseded is not None
    assert (superseded.device, superseded.state) == (old, JobState.SUPERSEDED)
    assert {latch.device for latch in ledger.latches()} == {old}
    assert [hold.device for hold in ledger.holds()] == [old]
    assert [action.what for action in ledger.actions(9, old)] == ["hold"]
    # One lift is enough, though both records had brought the same latch.
    ledger.lift(ledger.latches()[0].id, "ann", NOON)
    assert ledger.latches() == []
    # The place that it left may be taken by another unit.
    assert enroll(ledger, 1).startswith(old)


def test_inv8_the_floor_rises_with_what_is_confirmed_and_never_falls(ledger: Ledger) -> None:
    id_ = enroll(ledger, 1)
    floors = []
    for sequence in (None, 3, None, 2, 7, 3):
        ledger.raise_floor(id_, sequence)
        floors.append(get(ledger, id_).floor)
    assert floors == [None, 3, 3, 3, 7, 7]
    ledger.forget(id_)
    assert enroll(ledger, 1) == id_
    assert get(ledger, id_).floor == 7


@pytest.mark.parametrize(
    ("old", "new", "then"), [(3, 7, 7), (7, 3, 7), (None, 3, 3), (3, None, 3), (None, None, None)]
)
def test_inv8_a_unit_that_was_adopted_has_the_greater_floor(
    ledger: Ledger, old: int | None, new: int | None, then: int | None
) -> None:
    one, two = enroll(ledger, 1), enroll(ledger, 2)
    ledger.raise_floor(one, old)
    ledger.raise_floor(two, new)
    assert ledger.adopt(two, one).floor == then


def test_inv8_leave_to_go_back_is_used_up_by_that_version_and_goes_with_its_pin(ledger: Ledger) -> None:
    def confirm(version: str) -> None:
        ledger.set_running(id_, version=version, sequence=None, image=image(1), evidence="seen", now=NOON)
        ledger.raise_floor(id_, None)

    id_, other = enroll(ledger, 1), enroll(ledger, 2)
    assert ledger.pin(id_, "1.0.0", may_go_back=True).may_go_back_to == "1.0.0"
    confirm("2.0.0")
    assert get(ledger, id_).may_go_back_to == "1.0.0", "an update that was under way uses nothing up"
    confirm("1.0.0")
    assert get(ledger, id_).may_go_back_to is None
    assert get(ledger, id_).pinned == "1.0.0"
    for again in ("1.0.0", None):
        ledger.pin(id_, "1.0.0", may_go_back=True)
        assert ledger.pin(id_, again).may_go_back_to is None
    ledger.pin(other, "1.0.0", may_go_back=True)
    ledger.pin(id_, "2.0.0")
    assert ledger.adopt(other, id_).may_go_back_to is None, "it was said of another pin"
    ledger.pin(id_, "1.0.0", may_go_back=True)
    ledger.forget(id_)
    enroll(ledger, 2)
    assert get(ledger, id_).may_go_back_to is None


def test_folded_attempts_are_adopted_and_forgotten_too(ledger: Ledger) -> None:
    old, new = enroll(ledger, 1), enroll(ledger, 2)
    for unit in (old, new):
        wear_out(ledger, unit, 1)
        wear_out(ledger, unit, 2)
    ledger.fold(NOON + 100 * 86_400, keep_per_device=0)
    assert len(ledger.attempts(None, 9)) == 2, "the last of each, which left it half done"
    ledger.adopt(new, old)
    assert ledger.totals(old) == {Outcome.FAILED: 4}
    ledger.forget(old)
    assert enroll(ledger, 2) == old
    assert ledger.totals(old) == {}


def test_a_new_record_about_which_nothing_is_known_takes_over_what_the_old_one_ran(ledger: Ledger) -> None:
    old, new = enroll(ledger, 1), enroll(ledger, 2, NOON + 50)
    ledger.set_running(
        old, version="1.0.0", sequence=3, image=image(9), evidence="END acknowledged", now=NOON
    )
    ledger.hold(old, "mine", "bob", NOON)
    ledger.hold(new, "fair", "ann", NOON)
    ledger.hold(new, "newer", "bob", NOON)
    before = get(ledger, old)
    assert ledger.adopt(new, old) == replace(
        before, key="serial:2", label="panel 2", port="/dev/ttyACM2", serial="2", last_seen=NOON + 50
    )
    assert [(hold.device, hold.owner, hold.reason) for hold in ledger.holds()] == [
        (old, "ann", "fair"),
        (old, "bob", "mine"),
    ]


def test_what_hangs_on_a_unit_cannot_lose_it(ledger: Ledger) -> None:
    id_ = enroll(ledger, 1)
    wear_out(ledger, id_, 1)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        ledger._do("DELETE FROM devices")  # noqa: SLF001  the schema is under test


def test_inv4_a_person_may_say_where_a_unit_is(ledger: Ledger) -> None:
    by_serial, other = enroll(ledger, 1), enroll(ledger, 2)
    port = get(ledger, other).port
    moved = ledger.take_place(by_serial, port)
    assert (moved.key, moved.port) == ("serial:1", port)
    assert get(ledger, other).port == "", "nobody else is looked for there"
    by_port = ledger.enroll(PANEL, "port:a", label="", port="a", serial="", now=NOON).id
    moved = ledger.take_place(by_port, "b")
    assert (moved.key, moved.port) == ("port:b", "b")
    gone = ledger.enroll(PANEL, "port:c", label="", port="c", serial="", now=NOON).id
    for word in ("known", "forgotten"):
        with pytest.raises(Refused, match=f"{gone} goes by c, or did until it was forgotten"):
            ledger.take_place(by_port, "c")
        if word == "known":
            ledger.forget(gone)
    assert get(ledger, by_port) == moved


def test_a_unit_is_not_looked_for_where_another_is_now(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    before = get(ledger, device)
    ledger.displaced(device, "elsewhere")
    assert get(ledger, device) == before
    ledger.displaced(device, before.port)
    assert get(ledger, device) == replace(before, port="")
