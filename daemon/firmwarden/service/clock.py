"""The two clocks of the service, as one thing that a test can replace.

Durations come from the boot-time clock, which runs on during suspend and never jumps.  The wall clock only
dates what is stored; no battery-backed clock is assumed, so a stored instant may lie in the future and whoever
reads one clamps it.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Reads time; does not wait."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may jump."""

    def boot(self) -> float:
        """Seconds since some fixed instant; never jumps, counts suspend."""


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()

    def boot(self) -> float:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
