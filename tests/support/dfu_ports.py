"""Simulated DFU devices on the USB as drivers see it, on the clock of whatever backend the test runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from firmwarden.errors import OpenFailed, PortHeld
from firmwarden.model import (
    UsbAddress,
    UsbFacts,
)
from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.engine import Withheld
from firmwarden.transport.usb_link import UsbSeen

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.protocol.dfu.conversation import Control, Reply, SelectAlternate
    from firmwarden.simulate.dfu.settings import DfuSettings

PLACE = "1-1"


class SimulatedUsb:
    """A `UsbPorts` with one device.

    Attributes:
        device: the device; another may be plugged in instead.
        links: every link that was opened.
        transfers: how many control transfers were made.
        holder: another program that has the interface.
        locked: this user may not open it.
        before: is called before each control transfer, with its number.
        offset: of the device's time, which goes on when one loop ends and another begins.
    """

    def __init__(self, settings: DfuSettings) -> None:
        self.device = SimDfu(settings)
        self.offset = 0.0
        self.links: list[SimulatedLink] = []
        self.transfers = 0
        self.log: list[Control | SelectAlternate] = []
        self.holder: str | None = None
        self.locked = False
        self.before: Callable[[int], None] = lambda _number: None

    @property
    def address(self) -> UsbAddress:
        """The place, with what is there now."""
        seen = self.see()
        return UsbAddress(topology=PLACE, usb=seen.facts if seen else None)

    def now(self) -> float:
        """Return the device's time."""
        return anyio.current_time() + self.offset

    def see(self) -> UsbSeen | None:
        """Return what is there now."""
        self.device.poll(self.now())
        identity = self.device.identity
        if identity is None:
            return None
        facts = UsbFacts(
            vendor_id=identity.vendor,
            product_id=identity.product,
            serial=identity.serial or None,
            topology=PLACE,
            port=f"usb-simulated-{PLACE}",
            manufacturer=identity.manufacturer,
            product=identity.name,
            revision=identity.revision,
        )
        return UsbSeen(facts=facts, address=self.device.generation, configuration=identity.configuration())

    async def look(self, topology: str) -> UsbSeen | None:
        """Return what is there."""
        assert topology == PLACE
        await anyio.lowlevel.checkpoint()
        return self.see()

    async def open(self, seen: UsbSeen, interface: int) -> SimulatedLink:
        """Open it."""
        await anyio.lowlevel.checkpoint()
        now = self.see()
        if now is None or now.address != seen.address:
            raise OpenFailed(f"usb:{PLACE}: No such device")
        if self.locked:
            raise OpenFailed(f"usb:{PLACE}: permission denied")
        if self.holder is not None:
            raise PortHeld(f"usb:{PLACE}", self.holder)
        assert all(link.closed for link in self.links), "one driver opens one device once at a time"
        assert self.device.identity is not None
        assert self.device.identity.dfu is not None
        assert interface == self.device.identity.dfu.number
        link = SimulatedLink(self, seen)
        self.links.append(link)
        return link


class SimulatedLink:
    """An open pipe to what was at the place when it was opened."""

    def __init__(self, usb: SimulatedUsb, seen: UsbSeen) -> None:
        self.closed = False
        self._usb = usb
        self._seen = seen

    @property
    def seen(self) -> UsbSeen:
        """What was opened."""
        return self._seen

    async def transfer(self, ask: Control) -> Reply:
        """Make a control transfer, for as long as the device holds it back."""
        return await self._make(ask, ask.setup, ask.data, ask.timeout_s)

    async def select(self, ask: SelectAlternate) -> Reply:
        """Select an alternate setting."""
        setup = Setup(request_type=1, request=11, value=ask.setting, index=ask.interface, length=0)
        return await self._make(ask, setup, b"", 5.0)

    async def _make(
        self, ask: Control | SelectAlternate, setup: Setup, data: bytes, timeout_s: float
    ) -> Reply:
        assert not self.closed
        usb = self._usb
        usb.before(usb.transfers)
        usb.transfers += 1
        usb.log.append(ask)
        await anyio.lowlevel.checkpoint()
        deadline = usb.now() + timeout_s
        while True:
            if not self._is_there():
                return Trouble.GONE
            reply = usb.device.control(setup, data, usb.now())
            if reply is Trouble.TIMED_OUT:
                await anyio.sleep(deadline - usb.now())
            if not isinstance(reply, Withheld):
                return reply
            await anyio.sleep(min(reply.until, deadline) - usb.now())
            if reply.until > deadline:
                return Trouble.TIMED_OUT

    async def reset(self) -> None:
        """Reset the port."""
        await anyio.lowlevel.checkpoint()
        if self._is_there():
            self._usb.device.bus_reset(self._usb.now())

    async def aclose(self) -> None:
        """Let go."""
        self.closed = True

    def _is_there(self) -> bool:
        now = self._usb.see()
        return now is not None and now.address == self._seen.address
