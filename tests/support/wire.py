"""A shell for protocol machines that needs neither port nor clock: hours of time-outs pass in microseconds.

It keeps the duties that ``firmwarden.protocol.machine`` lists, on a clock of its own, and keeps a record of
what was sent when.  Time on the wire is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Protocol, assert_never

from firmwarden.protocol.machine import Event, Machine, Milestone, Quiet, Receive, Send

if TYPE_CHECKING:
    from collections.abc import Iterable

Answer = tuple[float, bytes]
"""Seconds after the command, and what arrives then."""


class Peer(Protocol):
    """Whoever is at the other end."""

    def hear(self, data: bytes) -> Iterable[Answer]:
        """Take what the machine sent and return what arrives because of it."""


class Script:
    """A peer that expects these very bytes in this order and answers as it is told.

    Args:
        steps: what is expected, and then the answers: bytes that arrive at once, or with their delay.
    """

    def __init__(self, *steps: tuple[bytes, *tuple[bytes | Answer, ...]]) -> None:
        self._steps = list(steps)

    def hear(self, data: bytes) -> Iterable[Answer]:
        """Compare, and answer."""
        assert self._steps, f"nothing more was expected, but {data.hex(' ')} came"
        expected, *answers = self._steps.pop(0)
        assert data.hex(" ") == expected.hex(" ")
        return [(0.0, answer) if isinstance(answer, bytes) else answer for answer in answers]

    @property
    def finished(self) -> bool:
        """True when everything that was expected has come."""
        return not self._steps


@dataclass
class Wire:
    """Moves bytes between a machine and a peer.

    Attributes:
        now: virtual seconds since the start.
        sent: when something was sent, and what.
        quiets: when the line was made to fall quiet.
    """

    machine: Machine
    peer: Peer
    now: float = 0.0
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    quiets: list[float] = field(default_factory=list)
    _arrivals: list[tuple[float, int, bytes]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _deadline: float = 0.0

    def run(self) -> Milestone:
        """Do what the machine says until it reaches a milestone; an AttemptFailed travels on."""
        while True:
            event: Event = self.machine.next_event()
            match event:
                case Send():
                    self._send(event)
                case Receive():
                    self._receive()
                case Quiet():
                    self._fall_quiet(event)
                case Milestone():
                    return event
                case unreachable:
                    assert_never(unreachable)

    def run_through(self, *last: type[Milestone]) -> list[Milestone]:
        """Go on through all milestones up to one of the last ones; return them all."""
        passed = [self.run()]
        while not isinstance(passed[-1], last):
            passed.append(self.run())
        return passed

    def _send(self, event: Send) -> None:
        self.now += event.delay_s
        self.sent.append((self.now, event.data))
        for delay_s, data in self.peer.hear(event.data):
            heappush(self._arrivals, (self.now + delay_s, next(self._order), data))
        self._deadline = self.now + event.timeout_s

    def _receive(self) -> None:
        if self._arrivals and self._arrivals[0][0] <= self._deadline:
            at, _, data = heappop(self._arrivals)
            self.now = max(self.now, at)
            self.machine.receive(data)
        else:
            self.now = self._deadline
            self.machine.timed_out()

    def _fall_quiet(self, event: Quiet) -> None:
        self.quiets.append(self.now)
        longest = self.now + event.longest_s
        quiet_at = self.now + event.duration_s
        while self._arrivals and self._arrivals[0][0] <= min(quiet_at, longest):
            at, _, _ = heappop(self._arrivals)
            quiet_at = max(self.now, at) + event.duration_s
        self.now = min(quiet_at, longest)
