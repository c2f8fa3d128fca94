"""A simulated USB in real time, on which nobody waits for a device to start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.dfu.bus import SimBus

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.device import SimDfu

_START_S: Final = 1.0
"""Longer than any simulated device takes from power to its place on the bus."""


class LiveBus(SimBus):
    """A bus whose devices are there as soon as they are plugged in."""

    def __init__(self) -> None:
        self._skipped = 0.0
        super().__init__(clock=lambda: time.monotonic() + self._skipped, sleep=time.sleep)

    def plug(self, device: SimDfu, *port: int) -> None:
        """Plug a device in, and let its start be over."""
        super().plug(device, *port)
        self._skipped += _START_S
