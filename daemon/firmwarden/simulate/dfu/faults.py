"""Faults that strike at chosen moments of a simulated DFU device, as values, and the text they are written in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.requests import Request
from firmwarden.simulate.fault_text import FaultText

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNTAX: Final = """\
A fault is written KIND@POINT=N[,KEY=VALUE...]. Everything counts from 0: @dnload=40 is when 40 downloads have been,
and a DfuSe command is one as well as a block of data.

\b
Points:
  detach, dnload, upload, getstatus, clrstatus, getstate, abort
            this DFU request of the device's life
  transfer  any control transfer, also one of USB's own
  erase, program
            this erase of a page or this granule of the flash, which is
            torn; for power alone

\b
Kinds and their keys:
  power       the power goes, and the flash stops where it is;
              back=SECONDS (never), when=before|after (before) the
              device has done what it was told
  unplug      the cable is pulled; with its power, unless the device
              is self-powered; back=, when=
  stall       the request is stalled, for no reason
  lost        it does not reach the device
  unanswered  the device does it, and its answer is lost
  broken      the transfer breaks
  short       half of the answer comes
  lie         another poll time-out is told; poll=MILLISECONDS (0)
  stuck       the device stays busy for ever

times=K or times=always says how many such requests in a row it strikes; one is meant if it is left out.

\b
Examples:
  power@program=4000,back=1
  stall@getstatus=3,times=2
  lie@getstatus=0,poll=60000
"""


_LONGEST_POLL_MS: Final = (1 << 24) - 1
"""Three bytes have room for it."""


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


@unique
class Act(Enum):
    """What the flash does."""

    ERASE = "a page is erased"
    PROGRAM = "a granule is programmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong."""

    kind: Kind
    text: str = ""
    """As it was written."""
    on: Request | Act | None = None
    """At this DFU request, or in this act; None: at any transfer, also those that are not DFU's."""
    at: int = 0
    """How many such requests, acts or transfers come before."""
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

    def struck(self, seen: int) -> int:
        """Return how often it struck, when there were so many of the transfers that it waits for."""
        late = max(0, seen - self.at)
        return late if self.times is None else min(late, self.times)


_POINTS: Final[Mapping[str, Request | Act | None]] = {
    **{request.name.lower(): request for request in Request},
    "transfer": None,
    **{act.name.lower(): act for act in Act},
}
_KINDS: Final = {kind.name.lower(): kind for kind in Kind}
_WHEN: Final = {"before": False, "after": True}


def parse_fault(text: str) -> Fault:
    """Read a fault as it is written on the command line.

    Raises:
        BadFault: it follows no rule above.
    """
    reader = FaultText(text)
    kind = reader.choice_of(_KINDS)
    point = reader.point(_POINTS)
    if point is None:
        raise reader.error(f"{reader.kind} needs @POINT=N with POINT one of {', '.join(_POINTS)}")
    name, number = point
    if isinstance(_POINTS[name], Act) and kind is not Kind.POWER:
        raise reader.error(f"{reader.kind} does not strike in the flash; power does")
    parts = kind in {Kind.UNPLUG, Kind.POWER}
    fault = Fault(
        kind=kind,
        text=text,
        on=_POINTS[name],
        at=int(reader.number(number, name, whole=True)),
        times=reader.times("1"),
        poll_ms=reader.count("poll", "0", highest=_LONGEST_POLL_MS) if kind is Kind.LIE else 0,
        back_s=reader.seconds("back") if parts else None,
        after=reader.choice("when", _WHEN, "before")
        if parts and not isinstance(_POINTS[name], Act)
        else False,
    )
    reader.finish()
    return fault
