"""Answers questions and carries out a person's wishes; what the control API offers is what stands here.

A question reads the store in one transaction and adds what only the running process knows.  A wish is one
transaction too, recorded with who asked (and refused whole, with what to do instead, if it cannot be done);
what follows from it is left to the next planning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import structlog

from firmwarden import __version__
from firmwarden.errors import NotFound, Refused
from firmwarden.events import LogEvent
from firmwarden.model import Action, Cause, CauseCode, JobId, JobState, LatchScope, Wait
from firmwarden.service import sentences
from firmwarden.service.desired import desired
from firmwarden.service.policy import Budgets
from firmwarden.service.telling import (
    action_view,
    attempt_view,
    instant,
    job_view,
    latch_view,
    wear_view,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from firmwarden.model import ClassName, Device, DeviceId, Hold, Job, Latch, Release
    from firmwarden.service.shelf import Shelf
    from firmwarden.service.views import (
        DeviceView,
        FeedItem,
        HistoryView,
        JobView,
        PlanView,
        ReleaseView,
        StatusView,
        WhyView,
    )
    from firmwarden.service.warden import Warden
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()

ATTEMPTS_TOLD: Final = 10
SHORTEST_HASH: Final = 6
"""Characters of an image's hash that a person must type at least."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one question reads from the store."""

    devices: list[Device]
    jobs: dict[DeviceId, Job]
    """The open job of each device, else its last one."""
    latches: list[Latch]
    holds: list[Hold]


