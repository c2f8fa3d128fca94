"""What is counted for good: once, in the right place, and whatever becomes of jobs and devices."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import Cause, CauseCode, JobState, LinkStats, Outcome, Phase
from firmwarden.store.figures import ClassWear, CountedAttempts, CountedJobs, CountedSeconds
from firmwarden.store.store import Store
from support.stored import CAUSE, DAY_S, NOON, PANEL, enroll, release

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.model import DeviceId
    from firmwarden.store.figures import Counted
    from firmwarden.store.ledger import Ledger

STATS = LinkStats(**{field.name: value for value, field in enumerate(fields(LinkStats), 1)})
LOST = Cause(code=CauseCode.LINK_LOST)
OLD = NOON - 91 * DAY_S


def attempts(
    outcome: Outcome,
    cause: str = "",
    *,
    attempts: int = 0,
    settled: int = 0,
    retried: int = 0,
    times: int = 0,
) -> CountedAttempts:
    return CountedAttempts(
        device_class=PANEL,
        outcome=outcome.value,
        cause=cause,
        attempts=attempts,
        settled=settled,
        retried=retried,
        stats=LinkStats(**{name: value * times for name, value in asdict(STATS).items()}),
    )


def jobs(state: JobState, cause: str = "", jobs: int = 1) -> CountedJobs:
    return CountedJobs(device_class=PANEL, state=state.value, cause=cause, jobs=jobs)


def a_life(ledger: Ledger, device: DeviceId, number: int, now: float) -> None:
    """A job that fails in transport, dies in its last step, and turns out to have succeeded."""
    job = ledger.create_job(device, release(number), now).id
    first = ledger.claim(job, now).id
    ledger.erase_starting(first, now)
    ledger.finish(first, Outcome.FAILED, now=now, cause=LOST, stats=STATS, seconds=2.0)
    ledger.move(job, JobState.QUEUED, now=now, cause=LOST, not_before=now + 2)
    second = ledger.claim(job, now).id
    ledger.erase_starting(second, now)
    ledger.ending(second, now)
    unknown = Cause(code=CauseCode.END_UNANSWERED)
    ledger.finish(second, Outcome.UNKNOWN, now=now, cause=unknown, stats=STATS, seconds=3000.0)
    ledger.move(job, JobState.UNKNOWN, now=now, cause=unknown)
    ledger.finish(second, Outcome.UNKNOWN, now=now, cause=LOST, stats=STATS, seconds=1.0)
    ledger.finish(second, Outcome.SUCCEEDED, now=now, evidence="it answers", stats=STATS, seconds=1.0)
    ledger.move(job, JobState.SUCCEEDED, now=now)


ONE_LIFE = [
    attempts(Outcome.FAILED, "link-lost", attempts=1, retried=1, times=1),
    attempts(Outcome.SUCCEEDED, settled=1, times=1),
    attempts(Outcome.UNKNOWN, "end-unanswered", attempts=1, times=1),
    attempts(Outcome.UNKNOWN, "link-lost", times=1),
]


def test_an_attempt_is_counted_as_what_it_ended_first_and_as_what_it_became(ledger: Ledger) -> None:
    a_life(ledger, enroll(ledger, 1), 1, NOON)
    counted = ledger.counted(NOON)
    assert counted.attempts == ONE_LIFE
    assert counted.jobs == [jobs(JobState.SUCCEEDED)]
    assert counted.wear == [ClassWear(device_class=PANEL, starts=2, most_today=2, most_life=2)]


def test_durations_fall_between_the_bounds(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    a_life(ledger, device, 1, NOON)
    a_life(ledger, device, 2, NOON)

    def seconds(outcome: Outcome, longer_than: float, seconds: float) -> CountedSeconds:
        return CountedSeconds(
            device_class=PANEL, outcome=outcome.value, longer_than=longer_than, attempts=2, seconds=seconds
        )

    # A bound holds what takes exactly so long; what an answer to a question took is no attempt's duration.
    assert ledger.counted(NOON).seconds == [
        seconds(Outcome.FAILED, 1.0, 4.0),
        seconds(Outcome.UNKNOWN, 1800.0, 6000.0),
    ]


def test_an_attempt_that_died_with_the_daemon_has_no_duration(ledger: Ledger) -> None:
    job = ledger.create_job(enroll(ledger, 1), release(1), NOON).id
    ledger.finish(ledger.claim(job, NOON).id, Outcome.INTERRUPTED, now=NOON, cause=CAUSE)
    ledger.move(job, JobState.QUEUED, now=NOON, cause=CAUSE)
    counted = ledger.counted(NOON)
    assert counted.attempts == [attempts(Outcome.INTERRUPTED, "erase-error", attempts=1)]
    assert (counted.seconds, counted.jobs) == ([], [])


def test_what_never_touched_a_port_is_not_counted(ledger: Ledger) -> None:
    job = ledger.create_job(enroll(ledger, 1), release(1), NOON).id
    ledger.unclaim(ledger.claim(job, NOON).id, NOON)
    counted = ledger.counted(NOON)
    assert (counted.attempts, counted.jobs, counted.wear) == ([], [], [])


def test_jobs_are_counted_by_how_they_ended(ledger: Ledger) -> None:
    for number in (1, 2):
        job = ledger.create_job(enroll(ledger, number), release(1), NOON).id
        attempt = ledger.claim(job, NOON)
        assert attempt.phase is Phase.PROBING
        ledger.finish(attempt.id, Outcome.FAILED, now=NOON, cause=CAUSE)
        ledger.move(job, JobState.FAILED, now=NOON, cause=CAUSE)
    newer = ledger.create_job(enroll(ledger, 3), release(1), NOON).id
    ledger.move(newer, JobState.SUPERSEDED, now=NOON)
    assert ledger.counted(NOON).jobs == [
        jobs(JobState.FAILED, "erase-error", jobs=2),
        jobs(JobState.SUPERSEDED),
    ]


def test_a_job_that_an_adoption_ends_is_counted(ledger: Ledger) -> None:
    new, old = enroll(ledger, 1), enroll(ledger, 2)
    for device in (new, old):
        ledger.create_job(device, release(1), NOON)
    ledger.adopt(new, old)
    assert ledger.counted(NOON).jobs == [jobs(JobState.SUPERSEDED)]


def test_what_is_folded_adopted_and_forgotten_stays_counted(ledger: Ledger) -> None:
    new, old = enroll(ledger, 1), enroll(ledger, 2)
    a_life(ledger, new, 1, OLD)
    a_life(ledger, new, 2, OLD)
    a_life(ledger, old, 3, OLD)
    before = ledger.counted(NOON)
    ledger.fold(NOON, keep_per_device=0)
    assert ledger.attempts(None, 9) == []
    assert ledger.counted(NOON) == before
    ledger.adopt(new, old)
    adopted = ledger.counted(NOON)
    assert adopted.wear == [ClassWear(device_class=PANEL, starts=6, most_today=0, most_life=6)]
    ledger.forget(old)
    forgotten = ledger.counted(NOON)
    # Its flash keeps its wear, but nobody has to look after it.
    assert forgotten.wear == [ClassWear(device_class=PANEL, starts=6, most_today=0, most_life=0)]
    for counted in (adopted, forgotten):
        assert (counted.attempts, counted.jobs, counted.seconds) == (
            before.attempts,
            before.jobs,
            before.seconds,
        )


def test_the_unit_with_most_wear_speaks_for_its_class(ledger: Ledger) -> None:
    one, two = enroll(ledger, 1), enroll(ledger, 2)
    a_life(ledger, one, 1, NOON - 3 * DAY_S)
    a_life(ledger, one, 2, NOON - 2 * DAY_S)
    a_life(ledger, two, 1, NOON)
    assert ledger.counted(NOON).wear == [ClassWear(device_class=PANEL, starts=6, most_today=2, most_life=4)]


@pytest.mark.anyio
async def test_a_restart_changes_no_count(tmp_path: Path) -> None:
    def live(ledger: Ledger) -> Counted:
        a_life(ledger, enroll(ledger, 1), 1, NOON)
        return ledger.counted(NOON)

    path = tmp_path / "state.db"
    store = await Store.open(path)
    before = await store.run(live)
    await store.aclose()
    store = await Store.open(path)
    assert await store.run(lambda ledger: ledger.counted(NOON)) == before
    await store.aclose()
