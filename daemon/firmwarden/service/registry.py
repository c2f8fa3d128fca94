"""Who is here: the roll of the last scan, matched with the devices that the store knows.

A scan is the truth and replaces what was believed before (invariant 7).  New units are recorded, known ones get
their port and the instant at which they came noted; what is ambiguous stays a conflict until the ports or the
configuration say more.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import anyio
import structlog

from firmwarden.errors import StoreError
from firmwarden.events import LogEvent
from firmwarden.model import TcpAddress, UsbAddress
from firmwarden.service.identity import Conflict, Presence, Roll, roll

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.model import Address, ClassName, Device, DeviceId, Sighting
    from firmwarden.service.clock import Clock
    from firmwarden.service.identity import ClassRule
    from firmwarden.service.running import OwnWord
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()


class Registry:
    """The devices that are here now."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        rules: Sequence[ClassRule],
        labels: Mapping[ClassName, str] | None = None,
    ) -> None:
        """Start with nobody here.

        Args:
            store: what is known of devices.
            clock: dates comings.
            rules: how units of each class are recognised.
            labels: by class, the template of its units' labels with the fields class, serial, port, place and id.
        """
        self._store = store
        self._clock = clock
        self._rules = rules
        self._labels = labels or {}
        self.scanned = False
        """True once a scan was taken."""
        self.as_of = -inf
        """Boot clock when the latest scan began."""
        self.behind = False
        """True while the latest scan could not be made, or not be recorded: who is here now is not known."""
        self.plugged_at: dict[DeviceId, float] = {}
        """Devices that are here, each with the instant at which it came, or 0 when it was there at the start."""
        self.conflicts: tuple[Conflict, ...] = ()
        self._here: dict[DeviceId, Presence] = {}
        self._told: dict[DeviceId, Presence] = {}
        """Who was told to be here."""
        self._beside: dict[Sighting, frozenset[DeviceId]] = {}
        """What every scan has found for some time, each with the devices whose application ran elsewhere meanwhile."""
        self._under_way: AbstractSet[DeviceId] = frozenset()
        self._sightings: tuple[Sighting, ...] | None = None
        self._wanted = anyio.Event()

    def configure(self, rules: Sequence[ClassRule], labels: Mapping[ClassName, str]) -> None:
        """Put other rules in force with the next scan."""
        self._rules = rules
        self._labels = labels
        self.look_again()

    @property
    def conflicts_of_known(self) -> dict[DeviceId, str]:
        """Known devices that may be meant by a conflict, each with the conflict in words."""
        return {device: conflict.detail for conflict in self.conflicts for device in conflict.devices}

    @property
    def running(self) -> dict[DeviceId, OwnWord | None]:
        """Devices whose application was seen, each with what that tells of itself, if anything."""
        return {device: presence.word for device, presence in self._here.items() if presence.running}

    @property
    def in_loader(self) -> frozenset[DeviceId]:
        """Devices whose loader was seen."""
        return frozenset(device for device, presence in self._here.items() if presence.in_loader)

    def address(self, device: DeviceId) -> Address | None:
        """Where a device is, or None when it is not here."""
        presence = self._here.get(device)
        if presence is None:
            return None
        address = presence.sighting.address
        # A tty may have another name before the attempt is over, and a place on the USB another unit.
        if isinstance(address, TcpAddress):
            return address
        return replace(address, usb=presence.sighting.usb)

    def look_again(self) -> None:
        """Take the next scan even if it looks like the last."""
        self._sightings = None
        self._wanted.set()

    async def wanted(self) -> None:
        """Wait until somebody wants a scan before its time."""
        await self._wanted.wait()
        self._wanted = anyio.Event()

    async def take(
        self,
        sightings: tuple[Sighting, ...],
        *,
        began: float | None = None,
        under_way: AbstractSet[DeviceId] = frozenset(),
    ) -> list[DeviceId] | None:
        """Take a scan; returns the devices that came, or None when nothing changed.

        Args:
            sightings: all that it found.
            began: boot clock when it began; None is now.
            under_way: devices that may come and go of themselves, into their loader and back; that they are gone is
                told only when they stay away afterwards.

        Raises:
            StoreError: it could not be recorded; nothing changed.
        """
        began = self._clock.boot() if began is None else began
        # A device that stays away after its attempt may be behind a loader that is there unchanged.
        riddles = any(conflict.place for conflict in self.conflicts)
        if sightings == self._sightings and not (riddles and under_way != self._under_way):
            self.as_of, self.behind = began, False
            self._tell_who_is_here(self._here, under_way)
            return None
        now = self._clock.wall()
        try:
            taken, here = await self._store.run(
                lambda ledger: self._record(ledger, sightings, under_way, now)
            )
        except StoreError:
            self.behind = True
            raise
        self._sightings = sightings
        self._under_way = frozenset(under_way)
        running = frozenset(device for device, presence in here.items() if presence.running)
        self._beside = {sighting: self._beside.get(sighting, frozenset()) | running for sighting in sightings}
        came = [device for device in here if device not in self._here]
        self._tell_who_is_here(here, under_way)
        self._tell_conflicts(taken.conflicts)
        came_at = now if self.scanned else 0.0
        self.plugged_at = {device: self.plugged_at.get(device, came_at) for device in here}
        self.conflicts = taken.conflicts
        self._here = here
        self.as_of, self.behind = began, False
        self.scanned = True
        return came

    def _record(
        self,
        ledger: Ledger,
        sightings: tuple[Sighting, ...],
        under_way: AbstractSet[DeviceId],
        now: float,
    ) -> tuple[Roll, dict[DeviceId, Presence]]:
        known = {device.id: device for device in ledger.devices()}
        # Where a driver has a device it is not lost, and what was there while it ran is another.
        others = {sighting: self._beside.get(sighting, frozenset()) | under_way for sighting in sightings}
        taken = roll(self._rules, sightings, known.values(), others=others)
        still_here = {presence.known for presence in taken.present}
        for device_id in self._here.keys() - still_here:
            if device_id in known:
                gone = known[device_id]
                ledger.seen(device_id, port=gone.port, serial=gone.serial, label=gone.label, now=now)
        here: dict[DeviceId, Presence] = {}
        for presence in taken.present:
            if presence.known is None:
                device = ledger.enroll(
                    presence.device_class,
                    presence.key,
                    label="",
                    port=presence.port,
                    serial=presence.serial,
                    now=now,
                )
            else:
                device = known[presence.known]
            label = self._label(device, presence)
            if presence.known not in self._here or label != device.label or presence.port != device.port:
                ledger.seen(device.id, port=presence.port, serial=presence.serial, label=label, now=now)
            if isinstance(presence.sighting.address, UsbAddress):
                self._displace(ledger, device.id, presence, known.values())
            here[device.id] = presence
        return taken, here

    @staticmethod
    def _displace(ledger: Ledger, here: DeviceId, presence: Presence, known: Iterable[Device]) -> None:
        """Look for nobody else of a class in its loader where one is now.

        But for those that were left half done: should a loader turn up there, it may well be theirs.
        """
        for device in known:
            same = (device.device_class, device.port) == (presence.device_class, presence.port)
            if same and device.id != here and device.complete is not False:
                ledger.displaced(device.id, presence.port)

    def _label(self, device: Device, presence: Presence) -> str:
        template = self._labels.get(presence.device_class)
        if template is None:
            return ""
        return template.format(
            **{
                "class": presence.device_class,
                "serial": presence.serial,
                "port": presence.port,
                "place": PurePosixPath(presence.port).name,
                "id": device.id,
            }
        )

    def _tell_who_is_here(self, here: Mapping[DeviceId, Presence], under_way: AbstractSet[DeviceId]) -> None:
        for device in [one for one in self._told if one not in here and one not in under_way]:
            presence = self._told.pop(device)
            log.info(
                LogEvent.DEVICE_GONE,
                device=device,
                device_class=presence.device_class,
                port=str(presence.sighting.address),
            )
        for device, presence in here.items():
            if device not in self._told:
                event = LogEvent.DEVICE_APPEARED if presence.known is not None else LogEvent.DEVICE_ENROLLED
                log.info(
                    event,
                    device=device,
                    device_class=presence.device_class,
                    port=str(presence.sighting.address),
                    identity=presence.key,
                )
        self._told.update(here)

    def _tell_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        for conflict in conflicts:
            if conflict not in self.conflicts:
                log.warning(LogEvent.DEVICE_CONFLICT, port=", ".join(conflict.ports), detail=conflict.detail)
        ports = {conflict.ports for conflict in conflicts}
        for conflict in self.conflicts:
            if conflict.ports not in ports:
                log.info(LogEvent.CONFLICT_SETTLED, port=", ".join(conflict.ports))
