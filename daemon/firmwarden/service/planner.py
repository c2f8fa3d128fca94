"""Compares what devices should run with what they are known to run, and makes the jobs; nothing else does.

One planning is one transaction of the store: it reads everything, moves jobs and says which may run now and what
the others wait for.  It is a function of the store, the roll of who is here and the shelf of releases, so
planning twice changes nothing, and a planning cut off by a power loss is simply done again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from firmwarden.events import LogEvent
from firmwarden.model import (
    THE_DAEMON,
    Action,
    Cause,
    CauseCode,
    JobState,
    LatchScope,
    Outcome,
    Phase,
    Wait,
    WaitKind,
)
from firmwarden.service.desired import ClassPolicy, Desired, desired, waiting_in_loader
from firmwarden.service.going_back import going_back
from firmwarden.service.holding import concerning, wait_for
from firmwarden.service.policy import DISPOSITIONS, Disposition
from firmwarden.service.running import take_word
from firmwarden.service.staging import Situation, stage
from firmwarden.service.timing import Asking, Moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.model import Attempt, ClassName, Device, DeviceId, Hold, Job, JobId, Latch, Release
    from firmwarden.service.rollout import Progress
    from firmwarden.service.running import OwnWord
    from firmwarden.store.ledger import Ledger

_LOOK_BACK: Final = 200
"""Attempts since the last success that are looked at; budgets end far earlier."""
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Who is here, for one planning."""

    present: Mapping[DeviceId, float]
    """Devices that have a port, each with the wall-clock instant of its last plug, or 0 for "since the start"."""
    conflicts: Mapping[DeviceId, str]
    """Known devices whose identity is ambiguous now, each with the conflict in words."""
    paused: Mapping[DeviceId, Wait]
    """Devices whose port somebody else had a moment ago, or whose driver left it to a person to go on."""
    busy: AbstractSet[DeviceId]
    """Devices with an attempt or a question under way."""
    asking_rests: Mapping[DeviceId, Wait]
    """Devices with an unknown outcome that are not asked again yet."""
    running: Mapping[DeviceId, OwnWord | None] = field(default_factory=dict)
    """Devices whose application was seen, by a scan that began after their last attempt, each with what that tells."""
    in_loader: AbstractSet[DeviceId] = frozenset()
    """Devices whose loader was seen by such a scan."""
    moment: Moment = field(default_factory=Moment)
    """What is known of the time."""


