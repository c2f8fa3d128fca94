"""How things stand in numbers, for a monitoring system that asks every few seconds.

Numbers are by class and by names of the code's own, never by unit, job or version: how many there are of those is
nobody's to bound.  A class that has left the configuration keeps its counts; what its name was is known, and a count
that moved to another name would seem to fall.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden import __version__
from firmwarden.errors import Unavailable
from firmwarden.model import ClassName, JobState, LatchScope
from firmwarden.service.pulse import ANSWER_S
from firmwarden.service.questions import Questions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firmwarden.model import Device, DeviceId, Job, RolloutState, WaitKind
    from firmwarden.service.facts import Facts
    from firmwarden.service.picture import Picture
    from firmwarden.service.rollout import Stage
    from firmwarden.store.figures import Counted
    from firmwarden.store.ledger import Ledger

NO_CLASS: Final = ClassName("")
"""For what belongs to no class that the configuration has, e.g. a manifest that names another."""


@unique
class DeviceState(StrEnum):
    """The one thing about a device that matters most; the first that is true counts."""

    UPDATING = "updating"
    CONFLICT = "conflict"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    LATCHED = "latched"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    BEHIND = "behind"
    UP_TO_DATE = "up-to-date"


@unique
class ReleaseState(StrEnum):
    """What becomes of a release in the firmware directory."""

    ACCEPTED = "accepted"
    LATCHED = "latched"
    """Accepted, but several devices refused its image: no other gets it."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresView:
    """The figures of one moment.  What is counted by a key and not there is 0."""

    version: str
    classes: Sequence[ClassName]
    """Those of the configuration, and others of which devices are known."""
    ready: bool
    counted: Counted
    signature_required: Mapping[ClassName, bool]
    """Of the classes of the configuration."""
    devices: Mapping[tuple[ClassName, DeviceState], int]
    present: Mapping[ClassName, int]
    held: Mapping[ClassName, int]
    """Devices that a hold of their own concerns."""
    everything_held: bool
    jobs: Mapping[tuple[ClassName, JobState], int]
    """Those that are not over."""
    unknown_s: Mapping[ClassName, float]
    """How long the oldest unknown outcome has waited to be settled."""
    waits: Mapping[tuple[ClassName, WaitKind], int]
    for_a_person: Mapping[ClassName, int]
    """Jobs that wait for what only a person can do."""
    latches: Mapping[tuple[ClassName, LatchScope], int]
    """Those that are set, but for those on forgotten devices."""
    day_budget_used: Mapping[ClassName, float]
    """Erases of the unit that had most today, beside what a day allows."""
    life_budget_used: Mapping[ClassName, float]
    on_probation: Mapping[ClassName, int]
    rollouts: Mapping[tuple[ClassName, RolloutState], int]
    """Of releases that some device is meant to have now, or that were called back."""
    rollout_devices: Mapping[tuple[ClassName, Stage], int]
    """The devices in them."""
    releases: Mapping[tuple[ClassName, ReleaseState], int]
    conflicts: int
    problems: int
    uptime_s: float
    device_scan_s: float
    """Since the latest scan of the ports began; before the first, since the start."""
    release_scan_s: float
    planning_s: float


