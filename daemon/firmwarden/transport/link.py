"""What a driver needs of a way to a device.

Every implementation passes the same conformance suite, ``tests/transport``; so does the link in memory on which
drivers are tested against a fake clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from firmwarden.model import StreamAddress
    from firmwarden.protocol.machine import Machine, Milestone

INBOX_LIMIT: Final = 64 * 1024
"""Bytes kept while nobody asks for them.  A peer that speaks only when asked never comes near; what a babbling one says
beyond is dropped."""

OPEN_PATIENCE_S: Final = 2.0
"""How long opening is tried: the kernel announces a port before udev has given it its permissions."""


class Link(Protocol):
    """An open way to a device.  One task uses it at a time."""

    async def converse(self, machine: Machine) -> Milestone:
        """Run ``machine`` until its next milestone, by the duties that ``protocol/machine.py`` lists.

        Cancelling breaks the link, since half a frame may have left; nothing more is sent.

        Raises:
            AttemptFailed: the machine gave up.
            LinkLost: the link broke.
        """

    async def send(self, data: bytes) -> None:
        """Send bytes that no machine knows of.

        Raises:
            LinkLost: the link broke.
        """

    async def receive(self) -> bytes:
        """Return what has come, at least one byte; cancelling loses nothing.

        Raises:
            LinkLost: the link broke, and all that came before has been returned.
        """

    def discard_input(self) -> None:
        """Forget what has come so far."""

    async def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Set the modem control lines; None leaves one as it is.

        Raises:
            LinkError: the link has no such lines, or it broke.
        """

    async def aclose(self) -> None:
        """Break the link at once: what has not left is dropped.  Takes a bounded time, also while cancelled."""


class OpenLink(Protocol):
    """Opens the way to a device."""

    async def __call__(self, address: StreamAddress, *, patience_s: float = OPEN_PATIENCE_S) -> Link:
        """Open ``address``, trying for ``patience_s`` while it is not there or not yet permitted.

        Raises:
            PortHeld: somebody else has it; that is not waited for.
            OpenFailed: it could not be opened.
        """
