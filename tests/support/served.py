"""The control API on a real unix socket, in a thread of its own, so that blocking clients can be tested."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from firmwarden.control.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firmwarden.control.desk import Desk


class Served:
    """A running API: where it is, and how to reach into its event loop."""

    def __init__(self, path: Path, call: Callable[..., object], stop: Callable[[], object]) -> None:
        self.path = path
        self.call = call
        """Runs a function in the event loop's thread."""
        self.stop = stop
        """Stops the server as the daemon does, and returns when it is gone."""


@contextmanager
def served(desk: Desk, path: Path) -> Iterator[Served]:
    """Serve ``desk`` at ``path`` while the context lasts."""
    with start_blocking_portal("asyncio") as portal:
        task, scope = portal.start_task(serve, desk, path)

        def stop() -> None:
            portal.call(scope.cancel)
            task.result(timeout=10)

        yield Served(path, portal.call, stop)
        stop()
