"""Simulated devices for a real kernel: behind USB/IP, on TCP or attached to this machine's virtual host controller.

Everything happens in callbacks and small tasks of one event loop.  Only control transfers are carried, which is all
that DFU has.  A transfer that the device does not answer, or holds back, never keeps the next message from being
read: the kernel gives a transfer back to its program only when the unlink is confirmed.

*Resets of the port* are not carried by USB/IP.  But after one, and before any other request, Linux asks the device
for 64 bytes of its device descriptor (drivers/usb/core/hub.c, hub_port_init); of a device that is configured it
never asks that otherwise.  So that is taken for the reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.engine import Withheld
from firmwarden.simulate.dfu.identity import DEVICE
from firmwarden.simulate.dfu.report import write_report
from firmwarden.simulate.dfu.usbip import (
    BUS_ID_SIZE,
    COMMAND_SIZE,
    FULL_SPEED,
    OPERATION_SIZE,
    REQUEST_LIST,
    BadMessage,
    Submit,
    Unlink,
    decode_command,
    decode_operation,
    device_id,
    encode_done,
    encode_import,
    encode_list,
    encode_unlinked,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, StreamReader, StreamWriter, TimerHandle
    from collections.abc import Callable, Iterable, Mapping

    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.dfu.description import DescribedDevice
    from firmwarden.simulate.dfu.identity import Identity

_REPORT_PAUSE_S: Final = 0.1
_ATTACH_PAUSE_S: Final = 0.05
_ADDRESSES: Final = 127
_RESET_ASKS_FOR: Final = 64
_GET_DESCRIPTOR, _SET_CONFIGURATION = 6, 9

_LOST: Final = (asyncio.IncompleteReadError, ConnectionError, BadMessage)


class HostController(Protocol):
    """Has ports that devices can be attached to."""

    def attach(self, port: int, device: socket.socket, address: int) -> None:
        """Attach what answers at a socket to a port, the first of which has number 1.

        Raises:
            OSError: it cannot be done; EBUSY: not yet, because the port is not done with what was there.
        """


class Vhci:
    """The virtual host controller of this kernel (module ``vhci_hcd``)."""

    DIRECTORY: Final = Path("/sys/devices/platform/vhci_hcd.0")

    def attach(self, port: int, device: socket.socket, address: int) -> None:
        """See `HostController`."""
        words = (port - 1, device.fileno(), device_id(address), FULL_SPEED)
        (self.DIRECTORY / "attach").write_text(" ".join(map(str, words)))


class _Place:
    """A device at its port, and whoever has it."""

    def __init__(
        self,
        device: SimDfu,
        port: tuple[int, ...],
        loop: AbstractEventLoop,
        appeared: Callable[[_Place], None],
    ) -> None:
        self.device = device
        self.port = port
        self.connection: _Connection | None = None
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


class _Connection:
    """Carries the transfers of a device, for as long as it stays as it was imported."""

    def __init__(self, place: _Place, reader: StreamReader, writer: StreamWriter) -> None:
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
        except _LOST:
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


class UsbipFront:
    """All devices of one process.

    Args:
        devices: what to simulate.
        notify: is told, as plain data, what happens to each device.
        endpoint: host and port to listen at.
        controller: to which each device is attached whenever it appears, at the port that it is described for.
        report: file that always tells the state of all devices.

    Raises:
        ValueError: a device cannot be as it is described.
    """

    def __init__(
        self,
        devices: Iterable[DescribedDevice],
        notify: Callable[[dict[str, object]], None] = lambda _event: None,
        *,
        endpoint: tuple[str, int] | None = None,
        controller: HostController | None = None,
        report: Path | None = None,
    ) -> None:
        self._notify = notify
        self._endpoint = endpoint
        self._controller = controller
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._report_timer: TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._open: set[StreamWriter] = set()
        self._places = [
            _Place(
                SimDfu(each.settings(), partial(self._happened, each.name)),
                each.port,
                self._loop,
                self._appeared,
            )
            for each in devices
        ]

    async def serve(self, stop: asyncio.Event) -> None:
        """Plug all devices in, and answer until told to stop.

        Raises:
            OSError: nobody can be listened to at that endpoint.
        """
        async with contextlib.AsyncExitStack() as stack:
            address = None
            if self._endpoint is not None:
                server = await asyncio.start_server(self._connected, *self._endpoint)
                stack.callback(server.close)
                address = ":".join(map(str, server.sockets[0].getsockname()[:2]))
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(self._close)
            devices = [{"name": place.device.settings.name, "bus_id": place.bus_id} for place in self._places]
            self._notify({"event": "ready", "address": address, "devices": devices})
            for place in self._places:
                place.device.plug(self._loop.time())
                place.settle()
            self._write_report()
            await stop.wait()

    def unplug(self, name: str) -> None:
        """Pull the cable of a device; raises ValueError where there is none of this name."""
        place = self._place(name)
        place.device.unplug(self._loop.time())
        place.settle()

    def plug(self, name: str, port: tuple[int, ...] | None = None) -> None:
        """Put a cable in again, elsewhere if a port is named; raises ValueError for one that is not free."""
        place = self._place(name)
        if any(other.port == port for other in self._places if other is not place):
            raise ValueError(f"port {'.'.join(map(str, port or ()))} is not free")
        if port is not None and port != place.port and place.device.powered:
            place.device.unplug(self._loop.time())
            place.settle()
        place.port = port or place.port
        place.device.plug(self._loop.time())
        place.settle()

    # --- inside ------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> _Place:
        for place in self._places:
            if place.device.settings.name == name:
                return place
        raise ValueError(f"there is no device {name!r}")

    def _appeared(self, place: _Place) -> None:
        if self._controller is not None and self._tasks is not None:
            self._tasks.create_task(self._attach(place, self._controller))

    async def _attach(self, place: _Place, controller: HostController) -> None:
        """Attach a device, and be it for as long as it is what appeared now."""
        generation = place.device.generation
        ours, theirs = socket.socketpair()
        with theirs:
            while not self._is_attached(place, controller, theirs):
                await asyncio.sleep(_ATTACH_PAUSE_S)
                if not place.shows(generation):
                    ours.close()
                    return
        await self._carry(place, generation, *await asyncio.open_unix_connection(sock=ours))

    def _is_attached(self, place: _Place, controller: HostController, device: socket.socket) -> bool:
        details: dict[str, object] = {}
        try:
            controller.attach(place.port[-1], device, place.address)
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                return False
            details = {"error": str(exc)}
        self._tell("attached", place.device.settings.name, self._loop.time(), details)
        return True

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._tasks is None:
            writer.close()
        else:
            self._tasks.create_task(self._receive(reader, writer))

    async def _receive(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer the requests that come before a device is imported, and then be the device."""
        self._open.add(writer)
        try:
            code = decode_operation(await reader.readexactly(OPERATION_SIZE))
            if code == REQUEST_LIST:
                shown = [place.shown() for place in self._places]
                writer.write(encode_list([each for each in shown if each is not None]))
                return
            bus_id = (await reader.readexactly(BUS_ID_SIZE)).rstrip(b"\x00").decode("ascii", "replace")
            place = next((each for each in self._places if each.bus_id == bus_id), None)
            found = place.shown() if place is not None and place.connection is None else None
            writer.write(encode_import(found))
            if place is not None and found is not None:
                await self._carry(place, place.device.generation, reader, writer)
        except _LOST:
            pass
        finally:
            self._open.remove(writer)
            writer.close()

    async def _carry(
        self, place: _Place, generation: int, reader: StreamReader, writer: StreamWriter
    ) -> None:
        if not place.shows(generation):
            writer.close()
            return
        name = place.device.settings.name
        self._tell("imported", name, self._loop.time(), {"bus_id": place.bus_id})
        await _Connection(place, reader, writer).run()
        self._tell("released", name, self._loop.time(), {})

    def _happened(self, name: str, event: SimEvent) -> None:
        self._tell(event.kind, name, event.at, event.details)
        if self._report is not None and self._report_timer is None:
            self._report_timer = self._loop.call_later(_REPORT_PAUSE_S, self._write_report)

    def _tell(self, kind: str, name: str, at: float, details: Mapping[str, object]) -> None:
        self._notify({"event": kind, "device": name, "t": round(at - self._began_at, 6), **details})

    def _write_report(self) -> None:
        self._report_timer = None
        if self._report is not None:
            write_report(self._report, [place.device for place in self._places])

    def _close(self) -> None:
        self._tasks = None
        for place in self._places:
            place.close()
        for writer in self._open:
            writer.close()
        if self._report_timer is not None:
            self._report_timer.cancel()
        self._write_report()


def _follows_a_reset(setup: Setup) -> bool:
    return (setup.request, setup.value, setup.length) == (_GET_DESCRIPTOR, DEVICE << 8, _RESET_ASKS_FOR)
