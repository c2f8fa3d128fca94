"""A link in memory: runs on any anyio backend, so on trio's fake clock, and passes the conformance suite of links.

Its ``converse`` is the shell as one would write it first, one scope for each answer.  It is the yardstick for the one
that runs in callbacks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import anyio

from firmwarden.errors import LinkLost
from firmwarden.protocol.machine import Machine, Milestone, Quiet, Receive, Send

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


class MemoryPeer:
    """The device's end."""

    def __init__(
        self, sending: MemoryObjectSendStream[bytes], receiving: MemoryObjectReceiveStream[bytes]
    ) -> None:
        self._sending = sending
        self._receiving = receiving

    async def send(self, data: bytes) -> None:
        await self._sending.send(data)

    async def receive(self) -> bytes:
        """Return what has come; empty when the host is gone."""
        try:
            return await self._receiving.receive()
        except anyio.EndOfStream:
            return b""

    async def hang_up(self) -> None:
        self._sending.close()
        self._receiving.close()


class MemoryLink:
    """The host's end."""

    def __init__(
        self, sending: MemoryObjectSendStream[bytes], receiving: MemoryObjectReceiveStream[bytes]
    ) -> None:
        self._sending = sending
        self._receiving = receiving
        self.lines: list[tuple[bool | None, bool | None]] = []
        self.closed = False

    async def converse(self, machine: Machine) -> Milestone:
        deadline = math.inf
        try:
            while True:
                match machine.next_event():
                    case Send(data=data, timeout_s=timeout_s, delay_s=delay_s):
                        await anyio.sleep(delay_s)
                        await self.send(data)
                        deadline = anyio.current_time() + timeout_s
                    case Receive():
                        with anyio.CancelScope(deadline=deadline) as scope:
                            machine.receive(await self.receive())
                        if scope.cancelled_caught:
                            machine.timed_out()
                    case Quiet() as quiet:
                        await self._hush(quiet)
                    case Milestone() as milestone:
                        return milestone
                    case unreachable:
                        assert_never(unreachable)
        except anyio.get_cancelled_exc_class():
            self._break()
            raise

    async def _hush(self, quiet: Quiet) -> None:
        self.discard_input()
        ends = anyio.current_time() + quiet.longest_s
        while True:
            now = anyio.current_time()
            with anyio.CancelScope(deadline=min(now + quiet.duration_s, ends)) as scope:
                await self.receive()
            if scope.cancelled_caught:
                return

    async def send(self, data: bytes) -> None:
        try:
            await self._sending.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise LinkLost("hung up") from exc

    async def receive(self) -> bytes:
        try:
            return await self._receiving.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError) as exc:
            raise LinkLost("hung up") from exc

    def discard_input(self) -> None:
        while True:
            try:
                self._receiving.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                return

    async def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        self.lines.append((dtr, rts))

    async def aclose(self) -> None:
        self._break()

    def _break(self) -> None:
        self.closed = True
        self._sending.close()
        self._receiving.close()


def memory_pair() -> tuple[MemoryLink, MemoryPeer]:
    """Return both ends of a new link."""
    to_peer, from_host = anyio.create_memory_object_stream[bytes](math.inf)
    to_host, from_peer = anyio.create_memory_object_stream[bytes](math.inf)
    return MemoryLink(to_peer, from_peer), MemoryPeer(to_host, from_host)
