"""Simulated devices for a real kernel: behind USB/IP, on TCP or attached to this machine's virtual host controller.

Everything happens in callbacks and small tasks of one event loop.  Each appearance of a device is imported, or
attached, anew: a cable that is pulled is a connection that is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.report import write_report
from firmwarden.simulate.dfu.usbip import (
    BUS_ID_SIZE,
    FULL_SPEED,
    OPERATION_SIZE,
    REQUEST_LIST,
    decode_operation,
    device_id,
    encode_import,
    encode_list,
)
from firmwarden.simulate.dfu.usbip_link import LOST, Connection, Place

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter, TimerHandle
    from collections.abc import Callable, Iterable, Mapping

    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.dfu.description import DescribedDevice

_REPORT_PAUSE_S: Final = 0.1
_ATTACH_PAUSE_S: Final = 0.05


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
            Place(
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
        if port is not None and len(port) > 1 and self._controller is not None:
            raise ValueError("the host controller has no hubs")
        if any(other.port == port for other in self._places if other is not place):
            raise ValueError(f"port {'.'.join(map(str, port or ()))} is not free")
        if port is not None and port != place.port and place.device.powered:
            place.device.unplug(self._loop.time())
            place.settle()
        place.port = port or place.port
        place.device.plug(self._loop.time())
        place.settle()

    # --- inside ------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> Place:
        for place in self._places:
            if place.device.settings.name == name:
                return place
        raise ValueError(f"there is no device {name!r}")

    def _appeared(self, place: Place) -> None:
        if self._controller is not None and self._tasks is not None:
            self._tasks.create_task(self._attach(place, self._controller))

    async def _attach(self, place: Place, controller: HostController) -> None:
        """Attach a device, and be it for as long as it is what appeared now."""
        generation = place.device.generation
        name = place.device.settings.name
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_attached, theirs:
            unless_attached.callback(ours.close)
            while True:
                try:
                    controller.attach(place.port[-1], theirs, place.address)
                    break
                except OSError as exc:
                    if exc.errno != errno.EBUSY:
                        self._tell("not-attached", name, self._loop.time(), {"why": str(exc)})
                        return
                await asyncio.sleep(_ATTACH_PAUSE_S)
                if not place.shows(generation):
                    return
            unless_attached.pop_all()
        self._tell("attached", name, self._loop.time(), {})
        await self._carry(place, generation, *await asyncio.open_unix_connection(sock=ours))

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
        except LOST:
            pass
        finally:
            self._open.remove(writer)
            writer.close()

    async def _carry(self, place: Place, generation: int, reader: StreamReader, writer: StreamWriter) -> None:
        if not place.shows(generation):
            writer.close()
            return
        name = place.device.settings.name
        self._tell("imported", name, self._loop.time(), {"bus_id": place.bus_id})
        await Connection(place, reader, writer).run()
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
