"""A simulated device behind the product's own ``Channel``, on the running loop's clock and without a descriptor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from firmwarden.errors import OpenFailed
from firmwarden.model import SerialAddress, Sighting
from firmwarden.simulate.client import SimClient
from firmwarden.simulate.line import Link as PortState
from firmwarden.transport.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import TcpAddress
    from firmwarden.simulate.settings import DeviceSettings


class _Wire(asyncio.Transport):
    """The host's transport: what is written is heard by the device at once."""

    def __init__(self, port: VirtualPort) -> None:
        super().__init__()
        self._port = port
        self._closing = False
        self.channel = Channel(str(port.address), baud=None, margin_s=0.02)
        self.channel.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._port.heard(self, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self.hang_up(None)

    def hang_up(self, why: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._port.forget(self)
            asyncio.get_running_loop().call_soon(self.channel.connection_lost, why)


class VirtualPort:
    """Owns the device; ``open`` is an ``OpenLink``.  The device lives longer than any loop or host."""

    def __init__(self, settings: DeviceSettings, changed: Callable[[], None] = lambda: None) -> None:
        self.client = SimClient(settings)
        self.address = SerialAddress(path=f"/dev/{settings.name}")
        self.changed = changed
        """Told when the port came or went."""
        self.heard_bytes = 0
        self.said_bytes = 0
        self._wire: _Wire | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._losses = 0
        self._was_here = False
        self._offset: float | None = None
        self._lived = 0.0

    def start(self) -> None:
        """Go on living on the running loop; the first time, switch the device on."""
        self._offset = self._lived - asyncio.get_running_loop().time()
        if self.client.boots == 0 and self._lived == 0.0:
            self.client.power_on(self._now())
        self._settle()

    def stop(self) -> None:
        """Let go of the running loop; the device keeps its state, and its host is gone."""
        self._lived = self._now()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wire = None

    def sightings(self) -> tuple[Sighting, ...]:
        """What a scan of ports would find."""
        return () if self.client.link is PortState.DOWN else (Sighting(address=self.address),)

    async def open(self, address: SerialAddress | TcpAddress, *, patience_s: float = 2.0) -> Channel:
        give_up_at = anyio.current_time() + patience_s
        while self.client.link is PortState.DOWN:
            if anyio.current_time() >= give_up_at:
                raise OpenFailed(f"{address}: No such file or directory")
            await anyio.sleep(0.1)
        assert self._wire is None, "a port is opened by one at a time"
        self._wire = _Wire(self)
        return self._wire.channel

    def heard(self, wire: _Wire, data: bytes) -> None:
        if wire is self._wire:
            self.heard_bytes += len(data)
            self._say(self.client.feed(data, self._now()))
            self._settle()

    def forget(self, wire: _Wire) -> None:
        if wire is self._wire:
            self._wire = None

    def _now(self) -> float:
        assert self._offset is not None
        return asyncio.get_running_loop().time() + self._offset

    def _say(self, data: bytes) -> None:
        self.said_bytes += len(data)
        if data and self._wire is not None:
            asyncio.get_running_loop().call_soon(self._deliver, self._wire, data)

    def _deliver(self, wire: _Wire, data: bytes) -> None:
        if wire is self._wire:
            wire.channel.data_received(data)

    def _wake(self) -> None:
        self._timer = None
        wake_at = self.client.wake_at
        self._say(self.client.poll(self._now() if wake_at is None else max(self._now(), wake_at)))
        self._settle()

    def _settle(self) -> None:
        client = self.client
        if client.link_losses != self._losses:
            self._losses = client.link_losses
            if self._wire is not None:
                self._wire.hang_up(OSError(5, "the port hung up"))
        here = client.link is not PortState.DOWN
        if here != self._was_here:
            self._was_here = here
            self.changed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if client.wake_at is not None:
            assert self._offset is not None
            self._timer = asyncio.get_running_loop().call_at(client.wake_at - self._offset, self._wake)
