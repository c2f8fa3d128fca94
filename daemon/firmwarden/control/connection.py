"""One connection: who is there, whether there is room, and how long the peer may take.

uvicorn waits without end for a request that does not end and for a peer that does not read, and accepts any number of
connections.  Here each kind of peer has places of its own, and whoever lets us wait is cut.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from uvicorn.protocols.http.h11_impl import H11Protocol

from firmwarden.control.access import Standing
from firmwarden.control.peer import peer_of
from firmwarden.control.problems import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send
    from uvicorn import Config
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from firmwarden.control.access import Access

PLACES: Final[Mapping[Standing, int]] = {
    Standing.ACTS: 64,
    Standing.READS: 32,
    Standing.STRANGER: 8,
    Standing.REMOTE: 32,
}
"""Connections at once.  None of these can take the places of the others, least of all of those who give orders."""

SPARE: Final = 8
"""So many more of each kind are told that there is no room; what goes beyond is dropped at once."""

HEAD_S: Final = 10.0
"""How long a request's head may take, from its first byte, or from the beginning of the connection."""

STALL_S: Final = 10.0
"""How often it is looked whether the peer gives or takes anything."""

LEAST: Final = 10 * 1024
"""Bytes of a body, in that time.  The slowest mobile network does ten times as much."""

LARGEST_HEAD: Final = 16 * 1024
"""Bytes; what comes at once may be a little more."""

_GONE_MS: Final = 30_000
"""When a peer on the network that acknowledges nothing is given up; the kernel by itself takes a quarter of an hour."""

_CLOSE: Final = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class _Progress:
    """What the peer has done so far, as far as we wait for it."""

    sending: RequestResponseCycle | None
    """The request of which it sends the body."""
    given: int
    """Bytes received."""
    reading: int | None
    """The number of the jam that it is to clear by reading."""
    left: int
    """Bytes that it has not taken."""

    def too_little_since(self, before: _Progress) -> bool:
        """Tell whether a peer that we waited for all the time has let us wait."""
        if self.sending is not None and self.sending is before.sending:
            # Of a body that nobody reads any more the rest is swallowed, but not for ever.
            return self.given - before.given < LEAST or self.sending.response_complete
        return self.reading is not None and self.reading == before.reading and before.left - self.left < LEAST


class Connection(H11Protocol):
    """HTTP/1.1 with one peer.

    It puts into the state of each request: ``peer``, ``crowded`` (there was no place left) and ``abort``, a way to
    drop the connection.  uvicorn copies ``app_state`` there.
    """

    def __init__(
        self, access: Access, config: Config, server_state: ServerState, taken: set[Connection]
    ) -> None:
        """Begin without a peer.

        Args:
            access: the rules in force.
            config: of the server.
            server_state: shared by all connections, as ``taken`` is.
            taken: those that have a place.
        """
        super().__init__(config=config, server_state=server_state, app_state={})
        self._access = access
        self._taken = taken
        self._application = self.app
        self.app = self._answer
        self._answers = False
        self._given = 0
        self._jams = 0
        self._head: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self.standing = Standing.STRANGER
        self.lost: Final = anyio.Event()
        """Set when nothing is left of it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who is there; called by the event loop."""
        super().connection_made(transport)
        peer = peer_of(transport)
        self.standing = self._access.rules.standing(peer)
        self._taken.add(self)
        alike = sum(each.standing is self.standing for each in self._taken)
        places = PLACES[self.standing]
        if alike > places + SPARE:
            transport.abort()
            return
        self.app_state = {"peer": peer, "crowded": alike > places, "abort": transport.abort}
        # All that the kernel does not take is a jam, of which we are told at once.
        transport.set_write_buffer_limits(high=0)
        if self.standing is Standing.REMOTE:
            connected: socket.socket = transport.get_extra_info("socket")
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_MS)
        self._head = self.loop.call_later(HEAD_S, transport.abort)
        self._look = self.loop.call_later(STALL_S, self._look_again, self._progress())

    def data_received(self, data: bytes) -> None:
        """Take what came, and mind how long the head of a request takes."""
        self._given += len(data)
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or self._is_busy():
            self._head_is_whole()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Count the jams, so that one that lasts can be told from a new one."""
        self._jams += 1
        super().pause_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._head_is_whole()
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)
        self.lost.set()
        self._leave()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP.  uvicorn's own would raise in the middle of another answer."""
        if self._is_busy():
            self.transport.abort()
            return
        answer = problem(
            400, f"{msg} HTTP/1.1 is spoken here, with heads of at most {LARGEST_HEAD} bytes.", _CLOSE
        )
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, bytes(answer.body)))
        self.transport.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._answers = True
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops and has waited for long enough; uvicorn would log it as a defect.  Nobody awaits us.
            pass
        finally:
            self._answers = False
            self._leave()

    def _leave(self) -> None:
        """Give the place back when nothing is done here any more.

        Who goes away does not take along what was asked for: that waits for the store and holds memory like any other.
        """
        if self.lost.is_set() and not self._answers:
            self._taken.discard(self)

    def _is_busy(self) -> bool:
        """Tell whether a request is being received or answered.

        Of a body that outlasts its answer uvicorn does not say when it has ended, so it counts until the next request.
        """
        return bool(self.cycle) and (self.cycle.more_body or not self.cycle.response_complete)

    def _head_is_whole(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _look_again(self, before: _Progress) -> None:
        now = self._progress()
        if now.too_little_since(before):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(STALL_S, self._look_again, now)

    def _progress(self) -> _Progress:
        sends = (
            bool(self.cycle)
            and self.cycle.more_body
            and not (self.flow.read_paused or self.cycle.waiting_for_100_continue)
        )
        return _Progress(
            sending=self.cycle if sends else None,
            given=self._given,
            reading=self._jams if self.flow.write_paused else None,
            left=self.transport.get_write_buffer_size(),
        )
