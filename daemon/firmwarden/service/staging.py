"""Brings the rollouts of all classes in line with what is known of their units, inside one planning.

Who is in a rollout is derived: a unit for which the release is meant, by what it was given, runs and failed at.
Outside of every rollout, and given what it should have at once, is

* a pinned unit: a person chose its version;
* a unit that holds no complete image: there is nothing to lose, and it is of no use as it is;
* a unit that is given what it holds, or what it kept well with before: that is no experiment, unless a person or too
  many failures have stopped it since.

A release for which there is a newer one goes no further.  A unit that may not have the newer one, such as one that
refused it, is given the older one only where that went to all: else its units would be tried with what was stopped, or
with what too few were.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from firmwarden.events import LogEvent
from firmwarden.model import JobState, LatchScope, Rollout, RolloutState, Wait, WaitKind
from firmwarden.service.rollout import Member, Progress, Stage, look, stopped, wait_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.model import ClassName, Device, DeviceId, ImageHash, Job, JobId, Latch, Release
    from firmwarden.service.desired import Desired
    from firmwarden.service.planner import Here
    from firmwarden.service.rollout import Rule
    from firmwarden.store.ledger import Ledger

LOST_AFTER_S: Final = 86_400.0
"""A unit that was tried and went away counts as failed after so long: many are switched off at night."""

_BEYOND_US: Final = frozenset(
    {WaitKind.ABSENT, WaitKind.IDENTITY, WaitKind.PORT_HELD, WaitKind.FAILSAFE, WaitKind.WEAR}
)
"""Waits that no window and nobody's hold explains."""

