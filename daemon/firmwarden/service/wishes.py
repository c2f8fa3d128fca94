"""Carries out a person's wishes.

A wish is one transaction, recorded with who asked, or refused whole with what to do instead; what follows from it
is left to the next planning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from firmwarden.errors import NotFound, Refused
from firmwarden.events import LogEvent
from firmwarden.model import Action, Cause, CauseCode, ClassName, JobId, JobState, LatchScope
from firmwarden.service.desired import desired, waiting_in_loader
from firmwarden.service.drops import content_of
from firmwarden.service.facts import gather
from firmwarden.service.floor import allowing, below_in_words, may_be_given, too_late_for
from firmwarden.service.going_back import going_back
from firmwarden.service.holding import in_words, to_take_back
from firmwarden.service.measures import IMAGE_SHOWN
from firmwarden.service.naming import find_device, find_latches
from firmwarden.service.planner import may_be_erased, was_left_whole
from firmwarden.service.recall import overlooked, recall, resume
from firmwarden.service.running import has_rank, named, record
from firmwarden.service.telling import instant, latch_view, release_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from firmwarden.model import Device, DeviceId, ImageHash, Latch, Release
    from firmwarden.service.identity import Conflict
    from firmwarden.service.incoming import Incoming, Record
    from firmwarden.service.views import ReleaseView
    from firmwarden.service.warden import Warden
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()


class Wishes:
    """What can be wished for; a method returns one sentence: what was done and what follows."""

    def __init__(self, *, store: Store, warden: Warden, incoming: Incoming) -> None:
        """Take what a wish concerns.

        Args:
            store: what lasts.
            warden: what is being done.
            incoming: the way into the firmware directory.
        """
        self._store = store
        self._warden = warden
        self._incoming = incoming

    async def retry(self, device: str, *, who: str) -> str:
        """Try again what failed or was cancelled, waits for back-off, a condition or a person, or ended unknown."""
        meant = await self._store.run(lambda ledger: find_device(ledger, device).id)
        paused, unmet = meant in self._warden.pauses.before_attempts, meant in self._warden.timekeeper.unmet

        def work(ledger: Ledger) -> str:
            found = find_device(ledger, meant)
            self._record(ledger, who, "retry", found.id)
            job = gather(ledger).jobs.get(found.id)
            if job is not None and job.state is JobState.RUNNING:
                raise Refused(f"{found.id} is being updated right now (job {job.id})")
            if job is not None and job.state is JobState.UNKNOWN:
                ledger.move(job.id, JobState.QUEUED, now=self._now())
                return f"job {job.id} is queued again: {job.version} will be written anew"
            if job is not None and job.state is JobState.QUEUED:
                policy = self._warden.planner.classes.get(found.device_class)
                if policy is not None and policy.doubt:
                    raise Refused(
                        f'{policy.doubt}; declare that, or write failsafe = "none" for the class '
                        f"{found.device_class}, then `systemctl reload firmwarden`"
                    )
                ledger.hurry(job.id)
                if paused:
                    return f"job {job.id} is tried once more"
                if job.not_before is not None:
                    return f"job {job.id} no longer waits for its back-off"
                if unmet:
                    return f"the condition of job {job.id} is asked again"
                return f"job {job.id} is queued already; `firmwarden why {found.id}` says what it waits for"
            release = self._wanted(ledger, found)
            job = ledger.create_job(found.id, release, self._now())
            return f"job {job.id} is queued: {release.version} for {found.id}"

        text = await self._wish(work, "retry", device, who)
        self._warden.look_again(meant)
        return text

    async def clear(self, target: str, *, who: str) -> str:
        """Lift the latches of a device, or those of an image named by its hash.

        A unit that still runs what it did not keep well with has to show anew that it does: nothing else would ask.
        """

        def work(ledger: Ledger) -> tuple[list[Latch], set[DeviceId]]:
            """Return the latches that are lifted, and the units that are on probation for it."""
            lifted = find_latches(ledger, target)
            if not lifted:
                raise NotFound(f"no latch concerns {target!r}; `firmwarden devices` shows what is latched")
            for latch in lifted:
                ledger.lift(latch.id, who, self._now())
                self._record(ledger, who, "clear", latch.device or target, latch.scope.value)
            proving = {
                latch.device
                for latch in lifted
                if latch.device is not None and _proves_itself_anew(ledger, latch, self._now())
            }
            return lifted, proving

        lifted, proving = await self._store.run(work)
        for latch in lifted:
            log.info(
                LogEvent.LATCH_LIFTED,
                device=latch.device,
                image=latch.image,
                scope=latch.scope.value,
                who=who,
            )
        text = f"{len(lifted)} latch{'es' if len(lifted) > 1 else ''} lifted"
        if proving:
            runs = "runs" if len(proving) == 1 else "run"
            text += f"; {', '.join(sorted(proving))} {runs} the image, and on probation shows anew how well"
        again = sorted({latch.device for latch in lifted if latch.device is not None} - proving)
        if len(again) > 1:
            text += f"; `firmwarden retry DEVICE` tries the image again, for each of {', '.join(again)}"
        elif again:
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

    async def hold(
        self,
        device: str | None,
        *,
        reason: str,
        for_s: float | None = None,
        owner: str | None = None,
        who: str,
    ) -> str:
        """Start nothing on a device, or with None on any, until ``unhold`` or for some time, in an owner's name."""
        # By the reckoning that holds are moved with: the clock may have been set a moment ago.
        now = self._warden.reckoning.now()
        expires_at = None if for_s is None else now + for_s
        until = "" if expires_at is None else f" until {instant(expires_at)}"
        whose = "" if owner in {None, who} else f" for {owner}"

        def work(ledger: Ledger) -> str:
            found = None if device is None else find_device(ledger, device).id
            ledger.hold(found, reason, owner or who, now, expires_at)
            self._record(ledger, who, "hold", found or "all", f"{reason}{whose}{until}")
            return f"{found or 'everything'} is held{whose}{until}; what runs now goes on to its end"

        return await self._wish(work, "hold", device or "all", who)

    async def unhold(self, device: str | None, *, owner: str | None = None, who: str) -> str:
        """End a hold: one's own, an owner's, or the only one."""

        def work(ledger: Ledger) -> str:
            found = None if device is None else find_device(ledger, device).id
            ended = to_take_back(ledger.holds(), found, owner=owner, who=who)
            ledger.unhold(found, ended.owner)
            self._record(
                ledger, who, "unhold", found or "all", "" if ended.owner == who else f"that of {ended.owner}"
            )
            left = ledger.holds()
            if others := in_words([hold for hold in left if hold.device == found]):
                return f"{found or 'everything'} is no longer held by {ended.owner}, but still by {others}"
            everything = found is not None and any(hold.device is None for hold in left)
            more = "; everything is still held: `firmwarden unhold all`" if everything else ""
            return f"{found or 'everything'} is no longer held{more}"

        return await self._wish(work, "unhold", device or "all", who)

    async def pin(self, device: str, version: str | None, *, may_go_back: bool = False, who: str) -> str:
        """Keep a device at a version whatever is newer; None lets it follow the newest again.

        With ``may_go_back`` it may go back to that version, once.
        """

        def work(ledger: Ledger) -> str:
            found = ledger.pin(find_device(ledger, device).id, version, may_go_back=may_go_back)
            once = ", and may go back to it once" if may_go_back else ""
            self._record(ledger, who, "pin", found.id, f"{version or 'none'}{once}")
            if version is None:
                return f"{found.id} follows the newest release of its class again"
            of_class = self._warden.releases_of(found.device_class)
            release = next((release for release in of_class if release.version == version), None)
            if release is None:
                more = f"; {version} is not in the firmware directory yet"
            elif not may_be_given(found, release):
                more = f", {below_in_words(found, release)}: `{allowing(found, release)}`"
            else:
                more = ""
            return f"{found.id} is pinned to {version}{once}{more}"

        return await self._wish(work, "pin", device, who)

    async def adopt(self, device: str, *, old: str | None, running: str | None, who: str) -> str:
        """Say that a device is one known before under another identity, or what it runs.

        The device may also be the place of a loader of which it cannot be told whose it is, or at which a known unit
        holds something that it should not.
        """
        riddle = self._riddle_at(device)

        def work(ledger: Ledger) -> str:
            if riddle is not None and old is not None:
                return self._adopt_loader(ledger, riddle, old, who)
            if old is not None and self._is_at(unit := find_device(ledger, old), device):
                return self._vouch(ledger, unit, who)
            found = find_device(ledger, device)
            if old is not None:
                known = find_device(ledger, old)
                if known.id != found.id:
                    self._refuse_if_here(known, f"{found.id} is another unit")
                kept = ledger.adopt(found.id, known.id)
                self._record(ledger, who, "adopt", kept.id, f"what was {found.id}")
                return f"{found.id} is {kept.id}: its history, wear and latches go on under that id"
            if running is None:
                raise Refused("say which device it was, or what it runs")
            job = gather(ledger).jobs.get(found.id)
            if job is not None and job.state is JobState.RUNNING:
                raise Refused(f"{found.id} is being updated by job {job.id}; wait for its end, or cancel it")
            releases = self._warden.releases_of(found.device_class)
            told = named(running, releases, f"told by {who}")
            record(ledger, found, told, self._now())
            self._record(ledger, who, "adopt", found.id, f"as running {running}")
            said = f"{found.id} is recorded as running {running}"
            if has_rank(told, releases):
                return said
            return f"{said}, which cannot be compared with the releases of its class, so it keeps that"

        text = await self._wish(work, "adopt", device, who)
        self._warden.look_again(await self._store.run(lambda ledger: find_device(ledger, old or device).id))
        self._warden.registry.look_again()
        return text

    def _is_at(self, device: Device, place: str) -> bool:
        return device.port == place and device.id in self._warden.registry.plugged_at

    def _vouch(self, ledger: Ledger, device: Device, who: str) -> str:
        """Go on with a unit although its flash holds what no update of ours can have left."""
        job = gather(ledger).jobs.get(device.id)
        if job is not None and job.state is JobState.RUNNING:
            raise Refused(f"{device.id} is being updated by job {job.id}; wait for its end, or cancel it")
        if job is not None and job.state is JobState.UNKNOWN:
            ledger.move(job.id, JobState.QUEUED, now=self._now())
        ledger.vouch(device.id)
        self._record(ledger, who, "adopt", device.id, f"what is at {device.port}, whatever it holds")
        return f"what is at {device.port} is {device.id}, whatever it holds: its next update writes all of it"

    def _riddle_at(self, place: str) -> Conflict | None:
        return next(
            (riddle for riddle in self._warden.registry.conflicts if place and riddle.place == place), None
        )

    def _adopt_loader(self, ledger: Ledger, riddle: Conflict, old: str, who: str) -> str:
        """From now on a known unit is where a loader was found."""
        known = find_device(ledger, old)
        self._refuse_if_here(known, f"the loader at {riddle.place} is another unit's")
        if known.device_class not in riddle.classes:
            raise Refused(
                f"{known.id} is a {known.device_class}, and the loader at {riddle.place} may be that of a "
                f"{' or '.join(riddle.classes)}"
            )
        ledger.take_place(known.id, riddle.place)
        # So that it counts as one that was left there, whatever else is missing.
        if ledger.unfinished(known.id) is None:
            ledger.is_in_loader(known.id)
        else:
            ledger.set_complete(known.id, complete=False)
        self._record(ledger, who, "adopt", known.id, f"the loader at {riddle.place}")
        return f"the loader at {riddle.place} is that of {known.id} from now on"

    def _refuse_if_here(self, device: Device, therefore: str) -> None:
        if device.id in self._warden.registry.plugged_at:
            raise Refused(
                f"{device.id} is here itself, at {device.port}: nothing is at two places at once, so {therefore}"
            )

    async def forget(self, device: str, *, who: str) -> str:
        """Drop a device that will not come back; its wear and latches are kept."""

        def work(ledger: Ledger) -> str:
            found = find_device(ledger, device)
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

    async def resume(self, device_class: str, *, who: str) -> str:
        """Let the rollout of a class go on that has stopped."""
        meant = self._class(device_class)

        def work(ledger: Ledger) -> str:
            versions = ", ".join(
                resume(ledger, meant, self._warden.agenda.rollouts, who=who, now=self._now())
            )
            self._record(ledger, who, "resume", meant, versions)
            return f"the rollout of {meant} {versions} goes on where it stopped"

        return await self._wish(work, "resume", meant, who)

    async def recall(self, device_class: str, *, reason: str, who: str) -> str:
        """Call the newest release of a class back."""
        meant = self._class(device_class)

        def work(ledger: Ledger) -> tuple[list[Release], int, list[str]]:
            shelf = self._warden.releases_of(meant)
            releases = recall(ledger, meant, shelf, reason=reason, who=who, now=self._now())
            images = {release.image for release in releases}
            self._record(ledger, who, "recall", meant, f"{releases[0].version}: {reason}")
            running = sum(device.running_image in images for device in ledger.devices())
            return releases, running, overlooked(ledger, releases[0])

        releases, running, newer = await self._store.run(work)
        for release in releases:
            log.info(
                LogEvent.RELEASE_RECALLED,
                device_class=meant,
                release=release.version,
                image=release.image,
                who=who,
                detail=reason,
            )
        text = f"{releases[0].version} of {meant} is called back: no device is given it any more"
        if running:
            text += f"; {running} {'runs' if running == 1 else 'run'} it, and what kept well before goes back to that"
        if newer:
            text += (
                f". {' and '.join(newer)}, which others run, is newer and was not called back: for that it has to be "
                f"in the firmware directory. `firmwarden clear {releases[0].image[:IMAGE_SHOWN]}` undoes this recall"
            )
        self._note("recall", meant, who, text)
        return text

    async def upload(
        self, manifest: bytes, image: bytes, signature: bytes | None, *, name: str, who: str
    ) -> ReleaseView:
        """Put a release into the firmware directory; other than the rest, it returns what it took."""
        (view,) = await self._taken(
            who, lambda record: self._incoming.put(manifest, image, signature, name, record)
        )
        return view

    async def upload_bundle(self, content: bytes, *, name: str, who: str) -> list[ReleaseView]:
        """Put a bundle into the firmware directory, and return the releases in it."""
        return await self._taken(who, lambda record: self._incoming.put_bundle(content, name, record))

    # --- inside

    async def _taken(
        self, who: str, put: Callable[[Record], Awaitable[tuple[Release, ...]]]
    ) -> list[ReleaseView]:
        latched: set[ImageHash | None] = set()
        devices: list[Device] = []

        def work(ledger: Ledger, releases: tuple[Release, ...]) -> None:
            for release in releases:
                self._record(ledger, who, "upload", release.manifest, content_of(release))
            latched.update(latch.image for latch in ledger.latches() if latch.scope is LatchScope.IMAGE)
            devices.extend(ledger.devices())

        releases = await put(lambda releases: self._store.run(lambda ledger: work(ledger, releases)))
        for release in releases:
            text = (
                f"{release.manifest} is in the firmware directory: {release.device_class} {release.version}"
            )
            self._note("upload", release.manifest, who, text)
        return [
            release_view(
                release, latched=release.image in latched, too_late_for=too_late_for(devices, release)
            )
            for release in releases
        ]

    def _class(self, name: str) -> ClassName:
        if name not in self._warden.planner.classes:
            known = ", ".join(sorted(self._warden.planner.classes))
            raise NotFound(f"there is no class {name!r}{f', only {known}' if known else ''}")
        return ClassName(name)

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

    def _wanted(self, ledger: Ledger, device: Device) -> Release:
        policy = self._warden.planner.classes.get(device.device_class)
        if policy is None:
            raise Refused(f"its class {device.device_class} is not in the configuration")
        releases = self._warden.releases_of(device.device_class)
        wanted = desired(
            device, releases, ledger.latches(), policy, may_be_erased=may_be_erased(ledger, device)
        )
        wanted = going_back(device, wanted, ledger.latches(), policy)
        if wanted.release is None and was_left_whole(ledger, device):
            wanted = waiting_in_loader(device, wanted, releases, ledger.latches())
        if wanted.release is None:
            latches = gather(ledger).latches_on(device, releases)
            first = ", ".join(dict.fromkeys(f"`{latch_view(latch)['clear']}`" for latch in latches))
            hint = f"; {first} first" if first else ""
            raise Refused(f"there is nothing to retry: {wanted.reason}{hint}")
        return wanted.release


def _proves_itself_anew(ledger: Ledger, latch: Latch, now: float) -> bool:
    """Put a unit on probation with the image it runs where that was latched for its health; say whether it is."""
    attempt = None if latch.attempt is None else ledger.attempt(latch.attempt)
    if latch.cause.code is not CauseCode.UNHEALTHY or attempt is None:
        return False
    unit, job = ledger.device(attempt.device), ledger.job(attempt.job)
    if unit is None or job is None or unit.complete is False or unit.running_image != latch.image:
        return False
    ledger.start_probation(job, now)
    return True
