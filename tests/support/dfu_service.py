"""The whole service for one simulated DFU device on virtual time, from the store to the control pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from firmwarden.drivers.dfu import DfuDriver
from firmwarden.model import Sighting, UsbAddress
from firmwarden.service.identity import ClassRule
from support.dfu_bench import APPLICATION
from support.dfu_ports import PLACE, SimulatedUsb
from support.virtual_service import CLASS, Story

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.model import Address, Device, Job
    from firmwarden.simulate.dfu.chip import SavedChip
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated

_LOST_FOR_S = 1.0
"""How long a device is without power, whose power failed."""


class _Place:
    """Where the device is plugged in; it lives longer than any loop or host."""

    def __init__(self, usb: SimulatedUsb) -> None:
        self.usb = usb
        self.changed: Callable[[], None] = lambda: None
        self._lived = 0.0
        self._dark_since: float | None = None

    def start(self) -> None:
        self.usb.offset = self._lived - anyio.current_time()
        if self._lived == 0.0:
            self.usb.device.plug(self.usb.now())

    def stop(self) -> None:
        self._lived = self.usb.now()

    def sightings(self) -> tuple[Sighting, ...]:
        """Return what a scan finds; somebody sees to the power meanwhile."""
        device = self.usb.device
        seen = self.usb.see()
        if device.powered or device.wake_at is not None:
            self._dark_since = None
        elif self._dark_since is None:
            self._dark_since = self.usb.now()
        elif self.usb.now() - self._dark_since > _LOST_FOR_S:
            device.power_on(self.usb.now())
        if seen is None:
            return ()
        return (Sighting(address=UsbAddress(topology=PLACE), usb=seen.facts),)


class DfuStory(Story):
    """One device, one release, and a host that may die.

    Args:
        settings: of the device.
        device_class: of the driver.
        image: the release.
        chip: what the device holds, where that is not what its settings say.
        database: None for one in memory.
    """

    def __init__(
        self,
        settings: Simulated,
        device_class: DfuSettings,
        image: bytes,
        chip: SavedChip | None = None,
        database: Path | None = None,
    ) -> None:
        self.usb = SimulatedUsb(settings)
        if chip is not None:
            self.usb.device.chip.load(chip)
        self._device_class = device_class
        self._place = _Place(self.usb)
        self.database = database
        self.image = image
        self.commits = self.refused = 0
        self.kill_before = self.kill_after = None
        self.refuse = lambda _number: None
        self.port = self._place  # type: ignore[assignment]  # all that is asked of it is the same
        self._dead = False
        self._tried = 0
        self._poke = lambda: None

    def rule(self) -> ClassRule:
        (loader,) = self._device_class.loader
        return ClassRule(name=CLASS, dfu=True, usb=APPLICATION, loader=loader)

    def holds_it(self) -> bool:
        boot = self.usb.device.boot
        return boot is not None and boot.firmware is not None and boot.firmware.name == "new"

    def _driver(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        del device
        assert isinstance(address, UsbAddress)
        return DfuDriver(self._device_class, address, journal, ports=self.usb, expected_version=job.version)
