"""MDFU packets: the two header bytes, commands, statuses and causes.

A packet is a sequence byte, a code byte and data.  There is no length field: the frame around a
packet tells its length, so this module sees whole packets only and knows nothing of framing.

Source: MDFU Protocol Specification 1.0.0 (DS50003743), 3.2 and 3.3, and the clients that Microchip
publishes, where the specification leaves something open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

SEQUENCE_NUMBERS: Final = 32
"""Sequence numbers are five bits wide and wrap from 31 to 0 (DS50003743, 3.3)."""

HEADER_SIZE: Final = 2

_SEQUENCE_MASK: Final = SEQUENCE_NUMBERS - 1
# Bit 5 is reserved.  Microchip's 8-bit and 32-bit clients take it for a part of the number, so it is
# never sent; and they can set it in an answer, so it is masked out of what is received.
_SYNC: Final = 0x80
_RESEND: Final = 0x40


class MalformedPacket(ValueError):
    """The bytes are not an MDFU packet: what arrived is to be treated as damaged."""


@unique
class Command(IntEnum):
    """What a host may ask; every client must know all five (DS50003743, 3.2.5)."""

    GET_CLIENT_INFO = 0x01
    START_TRANSFER = 0x02
    WRITE_CHUNK = 0x03
    GET_IMAGE_STATE = 0x04
    END_TRANSFER = 0x05


@unique
class Status(IntEnum):
    """How a client answers (DS50003743, 3.2.6)."""

    SUCCESS = 0x01
    COMMAND_NOT_SUPPORTED = 0x02
    NOT_AUTHORIZED = 0x03
    COMMAND_NOT_EXECUTED = 0x04
    ABORT_FILE_TRANSFER = 0x05


@unique
class NotExecutedCause(IntEnum):
    """Why a client did not execute a command; reporting it is optional (DS50003743, 3.2.6.2)."""

    TRANSPORT_INTEGRITY_CHECK_ERROR = 0
    COMMAND_TOO_LONG = 1
    COMMAND_TOO_SHORT = 2
    SEQUENCE_NUMBER_INVALID = 3


@unique
class AbortCause(IntEnum):
    """Why a client gave up on an update file; reporting it is optional (DS50003743, 3.2.6.3)."""

    GENERIC_CLIENT_ERROR = 0
    INVALID_FILE = 1
    INVALID_CLIENT_DEVICE_ID = 2
    ADDRESS_ERROR = 3
    ERASE_ERROR = 4
    WRITE_ERROR = 5
    READ_ERROR = 6
    APPLICATION_VERSION_ERROR = 7


@unique
class ImageState(IntEnum):
    """The answer to GET_IMAGE_STATE; whatever is not listed counts as not valid."""

    VALID = 1
    INVALID = 2


COMMANDS: Final[Mapping[int, Command]] = MappingProxyType({int(member): member for member in Command})
"""Commands by code."""

_STATUSES: Final = {int(member): member for member in Status}
_ABORT_CAUSES: Final = {int(member): member for member in AbortCause}
_NOT_EXECUTED_CAUSES: Final = {int(member): member for member in NotExecutedCause}


def next_sequence(sequence: int) -> int:
    """Return the number of the command that follows the one numbered `sequence`."""
    return (sequence + 1) & _SEQUENCE_MASK


def _check_sequence(sequence: int) -> None:
    if not 0 <= sequence <= _SEQUENCE_MASK:
        raise ValueError(f"a sequence number must fit 5 bits, got {sequence}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPacket:
    """One packet from host to client.

    `command` may hold a code that `Command` does not list: a client must answer such a packet, with
    COMMAND_NOT_SUPPORTED and its number, so it is not malformed.
    """

    sequence: int
    command: Command | int
    payload: bytes = b""
    sync: bool = False

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        if not 0 <= self.command < 1 << 8:
            raise ValueError(f"a command code must fit one byte, got {self.command}")

    def encode(self) -> bytes:
        """Return the packet's bytes, without frame and checksum."""
        return bytes((self.sequence | (_SYNC if self.sync else 0), self.command)) + self.payload

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a packet; raises MalformedPacket when it is shorter than its header."""
        if len(raw) < HEADER_SIZE:
            raise MalformedPacket(f"{len(raw)} byte(s), a packet has at least {HEADER_SIZE}")
        return cls(
            sequence=raw[0] & _SEQUENCE_MASK,
            command=COMMANDS.get(raw[1], raw[1]),
            payload=bytes(raw[HEADER_SIZE:]),
            sync=bool(raw[0] & _SYNC),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePacket:
    """One packet from client to host.

    With `resend` set the command was not executed and `sequence` is the number that the client wants
    next; without it `sequence` is the number of the command that is answered.
    """

    sequence: int
    status: Status
    payload: bytes = b""
    resend: bool = False

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)

    @property
    def abort_cause(self) -> AbortCause | int | None:
        """Why the client aborted: a bare number when it is none that we know, None when it is silent."""
        if self.status is not Status.ABORT_FILE_TRANSFER or not self.payload:
            return None
        return _ABORT_CAUSES.get(self.payload[0], self.payload[0])

    @property
    def not_executed_cause(self) -> NotExecutedCause | int | None:
        """Why the command was not executed: a bare number when unknown, None when the client is silent."""
        if self.status is not Status.COMMAND_NOT_EXECUTED or not self.payload:
            return None
        return _NOT_EXECUTED_CAUSES.get(self.payload[0], self.payload[0])

    def encode(self) -> bytes:
        """Return the packet's bytes, without frame and checksum."""
        return bytes((self.sequence | (_RESEND if self.resend else 0), self.status)) + self.payload

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a packet; raises MalformedPacket when it is too short or its status is not defined."""
        if len(raw) < HEADER_SIZE:
            raise MalformedPacket(f"{len(raw)} byte(s), a packet has at least {HEADER_SIZE}")
        status = _STATUSES.get(raw[1])
        if status is None:
            raise MalformedPacket(f"undefined status 0x{raw[1]:02x}")
        return cls(
            sequence=raw[0] & _SEQUENCE_MASK,
            status=status,
            payload=bytes(raw[HEADER_SIZE:]),
            resend=bool(raw[0] & _RESEND),
        )