class Desk:
    """The service's counter."""

    def __init__(
        self,
        *,
        store: Store,
        warden: Warden,
        shelf: Callable[[], Shelf],
        problems: Callable[[], Sequence[str]],
    ) -> None:
        """Take what is asked about.

        Args:
            store: what lasts.
            warden: what is being done.
            shelf: the releases of the last scan.
            problems: what the operator should mend.
        """
        self._store = store
        self._warden = warden
        self._shelf = shelf
        self._problems = problems
        self._started_at = warden.clock.wall()

    # --- questions -------------------------------------------------------------------------------------

    async def status(self) -> StatusView:
        """Tell the whole in numbers."""
        facts = await self._store.run(self._facts)
        warden = self._warden
        open_jobs = [job for job in facts.jobs.values() if not job.state.final]
        shelf = self._shelf()
        ready = warden.releases is not None and warden.registry.scanned
        problems = list(self._problems())
        if warden.store_problem:
            problems.append(warden.store_problem)
        return {
            "version": __version__,
            "started_at": instant(self._started_at),
            "state": "stopping" if warden.stopping else "ready" if ready else "starting",
            "devices": len(facts.devices),
            "present": len(warden.registry.plugged_at),
            "conflicts": [
                {"ports": list(conflict.ports), "detail": conflict.detail}
                for conflict in warden.registry.conflicts
            ],
            "running": sum(job.state is JobState.RUNNING for job in open_jobs),
            "waiting": sum(job.state is JobState.QUEUED for job in open_jobs),
            "unknown": sum(job.state is JobState.UNKNOWN for job in open_jobs),
            "latches": len(facts.latches),
            "held": next(
                (f"{hold.owner}: {hold.reason}" for hold in facts.holds if hold.device is None), None
            ),
            "releases": len(shelf.releases),
            "refused_releases": len(shelf.refused),
            "problems": problems,
        }

    async def devices(self) -> list[DeviceView]:
        """Tell every device."""
        return await self._store.run(
            lambda ledger: [
                self._device_view(ledger, device, facts)
                for facts in (self._facts(ledger),)
                for device in facts.devices
            ]
        )

    async def releases(self) -> list[ReleaseView]:
        """Tell every release in the directory, with the reasons for refusals."""
        latched = {
            latch.image
            for latch in await self._store.run(lambda ledger: ledger.latches())
            if latch.scope is LatchScope.IMAGE
        }
        shelf = self._shelf()
        accepted: list[ReleaseView] = [
            {
                "manifest": release.manifest,
                "state": "accepted",
                "device_class": release.device_class,
                "version": release.version,
                "sequence": release.sequence,
                "image": release.image,
                "size": release.size,
                "reason": None,
                "latched": release.image in latched,
            }
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
                "reason": refusal.reason,
                "latched": False,
            }
            for refusal in shelf.refused
        ]
        return sorted(accepted + refused, key=lambda view: view["manifest"])

    async def jobs(self, limit: int) -> list[JobView]:
        """Tell the newest jobs, newest first."""
        return await self._store.run(lambda ledger: [self._job_view(job) for job in ledger.jobs(limit=limit)])

    async def history(self, device: str | None, limit: int) -> HistoryView:
        """Tell attempts and what persons did, newest first."""

        def work(ledger: Ledger) -> HistoryView:
            known = None if device is None else _find(ledger, device).id
            return {
                "attempts": [attempt_view(attempt) for attempt in ledger.attempts(known, limit)],
                "actions": [action_view(action) for action in ledger.actions(limit, known)],
            }

        return await self._store.run(work)

    async def why(self, device: str) -> WhyView:
        """Tell everything about one device's state of affairs."""

        def work(ledger: Ledger) -> WhyView:
            found = _find(ledger, device)
            facts = self._facts(ledger)
            job = facts.jobs.get(found.id)
            wanted = self._warden.agenda.desired.get(found.id)
            wait = self._wait(job)
            latches = self._concerning(found, job, facts)
            return {
                "device": self._device_view(ledger, found, facts),
                "should_run": sentences.should_run(wanted),
                "runs": sentences.runs(found, job),
                "latches": [latch_view(latch) for latch in latches],
                "attempts": [attempt_view(attempt) for attempt in ledger.attempts(found.id, ATTEMPTS_TOLD)],
                "next": sentences.next_step(job, wait, wanted, latches),
                "commands": sentences.commands(found, job, wait, wanted, latches),
            }

        return await self._store.run(work)

    async def plan(self) -> list[PlanView]:
        """Tell for every device what would happen and why not."""

        def work(ledger: Ledger) -> list[PlanView]:
            facts = self._facts(ledger)
            return [self._plan_view(device, facts) for device in facts.devices]

        return await self._store.run(work)

    def feed(self, after: int | None) -> AsyncGenerator[FeedItem, None]:
        """Yield what happens as it happens."""
        return self._warden.feed.read(after)

    # --- wishes ----------------------------------------------------------------------------------------

    async def retry(self, device: str, *, who: str) -> str:
        """Try again what failed, was cancelled, waits for its back-off or has an unknown outcome."""

        def work(ledger: Ledger) -> str:
            found = _find(ledger, device)
            self._record(ledger, who, "retry", found.id)
            job = self._facts(ledger).jobs.get(found.id)
            if job is not None and job.state is JobState.RUNNING:
                raise Refused(f"{found.id} is being updated right now (job {job.id})")
            if job is not None and job.state is JobState.UNKNOWN:
                ledger.move(job.id, JobState.QUEUED, now=self._now())
                return f"job {job.id} is queued again: {job.version} will be written anew"
            if job is not None and job.state is JobState.QUEUED:
                ledger.hurry(job.id)
                return f"job {job.id} no longer waits for its back-off"
            release = self._wanted(ledger, found)
            job = ledger.create_job(found.id, release, self._now())
            return f"job {job.id} is queued: {release.version} for {found.id}"

        return await self._wish(work, "retry", device, who)

    async def clear(self, target: str, *, who: str) -> str:
        """Lift the latches of a device, or those of an image named by its hash."""

        def work(ledger: Ledger) -> list[Latch]:
            lifted = _named(ledger, target)
            if not lifted:
                raise NotFound(f"no latch concerns {target!r}; `firmwarden devices` shows what is latched")
            for latch in lifted:
                ledger.lift(latch.id, who, self._now())
                self._record(ledger, who, "clear", latch.device or target, latch.scope.value)
            return lifted

        lifted = await self._store.run(work)
        for latch in lifted:
            log.info(
                LogEvent.LATCH_LIFTED,
                device=latch.device,
                image=latch.image,
                scope=latch.scope.value,
                who=who,
            )
        text = f"{len(lifted)} latch{'es' if len(lifted) > 1 else ''} lifted"
        again = sorted({latch.device for latch in lifted if latch.device is not None})
        if again:
            text += f"; `firmwarden retry {again[0]}` tries the image again"
        self._note("clear", target, who, text)
        return text

    async def cancel(self, job: int, *, who: str) -> str:
        """Cancel a job at its next safe point; refused once an erase has begun."""
        cause = Cause(code=CauseCode.CANCELLED, detail=f"cancelled by {who}")

        def work(ledger: Ledger) -> DeviceId | None:
            """Cancel a job that waits; of one that runs return the device."""
            found = ledger.job(JobId(job))
            if found is None:
                raise NotFound(f"there is no job {job}; `firmwarden jobs` lists them")
            if found.state.final:
                raise Refused(f"job {job} has ended already: {found.state.value}")
            if found.state is JobState.RUNNING:
                return found.device
            ledger.move(found.id, JobState.CANCELLED, now=self._now(), cause=cause)
            self._record(ledger, who, "cancel", found.device, f"job {job}")
            return None

        running = await self._store.run(work)
        text = f"job {job} is cancelled"
        if running is not None:
            self._stop_untouched(running, job, cause)
            text = f"job {job} stops at the next safe point, before anything is erased"
            await self._store.run(lambda ledger: self._record(ledger, who, "cancel", running, f"job {job}"))
        self._note("cancel", str(job), who, text)
        return text

    def _stop_untouched(self, device: DeviceId, job: int, cause: Cause) -> None:
        run = self._warden.worker.runs.get(device)
        if run is None or run.job.id != job:
            raise Refused(f"job {job} is just beginning or ending; ask again in a moment")
        if not run.journal.untouched:
            raise Refused(
                f"job {job} cannot be cancelled any more: an erase has begun, and stopping now would leave "
                f"{device} without a complete image; it ends by itself"
            )
        run.stop(cause)

    async def hold(self, device: str | None, *, reason: str, who: str) -> str:
        """Start nothing on a device, or with None on any, until ``unhold``."""

        def work(ledger: Ledger) -> str:
            found = None if device is None else _find(ledger, device).id
            ledger.hold(found, reason, who, self._now())
            self._record(ledger, who, "hold", found or "all", reason)
            return f"{found or 'everything'} is held; what runs now goes on to its end"

        return await self._wish(work, "hold", device or "all", who)

    async def unhold(self, device: str | None, *, who: str) -> str:
        """End a hold."""

        def work(ledger: Ledger) -> str:
            found = None if device is None else _find(ledger, device).id
            if not ledger.unhold(found):
                raise Refused(f"{found or 'everything'} is not held")
            self._record(ledger, who, "unhold", found or "all")
            left = [hold for hold in ledger.holds() if hold.device is None]
            more = "; everything is still held: `firmwarden unhold all`" if left and found else ""
            return f"{found or 'everything'} is no longer held{more}"

        return await self._wish(work, "unhold", device or "all", who)

    async def pin(self, device: str, version: str | None, *, who: str) -> str:
        """Keep a device at a version whatever is newer; None lets it follow the newest again."""

        def work(ledger: Ledger) -> str:
            found = _find(ledger, device)
            ledger.pin(found.id, version)
            self._record(ledger, who, "pin", found.id, version or "none")
            if version is None:
                return f"{found.id} follows the newest release of its class again"
            there = any(release.version == version for release in self._of_class(found))
            more = "" if there else f"; {version} is not in the firmware directory yet"
            return f"{found.id} is pinned to {version}{more}"

        return await self._wish(work, "pin", device, who)

    async def adopt(self, device: str, *, old: str | None, running: str | None, who: str) -> str:
        """Say that a device is one known before under another identity, or what it runs."""

        def work(ledger: Ledger) -> str:
            found = _find(ledger, device)
            if old is not None:
                kept = ledger.adopt(found.id, _find(ledger, old).id)
                self._record(ledger, who, "adopt", kept.id, f"was {found.id}")
                return f"{found.id} is {kept.id}: its history, wear and latches go on under that id"
            if running is None:
                raise Refused("say which device it was, or what it runs")
            job = self._facts(ledger).jobs.get(found.id)
            if job is not None and job.state is JobState.RUNNING:
                raise Refused(f"{found.id} is being updated by job {job.id}; wait for its end, or cancel it")
            release = next((item for item in self._of_class(found) if item.version == running), None)
            ledger.set_running(
                found.id,
                version=running,
                sequence=None if release is None else release.sequence,
                image=None if release is None else release.image,
                evidence=f"told by {who}",
                now=self._now(),
            )
            self._record(ledger, who, "adopt", found.id, f"running {running}")
            return f"{found.id} is recorded as running {running}"

        text = await self._wish(work, "adopt", device, who)
        self._warden.registry.look_again()
        return text

    async def forget(self, device: str, *, who: str) -> str:
        """Drop a device that will not come back; its wear and latches are kept."""

        def work(ledger: Ledger) -> str:
            found = _find(ledger, device)
            if found.id in self._warden.registry.plugged_at:
                raise Refused(
                    f"{found.id} is here, at {found.port}: unplug it or take it out of the configuration first"
                )
            ledger.forget(found.id)
            self._record(ledger, who, "forget", found.id)
            return f"{found.id} is forgotten; its wear and latches are kept should it ever come back"

        text = await self._wish(work, "forget", device, who)
        self._warden.registry.look_again()
        return text

    # --- inside ----------------------------------------------------------------------------------------

    async def _wish(self, work: Callable[[Ledger], str], what: str, target: str, who: str) -> str:
        text = await self._store.run(work)
        self._note(what, target, who, text)
        return text

    def _note(self, what: str, target: str, who: str, text: str) -> None:
        log.info(LogEvent.ACTION_TAKEN, who=who, action=what, target=target, detail=text)
        self._warden.poke()

    def _record(self, ledger: Ledger, who: str, what: str, target: str, detail: str = "") -> None:
        ledger.record(Action(at=self._now(), who=who, what=what, target=target, detail=detail))

    def _now(self) -> float:
        return self._warden.clock.wall()

    def _budgets(self, device_class: ClassName) -> Budgets:
        policy = self._warden.planner.classes.get(device_class)
        return Budgets() if policy is None else policy.budgets

    def _of_class(self, device: Device) -> list[Release]:
        return [
            release for release in self._warden.releases or () if release.device_class == device.device_class
        ]

    def _wanted(self, ledger: Ledger, device: Device) -> Release:
        policy = self._warden.planner.classes.get(device.device_class)
        if policy is None:
            raise Refused(f"its class {device.device_class} is not in the configuration")
        wanted = desired(device, self._of_class(device), ledger.latches(), policy)
        if wanted.release is None:
            facts = self._facts(ledger)
            latches = self._concerning(device, facts.jobs.get(device.id), facts)
            first = ", ".join(dict.fromkeys(f"`{latch_view(latch)['clear']}`" for latch in latches))
            hint = f"; {first} first" if first else ""
            raise Refused(f"there is nothing to retry: {wanted.reason}{hint}")
        return wanted.release

    @staticmethod
    def _facts(ledger: Ledger) -> _Facts:
        jobs: dict[DeviceId, Job] = {}
        for device in ledger.devices():
            for job in ledger.jobs(limit=1, device=device.id):
                jobs[device.id] = job
        for job in ledger.open_jobs():
            jobs[job.device] = job
        return _Facts(ledger.devices(), jobs, ledger.latches(), ledger.holds())

    def _wait(self, job: Job | None) -> Wait | None:
        return None if job is None or job.state.final else self._warden.agenda.waits.get(job.id)

    def _job_view(self, job: Job) -> JobView:
        run = self._warden.worker.runs.get(job.device) if job.state is JobState.RUNNING else None
        return job_view(
            job,
            budgets=self._budgets(job.device_class),
            wait=self._wait(job),
            progress=None if run is None else run.driver.progress,
        )

    def _device_view(self, ledger: Ledger, device: Device, facts: _Facts) -> DeviceView:
        registry = self._warden.registry
        wanted = self._warden.agenda.desired.get(device.id)
        job = facts.jobs.get(device.id)
        hold = next((hold for hold in facts.holds if hold.device in (None, device.id)), None)
        release = None if wanted is None else wanted.release
        desired_version = release.version if release is not None else device.running_version
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
            "pinned": device.pinned,
            "held": None if hold is None else f"{hold.owner}: {hold.reason}",
            "latched": bool(self._concerning(device, job, facts)),
            "job": None if job is None else self._job_view(job),
            "wear": wear_view(ledger.wear(device.id, self._now()), self._budgets(device.device_class)),
            "first_seen": instant(device.first_seen),
            "last_seen": instant(device.last_seen),
        }

    def _concerning(self, device: Device, job: Job | None, facts: _Facts) -> list[Latch]:
        """The latches that may stop a device: on itself, and on images that it was given last or might be given."""
        images = {release.image for release in self._of_class(device)} | ({job.image} if job else set())
        return [
            latch
            for latch in facts.latches
            if latch.device in {None, device.id} and (latch.image is None or latch.image in images)
        ]

    def _plan_view(self, device: Device, facts: _Facts) -> PlanView:
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
            decision = "stopped" if self._concerning(device, job, facts) else "nothing"
            reason = wanted.reason
        return {
            "device": device.id,
            "label": device.label,
            "decision": decision,
            "version": version,
            "reason": reason,
        }


def _find(ledger: Ledger, name: str) -> Device:
    """The device that a person means by its id, a beginning of it that only one has, or its label."""
    devices = ledger.devices()
    exact = [device for device in devices if device.id == name]
    found = (
        exact
        or [device for device in devices if device.label and device.label == name]
        or [device for device in devices if name and device.id.startswith(name)]
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{name!r} may mean any of {', '.join(device.id for device in found)}")
    raise NotFound(f"there is no device {name!r}; `firmwarden devices` lists them")


def _named(ledger: Ledger, target: str) -> list[Latch]:
    """The latches that a person means by a device or by the beginning of an image's hash."""
    latches = ledger.latches()
    if len(target) >= SHORTEST_HASH:
        of_image = [latch for latch in latches if (latch.image or "").startswith(target.lower())]
        if of_image:
            return of_image
    try:
        device = _find(ledger, target).id
    except NotFound:
        return []
    return [latch for latch in latches if latch.device == device]
