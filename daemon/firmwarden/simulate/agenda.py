"""What a simulated device has still to do, ordered by time; the device's only notion of a clock."""

from __future__ import annotations

import heapq
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Life(IntEnum):
    """What an item on the agenda does not outlive."""

    RUN = 0
    """The next reset or loss of power."""
    LINK = 1
    """The next loss of the port."""
    UNIT = 2
    """Nothing."""


class Agenda:
    """Calls to be made at given times, in order; those of equal time in the order they were entered."""

    __slots__ = ("_generations", "_items", "_number")

    def __init__(self) -> None:
        self._items: list[tuple[float, int, Life, int, Callable[[float], None]]] = []
        self._generations = [0, 0, 0]
        self._number = 0

    @property
    def next_at(self) -> float | None:
        """When there is something to do, None if never."""
        return self._items[0][0] if self._items else None

    def add(self, when: float, life: Life, call: Callable[[float], None]) -> None:
        """Enter a call; it is given the time for which it was entered."""
        self._number += 1
        heapq.heappush(self._items, (when, self._number, life, self._generations[life], call))

    def strike_out(self, life: Life) -> None:
        """Forget what was entered for this life."""
        self._generations[life] += 1

    def run(self, now: float) -> None:
        """Make the calls that are due, and those that they enter if they are due as well."""
        while self._items and self._items[0][0] <= now:
            when, _, life, generation, call = heapq.heappop(self._items)
            if generation == self._generations[life]:
                call(when)
