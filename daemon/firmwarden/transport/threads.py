"""Blocking calls on ports, each in a thread of its own.

Opening, closing and moving the lines of a port can block for seconds when a chip or its driver is in trouble.  In a
pool a few such ports would keep all others waiting; a thread that waits costs next to nothing.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def start_thread(work: Callable[[], object]) -> None:
    """Run ``work`` in a thread that does not keep the process alive."""
    threading.Thread(target=work, name="firmwarden-port", daemon=True).start()


async def in_own_thread(work: Callable[[], T], discard: Callable[[T], object] | None = None) -> T:
    """Return what ``work`` returns in a thread of its own.

    A thread cannot be cancelled, so cancelling leaves it behind; what it returns in the end goes to ``discard``,
    again in a thread.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on cancelling the task does not touch it

    def run() -> None:
        try:
            result.set_result(work())
        except Exception as exc:  # noqa: BLE001  (raised in the task that waits for it)
            result.set_exception(exc)

    def drop(unwanted: Future[T]) -> None:
        if discard is not None and unwanted.exception() is None:
            start_thread(lambda: discard(unwanted.result()))

    start_thread(run)
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        result.add_done_callback(drop)
        raise
