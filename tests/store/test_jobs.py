"""Jobs, attempts and wear: what may follow what, and what each step leaves for a restart to find."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import (
    TRANSITIONS,
    AttemptId,
    CauseCode,
    CommitMark,
    DeviceId,
    Job,
    JobId,
    JobState,
    LatchScope,
    LinkStats,
    Outcome,
    Phase,
    Wear,
)
from firmwarden.store.rows import WATCHED_S
from support.stored import CAUSE, DAY_S, NOON, enroll, image, release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.store.ledger import Ledger

# The shortest way of a fresh job to each state.
WAYS: Mapping[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (),
    JobState.RUNNING: (JobState.RUNNING,),
    JobState.UNKNOWN: (JobState.RUNNING, JobState.UNKNOWN),
    JobState.SUCCEEDED: (JobState.RUNNING, JobState.SUCCEEDED),
    JobState.FAILED: (JobState.FAILED,),
    JobState.SUPERSEDED: (JobState.SUPERSEDED,),
    JobState.CANCELLED: (JobState.CANCELLED,),
}


@pytest.fixture
def device(ledger: Ledger) -> DeviceId:
    return enroll(ledger, 1)


@pytest.fixture
def job(ledger: Ledger, device: DeviceId) -> Job:
    return ledger.create_job(device, replace(release(1), sequence=5), NOON)


def complete(ledger: Ledger, device: DeviceId) -> bool | None:
    found = ledger.device(device)
    assert found is not None
    return found.complete


def test_a_job_is_read_back_as_it_was_made(ledger: Ledger, device: DeviceId, job: Job) -> None:
    assert job == Job(
        id=JobId(1),
        device=device,
        device_class=release(1).device_class,
        image=image(1),
        version="1.1.0",
        sequence=5,
        size=1001,
        state=JobState.QUEUED,
        created_at=NOON,
        updated_at=NOON,
    )
    assert ledger.job(job.id) == job
    assert ledger.job(JobId(2)) is None


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobState, repeat=2)))
def test_a_job_moves_as_the_table_says_and_not_otherwise(
    ledger: Ledger, job: Job, before: JobState, after: JobState
) -> None:
    for state in WAYS[before]:
        job = ledger.move(job.id, state, now=NOON)
    assert job.state is before
    if after in TRANSITIONS[before]:
        assert ledger.move(job.id, after, now=NOON + 1).state is after
    else:
        with pytest.raises(ValueError, match=f"cannot become {after} from {before}"):
            ledger.move(job.id, after, now=NOON + 1)
        assert ledger.job(job.id) == job


def test_every_word_of_the_model_can_be_stored(ledger: Ledger) -> None:
    # The schema lists states, phases, outcomes and scopes itself: whoever adds one needs a migration.
    for number, state in enumerate(JobState):
        job = ledger.create_job(enroll(ledger, number), release(1), NOON)
        for step in WAYS[state]:
            job = ledger.move(job.id, step, now=NOON)
    for number, outcome in enumerate(set(Outcome) - {Outcome.RUNNING}, 100):
        attempt = ledger.claim(ledger.create_job(enroll(ledger, number), release(1), NOON).id, NOON)
        assert attempt.phase is Phase.PROBING
        ledger.erase_starting(attempt.id, NOON)
        ledger.ending(attempt.id, NOON)
        assert ledger.finish(attempt.id, outcome, now=NOON, evidence="seen").outcome is outcome
    latched = enroll(ledger, 200)
    for scope in LatchScope:
        ledger.latch(scope, device=latched, image=image(1), cause=CAUSE, attempt=None, now=NOON)
    assert {latch.scope for latch in ledger.latches()} == set(LatchScope)


@pytest.mark.parametrize("code", CauseCode)
def test_every_cause_is_read_back_as_it_was(ledger: Ledger, job: Job, code: CauseCode) -> None:
    cause = replace(CAUSE, code=code)
    assert ledger.move(job.id, JobState.FAILED, now=NOON, cause=cause).cause == cause


def test_a_cause_that_a_newer_program_wrote_is_still_told(ledger: Ledger, job: Job) -> None:
    ledger.move(job.id, JobState.FAILED, now=NOON, cause=CAUSE)
    ledger._do("UPDATE jobs SET cause = replace(cause, 'erase-error', 'fuse-blown')")  # noqa: SLF001
    (read,) = ledger.jobs(limit=1)
    assert read.cause == replace(
        CAUSE, code=CauseCode.ABORT_UNKNOWN, detail="recorded as 'fuse-blown': the client could not erase"
    )


def test_a_move_keeps_the_last_cause_and_sets_the_back_off(ledger: Ledger, job: Job) -> None:
    ledger.claim(job.id, NOON + 1)
    waiting = ledger.move(job.id, JobState.QUEUED, now=NOON + 2, cause=CAUSE, not_before=NOON + 4)
    assert (waiting.cause, waiting.not_before, waiting.updated_at) == (CAUSE, NOON + 4, NOON + 2)
    ledger.claim(job.id, NOON + 5)
    running = ledger.job(job.id)
    assert running is not None
    assert (running.cause, running.not_before, running.attempts) == (CAUSE, None, 2)


def test_inv5_each_phase_is_there_for_a_restart_to_find(ledger: Ledger, device: DeviceId, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON + 1)
    assert ledger.running_attempts() == [attempt]
    assert (attempt.number, attempt.phase, attempt.outcome) == (1, Phase.PROBING, Outcome.RUNNING)
    assert (attempt.device, attempt.image, attempt.version) == (device, image(1), "1.1.0")
    assert complete(ledger, device) is None

    assert ledger.erase_starting(attempt.id, NOON + 2) == Wear(today=1, life=1)
    assert ledger.running_attempts() == [replace(attempt, phase=Phase.WRITING, erase_starts=1)]
    assert complete(ledger, device) is False

    ledger.ending(attempt.id, NOON + 3)
    assert ledger.running_attempts() == [replace(attempt, phase=Phase.ENDING, erase_starts=1)]
    assert complete(ledger, device) is False

    stats = LinkStats(commands=1, resends=2, timeouts=3, damaged=4, strays=5, sent_bytes=6, received_bytes=7)
    ended = ledger.finish(
        attempt.id, Outcome.SUCCEEDED, now=NOON + 4, evidence="END acknowledged", stats=stats
    )
    assert ended.stats == stats
    assert (ended.ended_at, ended.evidence, ended.cause) == (NOON + 4, "END acknowledged", None)
    assert ledger.running_attempts() == []


def test_an_erase_after_the_end_was_announced_takes_the_phase_back(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.ending(attempt.id, NOON)
    assert ledger.erase_starting(attempt.id, NOON) == Wear(today=1, life=1)
    assert [found.phase for found in ledger.running_attempts()] == [Phase.WRITING]


def test_inv2_an_unknown_attempt_is_settled_once(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.ending(attempt.id, NOON)
    ledger.finish(
        attempt.id,
        Outcome.UNKNOWN,
        now=NOON + 1,
        cause=CAUSE,
        evidence="image valid, loader left",
        stats=LinkStats(commands=3, timeouts=1),
    )
    settled = ledger.finish(
        attempt.id, Outcome.SUCCEEDED, now=NOON + 60, evidence="it says 1.1.0", stats=LinkStats(commands=1)
    )
    assert (settled.outcome, settled.evidence, settled.cause) == (Outcome.SUCCEEDED, "it says 1.1.0", None)
    assert (settled.ended_at, settled.stats) == (NOON + 1, LinkStats(commands=4, timeouts=1))
    for outcome in Outcome:
        with pytest.raises(ValueError, match=f"cannot become {outcome} from succeeded"):
            ledger.finish(attempt.id, outcome, now=NOON + 61, evidence="seen")


def test_settling_without_new_evidence_keeps_what_there_was(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.finish(attempt.id, Outcome.UNKNOWN, now=NOON + 1, evidence="image valid, loader left")
    settled = ledger.finish(attempt.id, Outcome.FAILED, now=NOON + 2, cause=CAUSE)
    assert (settled.outcome, settled.evidence, settled.cause) == (
        Outcome.FAILED,
        "image valid, loader left",
        CAUSE,
    )


def test_inv2_no_success_without_evidence(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    with pytest.raises(ValueError, match="no success without evidence"):
        ledger.finish(attempt.id, Outcome.SUCCEEDED, now=NOON)
    assert ledger.running_attempts() == [attempt]


def test_nothing_is_recorded_for_an_attempt_that_is_over(ledger: Ledger, device: DeviceId, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    over = ledger.finish(attempt.id, Outcome.INTERRUPTED, now=NOON)
    with pytest.raises(ValueError, match="is over: interrupted"):
        ledger.erase_starting(attempt.id, NOON)
    with pytest.raises(ValueError, match="is over: interrupted"):
        ledger.ending(attempt.id, NOON)
    with pytest.raises(ValueError, match="cannot become running"):
        ledger.finish(attempt.id, Outcome.RUNNING, now=NOON)
    assert ledger.attempt(attempt.id) == over
    assert ledger.wear(device, NOON) == Wear()


def test_a_claim_whose_port_was_never_opened_leaves_no_trace(
    ledger: Ledger, device: DeviceId, job: Job
) -> None:
    first = ledger.claim(job.id, NOON)
    ledger.finish(first.id, Outcome.FAILED, now=NOON)
    ledger.move(job.id, JobState.QUEUED, now=NOON)
    second = ledger.claim(job.id, NOON)
    waiting = ledger.unclaim(second.id, NOON + 1)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 1)
    assert [attempt.id for attempt in ledger.attempts(device, 9)] == [first.id]
    assert ledger.claim(job.id, NOON).number == 2


def test_inv5_a_claim_that_touched_its_device_is_not_taken_back(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.erase_starting(attempt.id, NOON)
    with pytest.raises(ValueError, match="has touched its device"):
        ledger.unclaim(attempt.id, NOON)
    assert [found.id for found in ledger.running_attempts()] == [attempt.id]


def test_only_a_queued_job_is_hurried(ledger: Ledger, job: Job) -> None:
    ledger.claim(job.id, NOON)
    ledger.move(job.id, JobState.UNKNOWN, now=NOON, not_before=NOON + 60)
    ledger.hurry(job.id)
    asked_later = ledger.job(job.id)
    assert asked_later is not None
    assert asked_later.not_before == NOON + 60
    ledger.move(job.id, JobState.QUEUED, now=NOON, not_before=NOON + 60)
    ledger.hurry(job.id)
    ready = ledger.job(job.id)
    assert ready is not None
    assert ready.not_before is None


def test_one_unit_never_runs_two_jobs(ledger: Ledger, device: DeviceId, job: Job) -> None:
    other = ledger.create_job(device, release(2), NOON)
    ledger.claim(job.id, NOON)
    with pytest.raises(sqlite3.IntegrityError, match=r"jobs\.device"):
        ledger.claim(other.id, NOON)


def test_a_pair_has_one_open_job(ledger: Ledger, device: DeviceId, job: Job) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"jobs\.device, jobs\.image"):
        ledger.create_job(device, release(1), NOON)
    ledger.move(job.id, JobState.CANCELLED, now=NOON)
    again = ledger.create_job(device, release(1), NOON)
    assert ledger.last_job(device, image(1)) == again
    assert ledger.last_job(device, image(2)) is None


def test_what_does_not_exist_is_a_defect(ledger: Ledger) -> None:
    for call in (
        lambda: ledger.create_job(DeviceId("nobody"), release(1), NOON),
        lambda: ledger.move(JobId(7), JobState.FAILED, now=NOON),
        lambda: ledger.claim(JobId(7), NOON),
        lambda: ledger.erase_starting(AttemptId(7), NOON),
        lambda: ledger.finish(AttemptId(7), Outcome.FAILED, now=NOON),
    ):
        with pytest.raises(LookupError, match="no "):
            call()
    assert ledger.attempt(AttemptId(7)) is None
    assert ledger.last_attempt(JobId(7)) is None


def test_lists_are_newest_first_but_what_is_to_do_is_oldest_first(ledger: Ledger, device: DeviceId) -> None:
    other = enroll(ledger, 2)
    jobs = [ledger.create_job(owner, release(n), NOON - n) for n in (1, 2) for owner in (device, other)]
    attempts = []
    for job in jobs:
        attempts.append(ledger.claim(job.id, NOON).id)
        ledger.finish(attempts[-1], Outcome.FAILED, now=NOON)
        ledger.move(job.id, JobState.QUEUED, now=NOON)
    ledger.move(jobs[0].id, JobState.SUPERSEDED, now=NOON)
    ids = [job.id for job in jobs]
    assert [job.id for job in ledger.open_jobs()] == ids[1:]
    assert [job.id for job in ledger.jobs(limit=3)] == ids[:0:-1]
    assert [job.id for job in ledger.jobs(limit=9, device=other)] == [ids[3], ids[1]]
    assert [attempt.id for attempt in ledger.attempts(None, 3)] == attempts[:0:-1]
    assert [attempt.id for attempt in ledger.attempts(device, 9)] == [attempts[2], attempts[0]]
    again = ledger.claim(ids[3], NOON)
    assert [attempt.id for attempt in ledger.job_attempts(ids[3])] == [attempts[3], again.id]
    ledger.unclaim(again.id, NOON)
    last = ledger.last_attempt(ids[3])
    assert last is not None
    assert last.id == attempts[3]


def test_presence_adds_up(ledger: Ledger, job: Job) -> None:
    ledger.add_presence(job.id, 1.5)
    ledger.add_presence(job.id, 60)
    found = ledger.job(job.id)
    assert found is not None
    assert found.present_s == 61.5


def test_inv3_wear_is_counted_across_jobs_by_utc_day_and_life(ledger: Ledger, device: DeviceId) -> None:
    for number, now in enumerate((NOON - DAY_S, NOON - 0.5 * DAY_S, NOON + 0.49 * DAY_S), 1):
        attempt = ledger.claim(ledger.create_job(device, release(number), now).id, now)
        ledger.erase_starting(attempt.id, now)
        ledger.erase_starting(attempt.id, now)
        ledger.finish(attempt.id, Outcome.FAILED, now=now)
        ledger.move(attempt.job, JobState.FAILED, now=now)
    assert ledger.wear(device, NOON) == Wear(today=4, life=6)
    assert ledger.wear(device, NOON + 0.5 * DAY_S) == Wear(today=0, life=6)
    assert ledger.wear(enroll(ledger, 2), NOON) == Wear()


def test_inv3_a_clock_that_fell_back_gives_no_new_budget(ledger: Ledger, device: DeviceId, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    for _ in range(9):
        ledger.erase_starting(attempt.id, NOON)
    # A power cut; the gateway has no battery and starts in 1970.
    ahead = {"ahead": 9, "ahead_s": WATCHED_S}
    assert ledger.wear(device, 0.0) == Wear(today=9, life=9, **ahead)  # type: ignore[arg-type]
    assert ledger.erase_starting(attempt.id, 0.0) == Wear(today=10, life=10, **ahead)  # type: ignore[arg-type]
    # Network time comes back.
    assert ledger.wear(device, NOON) == Wear(today=9, life=10)


def test_inv3_wear_dated_in_the_future_counts_as_todays_until_it_was_watched_for_a_day(
    ledger: Ledger, device: DeviceId, job: Job
) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.erase_starting(attempt.id, NOON + 365 * DAY_S)
    ledger.erase_starting(attempt.id, NOON)
    for _ in range(9):
        ledger.watch_wear(NOON, WATCHED_S / 10)
    wear = ledger.wear(device, NOON)
    assert (wear.today, wear.ahead, wear.life) == (2, 1, 2)
    assert wear.ahead_s == pytest.approx(WATCHED_S / 10)
    ledger.watch_wear(NOON, WATCHED_S / 10)
    assert ledger.wear(device, NOON) == Wear(today=1, life=2), "today's own was not watched away"
    # The clock is ahead again, on the very day.
    ledger.erase_starting(attempt.id, NOON + 365 * DAY_S)
    wear = ledger.wear(device, NOON)
    assert (wear.today, wear.ahead, wear.life) == (3, 2, 3)


# --- what was left half done


OLD, NEW = CommitMark(b"old", b"new"), CommitMark(b"\xff\xff", b"newer")


def try_once(ledger: Ledger, device: DeviceId, *, phase: Phase, outcome: Outcome) -> AttemptId:
    """Run an attempt of its own job so far, and end it."""
    job = ledger.create_job(device, release(len(ledger.jobs(limit=99)) + 1), NOON)
    attempt = ledger.claim(job.id, NOON)
    if phase is not Phase.PROBING:
        ledger.erase_starting(attempt.id, NOON, OLD)
    if phase is Phase.ENDING:
        ledger.ending(attempt.id, NOON)
    ledger.finish(attempt.id, outcome, now=NOON, cause=CAUSE, evidence="seen")
    ledger.move(job.id, JobState.UNKNOWN, now=NOON)
    return attempt.id


def left(ledger: Ledger, device: DeviceId) -> AttemptId | None:
    found = ledger.unfinished(device)
    return None if found is None else found.id


def test_a_mark_is_on_disk_with_the_erase_that_it_is_for(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    assert attempt.mark is None
    for given, stands in ((OLD, OLD), (None, OLD), (NEW, NEW)):
        ledger.erase_starting(attempt.id, NOON, given)
        found = ledger.attempt(attempt.id)
        assert found is not None
        assert found.mark == stands
    assert left(ledger, job.device) is None, "it is under way"


def test_an_end_without_an_erase_has_a_mark_of_its_own(ledger: Ledger, job: Job) -> None:
    """A unit is known by it when the next image is another one."""
    attempt = ledger.claim(job.id, NOON)
    for given, stands in ((NEW, NEW), (None, NEW), (OLD, OLD)):
        ledger.ending(attempt.id, NOON, given)
        found = ledger.attempt(attempt.id)
        assert found is not None
        assert (found.phase, found.mark, found.erase_starts) == (Phase.ENDING, stands, 0)
    ledger.finish(attempt.id, Outcome.FAILED, now=NOON, cause=CAUSE)
    assert left(ledger, job.device) == attempt.id


def entered(ledger: Ledger, device: DeviceId) -> bool:
    found = ledger.device(device)
    assert found is not None
    return found.entered


def test_inv5_that_a_unit_was_brought_into_its_loader_outlives_its_attempt(ledger: Ledger, job: Job) -> None:
    attempt = ledger.claim(job.id, NOON)
    assert not entered(ledger, job.device)
    ledger.entering(attempt.id, NOON)
    ledger.unclaim(attempt.id, NOON)
    assert entered(ledger, job.device)
    assert left(ledger, job.device) is None, "nothing of it was changed"
    again = ledger.claim(job.id, NOON)
    ledger.finish(again.id, Outcome.FAILED, now=NOON, cause=CAUSE)
    assert entered(ledger, job.device)
    with pytest.raises(ValueError, match="is over"):
        ledger.entering(again.id, NOON)


@pytest.mark.parametrize("how", ["erased", "known to run", "seen running", "forgotten"])
def test_a_unit_is_no_longer_left_in_its_loader(ledger: Ledger, job: Job, how: str) -> None:
    attempt = ledger.claim(job.id, NOON)
    ledger.entering(attempt.id, NOON)
    device = job.device
    match how:
        case "erased":
            ledger.erase_starting(attempt.id, NOON)
        case "known to run":
            ledger.set_running(device, version="9", sequence=None, image=None, evidence="told", now=NOON)
        case "seen running":
            ledger.is_back(device)
        case _:
            ledger.finish(attempt.id, Outcome.FAILED, now=NOON, cause=CAUSE)
            ledger.move(job.id, JobState.FAILED, now=NOON)
            ledger.forget(device)
            enroll(ledger, 1)
    assert not entered(ledger, device)


@pytest.mark.parametrize("which", ["new", "old"])
def test_that_a_unit_is_in_its_loader_is_adopted(ledger: Ledger, device: DeviceId, which: str) -> None:
    replacement = enroll(ledger, 2)
    ledger.is_in_loader(replacement if which == "new" else device)
    ledger.adopt(replacement, device)
    assert entered(ledger, device)


@pytest.mark.parametrize("phase", [Phase.WRITING, Phase.ENDING])
@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.RUNNING, Outcome.SUCCEEDED}))
def test_inv5_the_last_attempt_that_began_to_change_a_unit_is_found(
    ledger: Ledger, device: DeviceId, phase: Phase, outcome: Outcome
) -> None:
    assert left(ledger, device) is None
    cut = try_once(ledger, device, phase=phase, outcome=outcome)
    try_once(ledger, device, phase=Phase.PROBING, outcome=Outcome.FAILED)
    found = ledger.unfinished(device)
    assert found is not None
    assert (found.id, found.phase, found.mark) == (cut, phase, OLD)
    assert left(ledger, enroll(ledger, 2)) is None
    again = try_once(ledger, device, phase=Phase.WRITING, outcome=Outcome.FAILED)
    assert left(ledger, device) == again
    try_once(ledger, device, phase=Phase.PROBING, outcome=Outcome.SUCCEEDED)
    assert left(ledger, device) is None


def test_what_a_person_says_that_it_runs_ends_what_was_left_unfinished(
    ledger: Ledger, device: DeviceId
) -> None:
    cut = try_once(ledger, device, phase=Phase.WRITING, outcome=Outcome.FAILED)
    assert left(ledger, device) == cut
    ledger.set_running(device, version="9", sequence=None, image=None, evidence="told by ann", now=NOON)
    assert left(ledger, device) is None


def test_what_a_person_vouches_for_stays_unfinished_but_need_not_be_recognised(
    ledger: Ledger, device: DeviceId
) -> None:
    def vouched() -> tuple[AttemptId, bool]:
        found = ledger.unfinished(device)
        assert found is not None
        return found.id, found.vouched

    first = try_once(ledger, device, phase=Phase.ENDING, outcome=Outcome.UNKNOWN)
    assert vouched() == (first, False)
    ledger.vouch(device)
    assert vouched() == (first, True)
    replacement = enroll(ledger, 2)
    ledger.adopt(replacement, device)
    assert vouched() == (first, True)
    again = try_once(ledger, device, phase=Phase.WRITING, outcome=Outcome.FAILED)
    assert vouched() == (again, False)


def test_what_was_left_unfinished_goes_with_the_unit(ledger: Ledger, device: DeviceId) -> None:
    cut = try_once(ledger, device, phase=Phase.WRITING, outcome=Outcome.FAILED)
    replacement = enroll(ledger, 2)
    ledger.adopt(replacement, device)
    assert left(ledger, device) == cut
    ledger.forget(device)
    assert left(ledger, device) is None
