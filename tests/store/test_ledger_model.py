"""The ledger against a model of it in plain dictionaries, over random histories."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from firmwarden.errors import Refused
from firmwarden.model import TRANSITIONS, CommitMark, DeviceId, JobState, LatchScope, Outcome, Phase, Wear
from firmwarden.store.rows import WATCHED_S
from support.stored import CAUSE, DAY_S, bare_ledger, enroll, image, release

if TYPE_CHECKING:
    from hypothesis.stateful import MultipleResults

    from firmwarden.model import AttemptId, ImageHash, JobId, LatchId

OPEN = frozenset(state for state in JobState if not state.final)
IMAGES = st.integers(1, 3)
DEVICES = st.integers(1, 4)


@dataclass
class JobModel:
    device: DeviceId
    image: ImageHash
    state: JobState = JobState.QUEUED
    attempts: int = 0


@dataclass
class AttemptModel:
    job: JobId
    phase: Phase = Phase.PROBING
    outcome: Outcome = Outcome.RUNNING
    erase_starts: int = 0
    mark: CommitMark | None = None


@dataclass
class Model:
    """What the ledger should know."""

    devices: dict[DeviceId, bool | None] = field(default_factory=dict)
    """Present devices, and whether each is known to be complete."""
    entered: set[DeviceId] = field(default_factory=set)
    """Those that were left in their loader."""
    jobs: dict[JobId, JobModel] = field(default_factory=dict)
    attempts: dict[AttemptId, AttemptModel] = field(default_factory=dict)
    latches: dict[LatchId, tuple[LatchScope, DeviceId | None, ImageHash | None]] = field(default_factory=dict)
    erases: Counter[tuple[DeviceId, int]] = field(default_factory=Counter)

    def running_on(self, device: DeviceId) -> bool:
        return any(job.device == device and job.state is JobState.RUNNING for job in self.jobs.values())

    def open_pair(self, device: DeviceId, image: ImageHash) -> list[JobModel]:
        return [
            job
            for job in self.jobs.values()
            if (job.device, job.image) == (device, image) and job.state in OPEN
        ]

    def adopt(self, new: DeviceId, old: DeviceId) -> None:
        for job in self.jobs.values():
            if job.device == new:
                if job.state in OPEN and self.open_pair(old, job.image):
                    job.state = JobState.SUPERSEDED
                job.device = old
        if new in self.entered:
            self.entered.remove(new)
            self.entered.add(old)
        complete = self.devices.pop(new)
        if complete is not None:
            self.devices[old] = complete
        self.latches = {
            id_: (scope, old if device == new else device, of)
            for id_, (scope, device, of) in self.latches.items()
        }
        erases = self.erases
        self.erases = Counter()
        for (device, day), starts in erases.items():
            self.erases[old if device == new else device, day] += starts


class LedgerMachine(RuleBasedStateMachine):
    """Does to both what a service would, and now and then what it never should."""

    attempts: Bundle[AttemptId] = Bundle("attempts")
    jobs: Bundle[JobId] = Bundle("jobs")
    latches: Bundle[LatchId] = Bundle("latches")

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.ledger = self.resources.enter_context(bare_ledger())
        self.model = Model()
        self.keys: dict[int, DeviceId] = {}
        self.day = 20_000
        self.counted: Counter[tuple[str, str, str]] = Counter()

    def teardown(self) -> None:
        self.resources.close()

    @property
    def now(self) -> float:
        return self.day * DAY_S

    @initialize(target=jobs, wanted=IMAGES)
    def begin(self, wanted: int) -> JobId | MultipleResults[JobId]:
        self.arrive(1)
        self.arrive(2)
        return self.queue(1, wanted)

    @rule(number=DEVICES)
    def arrive(self, number: int) -> None:
        """A unit is plugged in; a forgotten one gets its old id."""
        if self.keys.get(number) in self.model.devices:
            return
        id_ = enroll(self.ledger, number, self.now)
        assert self.keys.setdefault(number, id_) == id_
        self.model.devices[id_] = None

    @rule(step=st.sampled_from([1, 1, 1, -300, 299]))
    def let_time_pass(self, step: int) -> None:
        self.day += step

    @rule(target=jobs, number=DEVICES, wanted=IMAGES)
    def queue(self, number: int, wanted: int) -> JobId | MultipleResults[JobId]:
        device = self.keys.get(number)
        if device not in self.model.devices or device is None:
            return multiple()
        if self.model.open_pair(device, image(wanted)):
            with pytest.raises(sqlite3.IntegrityError):
                self.ledger.create_job(device, release(wanted), self.now)
            return multiple()
        job = self.ledger.create_job(device, release(wanted), self.now)
        assert job.id not in self.model.jobs
        self.model.jobs[job.id] = JobModel(device, image(wanted))
        return job.id

    @rule(target=attempts, job=jobs)
    def claim(self, job: JobId) -> AttemptId | MultipleResults[AttemptId]:
        expected = self.model.jobs.get(job)
        if expected is None:
            with pytest.raises(LookupError):
                self.ledger.claim(job, self.now)
            return multiple()
        if expected.state is not JobState.QUEUED:
            with pytest.raises(ValueError, match="cannot become running"):
                self.ledger.claim(job, self.now)
            return multiple()
        if self.model.running_on(expected.device):
            with pytest.raises(sqlite3.IntegrityError):
                self.ledger.claim(job, self.now)
            return multiple()
        attempt = self.ledger.claim(job, self.now)
        expected.state = JobState.RUNNING
        expected.attempts += 1
        assert attempt.number == expected.attempts
        assert attempt.id not in self.model.attempts
        self.model.attempts[attempt.id] = AttemptModel(job)
        return attempt.id

    @rule(attempt=attempts)
    def enter(self, attempt: AttemptId) -> None:
        expected = self.model.attempts.get(attempt)
        if expected is None or expected.outcome is not Outcome.RUNNING:
            with pytest.raises((ValueError, LookupError)):
                self.ledger.entering(attempt, self.now)
            return
        self.model.entered.add(self.model.jobs[expected.job].device)
        self.ledger.entering(attempt, self.now)

    @rule(number=DEVICES)
    def see_running(self, number: int) -> None:
        device = self.keys.get(number)
        if device in self.model.devices and device is not None:
            self.model.entered.discard(device)
            self.ledger.is_back(device)

    @rule(
        attempt=attempts, mark=st.sampled_from([None, CommitMark(b"", b"\xff"), CommitMark(b"old", b"new")])
    )
    def erase(self, attempt: AttemptId, mark: CommitMark | None) -> None:
        expected = self.model.attempts.get(attempt)
        if expected is None or expected.outcome is not Outcome.RUNNING:
            with pytest.raises((ValueError, LookupError)):
                self.ledger.erase_starting(attempt, self.now)
            return
        device = self.model.jobs[expected.job].device
        expected.phase = Phase.WRITING
        expected.erase_starts += 1
        expected.mark = mark or expected.mark
        self.model.devices[device] = False
        self.model.entered.discard(device)
        self.model.erases[device, self.day] += 1
        assert self.ledger.erase_starting(attempt, self.now, mark) == self._wear(device)

    @rule(attempt=attempts, mark=st.sampled_from([None, CommitMark(b"past", b"next")]))
    def end(self, attempt: AttemptId, mark: CommitMark | None) -> None:
        expected = self.model.attempts.get(attempt)
        if expected is None or expected.outcome is not Outcome.RUNNING:
            with pytest.raises((ValueError, LookupError)):
                self.ledger.ending(attempt, self.now)
            return
        expected.phase = Phase.ENDING
        expected.mark = mark or expected.mark
        self.ledger.ending(attempt, self.now, mark)

    @rule(attempt=attempts, outcome=st.sampled_from(Outcome), state=st.sampled_from(JobState))
    def finish(self, attempt: AttemptId, outcome: Outcome, state: JobState) -> None:
        """Close or settle an attempt, and move its job on as one might; a defect raises and changes nothing."""
        expected = self.model.attempts.get(attempt)
        if (
            expected is None
            or outcome is Outcome.RUNNING
            or expected.outcome not in {Outcome.RUNNING, Outcome.UNKNOWN}
        ):
            with pytest.raises((ValueError, LookupError)):
                self.ledger.finish(attempt, outcome, now=self.now, evidence="seen")
            return
        expected.outcome = outcome
        self.ledger.finish(attempt, outcome, now=self.now, evidence="seen")
        self.move(expected.job, JobState.QUEUED if state is JobState.RUNNING else state)

    @rule(job=jobs, state=st.sampled_from(sorted(set(JobState) - {JobState.RUNNING})))
    def move(self, job: JobId, state: JobState) -> None:
        expected = self.model.jobs.get(job)
        if expected is None or state not in TRANSITIONS[expected.state]:
            with pytest.raises((ValueError, LookupError)):
                self.ledger.move(job, state, now=self.now)
            return
        expected.state = state
        assert self.ledger.move(job, state, now=self.now).state is state

    @rule(target=latches, scope=st.sampled_from(LatchScope), number=DEVICES, wanted=IMAGES)
    def latch(self, scope: LatchScope, number: int, wanted: int) -> LatchId | MultipleResults[LatchId]:
        device = self.keys.get(number)
        if device is None:
            return multiple()
        stopped = (
            scope,
            None if scope is LatchScope.IMAGE else device,
            None if scope is LatchScope.DEVICE else image(wanted),
        )
        latch = self.ledger.latch(
            scope, device=device, image=image(wanted), cause=CAUSE, attempt=None, now=self.now
        )
        if stopped in self.model.latches.values():
            assert self.model.latches[latch.id] == stopped
        else:
            assert latch.id not in self.model.latches
            self.model.latches[latch.id] = stopped
        return latch.id

    @rule(latch=consumes(latches))
    def lift(self, latch: LatchId) -> None:
        stopped = self.model.latches.get(latch)
        self.ledger.lift(latch, "ann", self.now)
        if stopped is not None:
            self.model.latches = {id_: other for id_, other in self.model.latches.items() if other != stopped}

    @rule(number=DEVICES)
    def forget(self, number: int) -> None:
        device = self.keys.get(number)
        if device is None or device not in self.model.devices:
            return
        if self.model.running_on(device):
            with pytest.raises(Refused, match="is being updated"):
                self.ledger.forget(device)
            return
        self.ledger.forget(device)
        del self.model.devices[device]
        self.model.entered.discard(device)
        self._drop_jobs({id_ for id_, job in self.model.jobs.items() if job.device == device})

    @rule(numbers=st.lists(DEVICES, min_size=2, max_size=2, unique=True))
    def adopt(self, numbers: list[int]) -> None:
        new, old = (self.keys.get(number) for number in numbers)
        if new is None or old is None or not {new, old} <= self.model.devices.keys():
            return
        if self.model.running_on(new) or self.model.running_on(old):
            with pytest.raises(Refused, match="is being updated"):
                self.ledger.adopt(new, old)
            return
        self.ledger.adopt(new, old)
        self.model.adopt(new, old)
        # The key of the new one is the old one's now; a unit that takes the old place gets an id of its own.
        self.keys = {number: device for number, device in self.keys.items() if device != old}
        self.keys[numbers[0]] = old

    @rule(keep=st.integers(0, 3))
    def fold(self, keep: int) -> None:
        before = {device: self.ledger.totals(device) for device in self.model.devices}
        self.ledger.fold(self.now + DAY_S, keep_days=1, keep_per_device=keep)
        assert {device: self.ledger.totals(device) for device in self.model.devices} == before
        # Which rows go is for tests of their own; here, that nothing goes which is still asked for.
        gone = {id_ for id_ in self.model.attempts if self.ledger.attempt(id_) is None}
        for id_ in gone:
            assert self.model.jobs[self.model.attempts.pop(id_).job].state.final
        jobs = {id_ for id_ in self.model.jobs if self.ledger.job(id_) is None}
        assert jobs.isdisjoint(attempt.job for attempt in self.model.attempts.values())
        newest = {(job.device, job.image): id_ for id_, job in sorted(self.model.jobs.items())}
        assert jobs.isdisjoint(newest.values())
        self._drop_jobs(jobs)

    @invariant()
    def devices_are_as_expected(self) -> None:
        devices = self.ledger.devices()
        assert {device.id: device.complete for device in devices} == self.model.devices
        assert {device.id for device in devices if device.entered} == self.model.entered
        for device in self.model.devices:
            assert self.ledger.wear(device, self.now) == self._wear(device)

    @invariant()
    def jobs_are_as_expected(self) -> None:
        found = {
            job.id: JobModel(job.device, job.image, job.state, job.attempts)
            for job in self.ledger.jobs(limit=999)
        }
        assert found == self.model.jobs
        assert {job.device: job.id for job in self.ledger.newest_jobs()} == {
            job.device: id_ for id_, job in sorted(self.model.jobs.items())
        }
        assert {job.id for job in self.ledger.open_jobs()} == {
            id_ for id_, job in self.model.jobs.items() if job.state in OPEN
        }
        assert self.ledger.needed_images() == {
            job.image for job in self.model.jobs.values() if job.state in OPEN
        }

    @invariant()
    def attempts_are_as_expected(self) -> None:
        found = {
            attempt.id: AttemptModel(
                attempt.job, attempt.phase, attempt.outcome, attempt.erase_starts, attempt.mark
            )
            for attempt in self.ledger.attempts(None, 999)
        }
        assert found == self.model.attempts
        assert {attempt.id for attempt in self.ledger.running_attempts()} == {
            id_ for id_, attempt in self.model.attempts.items() if attempt.outcome is Outcome.RUNNING
        }

    @invariant()
    def what_is_unfinished_is_as_expected(self) -> None:
        for device in self.model.devices:
            of_device = {
                id_: attempt
                for id_, attempt in self.model.attempts.items()
                if self.model.jobs[attempt.job].device == device
            }
            good = max((id_ for id_, one in of_device.items() if one.outcome is Outcome.SUCCEEDED), default=0)
            left = [
                id_
                for id_, one in of_device.items()
                if id_ > good and one.phase is not Phase.PROBING and one.outcome is not Outcome.RUNNING
            ]
            found = self.ledger.unfinished(device)
            assert (None if found is None else found.id) == max(left, default=None)

    @invariant()
    def latches_are_as_expected(self) -> None:
        found = {latch.id: (latch.scope, latch.device, latch.image) for latch in self.ledger.latches()}
        assert found == self.model.latches

    @invariant()
    def what_is_counted_never_falls(self) -> None:
        counted = self.ledger.counted(self.now)
        now: Counter[tuple[str, str, str]] = Counter()
        for ended in counted.attempts:
            now["attempts", ended.outcome, ended.cause] = ended.attempts
            now["settled", ended.outcome, ended.cause] = ended.settled
        for done in counted.jobs:
            now["jobs", done.state, done.cause] = done.jobs
        for worn in counted.wear:
            now["erases", worn.device_class, ""] = worn.starts
        assert self.counted <= now
        self.counted = now
        over = sum(attempt.outcome is not Outcome.RUNNING for attempt in self.model.attempts.values())
        assert over <= sum(row.attempts for row in counted.attempts)

    def _wear(self, device: DeviceId) -> Wear:
        starts = {day: count for (unit, day), count in self.model.erases.items() if unit == device}
        ahead = sum(count for day, count in starts.items() if day > self.day)
        return Wear(
            today=sum(count for day, count in starts.items() if day >= self.day),
            life=sum(starts.values()),
            ahead=ahead,
            ahead_s=WATCHED_S if ahead else 0.0,
        )

    def _drop_jobs(self, jobs: set[JobId]) -> None:
        for job in jobs:
            del self.model.jobs[job]
        self.model.attempts = {
            id_: attempt for id_, attempt in self.model.attempts.items() if attempt.job not in jobs
        }


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=50)
