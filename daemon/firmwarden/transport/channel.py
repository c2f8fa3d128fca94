"""A link over an asyncio transport: runs protocol machines inside the callback that brings the bytes.

A task with a cancel scope for each answer, the natural way to write this, costs twice to three times as much per chunk
as a callback does: the answer wakes a future, the future a task, the task a scope.  So the task waits for a milestone
only, and between two of them ``data_received`` and one alarm do all there is to do.

States while a machine runs: *awaiting* an answer (the alarm is its deadline), *holding* a frame back (the alarm is
when to send it), or *hushing* (the alarm is the end of the quiet time).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

import anyio

from firmwarden.errors import LinkError, LinkLost
from firmwarden.protocol.machine import Milestone, Quiet, Receive, Send
from firmwarden.transport.alarm import Alarm
from firmwarden.transport.link import INBOX_LIMIT

if TYPE_CHECKING:
    from firmwarden.protocol.machine import Machine

BACKLOG_LIMIT: Final = 256 * 1024
"""Unsent bytes at which the peer counts as stuck: one frame of the largest kind, all escaped, is half of that."""

CLOSE_LIMIT_S: Final = 0.4
"""How long closing is waited for; after that it goes on by itself in its thread."""

_BITS_PER_BYTE: Final = 10
"""Start bit, eight data bits, stop bit."""


class Channel(asyncio.Protocol):
    """A ``Link`` made of an asyncio transport.

    Args:
        name: of the peer, for messages.
        baud: line rate; None where bytes take no time worth counting.
        margin_s: what adapters, kernels and networks may add to each answer.
    """

    def __init__(self, name: str, *, baud: int | None, margin_s: float) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._byte_time_s = _BITS_PER_BYTE / baud if baud else 0.0
        self._margin_s = margin_s
        self._transport: asyncio.Transport | None = None
        self._lost: LinkLost | None = None
        self._closed = asyncio.Event()
        self._inbox = bytearray()
        self._wanted: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._loop, self._ring)
        self._machine: Machine | None = None
        self._milestone: asyncio.Future[Milestone] | None = None
        self._held: Send | None = None
        self._hush: Quiet | None = None
        self._hush_ends = 0.0
        self._left_at = 0.0
        """When the last bit of the last frame has left."""

    # --- what drivers call ---------------------------------------------------------------------------

    async def converse(self, machine: Machine) -> Milestone:
        """See ``Link``."""
        self._check()
        self._machine = machine
        self._milestone = self._loop.create_future()
        try:
            self._advance()
            return await self._milestone
        except asyncio.CancelledError:
            self._break(LinkLost(f"{self.name}: the conversation was broken off"))
            raise
        finally:
            self._rest()
            self._milestone = None

    async def send(self, data: bytes) -> None:
        """See ``Link``."""
        self._check()
        self._write(data)

    async def receive(self) -> bytes:
        """See ``Link``."""
        while not self._inbox:
            self._check()
            self._wanted = self._loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        return self._take()

    def discard_input(self) -> None:
        """See ``Link``."""
        self._inbox.clear()

    async def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """See ``Link``."""
        raise LinkError(f"{self.name} has no control lines (DTR {dtr}, RTS {rts} wanted)")

    async def aclose(self) -> None:
        """See ``Link``."""
        self._break(LinkLost(f"{self.name}: closed"))
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await self._closed.wait()

    # --- what the transport calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (both kinds that we open are)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand bytes to whoever wants them."""
        if self._hush is not None:
            self._hush_until_quiet(self._hush)
        elif self._machine is not None and self._held is None:
            self._advance(data)
        else:
            if len(self._inbox) < INBOX_LIMIT:
                self._inbox += data
            if self._wanted is not None and not self._wanted.done():
                self._wanted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lose(exc)
        self._closed.set()

    # --- the shell -----------------------------------------------------------------------------------

    def _advance(self, data: bytes = b"") -> None:
        machine = self._machine
        assert machine is not None  # noqa: S101  (callers looked)
        try:
            if data:
                machine.receive(data)
            while True:
                match machine.next_event():
                    case Receive():
                        if not self._inbox:
                            return
                        machine.receive(self._take())
                    case Send(delay_s=delay_s) as send:
                        if delay_s > 0:
                            self._held = send
                            self._alarm.set(self._loop.time() + delay_s)
                            return
                        self._transmit(send)
                    case Quiet() as hush:
                        self._inbox.clear()
                        self._hush, self._hush_ends = hush, self._quiet_from() + hush.longest_s
                        self._hush_until_quiet(hush)
                        return
                    case Milestone() as milestone:
                        self._finish(milestone)
                        return
                    case unreachable:
                        assert_never(unreachable)
        except Exception as exc:  # noqa: BLE001  (also a defect: raised in the task that converses)
            self._finish(exc)

    def _transmit(self, send: Send) -> None:
        self._write(send.data)
        self._left_at = left_at = self._loop.time() + len(send.data) * self._byte_time_s
        self._alarm.set(left_at + send.answer_size * self._byte_time_s + send.timeout_s + self._margin_s)

    def _quiet_from(self) -> float:
        """The earliest instant from which silence counts: a peer may answer while it still receives the frame."""
        return max(self._loop.time(), self._left_at)

    def _hush_until_quiet(self, hush: Quiet) -> None:
        self._alarm.set(min(self._quiet_from() + hush.duration_s, self._hush_ends))

    def _ring(self) -> None:
        if self._machine is None:
            return
        try:
            if self._held is not None:
                send, self._held = self._held, None
                self._transmit(send)
            elif self._hush is not None:
                self._hush = None
            else:
                self._machine.timed_out()
        except Exception as exc:  # noqa: BLE001  (as in _advance)
            self._finish(exc)
        else:
            self._advance()

    def _finish(self, outcome: Milestone | Exception) -> None:
        self._rest()
        if self._milestone is None or self._milestone.done():
            return
        if isinstance(outcome, Exception):
            self._milestone.set_exception(outcome)
        else:
            self._milestone.set_result(outcome)

    def _rest(self) -> None:
        """Stop running the machine; a late timer or byte finds nothing to do."""
        self._machine = None
        self._held = None
        self._hush = None
        self._alarm.clear()

    # --- bytes ---------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _take(self) -> bytes:
        data = bytes(self._inbox)
        self._inbox.clear()
        return data

    def _write(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None  # noqa: S101  (a channel is handed out with its transport)
        if transport.get_write_buffer_size() + len(data) > BACKLOG_LIMIT:
            self._break(LinkLost(f"{self.name}: the peer takes no more bytes"))
        self._check()
        self._put(transport, data)

    def _put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send what the system takes now and queue the rest."""
        transport.write(data)

    def _break(self, why: Exception) -> None:
        self._lose(why)
        # Aborting twice is more than pyserial-asyncio bears.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def _lose(self, exc: Exception | None) -> None:
        if self._lost is None:
            if isinstance(exc, LinkLost):
                self._lost = exc
            else:
                said = exc.strerror if isinstance(exc, OSError) else None  # without "[Errno 5]"
                self._lost = LinkLost(f"{self.name}: {said or exc or 'the peer closed the connection'}")
                self._lost.__cause__ = exc
        self._finish(self._lost)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
