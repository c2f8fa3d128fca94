"""The control API on a real unix socket, in a thread of its own, so that blocking clients can be tested."""

from __future__ import annotations

import grp
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from anyio.from_thread import start_blocking_portal

from firmwarden.control.access import Access, Rules
from firmwarden.control.listeners import open_listeners
from firmwarden.control.server import serve
from firmwarden.model import TcpAddress, UnixGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firmwarden.control.desk import Desk


MINE: Final = UnixGroup(name=grp.getgrgid(os.getegid()).gr_name, gid=os.getegid())
"""The group as which the tests run."""


class Served:
    """A running API: where it is, and how to reach into its event loop."""

    def __init__(
        self,
        path: Path,
        port: int,
        access: Access,
        call: Callable[..., object],
        stop: Callable[[], object],
    ) -> None:
        self.path = path
        self.port = port
        """Of 127.0.0.1; 0 without one."""
        self.access = access
        self.call = call
        """Runs a function in the event loop's thread."""
        self.stop = stop
        """Stops the server as the daemon does, and returns when it is gone."""


@contextmanager
def served(desk: Desk, path: Path, *, rules: Rules | None = None, tcp: bool = False) -> Iterator[Served]:
    """Serve ``desk`` at ``path``, and on TCP too if asked to, while the context lasts."""
    access = Access(rules or Rules(act_group=MINE))
    listeners = open_listeners(path, TcpAddress(host="127.0.0.1", port=0) if tcp else None, {})
    listeners.admit(access.rules)
    port = listeners.sockets[-1].getsockname()[1] if tcp else 0
    with start_blocking_portal("asyncio") as portal:
        task, scope = portal.start_task(serve, desk, access, listeners)

        def stop() -> None:
            portal.call(scope.cancel)
            task.result(timeout=10)

        yield Served(path, port, access, portal.call, stop)
        stop()