@dataclass(slots=True)
class Agenda:
    """The result of one planning."""

    run: list[Job] = field(default_factory=list)
    ask: list[Job] = field(default_factory=list)
    check: list[tuple[Job, Device]] = field(default_factory=list)
    """Of which the condition of the class is to be asked."""
    waits: dict[JobId, Wait] = field(default_factory=dict)
    owners: dict[JobId, DeviceId] = field(default_factory=dict)
    """The device of each job that waits."""
    desired: dict[DeviceId, Desired] = field(default_factory=dict)
    rollouts: list[Progress] = field(default_factory=list)
    """Of what some device is meant to have now, or was called back."""
    notes: list[tuple[LogEvent, dict[str, object]]] = field(default_factory=list)
    """To be logged once the transaction is on disk."""
    ends: list[float] = field(default_factory=list)
    """When something ends by itself, whether or not a job waits for it."""

    @property
    def wake_at(self) -> float | None:
        """The first instant at which something ends by itself."""
        waits = [wait.until for wait in self.waits.values() if wait.until is not None]
        return min([*waits, *self.ends], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What the configuration says of planning."""

    classes: Mapping[ClassName, ClassPolicy]
    parallel: int
    """Updates at once, over all classes."""

    def plan(
        self, ledger: Ledger, *, releases: Sequence[Release], here: Here, now: float, may_start: bool = True
    ) -> Agenda:
        """Bring the jobs in line with what should run and say what may start.

        Args:
            ledger: of an open transaction.
            releases: the accepted releases.
            here: who is here.
            now: wall clock.
            may_start: False while the service stops: jobs are kept in line, none is started.
        """
        planning = _Planning(rules=self, ledger=ledger, here=here, now=now)
        planning.end_holds()
        jobs = planning.line_up(releases)
        if may_start:
            planning.start(jobs, releases)
        return planning.agenda


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planning:
    """One planning: what it looks at, and what comes of it."""

    rules: Planner
    ledger: Ledger
    here: Here
    now: float
    agenda: Agenda = field(default_factory=Agenda)
    closed: dict[ClassName, Wait | None] = field(default_factory=dict)
    """What a class waits for whose windows are closed, once that was looked up."""

    def end_holds(self) -> None:
        """End what was held for a time that is over, and see to it that the next end is not missed."""
        for hold in self.ledger.end_holds(self.now):
            target = hold.device or "all"
            # An owner is whom somebody named: it may be a user who did nothing.
            detail = f"that of {hold.owner}: {hold.reason}"
            self.ledger.record(
                Action(at=self.now, who=THE_DAEMON, what="hold-ended", target=target, detail=detail)
            )
            keys: dict[str, object] = {"device": hold.device, "owner": hold.owner, "reason": hold.reason}
            self.agenda.notes.append((LogEvent.HOLD_ENDED, keys))
        self.agenda.ends += [hold.expires_at for hold in self.ledger.holds() if hold.expires_at is not None]

    # --- which jobs there should be

    def line_up(self, releases: Sequence[Release]) -> list[Job]:
        """Make, keep and end jobs; return those that are open afterwards."""
        by_class: dict[ClassName, list[Release]] = {}
        for release in releases:
            by_class.setdefault(release.device_class, []).append(release)
        latches = self.ledger.latches()
        open_jobs: dict[DeviceId, list[Job]] = {}
        for job in self.ledger.open_jobs():
            open_jobs.setdefault(job.device, []).append(job)
        lined_up = []
        for device in self.ledger.devices():
            policy = self.rules.classes.get(device.device_class)
            if policy is None:
                continue  # its class left the configuration: what is known of it stays, nothing is planned
            shelf = by_class.get(device.device_class, ())
            kept = self._one_of(open_jobs.get(device.id, []))
            known = self._as_seen(device, kept, shelf)
            wanted = desired(known, shelf, latches, policy, may_be_erased=may_be_erased(self.ledger, known))
            wanted = self._or_back(known, wanted, latches, policy)
            wanted = self._or_what_it_holds(known, wanted, kept, shelf, latches)
            self.agenda.desired[device.id] = wanted
            planned = self._job_for(known, wanted, kept, latches)
            if planned is not None:
                lined_up.append(planned)
        return lined_up

    def _as_seen(self, device: Device, job: Job | None, releases: Sequence[Release]) -> Device:
        """Record that an application runs and what it tells, unless an attempt or a question finds out more."""
        asked = job is not None and job.state in {JobState.RUNNING, JobState.UNKNOWN}
        if device.id not in self.here.running or asked or device.id in self.here.busy:
            return device
        if device.entered:
            device = self.ledger.is_back(device.id)
        word = self.here.running[device.id]
        if word is None:
            return device
        known = take_word(self.ledger, device, word, job=job, releases=releases, now=self.now)
        if known.running_version != device.running_version:
            keys = {"device": device.id, "release": word.version, "before": device.running_version}
            self.agenda.notes.append((LogEvent.VERSION_TOLD, {**keys, "evidence": known.running_evidence}))
        return known

    def _or_back(
        self, device: Device, wanted: Desired, latches: Sequence[Latch], policy: ClassPolicy
    ) -> Desired:
        """Let a unit go back from what was called off; where that failed and there is something newer, to that."""
        back = going_back(device, wanted, latches, policy)
        if wanted.release is None or back.release is None or self._again(device, back.release):
            return back
        return wanted

    def _or_what_it_holds(
        self,
        device: Device,
        wanted: Desired,
        job: Job | None,
        releases: Sequence[Release],
        latches: Sequence[Latch],
    ) -> Desired:
        """Let a unit that waits in its loader be given what it holds, where it gets nothing else: that starts it."""
        if device.id not in self.here.in_loader or (job is not None and self._under_way(job)):
            return wanted
        release = wanted.release
        if release is not None and (
            (job is not None and job.image == release.image) or self._again(device, release)
        ):
            return wanted
        whole = was_left_whole(self.ledger, device)
        return waiting_in_loader(device, wanted, releases if whole else (), latches)

    def _one_of(self, jobs: list[Job]) -> Job | None:
        """Keep one open job of a device; there may be two when two records were adopted into one."""
        if not jobs:
            return None
        *spare, kept = sorted(jobs, key=lambda job: (job.state is JobState.RUNNING, job.id))
        for job in spare:
            self.ledger.move(job.id, JobState.SUPERSEDED, now=self.now)
            self._note(LogEvent.JOB_SUPERSEDED, job, by=kept.version)
        return kept

    def _job_for(
        self, device: Device, wanted: Desired, job: Job | None, latches: Sequence[Latch]
    ) -> Job | None:
        """Make, keep or end the job of one device."""
        if job is not None and self._under_way(job):
            return job  # a running attempt is never broken off for a newer release
        release = wanted.release
        if job is not None and (release is None or release.image != job.image):
            if job.state is JobState.UNKNOWN and (release is None or self._is_asked_first(job, latches)):
                return job  # whatever became of the wish, what happened is still to be found out
            self._end(job, wanted)
            job = None
        if job is not None or release is None or not self._again(device, release):
            return job
        job = self.ledger.create_job(device.id, release, self.now)
        self._note(LogEvent.JOB_CREATED, job, image=release.image, detail=wanted.reason)
        return job

    def _is_asked_first(self, job: Job, latches: Sequence[Latch]) -> bool:
        """Whether a device is to be asked what became of an update before it is given something else.

        That may have to wait for its turn or a window for days, and the device may be in its loader until a question
        starts what it holds; which must not be what was called off.
        """
        called_off = any(latch.scope is LatchScope.IMAGE and latch.image == job.image for latch in latches)
        rest = self.here.asking_rests.get(job.device)
        asked_often_enough = rest is not None and rest.until is None
        return not (called_off or asked_often_enough)

    def _end(self, job: Job, wanted: Desired) -> None:
        """End a waiting job that nobody wants any more."""
        if wanted.release is not None:
            self.ledger.move(job.id, JobState.SUPERSEDED, now=self.now)
            self._note(LogEvent.JOB_SUPERSEDED, job, by=wanted.release.version)
        else:
            cause = Cause(code=CauseCode.WITHDRAWN, detail=wanted.reason)
            self.ledger.move(job.id, JobState.CANCELLED, now=self.now, cause=cause)
            self._note(LogEvent.JOB_CANCELLED, job, cause=cause.code.value, detail=cause.detail)

    def _again(self, device: Device, release: Release) -> bool:
        """Whether a job for this pair may be made, given how its last one ended."""
        last = self.ledger.last_job(device.id, release.image)
        if last is not None and last.state is JobState.SUCCEEDED:
            unfit = self._does_not_keep_it(device, release) or self._was_ill_with_it(last)
            return not (unfit or self._has_yet_to_show_it(device, release))
        if last is None or last.state not in {JobState.FAILED, JobState.CANCELLED}:
            return True
        code = None if last.cause is None else last.cause.code
        if code in {CauseCode.WITHDRAWN, CauseCode.PROTOCOL_TOO_NEW}:
            # Dropping a release again is a new wish; a latch for a protocol is lifted by a Firmwarden that speaks it.
            return True
        if code is not CauseCode.TRANSPORT_EXHAUSTED:
            return False
        ended_at = last.updated_at
        plugged_at = self.here.present.get(device.id, 0.0)
        policy = self.rules.classes[device.device_class]
        # The clock may have been set in between: what lies ahead of it says nothing, and must not hold it for years.
        plugged_anew = ended_at + policy.settles_s < plugged_at <= self.now
        return plugged_anew or abs(self.now - ended_at) >= policy.budgets.again_after_s

    def _does_not_keep_it(self, device: Device, release: Release) -> bool:
        """Whether a device was given a release again and again, and each time came back with another.

        It may fall back on a golden image whenever the new one has run for a while.  What is still in its flash is not
        erased again, so no budget of wear would end that.
        """
        budgets = self.rules.classes[device.device_class].budgets
        jobs = self.ledger.jobs(limit=budgets.attempts, device=device.id)
        return (
            len(jobs) == budgets.attempts
            and all((job.state, job.image) == (JobState.SUCCEEDED, release.image) for job in jobs)
            and abs(self.now - jobs[-1].updated_at) < budgets.again_after_s
        )

    def _has_yet_to_show_it(self, device: Device, release: Release) -> bool:
        """Whether a unit is on probation with that: where it shows something else now, that is for the verdict."""
        probation = self.ledger.probation(device.id)
        return probation is not None and probation.image == release.image

    def _was_ill_with_it(self, last: Job) -> bool:
        """Whether the unit did not keep well with what that job gave it.

        Who lifts the latch for that says that it may be tried again; that it is to be tried is a word of its own.
        """
        attempt = self.ledger.last_attempt(last.id)
        latches = [] if attempt is None else self.ledger.latches_of(attempt.id)
        return any(latch.cause.code is CauseCode.UNHEALTHY for latch in latches)

    def _note(self, event: LogEvent, job: Job, **more: object) -> None:
        self.agenda.notes.append(
            (event, {"device": job.device, "job": job.id, "release": job.version, **more})
        )

    # --- which of them may run

    def start(self, jobs: Sequence[Job], releases: Sequence[Release]) -> None:
        """Sort the open jobs into those that run, those that ask and those that wait."""
        under_way = [job for job in jobs if self._under_way(job)]
        slots = Counter(job.device_class for job in under_way)
        on_trial = {job.image for job in under_way}
        suspects = _suspect_images(self.ledger.latches())
        holds = self.ledger.holds()
        outside = {
            job.id: self._outside_wait(job, holds)
            or self._time_wait(job)
            or self.here.moment.answers.get(job.id)
            for job in jobs
            if not self._under_way(job)
        }
        asking = Asking.of(self.here.moment, jobs)
        kept_back = self._stage(jobs, releases, outside)
        for job in sorted(jobs, key=lambda job: job.id):
            if self._under_way(job):
                continue
            wait = outside[job.id] or kept_back.get(job.id)
            if wait is None and job.state is JobState.QUEUED and job.image in suspects & on_trial:
                wait = Wait(
                    kind=WaitKind.CANARY,
                    detail="another device refused this image, so one device at a time tries it, and one does now",
                )
            wait = wait or self._slot_wait(job, slots) or self._condition_wait(job, slots, asking)
            if wait is not None:
                self.agenda.waits[job.id] = wait
                self.agenda.owners[job.id] = job.device
                continue
            slots[job.device_class] += 1
            on_trial.add(job.image)
            (self.agenda.run if job.state is JobState.QUEUED else self.agenda.ask).append(job)
        begun = {job.device for job in self.agenda.run}
        self.agenda.rollouts = [progress.with_begun(begun) for progress in self.agenda.rollouts]
        for job in asking.next:
            device = self.ledger.device(job.device)
            if device is not None:
                self.agenda.check.append((job, device))

    def _stage(
        self, jobs: Sequence[Job], releases: Sequence[Release], waits: Mapping[JobId, Wait | None]
    ) -> Mapping[JobId, Wait]:
        """Bring the rollouts forward; return what those jobs wait for whose turn it is not."""
        situation = Situation(
            rules={
                name: policy.rollout
                for name, policy in self.rules.classes.items()
                if policy.rollout is not None
            },
            releases=releases,
            latches=self.ledger.latches(),
            desired=self.agenda.desired,
            jobs=jobs,
            waits=waits,
            here=self.here,
            now=self.now,
        )
        staged = stage(self.ledger, situation)
        self.agenda.rollouts.extend(staged.progress)
        self.agenda.ends += [each.until for each in staged.progress if each.until is not None]
        self.agenda.notes.extend(staged.notes)
        return staged.waits

    def _under_way(self, job: Job) -> bool:
        return job.state is JobState.RUNNING or job.device in self.here.busy

    def _outside_wait(self, job: Job, holds: Sequence[Hold]) -> Wait | None:
        """What lies outside the job: the device, its identity, a person, another process."""
        if job.device in self.here.conflicts:
            return Wait(kind=WaitKind.IDENTITY, detail=self.here.conflicts[job.device])
        doubt = self.rules.classes[job.device_class].doubt
        if doubt and job.state is JobState.QUEUED and not self._may_be_put_back(job):
            # Before what ends by itself: the person who has to act should not learn of it when the device comes.
            return Wait(kind=WaitKind.FAILSAFE, detail=doubt)
        if job.device not in self.here.present:
            return Wait(kind=WaitKind.ABSENT, detail="the device is not here")
        return (
            wait_for(concerning(holds, job.device))
            or self.here.moment.inhibited.get(job.device_class)
            or self._window_wait(job)
            or self.here.paused.get(job.device)
        )

    def _window_wait(self, job: Job) -> Wait | None:
        """The windows of the class.

        To ask what became of an update is nothing new, and a unit that one left without a working application is
        finished whenever that is possible: nobody can use it as it is.
        """
        name = job.device_class
        if name not in self.closed:
            timetable = self.rules.classes[name].timetable
            self.closed[name] = timetable.wait(self.now, self.here.moment.zone)
        if self.closed[name] is None or job.state is not JobState.QUEUED:
            return None
        device = self.ledger.device(job.device)
        useless = device is not None and device.complete is False
        return None if useless or self._may_be_put_back(job) else self.closed[name]

    def _may_be_put_back(self, job: Job) -> bool:
        """Whether its driver would find a unit that was left in its loader, and start it again for want of more."""
        device = self.ledger.device(job.device)
        return device is not None and device.entered and device.id in self.here.in_loader

    def _time_wait(self, job: Job) -> Wait | None:
        """Back-off and the wear budget."""
        if job.state is JobState.UNKNOWN:
            return self.here.asking_rests.get(job.device)
        budgets = self.rules.classes[job.device_class].budgets
        if job.not_before is not None and job.not_before > self.now:
            longest_s = budgets.back_off_longest_s * (1.0 + budgets.jitter)
            if job.not_before <= self.now + longest_s:
                detail = "the last attempt failed in transport"
                return Wait(kind=WaitKind.BACK_OFF, detail=detail, until=job.not_before)
            self.ledger.hurry(job.id)  # a clock that was ahead wrote it
        wear = self.ledger.wear(job.device, self.now)
        if wear.life >= budgets.erases_a_life:
            spent = f"the erases of its life are used up, {wear.life} of {budgets.erases_a_life}"
            return Wait(kind=WaitKind.WEAR, detail=spent)
        if wear.today >= budgets.erases_a_day:
            spent = f"the erases of today are used up, {wear.today} of {budgets.erases_a_day}"
            until = (self.now // DAY_S + 1) * DAY_S
            if wear.ahead >= budgets.erases_a_day:
                spent += (
                    "; a clock that was ahead dated them, so they count until Firmwarden has run for a day"
                )
                until = self.now + wear.ahead_s
            return Wait(kind=WaitKind.WEAR, detail=spent, until=until)
        return None

    def _slot_wait(self, job: Job, slots: Counter[ClassName]) -> Wait | None:
        limit = self.rules.classes[job.device_class].parallel
        if slots.total() >= self.rules.parallel:
            return Wait(kind=WaitKind.SLOT, detail=f"{self.rules.parallel} updates run at once")
        if limit is not None and slots[job.device_class] >= limit:
            return Wait(kind=WaitKind.SLOT, detail=f"{limit} updates of its class run at once")
        return None

    def _condition_wait(self, job: Job, slots: Counter[ClassName], asking: Asking) -> Wait | None:
        """What the operator's program says, asked last of all."""
        policy = self.rules.classes[job.device_class]
        if policy.condition is None or job.state is not JobState.QUEUED:
            return None
        free = self.rules.parallel - slots.total()
        if policy.parallel is not None:
            free = min(free, policy.parallel - slots[job.device_class])
        return asking.wait(job, free)


def may_be_erased(ledger: Ledger, device: Device) -> bool:
    """Whether a refused update may have erased what a device ran, and put nothing in its place.

    Some clients erase before they look at the first byte of an image, others after.  Writing again what was there
    is no downgrade and brings an erased device back; but not where another image came as far as its end.
    """
    if device.complete is not None or device.running_image is None:
        return False
    since: list[Attempt] = []
    for attempt in ledger.attempts(device.id, limit=_LOOK_BACK):
        if attempt.outcome is Outcome.SUCCEEDED:
            break
        since.append(attempt)
    return any(attempt.erase_starts for attempt in since) and all(
        attempt.phase is not Phase.ENDING for attempt in since
    )


def was_left_whole(ledger: Ledger, device: Device) -> bool:
    """Whether a unit was left in its loader with all that it ran, so that this may be started again."""
    return device.entered and device.complete is True and ledger.unfinished(device.id) is None


def _suspect_images(latches: Sequence[Latch]) -> set[str]:
    """Images that one unit refused in a way that may be the image's fault."""
    return {
        latch.image
        for latch in latches
        if latch.scope is LatchScope.PAIR
        and latch.image is not None
        and DISPOSITIONS[latch.cause.code] is Disposition.SUSPECT
    }
