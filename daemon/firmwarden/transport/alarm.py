"""A deadline that moves with every answer, on as few timers of the event loop as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Alarm:
    """Calls ``ring`` once when the time set last has come.

    Setting and cancelling a timer for every chunk of an update costs more than decoding the answer.  Here a timer
    that is due too early stays where it is, finds at its time that the deadline has moved, and goes there.
    """

    __slots__ = ("_loop", "_ring", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Ring at ``when`` on the loop's clock instead of whatever was set before."""
        self._when = when
        if self._timer is None:
            self._timer = self._loop.call_at(when, self._due)
        elif self._timer.when() > when:
            self._timer.cancel()
            self._timer = self._loop.call_at(when, self._due)

    def clear(self) -> None:
        """Do not ring."""
        self._when = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._when is None:
            return
        if self._when > self._loop.time():
            self._timer = self._loop.call_at(self._when, self._due)
            return
        self._when = None
        self._ring()
