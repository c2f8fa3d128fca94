"""Who is at the other end: the kernel tells it for a unix socket (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import pwd
import socket
import struct
from typing import TYPE_CHECKING, Final

import anyio
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request

_UCRED: Final = struct.Struct("=iII")
"""struct ucred of Linux: pid, uid, gid."""

_LOOKUP_S: Final = 2.0
"""A user name may come from a directory server; an action does not wait for it longer than this."""


class PeerProtocol(H11Protocol):
    """HTTP that puts the peer's user id, and a way to drop the connection, into the request's state.

    uvicorn copies ``app_state`` into each request's scope.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who is there; called by the event loop."""
        super().connection_made(transport)
        connected: socket.socket = transport.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        self.app_state = {**self.app_state, "uid": uid, "abort": transport.abort}


async def who(request: Request) -> str:
    """Return the name of the user who sent this request."""
    uid: int = request.state.uid
    with anyio.move_on_after(_LOOKUP_S):
        return await anyio.to_thread.run_sync(_name, uid, abandon_on_cancel=True)
    return f"uid {uid}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # e.g. a user of a container
        return f"uid {uid}"
