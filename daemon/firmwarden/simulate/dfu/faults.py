"""Faults that strike at chosen transfers of a simulated DFU device, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.requests import Request


@unique
class Kind(Enum):
    """What happens."""

    STALL = "the request is stalled, for no reason"
    LOST = "the request does not reach the device"
    UNANSWERED = "the device does what it was told, and the host does not hear of it"
    BROKEN = "the transfer breaks"
    SHORT = "half of the answer comes"
    LIE = "the poll time-out in the answer is another"
    STUCK = "the device stays busy for ever"
    UNPLUG = "the cable is pulled, the power stays"
    POWER = "the power goes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong."""

    kind: Kind
    on: Request | None = None
    """At this DFU request; None: at any transfer, also those that are not DFU's."""
    at: int = 0
    """How many such transfers come before."""
    times: int | None = 1
    """For how many in a row; None: for ever."""
    poll_ms: int = 0
    """For `LIE`."""
    back_s: float | None = None
    """For `UNPLUG` and `POWER`: when it is back; None: somebody has to see to it."""
    after: bool = False
    """For `UNPLUG` and `POWER`: when the request was carried out, and before it is answered."""

    def strikes(self, number: int) -> bool:
        """Tell whether it strikes at the transfer with this number, of those that it waits for."""
        return self.at <= number and (self.times is None or number < self.at + self.times)
