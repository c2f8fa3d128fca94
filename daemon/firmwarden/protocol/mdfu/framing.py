"""MDFU frames on a serial line or in a TCP stream.

A frame is 0x56, the escaped packet and checksum, 0x9E.  Inside, each of the three reserved bytes is sent as
0xCC and its bitwise inverse; so 0x56 on the line always starts a frame, whatever came before, and 0x9E always
ends one.  Whatever lies between frames is noise.

The checksum is the inverted 16-bit sum of the packet's little-endian words; carries are dropped, and an odd
packet is summed as if a zero byte followed.

Source: MDFU Protocol Specification 1.0.0 (DS50003743), 4.2.

Both directions are on the hot path of every update, and a loop over bytes in Python costs thirty times
what the same work costs in C: everything here is made of replace, split, find and slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final
from zlib import adler32

_START: Final = b"\x56"
_END: Final = b"\x9e"
_ESCAPE: Final = b"\xcc"
_ESCAPED_START: Final = b"\xcc\xa9"
_ESCAPED_END: Final = b"\xcc\x61"
_ESCAPED_ESCAPE: Final = b"\xcc\x33"

_CHECKSUM_SIZE: Final = 2
_SMALLEST_BODY: Final = 2 + _CHECKSUM_SIZE
"""A packet's header and the checksum."""

_LANE: Final = 256
"""Adler-32 is taken modulo 65521; so many bytes (at most 65280) cannot reach it."""


def checksum(packet: bytes) -> int:
    """Return the frame check of a packet.

    Adler-32 carries the plain sum of its bytes in its low half.  Summed apart, the even and the odd bytes
    make the sum of the words; this is several times faster than adding words in Python.
    """
    low, high = packet[::2], packet[1::2]
    total = 0
    for start in range(0, len(low), _LANE):
        end = start + _LANE
        total += (adler32(low[start:end], 0) & 0xFFFF) + ((adler32(high[start:end], 0) & 0xFFFF) << 8)
    return ~total & 0xFFFF


def longest_frame(packet_size: int) -> int:
    """Return the size on the wire of a packet of so many bytes when every one of them must be escaped."""
    return 2 + 2 * (packet_size + _CHECKSUM_SIZE)


def encode_frame(packet: bytes) -> bytes:
    """Return the frame that carries a packet."""
    body = packet + checksum(packet).to_bytes(_CHECKSUM_SIZE, "little")
    # The escape byte first: the other two bring new ones.
    body = body.replace(_ESCAPE, _ESCAPED_ESCAPE).replace(_START, _ESCAPED_START).replace(_END, _ESCAPED_END)
    return b"\x56%b\x9e" % body


@unique
class Damage(Enum):
    """What is wrong with a frame."""

    CHECKSUM = "wrong checksum"
    ESCAPE = "bad escape sequence"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    CUT_OFF = "cut off by the start of another"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose checksum is right."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class DamagedFrame:
    """Something that began as a frame and is none."""

    damage: Damage
    raw: bytes
    """What was received after the start byte, still escaped."""


class FrameDecoder:
    """Finds the frames in a byte stream that arrives in pieces of any size.

    What comes out does not depend on where the stream was cut.

    Args:
        packet_cap: size of the longest packet that the caller wants.  A frame that carries more is given up
            at the first byte over it, so what is held for one peer stays below twice that and a few bytes.
    """

    __slots__ = ("_body", "_body_cap", "_inside")

    def __init__(self, packet_cap: int) -> None:
        self._body_cap = packet_cap + _CHECKSUM_SIZE
        self._body = bytearray()
        self._inside = False

    def clear(self) -> None:
        """Forget a frame that has begun."""
        self._inside = False
        self._body.clear()

    def feed(self, data: bytes) -> list[Frame | DamagedFrame]:
        """Take the next bytes of the stream and return what they complete, in order."""
        found: list[Frame | DamagedFrame] = []
        rest, *frames = data.split(_START)
        self._go_on(rest, found)
        for piece in frames:
            # Two start bytes in a row are no loss: some senders repeat it to wake a receiver.
            if self._inside and self._body:
                found.append(DamagedFrame(Damage.CUT_OFF, bytes(self._body)))
            self._body.clear()
            self._inside = True
            self._go_on(piece, found)
        return found

    def _go_on(self, piece: bytes, found: list[Frame | DamagedFrame]) -> None:
        """Continue with bytes among which no frame starts."""
        if not self._inside:
            return
        body, end, _noise = piece.partition(_END)
        self._body += body
        too_long = self._is_too_long()
        if too_long:
            # Cut to a length that does not depend on how the bytes arrived.
            found.append(DamagedFrame(Damage.TOO_LONG, bytes(self._body[: self._body_cap + 1])))
        elif end:
            found.append(_open(bytes(self._body)))
        if too_long or end:
            self.clear()

    def _is_too_long(self) -> bool:
        size = len(self._body)
        # Counting is needed only in the rare frame that has more bytes than its content may have.
        return size > self._body_cap and size - self._body.count(_ESCAPE) > self._body_cap


def _open(escaped: bytes) -> Frame | DamagedFrame:
    """Unescape and check what was between start and end."""
    body = escaped
    escapes = escaped.count(_ESCAPE)
    if escapes:
        body = (
            escaped.replace(_ESCAPED_START, _START)
            .replace(_ESCAPED_END, _END)
            .replace(_ESCAPED_ESCAPE, _ESCAPE)
        )
        # Each valid pair has become one byte shorter; an escape byte before anything else has not.
        if len(body) != len(escaped) - escapes:
            return DamagedFrame(Damage.ESCAPE, escaped)
    if len(body) < _SMALLEST_BODY:
        return DamagedFrame(Damage.TOO_SHORT, escaped)
    packet = body[:-_CHECKSUM_SIZE]
    if checksum(packet) != int.from_bytes(body[-_CHECKSUM_SIZE:], "little"):
        return DamagedFrame(Damage.CHECKSUM, escaped)
    return Frame(packet)
