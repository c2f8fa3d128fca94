"""The API's socket and its server, inside the daemon's own task group.

uvicorn is made to run as a program: it takes over signals, looks ten times a second whether it should stop, and
waits for open responses without end.  Here it is a part: signals are the composition root's, the server waits for
its cancellation, ends the event streams first and drops what has not ended soon after.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import anyio
import uvicorn
from anyio import TASK_STATUS_IGNORED, CancelScope

from firmwarden.control.app import make_app
from firmwarden.control.peer import PeerProtocol
from firmwarden.errors import SocketUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import TaskStatus

    from firmwarden.control.desk import Desk

MODE: Final = 0o660
"""Whoever is in the socket's group may operate the service."""

CONNECTIONS: Final = 64
"""More at once are answered 503, so that a script gone wild cannot take the daemon's file descriptors."""

STOP_S: Final = 1
"""Whole seconds (uvicorn's type) that a request may still take when the daemon stops."""


async def serve(
    desk: Desk, socket_path: Path, *, task_status: TaskStatus[CancelScope] = TASK_STATUS_IGNORED
) -> None:
    """Serve the API until cancelled; ``task_status`` gets a scope that stops it alone, once it listens.

    When this returns or is cancelled no connection is left and the socket's name is gone.

    Raises:
        SocketUnavailable: the socket cannot be opened, or another daemon listens there.
    """
    stopping = anyio.Event()
    config = uvicorn.Config(
        make_app(desk, stopping),
        http=PeerProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        workers=1,  # or $WEB_CONCURRENCY would set it
        limit_concurrency=CONNECTIONS + 1,  # uvicorn refuses from this number on
        timeout_graceful_shutdown=STOP_S,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener, mine = _bind(socket_path)
    with listener:
        try:
            await server.startup(sockets=[listener])
            with CancelScope() as scope:
                task_status.started(scope)
                await anyio.sleep_forever()
        finally:
            with CancelScope(shield=True):
                # Streams never end by themselves: told first, they end cleanly and nobody waits for them.
                stopping.set()
                await server.shutdown(sockets=[listener])
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            _remove(socket_path, mine)


def _bind(path: Path) -> tuple[socket.socket, os.stat_result]:
    """Bind a socket that does not listen yet, so that its mode is right before anybody can connect."""
    with ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(MODE)
            mine = path.stat()
        except OSError as exc:
            # A path beyond the 108 bytes that a socket's name may have comes without an errno.
            detail = exc.strerror or exc
            raise SocketUnavailable(
                f"The control socket {path} cannot be opened: {detail}. Let the daemon's user write into its "
                "directory, or set another `socket`."
            ) from exc
        undo.pop_all()
        return listener, mine


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died; one that lives, and anything else, stays."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketUnavailable(
            f"The control socket {path} cannot be opened: something else has that name. Remove it or set `socket`."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # a full backlog would block; it is a sign of life
        error = probe.connect_ex(str(path))
    if error != errno.ECONNREFUSED:
        detail = "another daemon listens there" if error in (0, errno.EAGAIN) else os.strerror(error)
        raise SocketUnavailable(
            f"The control socket {path} is in use: {detail}. Stop that one, or set another `socket`."
        )
    path.unlink()


def _remove(path: Path, mine: os.stat_result) -> None:
    """Remove our socket, unless somebody has put another in its place."""
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), mine):
            path.unlink()
