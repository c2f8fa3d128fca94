"""A simulated device behind a port in memory, on the clock of whatever backend the test runs on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from firmwarden.drivers.entry import TOUCH_BAUD
from firmwarden.errors import OpenFailed, PortHeld, StoreError
from firmwarden.model import SerialAddress, TcpAddress
from firmwarden.simulate.client import SimClient
from firmwarden.simulate.line import Link as PortState
from support.memory_link import MemoryLink, MemoryPeer, memory_pair

if TYPE_CHECKING:
    from collections import Counter

    from anyio.abc import TaskStatus

    from firmwarden.model import Attempt, CommitMark
    from firmwarden.protocol.mdfu.packet import Command
    from firmwarden.simulate.settings import DeviceSettings

ADDRESS = SerialAddress(path="/dev/simulated")


class SimulatedPort:
    """Owns the device; ``open`` is an ``OpenLink``."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.client = SimClient(settings)
        self.holder: str | None = None
        """Whoever else has the port."""
        self.links: list[MemoryLink] = []
        self.bauds: list[int] = []
        """At which it was opened."""
        self._peer: MemoryPeer | None = None
        self._opened = anyio.Event()
        self._touching: set[MemoryPeer] = set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Be the device."""
        self.client.power_on(anyio.current_time())
        task_status.started()
        losses = 0
        while True:
            wake_at = self.client.wake_at
            heard: tuple[MemoryPeer, bytes] | None = None
            with anyio.CancelScope(deadline=math.inf if wake_at is None else wake_at):
                heard = await self._hear()
            now = anyio.current_time()
            if heard is None:
                said = self.client.poll(now)
            elif heard[1]:
                said = self.client.feed(heard[1], now)
            else:
                self._let_go(heard[0], now)
                continue
            if self._peer is not None and said:
                await self._peer.send(said)
            if self.client.link_losses != losses:
                losses = self.client.link_losses
                if self._peer is not None:
                    await self._peer.hang_up()
                    self._hung_up()

    async def _hear(self) -> tuple[MemoryPeer, bytes]:
        while self._peer is None:
            await self._opened.wait()
        peer = self._peer
        return peer, await peer.receive()

    def _let_go(self, peer: MemoryPeer, now: float) -> None:
        if peer in self._touching:
            self._touching.remove(peer)
            self.client.touch(now)
        if self._peer is peer:
            self._hung_up()

    def _hung_up(self) -> None:
        self._peer = None
        self._opened = anyio.Event()

    async def open(self, address: SerialAddress | TcpAddress, *, patience_s: float = 2.0) -> MemoryLink:
        give_up_at = anyio.current_time() + patience_s
        await anyio.sleep(0.001)  # and meanwhile the device notices that an earlier link was closed
        while self.client.link is PortState.DOWN:
            if anyio.current_time() >= give_up_at:
                raise OpenFailed(f"{address}: No such file or directory")
            await anyio.sleep(0.1)
        if self.holder is not None:
            raise PortHeld(str(address), self.holder)
        link, self._peer = memory_pair(self.client.settings.baud)
        self._opened.set()
        self.links.append(link)
        if isinstance(address, SerialAddress):
            self.bauds.append(address.baud)
            if address.baud == TOUCH_BAUD:
                self._touching.add(self._peer)
        return link


@dataclass
class RecordingJournal:
    """Remembers what was made durable, and what the device had executed by then."""

    port: SimulatedPort
    entries: list[tuple[str, Counter[Command | int]]] = field(default_factory=list)
    fails_at: str | None = None
    unfinished: Attempt | None = None
    entered: bool = False

    async def entering(self) -> None:
        raise AssertionError("MDFU does not tell when it leaves its application")

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        assert mark is None, "MDFU has nothing to tell the next attempt"
        await self._write("erase-starting")

    async def ending(self, mark: CommitMark | None = None) -> None:
        assert mark is None, "MDFU has nothing to tell the next attempt"
        await self._write("ending")

    @property
    def names(self) -> list[str]:
        return [name for name, _executed in self.entries]

    async def _write(self, name: str) -> None:
        await anyio.sleep(0.01)
        if name == self.fails_at:
            raise StoreError("the disk is full")
        self.entries.append((name, self.port.client.commands.copy()))
