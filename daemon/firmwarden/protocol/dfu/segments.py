"""Pieces of memory: what an image is to a device that has addresses.

A ``Segment`` is bytes at an address.  An image is a row of them in ascending order that do not overlap, as
``joined`` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS_SPACE: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at an address; never empty, never beyond 32 bits."""

    address: int
    data: bytes

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError(f"a segment without data at 0x{self.address:08x}")
        if not 0 <= self.address <= ADDRESS_SPACE - len(self.data):
            raise ValueError(f"{len(self.data)} byte(s) at 0x{self.address:x} do not fit 32 bits")

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.address + len(self.data)


def joined(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Sort segments and make one of those that touch.

    Raises:
        BadImage: two of them give the same byte; the message tells its address.
    """
    groups: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda each: each.address):
        if groups and segment.address < groups[-1][-1].end:
            raise BadImage(f"address 0x{segment.address:08x} is given twice")
        if groups and segment.address == groups[-1][-1].end:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return tuple(Segment(group[0].address, b"".join(each.data for each in group)) for group in groups)


def aligned(segments: Iterable[Segment], granule: int, fill: int) -> tuple[Segment, ...]:
    """Widen an image to whole granules; bytes that no segment gives become `fill`.

    Raises:
        BadImage: two segments give the same byte.
    """
    pieces: list[tuple[int, bytearray]] = []
    for segment in joined(segments):
        start = segment.address - segment.address % granule
        if not pieces or start > pieces[-1][0] + _rounded_up(len(pieces[-1][1]), granule):
            pieces.append((start, bytearray()))
        base, data = pieces[-1]
        data.extend(bytes((fill,)) * (segment.address - base - len(data)))
        data.extend(segment.data)
    return tuple(
        Segment(base, bytes(data.ljust(_rounded_up(len(data), granule), bytes((fill,)))))
        for base, data in pieces
    )


def _rounded_up(size: int, granule: int) -> int:
    return size + -size % granule
