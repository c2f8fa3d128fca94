"""A DFU device that follows a script: every transfer, its bytes and its answer, in the order that it must have.

One line is one event.  A transfer is its eight setup bytes and what goes to the device, then an arrow and the
answer: bytes, ``ok`` for none, or a trouble.  The others are ``pause 0.032``, ``select 1`` and ``reset``.  Bytes are
hexadecimal; ``5a*2048`` is a byte many times.  Milestones are not in a script; they are collected. ::

    21 01 00 00 00 00 05 00  41 00 00 00 08  -> ok
    A1 03 00 00 00 00 06 00                  -> 00 20 00 00 04 00
    pause 0.032
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from firmwarden.protocol.dfu.conversation import (
    Control,
    Pause,
    ResetPort,
    SelectAlternate,
    Trouble,
)
from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.protocol.dfu.conversation import Conversation, Event, Reply

_T = TypeVar("_T")

_REPLIES: Final[dict[str, Reply]] = {
    "ok": b"",
    "stall": Trouble.STALL,
    "timeout": Trouble.TIMED_OUT,
    "gone": Trouble.GONE,
    "broken": Trouble.BROKEN,
}


def run(conversation: Conversation[_T], answer: Callable[[Event], Reply]) -> _T:
    """Drive a conversation to its end: the shortest shell that there can be."""
    try:
        event = next(conversation)
        while True:
            event = conversation.send(answer(event))
    except StopIteration as stop:
        result: _T = stop.value
        return result


def hexadecimal(text: str) -> bytes:
    """Read bytes as a script writes them."""
    parts = (token.split("*") for token in text.split())
    return b"".join(bytes.fromhex(part[0]) * int(part[1] if len(part) > 1 else 1) for part in parts)


class Script:
    """Answers a conversation, and fails the test where it leaves the script.

    Attributes:
        milestones: those that the conversation passed.
    """

    def __init__(self, text: str) -> None:
        self.milestones: list[Milestone] = []
        self._lines = [line for line in (raw.partition("#")[0].strip() for raw in text.splitlines()) if line]

    def play(self, conversation: Conversation[_T]) -> _T:
        """Drive a conversation, which may be one of many that the script is for."""
        return run(conversation, self._answer)

    def finish(self) -> None:
        """See that nothing of the script is left."""
        assert not self._lines, f"not asked for: {self._lines}"

    def _answer(self, event: Event) -> Reply:
        if isinstance(event, Milestone):
            self.milestones.append(event)
            return b""
        assert self._lines, f"the script has ended, but {event}"
        line = self._lines.pop(0)
        said, _, reply = line.partition("->")
        match event:
            case Control():
                assert (event.setup.encode() + event.data).hex(" ") == hexadecimal(said).hex(" ")
                return _REPLIES[name] if (name := reply.strip()) in _REPLIES else hexadecimal(reply)
            case Pause():
                assert f"pause {event.duration_s:g}" == line
            case SelectAlternate():
                assert f"select {event.setting}" == line
            case ResetPort():
                assert line == "reset"
            case Milestone():
                raise AssertionError
        return b""
