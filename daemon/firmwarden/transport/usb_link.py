"""What a driver sees of the USB: what is plugged in where, and an open control pipe to it.

A device is known by its place on the bus.  Everything else about it may change when it goes into its loader and comes
back: its address always, its ids and serial number often.  So whoever waits for it looks at the place, again and
again, and opens what came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from firmwarden.model import UsbFacts
    from firmwarden.protocol.dfu.conversation import Control, Reply, SelectAlternate


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbSeen:
    """A device as it shows itself at one place, without having been opened (invariant 4)."""

    facts: UsbFacts
    """With the place; no interface."""
    address: int
    """Its number on the bus: another one after each appearance."""
    configuration: bytes
    """Descriptor of the configuration in use (else the first), with all that follows it."""


class UsbLink(Protocol):
    """An open control pipe, with one interface claimed for this process alone.

    Nothing here raises for what a device or a cable does: a conversation gets ``Trouble`` instead of an answer.
    """

    @property
    def seen(self) -> UsbSeen:
        """What was opened."""

    async def transfer(self, ask: Control) -> Reply:
        """Make a control transfer.  Cancelling waits for its end: a thread in libusb cannot be left behind."""

    async def select(self, ask: SelectAlternate) -> Reply:
        """Select an alternate setting."""

    async def reset(self) -> None:
        """Reset the port, whatever comes of it; nothing but ``aclose`` may follow."""

    async def aclose(self) -> None:
        """Let go of it; never raises, and asks nothing of the device."""


class UsbPorts(Protocol):
    """All places of all buses."""

    async def look(self, topology: str) -> UsbSeen | None:
        """Return what is plugged in there now, None when nothing is or it is just coming; opens nothing."""

    async def open(self, seen: UsbSeen, interface: int) -> UsbLink:
        """Open a device that was seen, if it is still the same; tries for a little while, as long as it is there.

        Raises:
            OpenFailed: it is gone or another one, this user may not use it, or there is no libusb.
            PortHeld: another program has the interface.
        """
