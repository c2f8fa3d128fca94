"""A link in memory: runs on any anyio backend, so on trio's fake clock, and passes the conformance suite of links.

Its ``converse`` is the shell as one would write it first, one scope for each answer.  It is the yardstick for the one
that runs in callbacks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import assert_never

import anyio
import anyio.lowlevel

from firmwarden.errors import LinkError, LinkLost
from firmwarden.protocol.machine import Machine, Milestone, Quiet, Receive, Send


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._changed = anyio.Event()
        self.closed = False

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._changed.set()

    async def get(self) -> bytes:
        """Return all there is; empty when the pipe is closed and nothing is left."""
        while not self._pieces and not self.closed:
            self._changed = anyio.Event()
            await self._changed.wait()
        return self.take()

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def close(self) -> None:
        self.closed = True
        self._changed.set()


class MemoryPeer:
    """The device's end."""

    def __init__(self, sending: _Pipe, receiving: _Pipe) -> None:
        self._sending = sending
        self._receiving = receiving

    async def send(self, data: bytes) -> None:
        self._sending.put(data)
        await anyio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        """Return what has come; empty when the host is gone."""
        return await self._receiving.get()

    async def hang_up(self) -> None:
        self._sending.close()
        self._receiving.close()


class MemoryLink:
    """The host's end."""

    def __init__(self, sending: _Pipe, receiving: _Pipe, baud: int | None) -> None:
        self._sending = sending
        self._receiving = receiving
        self._byte_time_s = 10 / baud if baud else 0.0
        self.lines: list[tuple[bool | None, bool | None]] = []
        self.has_lines = True
        self.closed = False

    async def converse(self, machine: Machine) -> Milestone:
        deadline, left_at = math.inf, -math.inf
        try:
            while True:
                match machine.next_event():
                    case Send(data=data, timeout_s=timeout_s, answer_size=answer_size, delay_s=delay_s):
                        await anyio.sleep(delay_s)
                        await self.send(data)
                        left_at = anyio.current_time() + len(data) * self._byte_time_s
                        deadline = left_at + answer_size * self._byte_time_s + timeout_s
                    case Receive():
                        with anyio.CancelScope(deadline=deadline) as scope:
                            machine.receive(await self.receive())
                        if scope.cancelled_caught:
                            machine.timed_out()
                    case Quiet() as quiet:
                        await self._hush(quiet, left_at)
                    case Milestone() as milestone:
                        return milestone
                    case unreachable:
                        assert_never(unreachable)
        except anyio.get_cancelled_exc_class():
            self._break()
            raise

    async def _hush(self, quiet: Quiet, left_at: float) -> None:
        self.discard_input()
        ends = max(anyio.current_time(), left_at) + quiet.longest_s
        while True:
            since = max(anyio.current_time(), left_at)
            with anyio.CancelScope(deadline=min(since + quiet.duration_s, ends)) as scope:
                await self.receive()
            if scope.cancelled_caught:
                return

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self._sending.closed:
            raise LinkLost("hung up")
        self._sending.put(data)

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint_if_cancelled()
        data = await self._receiving.get()
        if not data:
            raise LinkLost("hung up")
        return data

    def discard_input(self) -> None:
        self._receiving.take()

    async def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        if not self.has_lines:
            raise LinkError("no control lines")
        self.lines.append((dtr, rts))

    async def aclose(self) -> None:
        self._break()

    def _break(self) -> None:
        self.closed = True
        self._sending.close()
        self._receiving.close()


def memory_pair(baud: int | None = None) -> tuple[MemoryLink, MemoryPeer]:
    """Return both ends of a new link; ``baud`` lengthens the host's deadlines, the peer is as slow as it likes."""
    down, up = _Pipe(), _Pipe()
    return MemoryLink(down, up, baud), MemoryPeer(up, down)
