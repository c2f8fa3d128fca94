"""Answers questions about the service.

A question reads the store in one transaction and adds what only the running process knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeVar

import anyio

from firmwarden import __version__
from firmwarden.errors import NotFound, Refused, Unavailable
from firmwarden.model import JobState, LatchScope, UsbAddress, WaitKind
from firmwarden.service import sentences
from firmwarden.service.facts import gather
from firmwarden.service.floor import too_late_for
from firmwarden.service.holding import concerning, in_words
from firmwarden.service.naming import find_device
from firmwarden.service.picture import Picture, told_job, told_wear
from firmwarden.service.rollouts_told import member_views, rollout_view
from firmwarden.service.shelf import would_be_news
from firmwarden.service.telling import (
    action_view,
    attempt_view,
    hold_view,
    instant,
    latch_view,
    power_cut_view,
    release_view,
    wait_counts,
    waiting_view,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from firmwarden.model import Device, Wear
    from firmwarden.service.pulse import Pulse
    from firmwarden.service.shelf import RefusedRelease, Shelf
    from firmwarden.service.views import (
        AttemptView,
        DeviceView,
        DeviceWearView,
        FeedItem,
        HealthView,
        HistoryView,
        JobView,
        LatchView,
        PlanView,
        ReadyView,
        ReleaseView,
        RolloutMemberView,
        RolloutView,
        StatusView,
        WaitingView,
        WhyView,
    )
    from firmwarden.service.warden import Warden
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

T = TypeVar("T")

ATTEMPTS_TOLD: Final = 10


class Questions:
    """What can be asked."""

    def __init__(
        self,
        *,
        store: Store,
        warden: Warden,
        shelf: Callable[[], Shelf],
        problems: Callable[[], Sequence[str]],
        pulse: Pulse,
    ) -> None:
        """Take what is asked about.

        Args:
            store: what lasts.
            warden: what is being done.
            shelf: the releases of the last scan.
            problems: what the operator should mend.
            pulse: whether the store answers.
        """
        self._store = store
        self._warden = warden
        self._shelf = shelf
        self._problems = problems
        self._pulse = pulse
        self._started_at = warden.clock.wall()
        self._turn = anyio.Lock()

    async def status(self) -> StatusView:
        """Tell the whole in numbers."""
        warden = self._warden
        # Before all else: a reader that goes on from there may hear of what it knows, and misses nothing.
        last_event = warden.feed.last_id
        picture = await self._ask(self._picture)
        facts, open_jobs = picture.facts, picture.open_jobs
        shelf = self._shelf()
        return {
            "version": __version__,
            "started_at": instant(self._started_at),
            "state": self._state(),
            "devices": len(facts.devices),
            "present": len(warden.registry.plugged_at),
            "conflicts": [
                {"ports": list(conflict.ports), "detail": conflict.detail}
                for conflict in warden.registry.conflicts
            ],
            "running": sum(job.state is JobState.RUNNING for job in open_jobs),
            "waiting": sum(job.state is JobState.QUEUED for job in open_jobs),
            "waits": wait_counts(
                wait
                for job in open_jobs
                if job.state is JobState.QUEUED and (wait := picture.wait(job)) is not None
            ),
            "unknown": sum(job.state is JobState.UNKNOWN for job in open_jobs),
            "latches": len({latch.id for device in facts.devices for latch in picture.latches(device)}),
            "failed": sum(map(picture.is_given_up, facts.devices)),
            "on_probation": len(facts.probations),
            "waiting_for_you": sum(map(picture.waits_for_a_person, open_jobs)),
            "held": in_words([hold for hold in facts.holds if hold.device is None]),
            "holds": [hold_view(hold) for hold in facts.holds if hold.device is None],
            "releases": len(shelf.releases),
            "refused_releases": len(shelf.refused),
            "unsigned_classes": sorted(
                name for name, policy in warden.planner.classes.items() if not policy.require_signature
            ),
            "rollouts": [rollout_view(progress) for progress in warden.agenda.rollouts],
            "problems": self._to_be_mended(),
            "last_event": last_event,
        }

    async def health(self) -> HealthView:
        """Give a sign of life: the event loop does by answering, the store by an empty transaction."""
        return {"state": "alive", "store_s": round(await self._pulse.feel(), 6)}

    async def ready(self) -> ReadyView:
        """Tell whether the first scans are done and updates may start."""
        state = self._state()
        if state != "ready":
            raise Unavailable("it is stopping" if state == "stopping" else "the first scans are not done yet")
        return {"state": "ready"}

    async def devices(self) -> list[DeviceView]:
        """Tell every device."""

        def work(ledger: Ledger) -> list[DeviceView]:
            picture = self._picture(ledger)
            return [
                picture.device_view(device, self._wear(ledger, device)) for device in picture.facts.devices
            ]

        return await self._ask(work)

    async def releases(self) -> list[ReleaseView]:
        """Tell every release in the directory, with the reasons for refusals."""
        devices, latches = await self._ask(lambda ledger: (ledger.devices(), ledger.latches()))
        latched = {latch.image for latch in latches if latch.scope is LatchScope.IMAGE}
        shelf = self._shelf()
        accepted = [
            release_view(
                release, latched=release.image in latched, too_late_for=too_late_for(devices, release)
            )
            for release in shelf.releases
        ]
        refused: list[ReleaseView] = [
            {
                "manifest": refusal.manifest,
                "state": "refused",
                "device_class": refusal.device_class,
                "version": refusal.version,
                "sequence": None,
                "image": None,
                "size": None,
                "signed_by": None,
                "reason": refusal.reason,
                "latched": False,
            }
            for refusal in shelf.refused
        ]
        return sorted(accepted + refused, key=lambda view: view["manifest"])

    async def rollouts(self) -> list[RolloutView]:
        """Tell how far each release has come, where its class goes in waves."""
        await anyio.lowlevel.checkpoint()
        return [rollout_view(progress) for progress in self._warden.agenda.rollouts]

    async def rollout(self, device_class: str) -> list[RolloutMemberView]:
        """Tell who is in the rollouts of a class."""
        if device_class not in self._warden.planner.classes:
            raise NotFound(f"there is no class {device_class!r} in the configuration")
        found = await self._ask(lambda ledger: {device.id: device for device in ledger.devices()})
        return [
            member
            for progress in self._warden.agenda.rollouts
            if progress.rollout.device_class == device_class
            for member in member_views(progress, found)
        ]

    async def jobs(self, limit: int) -> list[JobView]:
        """Tell the newest jobs, newest first."""
        return await self._ask(
            lambda ledger: [told_job(self._warden, job) for job in ledger.jobs(limit=limit)]
        )

    async def attempts(self, device: str | None, limit: int) -> list[AttemptView]:
        """Tell the newest attempts, of one device or of all, newest first."""

        def work(ledger: Ledger) -> list[AttemptView]:
            known = None if device is None else find_device(ledger, device).id
            return [attempt_view(attempt) for attempt in ledger.attempts(known, limit)]

        return await self._ask(work)

    async def latches(self) -> list[LatchView]:
        """Tell every latch that is set, oldest first."""
        return [latch_view(latch) for latch in await self._ask(lambda ledger: ledger.latches())]

    async def waits(self) -> list[WaitingView]:
        """Tell every job that waits, by device."""
        picture = await self._ask(self._picture)
        return [
            waiting_view(job, device, wait)
            for device in picture.facts.devices
            if (job := picture.facts.jobs.get(device.id)) is not None
            and (wait := picture.wait(job)) is not None
        ]

    async def wear(self) -> list[DeviceWearView]:
        """Tell of every device how often its flash was erased."""
        return await self._ask(
            lambda ledger: [
                {
                    "device": device.id,
                    "label": device.label,
                    "device_class": device.device_class,
                    "wear": told_wear(self._warden, device, self._wear(ledger, device)),
                }
                for device in ledger.devices()
            ]
        )

    async def history(self, device: str | None, limit: int) -> HistoryView:
        """Tell attempts and what persons did, newest first."""

        def work(ledger: Ledger) -> HistoryView:
            known = None if device is None else find_device(ledger, device).id
            return {
                "attempts": [attempt_view(attempt) for attempt in ledger.attempts(known, limit)],
                "actions": [action_view(action) for action in ledger.actions(limit, known)],
            }

        return await self._ask(work)

    async def why(self, device: str) -> WhyView:
        """Tell everything about one device's state of affairs."""
        paused = self._warden.pauses.before_attempts

        def work(ledger: Ledger) -> WhyView:
            found = self._meant(ledger, device)
            attempts = ledger.attempts(found.id, ATTEMPTS_TOLD)
            picture = self._picture(ledger)
            job = picture.facts.jobs.get(found.id)
            wanted = self._warden.agenda.desired.get(found.id)
            wait = picture.wait(job)
            latches = picture.latches(found)
            riddles = [
                conflict.place
                for conflict in self._warden.registry.conflicts
                if conflict.place and found.id in conflict.devices
            ]
            policy = self._warden.planner.classes.get(found.device_class)
            shown = paused.get(found.id)
            doubted = (shown is not None and shown.kind is WaitKind.FAILSAFE) or bool(policy and policy.doubt)
            power_cuts = () if policy is None else policy.unprotected if doubted else policy.power_cuts
            return {
                "device": picture.device_view(found, self._wear(ledger, found)),
                "should_run": sentences.should_run(wanted, self._refused(found)),
                "runs": sentences.runs(
                    found, job, attempts, in_loader=found.id in self._warden.registry.in_loader
                ),
                "latches": [latch_view(latch) for latch in latches],
                "attempts": [attempt_view(attempt) for attempt in attempts],
                "next": sentences.cannot_write(self._warden.store_problem)
                or sentences.on_probation(
                    picture.probation_view(found),
                    found,
                    job,
                    roll_back=bool(policy and policy.roll_back),
                )
                or sentences.next_step(
                    found,
                    job,
                    wait,
                    wanted,
                    latches,
                    again_after_s=self._warden.budgets(found.device_class).again_after_s,
                    paused=found.id in paused,
                ),
                "power_cuts": [power_cut_view(step) for step in power_cuts],
                "doubted": doubted,
                "commands": sentences.commands(
                    found,
                    job,
                    wait,
                    wanted,
                    latches,
                    holds=concerning(picture.facts.holds, found.id),
                    paused=found.id in paused,
                    riddles=riddles,
                    provision=self._provision(found),
                    going_out=picture.going_out(job),
                ),
            }

        return await self._ask(work)

    async def plan(self) -> list[PlanView]:
        """Tell for every device what would happen and why not."""

        def work(ledger: Ledger) -> list[PlanView]:
            picture = self._picture(ledger)
            return list(map(picture.plan_view, picture.facts.devices))

        return await self._ask(work)

    async def feed(self, after: int | None, device: str | None) -> AsyncGenerator[FeedItem, None]:
        """Return what happens as it happens, to one device or anywhere."""
        if device is not None:
            meant = device
            device = await self._ask(lambda ledger: find_device(ledger, meant).id)
        return self._warden.feed.read(after, device)

    def recent(self) -> list[FeedItem]:
        """Tell the latest log events, newest first."""
        return self._warden.feed.recent()

    # --- inside

    async def _ask(self, question: Callable[[Ledger], T]) -> T:
        """Ask the store.

        One question at a time stands in its line, however many are asked: what is being updated waits for one at most.
        """
        async with self._turn:
            return await self._store.run(question)

    def _picture(self, ledger: Ledger) -> Picture:
        return Picture(self._warden, gather(ledger))

    def _wear(self, ledger: Ledger, device: Device) -> Wear:
        return ledger.wear(device.id, self._warden.clock.wall())

    def _meant(self, ledger: Ledger, name: str) -> Device:
        """The device that a person means, or the only one that a conflict at this port may concern."""
        try:
            return find_device(ledger, name)
        except NotFound:
            for conflict in self._warden.registry.conflicts:
                if name == conflict.place or name in conflict.ports:
                    if len(conflict.devices) == 1:
                        return find_device(ledger, conflict.devices[0])
                    raise Refused(sentences.whose(name, conflict)) from None
            raise

    def _refused(self, device: Device) -> list[RefusedRelease]:
        """The manifests that might concern a device if they were in order."""
        return [
            refusal
            for refusal in self._shelf().refused
            if refusal.device_class is None
            or (refusal.device_class == device.device_class and would_be_news(device, refusal))
        ]

    def _to_be_mended(self) -> list[str]:
        return [
            *self._problems(),
            *self._warden.hand_over.problems,
            *filter(None, [self._warden.store_problem]),
        ]

    def _state(self) -> Literal["starting", "ready", "stopping"]:
        if self._warden.stopping:
            return "stopping"
        return "ready" if self._warden.releases is not None and self._warden.registry.scanned else "starting"

    def _provision(self, device: Device) -> str:
        policy = self._warden.planner.classes.get(device.device_class)
        address = self._warden.registry.address(device.id)
        if policy is None or not isinstance(address, UsbAddress):
            return ""
        return policy.provision.format(topology=address.topology)
