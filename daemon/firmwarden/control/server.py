"""The server of the API, inside the daemon's own task group.

uvicorn is made to run as a program: its server takes over signals, looks ten times a second whether it should stop, and
waits for open responses without end.  Here only its HTTP is used: signals are the composition root's, the server waits
for its cancellation, ends the event streams first and drops what has not ended soon after.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Final

import anyio
import uvicorn
from anyio import TASK_STATUS_IGNORED, CancelScope
from uvicorn.server import ServerState

from firmwarden.control.access import Guard
from firmwarden.control.app import make_app
from firmwarden.control.connection import LARGEST_HEAD, Connection

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from firmwarden.control.access import Access
    from firmwarden.control.desk import Desk
    from firmwarden.control.listeners import Listeners

STOP_S: Final = 1.0
"""How long a request may still take when the daemon stops."""

_CUT_S: Final = 0.2
"""How long the answer to a peer that was cut may take to notice."""


async def serve(
    desk: Desk,
    access: Access,
    listeners: Listeners,
    *,
    task_status: TaskStatus[CancelScope] = TASK_STATUS_IGNORED,
) -> None:
    """Serve the API until cancelled; ``task_status`` gets a scope that stops it alone, once it listens.

    When this returns or is cancelled no connection is left and the listeners are closed.
    """
    stopping = anyio.Event()
    config = uvicorn.Config(
        Guard(make_app(desk, stopping), access),
        http="h11",
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="error",  # a warning tells of what a client did wrong, and anybody could fill the log with it
        access_log=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    taken: set[Connection] = set()
    with closing(listeners):
        try:
            for listener in listeners.sockets:
                servers.append(  # noqa: PERF401 - those that were made are closed if one cannot be
                    await loop.create_server(lambda: Connection(access, config, state, taken), sock=listener)
                )
            with CancelScope() as scope:
                task_status.started(scope)
                await anyio.sleep_forever()
        finally:
            for server in servers:
                server.close()
            # Streams never end by themselves: told first, they end cleanly and nobody waits for them.
            stopping.set()
            with CancelScope(shield=True):
                await _end(state)


async def _end(state: ServerState) -> None:
    """Let what is under way come to its end, within bounds."""
    connections = [each for each in state.connections if isinstance(each, Connection)]
    for connection in connections:
        connection.shutdown()
    with anyio.move_on_after(STOP_S):
        for connection in connections:
            await connection.lost.wait()
    for connection in connections:
        connection.transport.abort()
    if state.tasks:
        _, stuck = await asyncio.wait(state.tasks, timeout=_CUT_S)
        for task in stuck:
            task.cancel()
