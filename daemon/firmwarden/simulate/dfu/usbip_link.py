"""A simulated device at a port behind USB/IP, and the connection that carries its transfers.

Only control transfers are carried, which is all that DFU has.  A transfer that the device does not answer, or holds
back, never keeps the next message from being read: the kernel gives a transfer back to its program only when the
unlink is confirmed.

*Resets of the port* are not carried by USB/IP.  But after one, and before any other request, Linux asks the device
for 64 bytes of its device descriptor (drivers/usb/core/hub.c, hub_port_init); of a device that is configured it
never asks that otherwise.  So that is taken for the reset.
"""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.simulate.dfu.engine import Withheld
from firmwarden.simulate.dfu.identity import DEVICE
from firmwarden.simulate.dfu.usbip import (
    COMMAND_SIZE,
    BadMessage,
    Submit,
    Unlink,
    decode_command,
    encode_done,
    encode_unlinked,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, StreamReader, StreamWriter, TimerHandle
    from collections.abc import Callable

    from firmwarden.simulate.dfu.device import SimDfu
    from firmwarden.simulate.dfu.identity import Identity

LOST: Final = (asyncio.IncompleteReadError, ConnectionError, BadMessage)
"""What ends a connection."""

_ADDRESSES: Final = 127
_RESET_ASKS_FOR: Final = 64
_GET_DESCRIPTOR, _SET_CONFIGURATION = 6, 9


class Place:
    """A device at its port, and whoever has it."""

    def __init__(
        self,
        device: SimDfu,
        port: tuple[int, ...],
        loop: AbstractEventLoop,
        appeared: Callable[[Place], None],
    ) -> None:
        self.device = device
        self.port = port
        self.connection: Connection | None = None
        self._loop = loop
        self._appeared = appeared
        self._generation = device.generation
        self._timer: TimerHandle | None = None
        self._closed = False

    @property
    def bus_id(self) -> str:
        """As USB/IP calls the place."""
        return f"1-{'.'.join(map(str, self.port))}"

    @property
    def address(self) -> int:
        """Another one for each appearance."""
        return 1 + self.device.generation % _ADDRESSES

    def shown(self) -> tuple[str, int, Identity] | None:
        """What it is on the bus as, None when it is not there."""
        identity = self.device.identity
        return None if identity is None else (self.bus_id, self.address, identity)

    def shows(self, generation: int) -> bool:
        """Tell whether it is still as it appeared then."""
        return not self._closed and self.device.present and self.device.generation == generation

    def settle(self) -> None:
        """Follow the device: is it there, is it still the same, when does it want to be woken."""
        device = self.device
        if self.connection is not None and not self.shows(self._generation):
            self.connection.close()
            self.connection = None
        wake_at = device.wake_at
        if self._timer is not None and self._timer.when() != wake_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and wake_at is not None:
            self._timer = self._loop.call_at(wake_at, self._wake, wake_at)
        if device.present and device.generation != self._generation:
            self._generation = device.generation
            self._appeared(self)

    def close(self) -> None:
        """Do nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.connection is not None:
            self.connection.close()

    def _wake(self, wake_at: float) -> None:
        self._timer = None
        # A loop's timers may be early by the resolution of its clock.
        self.device.poll(max(self._loop.time(), wake_at))
        self.settle()


class Connection:
    """Carries the transfers of a device, for as long as it stays as it was imported."""

    def __init__(self, place: Place, reader: StreamReader, writer: StreamWriter) -> None:
        self._place = place
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, TimerHandle | None] = {}
        self._configured = False

    async def run(self) -> None:
        """Answer until either side closes it."""
        self._place.connection = self
        try:
            while True:
                await self._next()
        except LOST:
            pass
        finally:
            self.close()
            if self._place.connection is self:
                self._place.connection = None

    def close(self) -> None:
        """Pull the cable; what was answered still goes out."""
        for timer in self._pending.values():
            if timer is not None:
                timer.cancel()
        self._pending.clear()
        self._writer.close()

    async def _next(self) -> None:
        command = decode_command(await self._reader.readexactly(COMMAND_SIZE))
        match command:
            case Submit():
                data = b"" if command.inward else await self._reader.readexactly(command.length)
                self._submit(command, data)
            case Unlink(victim=victim):
                known = victim in self._pending
                timer = self._pending.pop(victim, None)
                if timer is not None:
                    timer.cancel()
                self._send(encode_unlinked(command, -errno.ECONNRESET if known else 0))
            case unreachable:
                assert_never(unreachable)

    def _submit(self, command: Submit, data: bytes) -> None:
        if command.endpoint:
            self._send(encode_done(command, -errno.EPIPE))
            return
        setup = Setup.decode(command.setup)
        if (setup.request_type, setup.request) == (0, _SET_CONFIGURATION):
            self._configured = True
        elif self._configured and _follows_a_reset(setup):
            self._configured = False
            self._place.device.bus_reset(self._loop.time())
        self._transfer(command, setup, data, self._loop.time())

    def _transfer(self, command: Submit, setup: Setup, data: bytes, now: float) -> None:
        self._pending.pop(command.number, None)
        reply = self._place.device.control(setup, data, now)
        match reply:
            case bytes():
                self._send(encode_done(command, data=reply))
            case Trouble.STALL:
                self._send(encode_done(command, -errno.EPIPE))
            case Trouble.BROKEN:
                self._send(encode_done(command, -errno.EPROTO))
            case Trouble.TIMED_OUT:
                self._pending[command.number] = None
            case Trouble.GONE:
                self.close()
            case Withheld(until=until):
                again = partial(self._again, command, setup, data, until)
                self._pending[command.number] = self._loop.call_at(until, again)
            case unreachable:
                assert_never(unreachable)
        self._place.settle()

    def _again(self, command: Submit, setup: Setup, data: bytes, until: float) -> None:
        self._transfer(command, setup, data, max(self._loop.time(), until))

    def _send(self, message: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(message)


def _follows_a_reset(setup: Setup) -> bool:
    return (setup.request, setup.value, setup.length) == (_GET_DESCRIPTOR, DEVICE << 8, _RESET_ASKS_FOR)
