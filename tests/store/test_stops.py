"""Latches and holds: set once, lifted by a person, never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.errors import Refused
from firmwarden.model import AttemptId, Cause, CauseCode, DeviceId, Hold, Latch, LatchId, LatchScope
from support.stored import CAUSE, NOON, enroll, image

if TYPE_CHECKING:
    from firmwarden.store.ledger import Ledger

OTHER = Cause(code=CauseCode.INVALID_FILE)


@pytest.fixture
def device(ledger: Ledger) -> DeviceId:
    return enroll(ledger, 1)


@pytest.mark.parametrize(
    ("scope", "of_device", "of_image"),
    [(LatchScope.PAIR, True, True), (LatchScope.IMAGE, False, True), (LatchScope.DEVICE, True, False)],
)
def test_a_latch_names_what_it_stops_and_no_more(
    ledger: Ledger, device: DeviceId, scope: LatchScope, of_device: bool, of_image: bool
) -> None:
    latch = ledger.latch(scope, device=device, image=image(1), cause=CAUSE, attempt=AttemptId(3), now=NOON)
    assert latch == Latch(
        id=LatchId(1),
        scope=scope,
        device=device if of_device else None,
        image=image(1) if of_image else None,
        cause=CAUSE,
        set_at=NOON,
        attempt=AttemptId(3),
    )
    assert ledger.latches() == [latch]


@pytest.mark.parametrize("scope", LatchScope)
def test_inv3_the_same_latch_is_set_once_until_it_is_lifted(
    ledger: Ledger, device: DeviceId, scope: LatchScope
) -> None:
    def verdict(cause: Cause, now: float) -> Latch:
        return ledger.latch(scope, device=device, image=image(1), cause=cause, attempt=None, now=now)

    first = verdict(CAUSE, NOON)
    assert verdict(OTHER, NOON + 1) == first
    lifted = ledger.lift(first.id, "ann", NOON + 2)
    assert (lifted.lifted_at, lifted.lifted_by) == (NOON + 2, "ann")
    assert ledger.latches() == []
    # Lifting again changes nothing, least of all who did it.
    assert ledger.lift(first.id, "bob", NOON + 3) == lifted
    second = verdict(OTHER, NOON + 4)
    assert second.id != first.id
    # Whoever clears the first once more has not seen the second.
    assert ledger.lift(first.id, "bob", NOON + 5) == lifted
    assert ledger.latches() == [second]
    assert ledger.latches(active_only=False) == [lifted, second]


def test_inv3_lifting_one_latch_leaves_the_others(ledger: Ledger, device: DeviceId) -> None:
    other = enroll(ledger, 2)
    latches = [
        ledger.latch(scope, device=unit, image=image(number), cause=CAUSE, attempt=None, now=NOON)
        for scope, unit, number in (
            (LatchScope.PAIR, device, 1),
            (LatchScope.PAIR, device, 2),
            (LatchScope.PAIR, other, 1),
            (LatchScope.IMAGE, None, 1),
            (LatchScope.DEVICE, device, 1),
            (LatchScope.DEVICE, other, 1),
        )
    ]
    assert ledger.latches() == latches
    for latch in list(latches):
        ledger.lift(latch.id, "ann", NOON)
        latches.remove(latch)
        assert ledger.latches() == latches


def test_verdicts_on_an_image_are_its_active_pair_latches(ledger: Ledger, device: DeviceId) -> None:
    other = enroll(ledger, 2)
    standing = ledger.latch(
        LatchScope.PAIR, device=device, image=image(1), cause=OTHER, attempt=None, now=NOON
    )
    lifted = ledger.latch(LatchScope.PAIR, device=other, image=image(1), cause=OTHER, attempt=None, now=NOON)
    ledger.latch(LatchScope.PAIR, device=device, image=image(2), cause=OTHER, attempt=None, now=NOON)
    ledger.latch(LatchScope.IMAGE, device=None, image=image(1), cause=OTHER, attempt=None, now=NOON)
    assert ledger.pair_latches(image(1)) == [standing, lifted]
    ledger.lift(lifted.id, "ann", NOON)
    assert ledger.pair_latches(image(1)) == [standing]
    # A verdict stands also when the unit that gave it is gone.
    ledger.forget(device)
    assert ledger.pair_latches(image(1)) == [standing]


def test_a_latch_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Refused, match="there is no latch 4"):
        ledger.lift(LatchId(4), "ann", NOON)


def test_holds_are_for_one_device_or_for_all(ledger: Ledger, device: DeviceId) -> None:
    one = ledger.hold(device, "fair", "ann", NOON)
    everything = ledger.hold(None, "storm", "bob", NOON + 1)
    assert ledger.holds() == [everything, one]
    again = ledger.hold(device, "longer fair", "ann", NOON + 2, NOON + 60)
    assert again == Hold(device=device, reason="longer fair", owner="ann", at=NOON + 2, expires_at=NOON + 60)
    assert ledger.hold(None, "storm", "bob", NOON + 1) == everything
    assert ledger.holds() == [everything, again]
    assert ledger.unhold(None, "bob")
    assert not ledger.unhold(None, "bob")
    assert ledger.holds() == [again]
    assert ledger.unhold(device, "ann")
    assert ledger.holds() == []


def test_several_may_hold_the_same_and_none_takes_back_what_is_anothers(
    ledger: Ledger, device: DeviceId
) -> None:
    anns = ledger.hold(device, "fair", "ann", NOON)
    bobs = ledger.hold(device, "on the bench", "bob", NOON + 1)
    assert ledger.holds() == [anns, bobs]
    assert not ledger.unhold(device, "eve")
    assert not ledger.unhold(None, "ann")
    assert ledger.unhold(device, "ann")
    assert ledger.holds() == [bobs]


def test_a_hold_ends_at_the_instant_that_was_said(ledger: Ledger, device: DeviceId) -> None:
    for_ever = ledger.hold(device, "fair", "ann", NOON)
    ledger.hold(device, "lunch", "bob", NOON, NOON + 60)
    everything = ledger.hold(None, "storm", "bob", NOON, NOON + 61)
    assert ledger.end_holds(NOON + 59.9) == []
    assert [hold.reason for hold in ledger.end_holds(NOON + 60)] == ["lunch"]
    assert ledger.end_holds(NOON + 60) == []
    assert ledger.holds() == [everything, for_ever]
    assert ledger.end_holds(NOON + 1e9) == [everything]
    assert ledger.holds() == [for_ever]


def test_a_hold_that_a_clock_ahead_dated_lasts_its_time_from_now_on(ledger: Ledger, device: DeviceId) -> None:
    ahead = NOON + 3.0e9
    for_ever = ledger.hold(None, "fair", "ann", ahead)
    ledger.hold(device, "lunch", "bob", ahead, ahead + 60)
    assert ledger.end_holds(NOON) == []
    assert ledger.holds() == [
        for_ever,
        Hold(device=device, reason="lunch", owner="bob", at=NOON, expires_at=NOON + 60),
    ]
    assert ledger.end_holds(NOON + 30) == [], "it is not lengthened each time"
    assert len(ledger.end_holds(NOON + 60)) == 1


def test_holds_follow_a_clock_that_is_set(ledger: Ledger, device: DeviceId) -> None:
    ledger.hold(None, "fair", "ann", NOON)
    ledger.hold(device, "lunch", "bob", NOON, NOON + 60)
    ledger.move_holds(1e6)
    assert [(hold.at, hold.expires_at) for hold in ledger.holds()] == [
        (NOON + 1e6, None),
        (NOON + 1e6, NOON + 1e6 + 60),
    ]
