"""The two clocks of the service, as one thing that a test can replace.

Durations come from the boot-time clock, which runs on during suspend and never jumps.  The wall clock only
dates what is stored; no battery-backed clock is assumed, so a stored instant may lie in the future and whoever
reads one clamps it.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

SET_S: Final = 1.0
"""A clock that is off by less is not set but made to go faster or slower: adjtime(3)."""


class Clock(Protocol):
    """Reads time; does not wait."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may jump."""

    def boot(self) -> float:
        """Seconds since some fixed instant; never jumps, counts suspend."""


class Reckoning:
    """The wall clock as it would be if nobody had set it, for what lasts for a time and is stored with its end."""

    def __init__(self, clock: Clock) -> None:
        """Begin with the wall clock as it is."""
        self._clock = clock
        self._ahead_s = clock.wall() - clock.boot()

    def now(self) -> float:
        """Seconds since the epoch, UTC, by this reckoning."""
        return self._clock.boot() + self._ahead_s

    def set_by(self) -> float:
        """By how much the wall clock was set since; small corrections are left to add up."""
        seconds = self._clock.wall() - self.now()
        return seconds if abs(seconds) >= SET_S else 0.0

    def follow(self, seconds: float) -> None:
        """Follow the wall clock by so much: what was stored did."""
        self._ahead_s += seconds


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()

    def boot(self) -> float:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
