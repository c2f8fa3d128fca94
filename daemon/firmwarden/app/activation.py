"""Sockets that the service manager opened before it started us: sd_listen_fds(3).

So nobody finds the socket missing while the daemon starts, or is started anew.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from firmwarden.control.listeners import CONTROL, PAGE
from firmwarden.errors import SocketUnavailable

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START"""


def inherited_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Take over the sockets that are meant for this process, by their names; several may have the same.

    The variables are removed: they mean nothing to the commands that the daemon runs.

    Raises:
        SocketUnavailable: one is of another name than ``control`` and ``page``, or nobody can connect to it.
    """
    count, process, names = (environment.pop(f"LISTEN_{name}", "") for name in ("FDS", "PID", "FDNAMES"))
    if process != str(os.getpid()):
        return {}
    found: dict[str, list[socket.socket]] = {}
    named = names.split(":")
    for number in range(int(count)):
        name = named[number] if number < len(named) else ""
        inherited = _socket(_FIRST_DESCRIPTOR + number)
        if name not in {CONTROL, PAGE}:
            raise SocketUnavailable(
                f"The service manager passed a socket by the name {name!r}. Name it in its unit: "
                f"FileDescriptorName={CONTROL} or {PAGE}."
            )
        found.setdefault(name, []).append(inherited)
    return found


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - as it is called
    try:
        inherited = socket.socket(fileno=descriptor)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise SocketUnavailable(f"The service manager passed what is no socket: {exc.strerror}.") from exc
    if inherited.type != socket.SOCK_STREAM or not listens:
        raise SocketUnavailable(
            "The service manager passed a socket to which nobody can connect. In its unit it is a ListenStream=, "
            "with Accept=no."
        )
    return inherited
