"""A machine small enough that a test of a link can predict every byte of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.errors import AttemptFailed
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.machine import Event, Milestone, Receive

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Heard(Milestone):
    """The script is at its end, or a line that ends with ``!`` came."""

    lines: tuple[bytes, ...]
    timeouts: int


class Asking:
    """Plays a list of events; each ``Send`` waits for one line.  Lines that start with ``?`` are strays.

    A line that starts with ``x`` fails the conversation, one that starts with ``!`` is a milestone.
    """

    def __init__(self, script: Iterable[Event], *, patience: int = 1) -> None:
        self._script = deque(script)
        self._patience = patience
        self._awaiting = False
        self._inbox = b""
        self.lines: list[bytes] = []
        self.timeouts = 0
        self.strays = 0

    def receive(self, data: bytes) -> None:
        self._inbox += data

    def timed_out(self) -> None:
        self.timeouts += 1
        self._awaiting = False

    def next_event(self) -> Event:
        if self.timeouts >= self._patience:
            return Heard(tuple(self.lines), self.timeouts)
        while self._awaiting:
            line, end, rest = self._inbox.partition(b"\n")
            if not end:
                return Receive()
            self._inbox = rest
            if line.startswith(b"?"):
                self.strays += 1
                continue
            if line.startswith(b"x"):
                raise AttemptFailed(Cause(code=CauseCode.CLIENT_ERROR, raw=line))
            self.lines.append(line)
            self._awaiting = False
            if line.startswith(b"!"):
                return Heard(tuple(self.lines), self.timeouts)
        if not self._script:
            return Heard(tuple(self.lines), self.timeouts)
        event = self._script.popleft()
        self._awaiting = type(event).__name__ == "Send"
        return event
