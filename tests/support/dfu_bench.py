"""A simulated DFU device at a place on the USB, and drivers for it, one attempt after the other."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import trio.testing

from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu import DfuDriver
from firmwarden.drivers.dfu_settings import DfuSettings
from firmwarden.errors import AttemptFailed
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.model import Phase, UsbAddress
from firmwarden.service.policy import AskAgain, Budgets, History, Retry, decide
from firmwarden.simulate.dfu.appearance import Mode
from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_attempts import Book
from support.dfu_ports import PLACE, SimulatedUsb
from support.dfu_simulated import L476, image
from support.dfu_simulated import settings as simulated
from support.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.drivers.base import Landing as Landed
    from firmwarden.service.policy import Decision
    from firmwarden.simulate.dfu.chip import SavedChip
    from firmwarden.simulate.dfu.firmware import Firmware
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated

APPLICATION: Final = (0x1209, 0x0001)
OWN_LOADER: Final = (0x1209, 0xDF02)

BACKENDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {"loop_factory": VirtualLoop}),
    "trio": ("trio", {}),
}


def backend(name: str) -> tuple[str, dict[str, Any]]:
    """Return a backend whose clock jumps; a clock is good for one run."""
    if name == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return BACKENDS[name]


OLD: Final = image("old", L476, 6000)
NEW: Final = image("new", L476, 5000)
NEXT: Final = image("next", L476, 5500)

RAW_IMAGE: Final = ImageRules(format=ImageFormat.RAW, address=FLASH_BASE, device=True)

CLASS: Final = DfuSettings(
    application=frozenset({APPLICATION}),
    image=RAW_IMAGE,
    failsafe=Failsafe.BFB2,
    declared=True,
    family=family_of("STM32L476RG"),
)
"""Of the device that is `DEVICE`."""

DEVICE: Final = simulated(L476, OLD, NEW, NEXT, factory={"BFB2": 1, "DUALBANK": 1})


def content(firmware: Firmware) -> bytes:
    """Return an image as its file has it."""
    return b"".join(segment.data for segment in firmware.segments)


class UsbBench:
    """A device, its bus and its attempts."""

    def __init__(self, settings: Simulated, device_class: DfuSettings) -> None:
        self.usb = SimulatedUsb(settings)
        self.device = self.usb.device
        self.book = Book()
        self.device_class = device_class
        self.address = UsbAddress(topology=PLACE)

    def driver(self, wanted: Firmware | bytes = NEW, expected: str = "2.0.0", **changes: object) -> DfuDriver:
        """Make the driver of the next attempt."""
        device_class = replace(self.device_class, **changes)  # type: ignore[arg-type]
        journal = self.book.begin(wanted if isinstance(wanted, bytes) else content(wanted))
        return DfuDriver(device_class, self.address, journal, ports=self.usb, expected_version=expected)

    async def update(self, firmware: Firmware = NEW, expected: str = "2.0.0", **changes: object) -> Landed:
        """Make an attempt."""
        return await self.driver(firmware, expected, **changes).update(content(firmware))

    def plug(self, settings: Simulated) -> None:
        """Plug another device in at the place."""
        generation = self.device.generation
        self.device = self.usb.device = SimDfu(settings)
        self.device.generation = generation + 1
        self.device.plug(anyio.current_time())

    @property
    def runs(self) -> str:
        """What runs by now: the name of an image, or of what else came up."""
        boot = self.device.boot
        if self.device.mode is not Mode.RUN_TIME or boot is None:
            return self.device.mode.value
        return boot.firmware.name if boot.firmware else boot.landing.name

    @property
    def erases(self) -> int:
        """How many pages were erased."""
        return sum(self.device.chip.flash.wear)

    async def cycle(self) -> None:
        """Take the power away, give it back, and wait until the device is up."""
        self.device.lose_power(anyio.current_time())
        self.device.power_on(anyio.current_time())
        await anyio.sleep(1)


@asynccontextmanager
async def usb_bench(
    settings: Simulated = DEVICE, device_class: DfuSettings = CLASS, chip: SavedChip | None = None
) -> AsyncGenerator[UsbBench]:
    """A device that has had time to boot; at the end, what no device may ever have seen.

    Args:
        settings: of the device.
        device_class: of the drivers.
        chip: what it holds, where that is not what the settings say.
    """
    at = UsbBench(settings, device_class)
    if chip is not None:
        at.device.chip.load(chip)
    at.device.plug(anyio.current_time())
    await anyio.sleep(1)
    at.address = at.usb.address
    yield at
    assert all(link.closed for link in at.usb.links)
    assert at.device.landings[Landing.PARTIAL] == 0


async def until_done(at: UsbBench, data: bytes, *, attempts: int = 3) -> int:
    """Do as the service does until the update is done; return how many attempts that took.

    The cable and the power are back by then.  Whatever has to wait for a person is an error here.
    """
    for number in range(1, attempts + 1):
        try:
            landing = await at.driver(data).update(data)
            decision: Decision | None = None if landing.confirmed else AskAgain()
        except AttemptFailed as failed:
            decision = decided(failed, at.book.attempts[-1].phase)
        while isinstance(decision, AskAgain):
            await back(at)
            asked = at.book.attempts[-1]
            try:
                settled = await at.driver(data).confirm()
                decision = None if settled.confirmed else AskAgain()
            except AttemptFailed as failed:
                decision = decided(failed, Phase.ENDING)
            at.book.attempts[-1:] = []
            assert at.book.attempts[-1] == asked
        if decision is None:
            return number
        assert isinstance(decision, Retry), decision
        await back(at)
    raise AssertionError(f"not done after {attempts} attempts: {at.book.attempts}")


async def back(at: UsbBench) -> None:
    """Give a device back its power, if it has none, and wait until it is up."""
    await anyio.sleep(2)
    at.device.power_on(anyio.current_time())
    await anyio.sleep(2)


def decided(failed: AttemptFailed, phase: Phase) -> Decision:
    """Ask the policy what follows."""
    history = History(attempts=1, present_s=0.0)
    return decide(failed.cause, phase=phase, history=history, budgets=Budgets(), dice=0.5)
