"""Simulated devices whose option bytes are to be set, on the bus, over pyusb's interface."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.app.named_usb import UsbTarget, UsbWay
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.lister import SimLister
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.dfu.work import Cut, When
from firmwarden.transport.usb import UsbBus
from support.dfu_bus import LiveBus
from support.dfu_simulated import image, settings

if TYPE_CHECKING:
    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.dfu.chip import EraseOptions, ProgramOption
    from firmwarden.simulate.dfu.parts import Part
    from firmwarden.simulate.dfu.work import Moment

L476: Final = PARTS["stm32l476"]
BFB2: Final = 1 << 20


class OptionBench:
    """A USB with one device in the loader in its ROM, for BOOT0 is high."""

    def __init__(self, part: Part = L476, **more: object) -> None:
        self.bus = LiveBus()
        self.usb = UsbBus(SimLister(self.bus), lambda: SimBackend(self.bus))
        old = image("old", part, 6000)
        what = settings(part, old, boot0=True, boot_s=0.02, flash_time=0.0)
        self.device = SimDfu(replace(what, **more), self._hear)  # type: ignore[arg-type]
        self.chip = self.device.chip
        self.factory = self.chip.stored
        self.bus.plug(self.device, 1)
        self._has_power_back = False

    def _hear(self, event: SimEvent) -> None:
        """Give power back, a little after it went."""
        if event.kind == "power-lost" and not self._has_power_back:
            self._has_power_back = True
            self.device.unplug(event.at, back_s=0.05)

    def cut(self, operation: type[EraseOptions | ProgramOption], when: When, *, skip: int = 0) -> None:
        """Cut the power at an operation on the option bytes."""
        left = skip

        def watch(moment: Moment) -> Cut | None:
            nonlocal left
            if not isinstance(moment.operation, operation):
                return None
            left -= 1
            return Cut(when) if left < 0 else None

        self.device.watcher = watch

    @property
    def options(self) -> int:
        """FLASH_OPTR, as it is stored."""
        return int.from_bytes(self.chip.stored[:4], "little")

    def way(self) -> UsbWay:
        """Find the device."""
        (seen,) = self.usb.scan()
        return UsbWay(UsbTarget(ids=(seen.facts.vendor_id, seen.facts.product_id)), seen, self.usb)