class Figures(Questions):
    """Questions that are answered in numbers."""

    async def figures(self) -> FiguresView:
        """Tell the figures, out of one transaction.

        Raises:
            Unavailable: the store does not answer.
            StoreError: it cannot be used.
        """
        now = self._warden.clock.wall()

        def work(ledger: Ledger) -> tuple[Picture, Counted]:
            return self._picture(ledger), ledger.counted(now)

        # Who asks every few seconds must not leave one more request waiting each time.
        with anyio.move_on_after(ANSWER_S):
            picture, counted = await self._ask(work)
            return self._view(picture, counted, now)
        raise Unavailable(f"the state database has not answered for {ANSWER_S:.0f} s")

    def _view(self, picture: Picture, counted: Counted, now: float) -> FiguresView:
        warden, facts, open_jobs = self._warden, picture.facts, picture.open_jobs
        boot = warden.clock.boot()
        classes = {device.id: device.device_class for device in facts.devices}
        on_hold = {hold.device for hold in facts.holds}
        return FiguresView(
            version=__version__,
            classes=sorted({*warden.planner.classes, *classes.values()}),
            ready=self._state() == "ready",
            counted=counted,
            signature_required={
                name: policy.require_signature for name, policy in warden.planner.classes.items()
            },
            devices=Counter(
                (
                    device.device_class,
                    self._state_of(device, facts.jobs.get(device.id), stopped=bool(picture.latches(device))),
                )
                for device in facts.devices
            ),
            present=Counter(classes[device] for device in warden.registry.plugged_at if device in classes),
            held=Counter(device.device_class for device in facts.devices if device.id in on_hold),
            everything_held=None in on_hold,
            jobs=Counter((job.device_class, job.state) for job in open_jobs),
            unknown_s={
                # The oldest comes last, and stays.
                job.device_class: max(now - job.updated_at, 0.0)
                for job in sorted(open_jobs, key=lambda job: -job.updated_at)
                if job.state is JobState.UNKNOWN
            },
            waits=Counter(
                (job.device_class, wait.kind) for job in open_jobs if (wait := picture.wait(job)) is not None
            ),
            for_a_person=Counter(job.device_class for job in open_jobs if picture.waits_for_a_person(job)),
            latches=self._count_latches(facts, classes),
            day_budget_used={
                each.device_class: each.most_today / warden.budgets(each.device_class).erases_a_day
                for each in counted.wear
            },
            life_budget_used={
                each.device_class: each.most_life / warden.budgets(each.device_class).erases_a_life
                for each in counted.wear
            },
            on_probation=Counter(classes[device] for device in facts.probations),
            rollouts=Counter(
                (each.rollout.device_class, each.rollout.state) for each in warden.agenda.rollouts
            ),
            rollout_devices=Counter(
                (each.rollout.device_class, member.stage)
                for each in warden.agenda.rollouts
                for member in each.members
            ),
            releases=self._count_releases(facts),
            conflicts=len(warden.registry.conflicts),
            problems=len(self._to_be_mended()),
            uptime_s=boot - warden.began,
            device_scan_s=boot - max(warden.registry.as_of, warden.began),
            release_scan_s=boot - warden.releases_as_of,
            planning_s=boot - warden.agenda_as_of,
        )

    def _state_of(self, device: Device, job: Job | None, *, stopped: bool) -> DeviceState:
        state = None if job is None else job.state
        if state is JobState.RUNNING:
            return DeviceState.UPDATING
        if device.id in self._warden.registry.conflicts_of_known:
            return DeviceState.CONFLICT
        if state is JobState.QUEUED:
            return DeviceState.WAITING
        if state is JobState.UNKNOWN:
            return DeviceState.UNKNOWN
        if stopped:
            return DeviceState.LATCHED
        wanted = self._warden.agenda.desired.get(device.id)
        if wanted is not None and wanted.release is not None:
            return DeviceState.FAILED if state is JobState.FAILED else DeviceState.BEHIND
        return DeviceState.INCOMPLETE if device.complete is False else DeviceState.UP_TO_DATE

    def _count_releases(self, facts: Facts) -> Counter[tuple[ClassName, ReleaseState]]:
        latched = {latch.image for latch in facts.latches if latch.scope is LatchScope.IMAGE}
        shelf = self._shelf()
        figures = Counter(
            (
                release.device_class,
                ReleaseState.LATCHED if release.image in latched else ReleaseState.ACCEPTED,
            )
            for release in shelf.releases
        )
        for refusal in shelf.refused:
            name = refusal.device_class or NO_CLASS
            known = name if name in self._warden.planner.classes else NO_CLASS
            figures[known, ReleaseState.REFUSED] += 1
        return figures

    def _count_latches(
        self, facts: Facts, classes: Mapping[DeviceId, ClassName]
    ) -> Counter[tuple[ClassName, LatchScope]]:
        images = {job.image: job.device_class for job in facts.jobs.values()}
        images |= {release.image: release.device_class for release in self._shelf().releases}
        figures: Counter[tuple[ClassName, LatchScope]] = Counter()
        for latch in facts.latches:
            if latch.device is None:
                of_image = NO_CLASS if latch.image is None else images.get(latch.image, NO_CLASS)
                figures[of_image, latch.scope] += 1
            elif latch.device in classes:
                figures[classes[latch.device], latch.scope] += 1
        return figures
