"""The watchers: who is here and which releases lie there, each by hints and by scans (invariant 7)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from anyio import to_thread

from firmwarden.app import wiring
from firmwarden.errors import StoreError
from firmwarden.events import LogEvent
from firmwarden.model import Sighting, UsbAddress
from firmwarden.service.drops import Drops
from firmwarden.service.shelf import Shelf
from firmwarden.watch.directory import DirectoryWatch, WatchUnavailable
from firmwarden.watch.hotplug import HotplugUnavailable, HotplugWatch, UdevEvents
from firmwarden.watch.ports import PortScanner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from firmwarden import config
    from firmwarden.images.cas import ImageStore
    from firmwarden.model import ImageHash
    from firmwarden.service.intake import Intake
    from firmwarden.service.registry import Registry
    from firmwarden.service.warden import Warden
    from firmwarden.store.store import Store
    from firmwarden.transport.usb import UsbBus

log = structlog.get_logger()

DIRECTORY_EVERY_S: Final = 30.0
"""How often the firmware directory is scanned without a hint: a network mount tells nothing of what others write."""
SETTLE_S: Final = 0.05
"""Pause after a hint: a plug and a copied file come as several events."""
DAY_S: Final = 86_400.0


class Watching:
    """Feeds the registry and the shelf."""

    def __init__(
        self,
        settings: config.Config,
        *,
        usb: UsbBus,
        registry: Registry,
        warden: Warden,
        intake: Intake,
        images: ImageStore,
        store: Store,
    ) -> None:
        self._usb = usb
        self._registry = registry
        self._warden = warden
        self._intake = intake
        self._images = images
        self._store = store
        self.shelf = Shelf()
        """Of the last scan of the firmware directory."""
        self.first_scans = anyio.Event()
        """Set once both were scanned: updates may start."""
        self._scan_problem = ""
        self._images_problem = ""
        self._release_hint = anyio.Event()
        self._port_hint = anyio.Event()
        self._directories: dict[Path, anyio.CancelScope] = {}
        self._tasks: TaskGroup | None = None
        self._limiter = anyio.CapacityLimiter(1)
        self._configure_scanner(settings)
        self._firmware_dir = settings.settings.firmware_dir
        self._drops = Drops(self._firmware_dir, store, warden.clock)

    def start(self, tasks: TaskGroup) -> None:
        """Start watching."""
        self._tasks = tasks
        tasks.start_soon(self._watch_ports)
        tasks.start_soon(self._warden.timekeeper.inhibitors.run, lambda: self._every_s)
        tasks.start_soon(self._hear_hotplug)
        tasks.start_soon(self._watch_releases)
        tasks.start_soon(self._hear_firmware_directory)
        self._watch_pattern_directories()

    def configure(self, settings: config.Config) -> None:
        """Put another configuration in force."""
        self._configure_scanner(settings)
        self._registry.configure(wiring.rules(settings), wiring.labels(settings))
        self._intake.criteria = wiring.criteria(settings)
        if self._warden.releases is not None:
            # A key that is revoked is so from now on, also where the directory cannot be read just now.
            self._warden.shelve(self._intake.upheld)
        self._watch_pattern_directories()
        self.look_at_releases()
        self._hint_port()

    def problems(self) -> list[str]:
        """What the operator should mend."""
        return [
            problem
            for problem in (
                self._scan_problem,
                self._images_problem,
                self.shelf.problem,
                *self._scanner.problems,
            )
            if problem
        ]

    # --- devices ----------------------------------------------------------------------------------------

    def _configure_scanner(self, settings: config.Config) -> None:
        self._scanner = PortScanner(
            patterns=[each.match.path for each in settings.devices if each.match.path is not None],
            tcp=[endpoint for each in settings.devices for endpoint in each.match.tcp],
        )
        self._usb_ids = wiring.usb_ids(settings)
        self._pattern_directories = {
            Path(each.match.path).parent for each in settings.devices if each.match.path is not None
        }
        self._every_s = settings.settings.scan_interval

    async def _watch_ports(self) -> None:
        while True:
            self._port_hint = anyio.Event()
            await self._scan_ports()
            with anyio.move_on_after(self._every_s):
                async with anyio.create_task_group() as first:
                    first.start_soon(_then_cancel, self._port_hint.wait, first)
                    first.start_soon(_then_cancel, self._registry.wanted, first)
                await anyio.sleep(SETTLE_S)

    async def _scan_ports(self) -> None:
        began = self._warden.clock.boot()
        try:
            sightings = await to_thread.run_sync(self._scan, limiter=self._limiter)
            came = await self._registry.take(sightings, began=began, under_way=self._warden.under_way)
        except (OSError, StoreError) as exc:
            if not self._scan_problem:
                log.warning(LogEvent.SCAN_FAILED, what="ports", detail=str(exc))
            self._scan_problem = f"ports cannot be scanned: {exc}"
            self._registry.behind = True
            return
        self._scan_problem = ""
        if came is not None:
            self._warden.plugged(came)
        self._note_first_scans()

    def _scan(self) -> tuple[Sighting, ...]:
        ports = self._scanner.scan()
        ids = self._usb_ids
        if not ids:
            return ports
        return *ports, *(
            Sighting(address=UsbAddress(topology=seen.facts.topology), usb=seen.facts)
            for seen in self._usb.scan()
            if (seen.facts.vendor_id, seen.facts.product_id) in ids
        )

    async def _hear_hotplug(self) -> None:
        try:
            watch = HotplugWatch(await to_thread.run_sync(UdevEvents))
            while True:
                await watch.next_hint()
                self._hint_port()
        except HotplugUnavailable as exc:
            log.warning(LogEvent.HINTS_UNAVAILABLE, detail=str(exc))

    def _hint_port(self) -> None:
        self._port_hint.set()

    # --- releases ---------------------------------------------------------------------------------------

    async def _watch_releases(self) -> None:
        fold_in_s = 0.0
        while True:
            self._release_hint = anyio.Event()
            await self._scan_releases()
            if fold_in_s <= 0.0:
                fold_in_s = DAY_S
                await self._tidy()
            fold_in_s -= DIRECTORY_EVERY_S
            with anyio.move_on_after(DIRECTORY_EVERY_S):
                await self._release_hint.wait()
                await anyio.sleep(SETTLE_S)

    async def _scan_releases(self) -> None:
        before, self.shelf = self.shelf, await self._intake.scan()
        self._log_shelf(before)
        if self.shelf.problem:
            if not self.first_scans.is_set():
                self._warden.shelve(self.shelf.releases)
                self._note_first_scans()
            return
        self._warden.shelve(self.shelf.releases)
        self._note_first_scans()
        with suppress(StoreError):  # the planner tells of it; the next scan finds what is not on record
            await self._drops.note(self.shelf)
        await self._discard_images()

    async def _discard_images(self) -> None:
        """Remove images that nothing needs; runs between scans, so never while one is being admitted."""
        try:
            needed: set[ImageHash] = await self._store.run(lambda ledger: ledger.needed_images())
            needed |= {release.image for release in self.shelf.releases}
            count = await to_thread.run_sync(self._images.discard_except, needed)
        except (OSError, StoreError) as exc:
            if not self._images_problem:
                log.warning(LogEvent.SCAN_FAILED, what="images", detail=str(exc))
            self._images_problem = f"images that nothing needs cannot be removed: {exc}"
            return
        self._images_problem = ""
        if count:
            log.debug(LogEvent.IMAGES_DISCARDED, count=count)

    async def _tidy(self) -> None:
        try:
            await self._store.run(lambda ledger: ledger.fold(self._warden.clock.wall()))
        except StoreError as exc:
            log.warning(LogEvent.SCAN_FAILED, what="history", detail=str(exc))

    def _log_shelf(self, before: Shelf) -> None:
        if self.shelf.problem and not before.problem:
            log.error(LogEvent.DIRECTORY_UNREADABLE, path=str(self._firmware_dir), detail=self.shelf.problem)
        for release in self.shelf.releases:
            if release not in before.releases:
                log.info(
                    LogEvent.RELEASE_ACCEPTED,
                    manifest=release.manifest,
                    device_class=release.device_class,
                    release=release.version,
                    image=release.image,
                    size=release.size,
                    signed_by=release.signed_by or None,
                )
        manifests = {release.manifest for release in self.shelf.releases}
        for release in before.releases:
            if release.manifest not in manifests:
                log.info(
                    LogEvent.RELEASE_WITHDRAWN,
                    manifest=release.manifest,
                    device_class=release.device_class,
                    release=release.version,
                )
        known = {(refusal.manifest, refusal.reason) for refusal in before.refused}
        for refusal in self.shelf.refused:
            if (refusal.manifest, refusal.reason) not in known:
                log.warning(LogEvent.RELEASE_REFUSED, manifest=refusal.manifest, reason=refusal.reason)

    def look_at_releases(self) -> None:
        """Scan the firmware directory soon: something changed there."""
        self._release_hint.set()

    # --- both -------------------------------------------------------------------------------------------

    def _note_first_scans(self) -> None:
        if self._registry.scanned and self._warden.releases is not None:
            self.first_scans.set()

    def _watch_pattern_directories(self) -> None:
        """Watch the directories of path patterns: ptys and links have no hot-plug events of their own."""
        if self._tasks is None:
            return
        wanted = self._pattern_directories
        for directory in self._directories.keys() - wanted:
            self._directories.pop(directory).cancel()
        for directory in wanted - self._directories.keys():
            self._directories[directory] = scope = anyio.CancelScope()
            self._tasks.start_soon(self._hear_pattern_directory, directory, scope)

    async def _hear_pattern_directory(self, directory: Path, scope: anyio.CancelScope) -> None:
        with scope:
            await _hear(directory, self._hint_port, contents=False)

    async def _hear_firmware_directory(self) -> None:
        await _hear(self._firmware_dir, self.look_at_releases, contents=True)


async def _hear(directory: Path, hint: Callable[[], None], *, contents: bool) -> None:
    """Pass on hints about a directory as long as there are any; scans go on without."""
    try:
        with DirectoryWatch(directory, contents=contents) as watch:
            while True:
                await watch.next_change()
                hint()
    except WatchUnavailable as exc:
        log.warning(LogEvent.HINTS_UNAVAILABLE, detail=str(exc))


async def _then_cancel(wait: Callable[[], Awaitable[object]], tasks: TaskGroup) -> None:
    await wait()
    tasks.cancel_scope.cancel()
