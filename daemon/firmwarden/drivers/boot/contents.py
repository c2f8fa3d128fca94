"""What was read of a device's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.drivers.boot.facts import WORD
from firmwarden.protocol.dfu.segments import joined

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.segments import Segment


@dataclass(frozen=True, slots=True)
class Contents:
    """Pieces of memory as they were read, in one visit; what is not here was not read."""

    pieces: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", joined(self.pieces))

    def read(self, start: int, end: int) -> bytes | None:
        """Return the bytes from `start` on and before `end`; None unless all of them were read."""
        for piece in self.pieces:
            if piece.address <= start and end <= piece.end:
                return piece.data[start - piece.address : end - piece.address]
        return None

    def word(self, address: int) -> int | None:
        """Return a little-endian word; None when it was not read."""
        data = self.read(address, address + WORD)
        return None if data is None else int.from_bytes(data, "little")

    def byte(self, address: int) -> int | None:
        """Return a byte; None when it was not read."""
        data = self.read(address, address + 1)
        return None if data is None else data[0]

    def holds(self, segment: Segment) -> bool:
        """Tell whether these bytes were read there."""
        return self.read(segment.address, segment.end) == segment.data
