"""Intel HEX files, read strictly into one piece of memory, or into as many as there are.

A file that a transfer cut short, that an editor touched or that was made of two has to be noticed here: what
is sent to a device has no line numbers any more.  So each record's checksum must be right, no byte may be
given twice, the end record must be there and nothing may follow it.

Source: Intel "Hexadecimal Object File Format Specification", revision A, 1988.
"""

from __future__ import annotations

from binascii import Error as NotHexadecimal
from binascii import unhexlify
from dataclasses import dataclass
from enum import IntEnum, unique
from itertools import pairwise
from typing import Final

from firmwarden.errors import BadImage
from firmwarden.protocol.dfu.segments import Segment, joined

LARGEST_SPAN: Final = 64 * 1024 * 1024
"""From the first to the last byte, gaps included.  Addresses have 32 bits, so two short lines could ask for
4 GiB of filling; no microcontroller that is updated over a serial line has more flash than this."""

_ADDRESS_SPACE: Final = 1 << 32
_SEGMENT_SIZE: Final = 1 << 16
_SHORTEST: Final = 5
"""Length, address, type and checksum."""


@unique
class _Record(IntEnum):
    DATA = 0
    END_OF_FILE = 1
    EXTENDED_SEGMENT_ADDRESS = 2
    START_SEGMENT_ADDRESS = 3
    EXTENDED_LINEAR_ADDRESS = 4
    START_LINEAR_ADDRESS = 5


_SIZES: Final = {
    _Record.END_OF_FILE: 0,
    _Record.EXTENDED_SEGMENT_ADDRESS: 2,
    _Record.START_SEGMENT_ADDRESS: 4,
    _Record.EXTENDED_LINEAR_ADDRESS: 2,
    _Record.START_LINEAR_ADDRESS: 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HexImage:
    """The memory that a file describes."""

    address: int
    """Of the first byte."""
    data: bytes
    """From the first byte to the last, gaps filled."""
    gaps: int
    """Bytes that no record gave."""
    entry: int | None = None
    """Where execution starts (linear address), if the file says it."""


@dataclass(frozen=True, slots=True)
class _Piece:
    address: int
    line: int
    data: bytes

    @property
    def end(self) -> int:
        return self.address + len(self.data)


def parse(content: bytes, *, fill: int = 0xFF) -> HexImage:
    """Read a file.

    Args:
        content: the file.
        fill: what bytes that no record gives become.

    Raises:
        BadImage: the file breaks a rule; the message tells the line.
    """
    reader = _read(content)
    return _assemble(_in_order(reader.pieces), fill, reader.entry)


def segments(content: bytes) -> tuple[Segment, ...]:
    """Read a file as pieces of memory, for a device that has addresses: gaps stay gaps.

    Raises:
        BadImage: the file breaks a rule; the message tells the line.
    """
    pieces = _in_order(_read(content).pieces)
    return joined(Segment(piece.address, piece.data) for piece in pieces)


def _read(content: bytes) -> _Reader:
    reader = _Reader()
    lines = content.rstrip(b"\r\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        reader.read(number, line.removesuffix(b"\r"))
    if not reader.ended:
        raise BadImage(f"line {len(lines)}: the file ends without its end record")
    return reader


class _Reader:
    """Takes the lines in order."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.entry: int | None = None
        self.ended = False
        self._base = 0
        self._segmented = False

    def read(self, line: int, text: bytes) -> None:
        """Take a line; raises BadImage."""
        if self.ended:
            raise BadImage(f"line {line}: something follows the end record")
        address, kind, data = _decode(line, text)
        match kind:
            case _Record.DATA:
                self._add(line, address, data)
            case _Record.END_OF_FILE:
                self.ended = True
            case _Record.EXTENDED_SEGMENT_ADDRESS:
                self._base = int.from_bytes(data, "big") << 4
                self._segmented = True
            case _Record.EXTENDED_LINEAR_ADDRESS:
                self._base = int.from_bytes(data, "big") << 16
                self._segmented = False
            case _Record.START_SEGMENT_ADDRESS:
                self._enter(line, (int.from_bytes(data[:2], "big") << 4) + int.from_bytes(data[2:], "big"))
            case _Record.START_LINEAR_ADDRESS:
                self._enter(line, int.from_bytes(data, "big"))

    def _add(self, line: int, address: int, data: bytes) -> None:
        # Past the end of its segment, and past the end of memory, a record would go on at the beginning.  No
        # tool writes that on purpose, and readers disagree about it.
        if self._segmented and address + len(data) > _SEGMENT_SIZE:
            raise BadImage(f"line {line}: the record crosses the end of its segment")
        piece = _Piece(self._base + address, line, data)
        if piece.end > _ADDRESS_SPACE:
            raise BadImage(f"line {line}: the record crosses the end of the address space")
        if data:
            self.pieces.append(piece)

    def _enter(self, line: int, entry: int) -> None:
        if self.entry is not None:
            raise BadImage(f"line {line}: a second start address")
        self.entry = entry


def _decode(line: int, text: bytes) -> tuple[int, _Record, bytes]:
    if text[:1] != b":":
        raise BadImage(f"line {line}: a record starts with a colon")
    try:
        raw = unhexlify(text[1:])
    except NotHexadecimal as exc:
        raise BadImage(f"line {line}: not hexadecimal: {exc}") from exc
    if len(raw) < _SHORTEST or len(raw) != _SHORTEST + raw[0]:
        raise BadImage(f"line {line}: {len(raw)} bytes do not make a record")
    if sum(raw) & 0xFF:
        raise BadImage(f"line {line}: wrong checksum")
    try:
        kind = _Record(raw[3])
    except ValueError:
        raise BadImage(f"line {line}: unknown record type {raw[3]}") from None
    data = raw[4:-1]
    if _SIZES.get(kind, len(data)) != len(data):
        raise BadImage(f"line {line}: {len(data)} byte(s) of data in a record of type {kind}")
    return int.from_bytes(raw[1:3], "big"), kind, data


def _in_order(pieces: list[_Piece]) -> list[_Piece]:
    if not pieces:
        raise BadImage("the file has no data")
    ordered = sorted(pieces, key=lambda piece: piece.address)
    for before, piece in pairwise(ordered):
        if piece.address < before.end:
            early, late = sorted((before.line, piece.line))
            raise BadImage(f"line {late}: address 0x{piece.address:x} was given before, in line {early}")
    return ordered


def _assemble(pieces: list[_Piece], fill: int, entry: int | None) -> HexImage:
    first, last = pieces[0].address, pieces[-1].end
    if last - first > LARGEST_SPAN:
        raise BadImage(
            f"the data lies between 0x{first:x} and 0x{last:x}, more than {LARGEST_SPAN >> 20} MiB apart"
        )
    parts: list[bytes] = []
    gaps = 0
    end = first
    for piece in pieces:
        gap = piece.address - end
        gaps += gap
        parts += (bytes((fill,)) * gap, piece.data)
        end = piece.end
    return HexImage(address=first, data=b"".join(parts), gaps=gaps, entry=entry)
