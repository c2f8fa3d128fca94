"""An asyncio loop on virtual time: when nothing is ready, the clock jumps to the next timer.

Hours of back-off pass in microseconds, and the same run has the same clock readings each time.  What runs on it
must neither use threads nor wait for descriptors.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from _typeshed import FileDescriptorLike

T = TypeVar("T")


class Stalled(Exception):
    """Nothing is ready and no timer is set: what is waited for can never come."""


class _Jumping(selectors.DefaultSelector):
    """A selector that never waits but moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stalled
            self.now += max(timeout, 0.0)
        return ready

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return super().register(fileobj, events, data)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end on a virtual loop of its own."""
    return anyio.run(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})


class LoopClock:
    """The service's clocks, on whatever clock the tasks run by."""

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self.epoch = epoch

    def wall(self) -> float:
        return self.epoch + anyio.current_time()

    def boot(self) -> float:
        return anyio.current_time()
