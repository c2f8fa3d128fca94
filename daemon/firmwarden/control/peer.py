"""Who is at the other end of a connection: the kernel tells it for a unix socket (unix(7)), an address for TCP."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.service.people import looked_up, name_of

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request

_UCRED: Final = struct.Struct("=iII")
"""struct ucred of Linux: pid, uid, gid."""

_SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h, since Linux 4.13; Python has no name for it."""

_GID: Final = struct.Struct("=I")
_LARGEST_ANSWER: Final = 1024
"""Bytes, the most that Python's ``getsockopt`` gives: 256 groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A process of this machine, as it was when it connected."""

    uid: int
    gids: frozenset[int]
    complete: bool = True
    """Whether these are all of its groups; else only the first is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Whoever can reach our TCP port."""

    host: str


Peer = User | Remote


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Tell who is at the other end; does not block."""
    connected: socket.socket = transport.get_extra_info("socket")
    if connected.family != socket.AF_UNIX:
        return Remote(host=transport.get_extra_info("peername")[0])
    _, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        raw = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST_ANSWER)
    except OSError:  # ERANGE: there are more; ENOPROTOOPT: the kernel does not tell
        return User(uid=uid, gids=frozenset({gid}), complete=False)
    return User(uid=uid, gids=frozenset({gid, *(each for (each,) in _GID.iter_unpack(raw))}))


async def completed(user: User) -> User:
    """Return the user with all groups: those in which the user database has it, where the kernel could not tell."""
    if user.complete:
        return user
    return await looked_up(lambda: replace(user, gids=user.gids | _groups(user.uid), complete=True), user)


async def who(request: Request) -> str:
    """Return who sent this request, for the record."""
    peer: Peer = request.state.peer
    match peer:
        case User():
            return await name_of(peer.uid)
        case Remote():
            return f"token from {peer.host}"
        case _:
            assert_never(peer)


def _groups(uid: int) -> frozenset[int]:
    entry = pwd.getpwuid(uid)
    return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
