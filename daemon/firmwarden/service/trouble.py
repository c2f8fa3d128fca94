"""Tells of trouble with the store once, however often it shows, and of its end once that has lasted.

A disk that is nearly full refuses one commit and takes the next; a log with a line for each would fill it up.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import structlog

from firmwarden.events import LogEvent

if TYPE_CHECKING:
    from firmwarden.service.clock import Clock

log = structlog.get_logger()

QUIET_S: Final = 60.0
"""Trouble that comes back sooner is the same."""


class Trouble:
    """What was told of the store's trouble."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed_at = -inf
        """Boot clock."""
        self.told = False
        """Whether its end is still to be told."""

    def failed(self, detail: str) -> None:
        """Take note of a failure."""
        self._failed_at = self._clock.boot()
        if not self.told:
            self.told = True
            log.error(LogEvent.STORE_FAILED, detail=detail)

    def worked(self) -> None:
        """Take note that the store was found to work."""
        if self.told and self._clock.boot() - self._failed_at >= QUIET_S:
            self.told = False
            log.info(LogEvent.STORE_WORKS)
