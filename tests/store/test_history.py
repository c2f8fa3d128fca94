"""What people did, what is still needed, and what may be folded into counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.model import Action, DeviceId, JobState, LatchScope, Outcome, Wear
from support.stored import CAUSE, DAY_S, NOON, enroll, image, release

if TYPE_CHECKING:
    from firmwarden.model import AttemptId
    from firmwarden.store.ledger import Ledger

OLD = NOON - 91 * DAY_S
OUTCOMES = (Outcome.FAILED, Outcome.INTERRUPTED, Outcome.SUCCEEDED)


def run_job(ledger: Ledger, device: DeviceId, number: int, now: float) -> None:
    """Run a job that succeeds in its third attempt."""
    job = ledger.create_job(device, release(number), now).id
    for outcome in OUTCOMES:
        attempt = ledger.claim(job, now)
        ledger.erase_starting(attempt.id, now)
        ledger.finish(attempt.id, outcome, now=now, evidence="END acknowledged")
        done = outcome is Outcome.SUCCEEDED
        ledger.move(job, JobState.SUCCEEDED if done else JobState.QUEUED, now=now)


def give_up(ledger: Ledger, device: DeviceId, number: int, now: float, *, writing: bool) -> AttemptId:
    """Run a job that fails in its first attempt."""
    job = ledger.create_job(device, release(number), now).id
    attempt = ledger.claim(job, now)
    if writing:
        ledger.erase_starting(attempt.id, now)
    ledger.finish(attempt.id, Outcome.FAILED, now=now, cause=CAUSE)
    ledger.move(job, JobState.FAILED, now=now, cause=CAUSE)
    return attempt.id


def test_actions_are_told_newest_first(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    actions = [Action(at=NOON - n, who="ann", what="retry", target=device, detail=str(n)) for n in range(3)]
    everything = Action(at=NOON, who="bob", what="hold", target="all")
    for action in (*actions, everything):
        ledger.record(action)
    assert ledger.actions(9) == [everything, *reversed(actions)]
    assert ledger.actions(2, device) == [actions[2], actions[1]]


def test_acts_are_kept_for_long_and_of_what_is_dropped_the_newest(ledger: Ledger) -> None:
    def act(number: int, at: float, what: str = "retry") -> Action:
        action = Action(at=at, who="ann", what=what, target=f"{number}")
        ledger.record(action)
        return action

    acts = [act(number, OLD) for number in range(4)]
    drops = [act(number, NOON, ("drop", "withdraw")[number % 2]) for number in range(4)]
    new = [act(number, NOON) for number in range(2)]
    ledger.fold(NOON, keep_acts=3)
    assert ledger.actions(99) == [*reversed(new), *reversed(drops), acts[3]]
    ledger.fold(NOON, keep_acts=0)
    assert ledger.actions(99) == [*reversed(new), *reversed(drops)], "what is not old stays"
    ledger.fold_drops(keep=1)
    assert ledger.actions(99) == [*reversed(new), drops[3]]
    ledger.fold_drops()
    assert len(ledger.actions(99)) == 3


def test_what_lies_in_the_directory_is_on_record_until_it_is_gone(ledger: Ledger) -> None:
    ledger.note_dropped("a.toml", "one")
    ledger.note_dropped("b.toml", "two")
    ledger.note_dropped("a.toml", "another")
    assert ledger.dropped() == {"a.toml": "another", "b.toml": "two"}
    ledger.note_dropped("a.toml", None)
    assert ledger.dropped() == {"b.toml": "two"}


def test_images_are_needed_by_open_jobs_and_by_what_runs(ledger: Ledger) -> None:
    states = ((), (JobState.RUNNING,), (JobState.RUNNING, JobState.UNKNOWN), (JobState.CANCELLED,))
    for number, way in enumerate(states, 1):
        job = ledger.create_job(enroll(ledger, number), release(number), NOON)
        for state in way:
            ledger.move(job.id, state, now=NOON)
    ledger.set_running(
        enroll(ledger, 9), version="9", sequence=None, image=image(9), evidence="seen", now=NOON
    )
    assert ledger.needed_images() == {image(1), image(2), image(3), image(9)}


def test_only_what_is_old_and_beyond_the_newest_is_folded(ledger: Ledger) -> None:
    one, two = enroll(ledger, 1), enroll(ledger, 2)
    for number in (1, 2, 3):
        run_job(ledger, one, number, OLD)
    run_job(ledger, one, 4, NOON)
    run_job(ledger, two, 1, OLD)
    kept = ledger.attempts(one, 99)[:5]
    ledger.fold(NOON, keep_days=90, keep_per_device=5)
    assert ledger.attempts(one, 99) == kept
    assert len(ledger.attempts(two, 99)) == 3
    assert ledger.totals(one) == dict.fromkeys(OUTCOMES, 4)
    # Folding again, and folding more, counts nothing twice.
    ledger.fold(NOON, keep_days=90, keep_per_device=5)
    ledger.fold(NOON, keep_days=90, keep_per_device=0)
    assert [attempt.image for attempt in ledger.attempts(None, 99)] == [image(4)] * 3
    assert ledger.totals(one) == dict.fromkeys(OUTCOMES, 4)
    assert ledger.totals(two) == dict.fromkeys(OUTCOMES, 1)


def test_inv5_the_attempt_that_left_a_unit_half_done_is_never_folded(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    run_job(ledger, device, 1, OLD)
    cut = give_up(ledger, device, 2, OLD, writing=True)
    for number in (3, 4):
        give_up(ledger, device, number, OLD, writing=False)
    ledger.fold(NOON, keep_days=90, keep_per_device=0)
    assert [attempt.id for attempt in ledger.attempts(device, 99)] == [cut]
    left = ledger.unfinished(device)
    assert left is not None
    assert left.id == cut
    assert ledger.totals(device) == {Outcome.FAILED: 4, Outcome.INTERRUPTED: 1, Outcome.SUCCEEDED: 1}
    # Once it is done, nobody asks for it any more.
    run_job(ledger, device, 5, OLD)
    ledger.fold(NOON, keep_days=90, keep_per_device=0)
    assert ledger.attempts(device, 99) == []
    assert ledger.unfinished(device) is None


def test_inv5_wear_latches_and_the_last_job_of_a_pair_are_never_folded(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    run_job(ledger, device, 1, OLD)
    run_job(ledger, device, 1, OLD)
    attempt = ledger.attempts(device, 1)[0].id
    latch = ledger.latch(
        LatchScope.PAIR, device=device, image=image(1), cause=CAUSE, attempt=attempt, now=OLD
    )
    last = ledger.last_job(device, image(1))
    ledger.fold(NOON, keep_per_device=0)
    assert ledger.attempts(device, 9) == []
    assert ledger.jobs(limit=9) == [last]
    assert ledger.latches() == [latch]
    assert ledger.wear(device, NOON) == Wear(today=0, life=6)
    # An id that a latch names is not given away again.
    run_job(ledger, device, 2, NOON)
    assert ledger.attempts(device, 9)[-1].id > attempt


def test_attempts_of_open_jobs_are_not_folded(ledger: Ledger) -> None:
    jobs = [ledger.create_job(enroll(ledger, number), release(1), OLD).id for number in (1, 2, 3)]
    for job in jobs:
        ledger.claim(job, OLD)
    for attempt in ledger.running_attempts()[1:]:
        ledger.finish(attempt.id, Outcome.UNKNOWN, now=OLD)
    ledger.move(jobs[1], JobState.UNKNOWN, now=OLD)
    ledger.move(jobs[2], JobState.QUEUED, now=OLD)
    before = ledger.attempts(None, 9)
    ledger.fold(NOON, keep_per_device=0)
    assert ledger.attempts(None, 9) == before
    assert len(ledger.open_jobs()) == 3


def test_what_is_dated_in_the_future_is_not_old(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    run_job(ledger, device, 1, NOON)
    ledger.fold(0.0, keep_per_device=0)
    assert len(ledger.attempts(device, 9)) == 3
