"""The smallest MDFU client that is right, and a line between it and a host that is not.

A model to test the host against with random faults: no time, no quirks.  It follows the rules for sequence
numbers that Microchip's clients share (MDFU Protocol Specification 1.0.0, 3.8.4), and it tells the truth
about its image.
"""

from __future__ import annotations

from enum import Enum, auto, unique
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.mdfu.framing import Damage, DamagedFrame, FrameDecoder, encode_frame
from firmwarden.protocol.mdfu.packet import (
    Command,
    CommandPacket,
    ImageState,
    NotExecutedCause,
    ResponsePacket,
    Status,
    next_sequence,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.protocol.mdfu.client_info import ClientInfo
    from support.wire import Answer


class ModelClient:
    """Stores what it is sent and knows what it should get.

    Attributes:
        stored: what was written since the last START_TRANSFER.
        ended_with: what was stored at each END_TRANSFER.
    """

    def __init__(self, info: ClientInfo, image: bytes) -> None:
        self.stored = b""
        self.ended_with: list[bytes] = []
        self._info = info
        self._image = image
        self._decoder = FrameDecoder(2 + info.buffer_size)
        self._reset()

    def _reset(self) -> None:
        self._last = 0
        self._next = 0
        self._replay = b""

    def reboot(self) -> None:
        """Forget everything but the flash."""
        self._reset()

    def hear(self, data: bytes) -> list[bytes]:
        """Take bytes from the line and return the frames of the answers."""
        return [
            encode_frame(answer)
            for found in self._decoder.feed(data)
            if (
                answer := self._damaged(found)
                if isinstance(found, DamagedFrame)
                else self._take(found.packet)
            )
        ]

    def _damaged(self, found: DamagedFrame) -> bytes:
        if found.damage is Damage.CUT_OFF:
            return b""
        return self._not_executed(NotExecutedCause.TRANSPORT_INTEGRITY_CHECK_ERROR)

    def _not_executed(self, cause: NotExecutedCause) -> bytes:
        return ResponsePacket(
            sequence=self._next, status=Status.COMMAND_NOT_EXECUTED, payload=bytes((cause,)), resend=True
        ).encode()

    def _take(self, raw: bytes) -> bytes:
        packet = CommandPacket.decode(raw)
        if packet.sync or packet.sequence == self._next:
            status, payload = self._execute(packet)
            self._last, self._next = packet.sequence, next_sequence(packet.sequence)
            answer = ResponsePacket(sequence=packet.sequence, status=status, payload=payload).encode()
            self._replay = answer
            if packet.command is Command.END_TRANSFER:
                self._reset()
            return answer
        if packet.sequence == self._last:
            return self._replay
        return self._not_executed(NotExecutedCause.SEQUENCE_NUMBER_INVALID)

    def _execute(self, packet: CommandPacket) -> tuple[Status, bytes]:
        match packet.command:
            case Command.GET_CLIENT_INFO:
                return Status.SUCCESS, self._info.encode()
            case Command.START_TRANSFER:
                self.stored = b""
            case Command.WRITE_CHUNK:
                self.stored += packet.payload
            case Command.GET_IMAGE_STATE:
                state = ImageState.VALID if self.stored == self._image else ImageState.INVALID
                return Status.SUCCESS, bytes((state,))
            case Command.END_TRANSFER:
                self.ended_with.append(self.stored)
            case _:
                return Status.COMMAND_NOT_SUPPORTED, b""
        return Status.SUCCESS, b""


@unique
class Fault(Enum):
    """What can happen to one command and its answer."""

    NONE = auto()
    COMMAND_LOST = auto()
    COMMAND_DAMAGED = auto()
    ANSWER_LOST = auto()
    ANSWER_DAMAGED = auto()
    ANSWER_LATE = auto()
    """Later than any time-out."""
    ANSWER_IN_PIECES = auto()
    ANSWER_TWICE = auto()
    ANSWER_AFTER_A_FRAGMENT = auto()
    REBOOT = auto()
    """The client restarts before it hears the command."""


TURNAROUND_S: Final = 0.02
"""What a command and its answer take.  Were it nothing, a late answer could come 32 commands later, when its
number is current again; no line is that fast."""


class FaultyLine:
    """Lets a host hear a client through a line that does what the faults say, one for each command."""

    def __init__(self, client: ModelClient, faults: Iterator[Fault], late_s: float) -> None:
        self._client = client
        self._faults = faults
        self._late_s = late_s

    def hear(self, data: bytes) -> Iterable[Answer]:
        """Pass a command on, or not, and return what comes back of it."""
        fault = next(self._faults, Fault.NONE)
        match fault:
            case Fault.COMMAND_LOST:
                return []
            case Fault.COMMAND_DAMAGED:
                data = _damage(data)
            case Fault.REBOOT:
                self._client.reboot()
            case _:
                pass
        answer = b"".join(self._client.hear(data))
        return [(TURNAROUND_S + delay_s, data) for delay_s, data in self._deliver(fault, answer)]

    def _deliver(self, fault: Fault, answer: bytes) -> list[Answer]:
        match fault:
            case Fault.ANSWER_LOST:
                return []
            case Fault.ANSWER_DAMAGED:
                return [(0.0, _damage(answer))]
            case Fault.ANSWER_LATE:
                return [(self._late_s, answer)]
            case Fault.ANSWER_IN_PIECES:
                return [(0.0, answer[index : index + 1]) for index in range(len(answer))]
            case Fault.ANSWER_TWICE:
                return [(0.0, answer), (0.01, answer)]
            case Fault.ANSWER_AFTER_A_FRAGMENT:
                return [(0.0, answer[: len(answer) // 2]), (0.01, answer)]
            case _:
                return [(0.0, answer)]


def _damage(frame: bytes) -> bytes:
    """Spoil the checksum: put in a word that it counts."""
    return frame[:1] + b"\x01\x00" + frame[1:] if frame else frame
