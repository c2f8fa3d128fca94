"""Sequence numbers of a simulated MDFU client: what to do with a command, and what is answered again.

The rules are those of the MDFU Protocol Specification 1.0.0 (DS50003743), 3.8.4, which the published clients follow
in the same order.  The stored answer survives errors; it is dropped at a reset.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.mdfu.packet import NotExecutedCause, ResponsePacket, Status, next_sequence

if TYPE_CHECKING:
    from firmwarden.simulate.profile import Profile

_SYNC: Final = 0x80
_SEQUENCE_MASK: Final = 0x1F
_RESPONSE_SPACE: Final = 64


class Judgement(Enum):
    """What becomes of a command."""

    EXECUTE = auto()
    REPEAT_ANSWER = auto()
    REFUSE = auto()


class Session:
    """The two numbers and the stored answer.

    Headers are judged as raw bytes: some clients count the reserved bit 5 as a part of the number, which
    `CommandPacket` rightly hides.
    """

    __slots__ = ("_buffer", "_last", "_length", "_mask", "_next", "_spoils")

    def __init__(self, profile: Profile) -> None:
        self._mask = profile.sequence_mask
        self._spoils = profile.errors_spoil_replay
        self._next = profile.first_sequence
        # A client that expects 1 takes 0 for a repetition, of nothing.
        self._last = 0
        # One buffer for all answers: a longer answer leaves bytes behind a shorter one.
        self._buffer = bytearray(_RESPONSE_SPACE)
        self._length = 0

    def judge(self, head: int) -> Judgement:
        """Decide about a command by its first byte, and count it as executed if it is to be."""
        number = head & self._mask
        if head & _SYNC or number == self._next:
            self._last = number
            self._next = next_sequence(number)
            return Judgement.EXECUTE
        return Judgement.REPEAT_ANSWER if number == self._last else Judgement.REFUSE

    def answer(self, status: int, data: bytes = b"") -> bytes:
        """Store the answer to the command executed last, and return it."""
        packet = bytes((self._last, status)) + data
        self._length = len(packet)
        self._buffer[: self._length] = packet
        return packet

    def stored_answer(self) -> bytes:
        """Return the stored answer; empty when nothing was executed since the reset."""
        return bytes(self._buffer[: self._length])

    def refusal(self, cause: NotExecutedCause | None) -> bytes:
        """Return what asks for the command to be sent again."""
        packet = ResponsePacket(
            sequence=self._next & _SEQUENCE_MASK,
            status=Status.COMMAND_NOT_EXECUTED,
            payload=b"" if cause is None else bytes((cause,)),
            resend=True,
        ).encode()
        if self._spoils:
            self._length = len(packet)
        return packet
