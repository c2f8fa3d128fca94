"""What a sans-IO protocol machine says to the shell that moves its bytes.

A machine owns the protocol, a shell owns the port and the clock.  The shell asks for the next event, does
what it says and comes back; it needs to know nothing else.  One shell therefore serves every protocol, and a
test can play a whole update in microseconds.

The shell's duties, in full:

* ``Send``: wait ``delay_s``, write ``data``.  The answer is due ``timeout_s`` after the last bit has left, so the
  deadline is now + the time both frames take on the wire + ``timeout_s`` + a margin for the adapter.
* ``Receive``: hand over bytes with ``receive`` as they come.  When the deadline of the last ``Send`` passes first,
  call ``timed_out``.  Bytes do not move the deadline: a trickling peer must not hold us.
* ``Quiet``: throw away input until none has come for ``duration_s``, at most for ``longest_s``; both count from when
  the last bit has left, because a peer that meets an error complains before the frame is over, and once more then.
* ``Milestone``: stop and return it to the driver, which does what must be durable and drives on.
* An ``AttemptFailed`` raised by ``next_event`` travels to the driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Send:
    """Transmit ``data``; ends whatever deadline was running."""

    data: bytes
    timeout_s: float
    """How long the peer may take to execute, from the last bit sent to the first bit of the answer."""
    answer_size: int
    """Longest answer in bytes on the wire, for the time it takes there."""
    delay_s: float = 0.0
    """Quiet time to keep before sending."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Nothing to do until bytes arrive or the deadline passes."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Discard input until the line has been quiet."""

    duration_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Milestone:
    """A point at which the driver, not the wire, decides how to go on.  Machines subclass it."""


Event = Send | Receive | Quiet | Milestone


class Machine(Protocol):
    """One conversation as a pure machine."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire; only buffers."""

    def timed_out(self) -> None:
        """Note that the answer to the last ``Send`` is overdue."""

    def next_event(self) -> Event:
        """Move on and say what to do.

        Raises:
            AttemptFailed: the conversation is over and did not succeed.
        """