Note = tuple[LogEvent, dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What one planning knows."""

    rules: Mapping[ClassName, Rule]
    """Of the classes that have one."""
    releases: Sequence[Release]
    latches: Sequence[Latch]
    """The active ones."""
    desired: Mapping[DeviceId, Desired]
    jobs: Sequence[Job]
    """The open ones."""
    waits: Mapping[JobId, Wait | None]
    """What else those wait for that are not under way."""
    here: Here
    now: float


@dataclass(slots=True)
class Staged:
    """What came of it."""

    progress: list[Progress] = field(default_factory=list)
    """Of the releases that some unit is meant to have now, and of those that are latched."""
    waits: dict[JobId, Wait] = field(default_factory=dict)
    """Of the jobs whose turn it is not."""
    notes: list[Note] = field(default_factory=list)


def stage(ledger: Ledger, situation: Situation) -> Staged:
    """Look at every rollout, record how far each has come, and say which jobs it keeps back."""
    staged = Staged()
    if not situation.rules:
        return staged
    known = {(rollout.device_class, rollout.image): rollout for rollout in ledger.rollouts()}
    units = [device for device in ledger.devices() if device.device_class in situation.rules]
    latched = {latch.image for latch in situation.latches if latch.scope is LatchScope.IMAGE}
    for release in situation.releases:
        rule = situation.rules.get(release.device_class)
        before = known.get((release.device_class, release.image))
        if rule is None or (before is None and release.image in latched):
            continue
        halted = before is not None and before.state in {RolloutState.STOPPED, RolloutState.RECALLED}
        members = _Members(ledger, situation, release, latched, halted=halted).among(units)
        if not _went_out(release, before, units):
            staged.waits |= _passed_over(situation, release, units, latched)
        rollout = _unless_latched(before or _begun(release, situation.now), situation.latches)
        progress = look(rule, rollout, members, now=situation.now, latched=release.image in latched)
        if not members or (before is None and not progress.count(Stage.WAITING, Stage.UNDER_WAY)):
            continue  # it is not wanted any more, or all have had it since before there was a rule
        if progress.rollout != before:
            ledger.keep_rollout(progress.rollout)
            staged.notes += _notes(before, progress)
        staged.progress.append(progress)
        staged.waits |= _kept_back(situation, progress, units)
    return staged


def _begun(release: Release, now: float) -> Rollout:
    return Rollout(
        device_class=release.device_class,
        image=release.image,
        version=release.version,
        state=RolloutState.CANARY,
        began_at=now,
        wave_at=now,
    )


def _unless_latched(rollout: Rollout, latches: Sequence[Latch]) -> Rollout:
    """Stop a rollout whose image is latched for every unit."""
    if rollout.state in {RolloutState.CANARY, RolloutState.WAVES}:
        for latch in latches:
            if latch.scope is LatchScope.IMAGE and latch.image == rollout.image:
                return stopped(rollout, f"its image is latched ({latch.cause.code.value})")
    return rollout


def _kept_back(situation: Situation, progress: Progress, units: Sequence[Device]) -> dict[JobId, Wait]:
    """The jobs that would be begun, were it not for the rollout."""
    bound = {member.device for member in progress.members} - progress.admitted
    bound -= {device.id for device in units if device.complete is False}
    turns = progress.turns()
    return {
        job.id: wait_of(progress, turns.get(job.device, progress.rule.last))
        for job in situation.jobs
        if job.device in bound and job.image == progress.rollout.image and job.state is JobState.QUEUED
    }


def _went_out(release: Release, rollout: Rollout | None, units: Sequence[Device]) -> bool:
    """Whether a release went to all, or out before its class had a rule, as those tell that kept well with it."""
    if rollout is not None:
        return rollout.state is RolloutState.DONE
    return any(
        unit.device_class == release.device_class
        and unit.pinned is None
        and release.image in unit.good_images
        for unit in units
    )


def _passed_over(
    situation: Situation, release: Release, units: Sequence[Device], latched: AbstractSet[ImageHash | None]
) -> dict[JobId, Wait]:
    """The jobs for what goes no further, of units to which what is newer is not given."""
    bound = {
        unit.id
        for unit in units
        if unit.device_class == release.device_class
        and unit.pinned is None
        and unit.complete is not False
        and not _is_no_experiment(unit, release.image)
    }
    waits = {}
    for job in situation.jobs:
        if job.device not in bound or job.image != release.image or job.state is not JobState.QUEUED:
            continue
        newer = situation.desired[job.device].stopped
        if newer is None or newer.image == release.image or newer.image in latched:
            continue  # it is the newest for this unit, or for all
        pin = f"firmwarden pin {job.device} {shlex.quote(release.version)}"
        waits[job.id] = Wait(
            kind=WaitKind.PASSED_OVER,
            detail=f"{newer.version} is latched for it, and {release.version} had not gone to all when that came; "
            f"`{pin}` gives it all the same",
        )
    return waits


class _Members:
    """The units that are meant to have one release."""

    def __init__(
        self,
        ledger: Ledger,
        situation: Situation,
        release: Release,
        latched: AbstractSet[ImageHash | None],
        *,
        halted: bool,
    ) -> None:
        self._ledger = ledger
        self._situation = situation
        self._release = release
        self._latched = latched
        self._halted = halted
        self._refused_by = {
            latch.device
            for latch in situation.latches
            if latch.scope is LatchScope.PAIR and latch.image == release.image
        }
        self._open = {job.device: job for job in situation.jobs if job.image == release.image}

    def among(self, units: Sequence[Device]) -> list[Member]:
        """Find them; none where no unit is meant to have it any more."""
        own = [
            unit for unit in units if unit.device_class == self._release.device_class and unit.pinned is None
        ]
        meant = {unit.id for unit in own if self._is_meant(unit)}
        if not meant:
            return []
        image = self._release.image
        last, tried = self._ledger.newest_jobs_of(image), self._ledger.tried(image)
        on_probation = {
            probation.device for probation in self._ledger.probations() if probation.image == image
        }
        return [
            self._member(
                unit, last.get(unit.id), tried=unit.id in tried, on_probation=unit.id in on_probation
            )
            for unit in own
            # One that refused it and went back to what it had is not meant to have it, and tells most about it.
            if unit.id in meant or unit.id in self._refused_by
        ]

    def _is_meant(self, unit: Device) -> bool:
        release = self._release
        wanted = self._situation.desired.get(unit.id)
        if wanted is None:
            return False
        kept_from = None if wanted.stopped is None else wanted.stopped.image
        if release.image in self._latched:
            return release.image in {unit.running_image, kept_from}
        if kept_from is not None and kept_from not in self._latched:
            return kept_from == release.image
        if wanted.release is None:
            return wanted.settled and unit.running_version == release.version
        if wanted.release.image != release.image:
            return False
        return self._halted or not _is_no_experiment(unit, release.image)

    def _member(self, unit: Device, last: Job | None, *, tried: bool, on_probation: bool) -> Member:
        job = self._open.get(unit.id)
        here = unit.id in self._situation.here.present
        return Member(
            device=unit.id,
            stage=self._stage(unit, job, last, tried=tried, on_probation=on_probation),
            # What is of no use as it is comes first.
            since=0.0 if unit.complete is False else unit.first_seen,
            here=here,
            ready=here and job is not None and self._situation.waits.get(job.id) is None,
        )

    def _stage(
        self, unit: Device, job: Job | None, last: Job | None, *, tried: bool, on_probation: bool
    ) -> Stage:
        if unit.id in self._refused_by:
            return Stage.FAILED
        if job is not None:
            begun = tried or job.state is not JobState.QUEUED or job.device in self._situation.here.busy
            if not begun:
                return Stage.WAITING
            return Stage.FAILED if self._is_stuck(job) else Stage.UNDER_WAY
        if self._runs_it(unit):
            if not on_probation:
                return Stage.GOOD
            away = unit.id not in self._situation.here.present
            return Stage.FAILED if away and self._is_silent(unit.id) else Stage.PROVING
        if last is not None and last.state in {JobState.FAILED, JobState.SUCCEEDED}:
            return Stage.FAILED  # a success that it did not keep is one too
        return Stage.OUT

    def _runs_it(self, unit: Device) -> bool:
        if unit.complete is False:
            return False
        if unit.running_image is not None:
            return unit.running_image == self._release.image
        return unit.running_version == self._release.version

    def _is_stuck(self, job: Job) -> bool:
        """Whether nothing more is to be expected of a unit that was tried, unless a person does something."""
        wait = self._situation.waits.get(job.id)
        if wait is None:
            return False
        if wait.kind is WaitKind.BACK_OFF:
            return wait.until is None  # it was asked often enough what became of it
        return wait.kind in _BEYOND_US and self._is_silent(job.device)

    def _is_silent(self, device: DeviceId) -> bool:
        attempts = self._ledger.attempts(device, 1)
        heard_at = attempts[0].ended_at if attempts else None
        # A clock that was set in between must not make it wait for years.
        return heard_at is None or abs(self._situation.now - heard_at) >= LOST_AFTER_S


def _is_no_experiment(unit: Device, image: ImageHash) -> bool:
    return image == unit.running_image or image in unit.good_images


def _notes(before: Rollout | None, progress: Progress) -> Iterator[Note]:
    """What is to be logged of how it moved."""
    rollout, rule = progress.rollout, progress.rule
    keys: dict[str, object] = {
        "device_class": rollout.device_class,
        "release": rollout.version,
        "image": rollout.image,
    }
    places = {"places": progress.places, "devices": len(progress.members)}
    if before is None:
        yield LogEvent.ROLLOUT_STARTED, {**keys, **places, "waves": rule.last}
    if rollout.wave > (0 if before is None else before.wave):
        yield LogEvent.WAVE_STARTED, {**keys, **places, "wave": rollout.wave, "waves": rule.last}
    if before is None or rollout.state is not before.state:
        if rollout.state is RolloutState.STOPPED:
            yield LogEvent.ROLLOUT_STOPPED, {**keys, "detail": rollout.reason}
        elif rollout.state is RolloutState.DONE:
            yield (
                LogEvent.ROLLOUT_DONE,
                {**keys, "devices": progress.count(Stage.GOOD), "failed": progress.count(Stage.FAILED)},
            )
