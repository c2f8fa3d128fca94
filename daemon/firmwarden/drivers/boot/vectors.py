"""The first two words of an image, with which a Cortex-M starts: where its stack begins, and its first instruction."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.boot.facts import Ram
    from firmwarden.protocol.dfu.segments import Segment

_VECTORS: Final = Struct("<LL")
VECTORS_SIZE: Final = _VECTORS.size

_SRAM_BITS: Final = 0x3000_0000
_ONES: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Vectors:
    """Initial stack pointer and reset vector."""

    stack: int
    reset: int

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read them from the beginning of an image; raises ValueError when it is too short for them."""
        if len(raw) < VECTORS_SIZE:
            raise ValueError(f"{len(raw)} byte(s) have no room for vectors")
        return cls(*_VECTORS.unpack_from(raw))

    def fault(self, stacks: Iterable[Ram], linked: Iterable[Segment]) -> str | None:
        """Say why nothing could start like this; None if it could.

        Args:
            stacks: memory that the stack may be in; none given: not known.
            linked: the image, where it is seen when it runs.
        """
        known = tuple(stacks)
        if known and not any(ram.holds_stack(self.stack) for ram in known):
            return f"the stack pointer 0x{self.stack:08x} is not in memory that a stack can be in"
        if not self.reset & 1:
            return f"the reset vector 0x{self.reset:08x} is even, so it is no Thumb code"
        if not any(piece.address <= self.reset - 1 < piece.end for piece in linked):
            return f"the reset vector 0x{self.reset:08x} is not in the image"
        return None


def could_be_stack(word: int) -> bool:
    """Tell whether a ROM might take this word for a stack pointer into SRAM.

    ROMs compare under a mask that ST does not publish, so whatever has a bit of 0x10000000 or 0x20000000 might do; all
    ones never do.
    """
    return word != _ONES and bool(word & _SRAM_BITS)
