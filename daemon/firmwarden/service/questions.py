"""Answers questions about the service.

A question reads the store in one transaction and adds what only the running process knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeVar

import anyio

from firmwarden import __version__
from firmwarden.errors import NotFound, Refused, Unavailable
from firmwarden.model import JobState, LatchScope, UsbAddress, Wait, WaitKind
from firmwarden.service import sentences
from firmwarden.service.facts import Facts, gather
from firmwarden.service.floor import too_late_for
from firmwarden.service.holding import concerning, in_words
from firmwarden.service.naming import find_device
from firmwarden.service.rollouts_told import member_views, rollout_view
from firmwarden.service.shelf import would_be_news
from firmwarden.service.telling import (
    action_view,
    attempt_view,
    hold_view,
    instant,
    instant_or_none,
    job_view,
    latch_view,
    power_cut_view,
    release_view,
    wait_counts,
    waiting_view,
    wear_view,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from firmwarden.model import Device, Job, Latch
    from firmwarden.service.pulse import Pulse
    from firmwarden.service.rollout import Progress
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
        ProbationView,
        ReadyView,
        ReleaseView,
        RolloutMemberView,
        RolloutView,
        StatusView,
        WaitingView,
        WearView,
        WhyView,
    )
    from firmwarden.service.warden import Warden
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

T = TypeVar("T")

ATTEMPTS_TOLD: Final = 10
_FOR_A_PERSON: Final = frozenset({WaitKind.FAILSAFE, WaitKind.IDENTITY})


def for_a_person(kind: WaitKind, *, ends: bool) -> bool:
    """Whether a wait is for what only a person can do; ``ends``: it ends by itself."""
    return kind in _FOR_A_PERSON or (kind is WaitKind.WEAR and not ends)


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
        facts = await self._ask(gather)
        open_jobs = [job for job in facts.jobs.values() if not job.state.final]
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
                if job.state is JobState.QUEUED and (wait := self._wait(job)) is not None
            ),
            "unknown": sum(job.state is JobState.UNKNOWN for job in open_jobs),
            "latches": len({latch.id for device in facts.devices for latch in self._latches(device, facts)}),
            "failed": sum(self._is_given_up(device, facts) for device in facts.devices),
            "on_probation": len(facts.probations),
            "waiting_for_you": sum(self._waits_for_a_person(job) for job in open_jobs),
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
        return await self._ask(
            lambda ledger: [
                self._device_view(ledger, device, facts)
                for facts in (gather(ledger),)
                for device in facts.devices
            ]
        )

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
        return await self._ask(lambda ledger: [self._job_view(job) for job in ledger.jobs(limit=limit)])

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
        facts = await self._ask(gather)
        return [
            waiting_view(job, device, wait)
            for device in facts.devices
            if (job := facts.jobs.get(device.id)) is not None and (wait := self._wait(job)) is not None
        ]

    async def wear(self) -> list[DeviceWearView]:
        """Tell of every device how often its flash was erased."""
        return await self._ask(
            lambda ledger: [
                {
                    "device": device.id,
                    "label": device.label,
                    "device_class": device.device_class,
                    "wear": self._wear_view(ledger, device),
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
        paused = self._warden.paused

        def work(ledger: Ledger) -> WhyView:
            found = self._meant(ledger, device)
            attempts = ledger.attempts(found.id, ATTEMPTS_TOLD)
            facts = gather(ledger)
            job = facts.jobs.get(found.id)
            wanted = self._warden.agenda.desired.get(found.id)
            wait = self._wait(job)
            latches = self._latches(found, facts)
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
                "device": self._device_view(ledger, found, facts),
                "should_run": sentences.should_run(wanted, self._refused(found)),
                "runs": sentences.runs(
                    found, job, attempts, in_loader=found.id in self._warden.registry.in_loader
                ),
                "latches": [latch_view(latch) for latch in latches],
                "attempts": [attempt_view(attempt) for attempt in attempts],
                "next": sentences.cannot_write(self._warden.store_problem)
                or sentences.on_probation(
                    self._probation_view(found, facts),
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
                    holds=concerning(facts.holds, found.id),
                    paused=found.id in paused,
                    riddles=riddles,
                    provision=self._provision(found),
                    going_out=self._going_out(wait, job),
                ),
            }

        return await self._ask(work)

    async def plan(self) -> list[PlanView]:
        """Tell for every device what would happen and why not."""

        def work(ledger: Ledger) -> list[PlanView]:
            facts = gather(ledger)
            return [self._plan_view(device, facts) for device in facts.devices]

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

    def _wait(self, job: Job | None) -> Wait | None:
        return None if job is None or job.state.final else self._warden.agenda.waits.get(job.id)

    def _going_out(self, wait: Wait | None, job: Job | None) -> Progress | None:
        """The rollout that keeps a job waiting."""
        if wait is None or job is None or wait.kind is not WaitKind.CANARY:
            return None
        asked = (job.device_class, job.image)
        return next(
            (
                each
                for each in self._warden.agenda.rollouts
                if (each.rollout.device_class, each.rollout.image) == asked
                and job.device not in each.admitted
            ),
            None,
        )

    def _state(self) -> Literal["starting", "ready", "stopping"]:
        if self._warden.stopping:
            return "stopping"
        return "ready" if self._warden.releases is not None and self._warden.registry.scanned else "starting"

    def _wear_view(self, ledger: Ledger, device: Device) -> WearView:
        wear = ledger.wear(device.id, self._warden.clock.wall())
        return wear_view(wear, self._warden.budgets(device.device_class))

    def _provision(self, device: Device) -> str:
        policy = self._warden.planner.classes.get(device.device_class)
        address = self._warden.registry.address(device.id)
        if policy is None or not isinstance(address, UsbAddress):
            return ""
        return policy.provision.format(topology=address.topology)

    def _waits_for_a_person(self, job: Job) -> bool:
        wait = self._wait(job)
        return (
            wait is not None
            and for_a_person(wait.kind, ends=wait.until is not None)
            and job.device not in self._warden.registry.conflicts_of_known
        )

    def _job_view(self, job: Job) -> JobView:
        run = self._warden.worker.runs.get(job.device) if job.state is JobState.RUNNING else None
        return job_view(
            job,
            budgets=self._warden.budgets(job.device_class),
            wait=self._wait(job),
            progress=None if run is None else run.driver.progress,
        )

    def _is_given_up(self, device: Device, facts: Facts) -> bool:
        job = facts.jobs.get(device.id)
        return (
            job is not None
            and job.state is JobState.FAILED
            and job.version != device.running_version
            and not self._latches(device, facts)
        )

    def _device_view(self, ledger: Ledger, device: Device, facts: Facts) -> DeviceView:
        registry = self._warden.registry
        wanted = self._warden.agenda.desired.get(device.id)
        job = facts.jobs.get(device.id)
        holds = concerning(facts.holds, device.id)
        release = None if wanted is None else wanted.release
        keeps = device.running_version if wanted is None or wanted.settled else None
        desired_version = release.version if release is not None else keeps
        return {
            "id": device.id,
            "label": device.label,
            "device_class": device.device_class,
            "identity": device.key,
            "port": device.port,
            "serial": device.serial,
            "present": device.id in registry.plugged_at,
            "conflict": registry.conflicts_of_known.get(device.id),
            "running_version": device.running_version,
            "running_image": device.running_image,
            "running_evidence": device.running_evidence,
            "complete": device.complete,
            "desired_version": desired_version,
            "desired_reason": "not decided yet" if wanted is None else wanted.reason,
            "stopped_version": None if wanted is None or wanted.stopped is None else wanted.stopped.version,
            "pinned": device.pinned,
            "floor": device.floor,
            "may_go_back_to": device.may_go_back_to,
            "held": in_words(holds),
            "holds": [hold_view(hold) for hold in holds],
            "good_version": None if device.good is None else device.good.version,
            "probation": self._probation_view(device, facts),
            "port_lent": self._warden.hand_over.stopped_for(self._warden.owner(device.device_class)) or None,
            "latched": bool(self._latches(device, facts)),
            "job": None if job is None else self._job_view(job),
            "wear": self._wear_view(ledger, device),
            "first_seen": instant(device.first_seen),
            "last_seen": instant(device.last_seen),
        }

    def _probation_view(self, device: Device, facts: Facts) -> ProbationView | None:
        probation = facts.probations.get(device.id)
        rule = self._warden.health_rule(device.device_class)
        if probation is None or rule is None:
            return None
        standing = self._warden.aftercare.standing(probation, rule)
        return {
            "version": probation.version,
            "began_at": instant(probation.began_at),
            "soaked_s": round(standing.course.soaked_s, 3),
            "soak_s": rule.soak_s,
            "until": instant_or_none(standing.ends_at),
            "detail": standing.detail,
        }

    def _latches(self, device: Device, facts: Facts) -> list[Latch]:
        return facts.latches_on(device, self._warden.releases_of(device.device_class))

    def _plan_view(self, device: Device, facts: Facts) -> PlanView:
        wanted = self._warden.agenda.desired.get(device.id)
        job = facts.jobs.get(device.id)
        wait = self._wait(job)
        decision: Literal["update", "nothing", "wait", "stopped", "running"] = "nothing"
        version = None
        if job is not None and not job.state.final:
            version = job.version
            if job.state is JobState.RUNNING:
                decision, reason = "running", f"job {job.id} is under way"
            elif wait is not None:
                decision, reason = "wait", wait.detail
            else:
                decision, reason = "update", f"job {job.id} starts next"
        elif wanted is None:
            reason = "not decided yet"
        elif wanted.release is not None:
            decision, version = "stopped", wanted.release.version
            reason = wanted.reason + ("" if job is None else f"; job {job.id} ended {job.state.value}")
        else:
            decision = "stopped" if self._latches(device, facts) else "nothing"
            reason = wanted.reason
        return {
            "device": device.id,
            "label": device.label,
            "decision": decision,
            "version": version,
            "reason": reason,
        }
