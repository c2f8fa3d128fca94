"""The flash of a simulated chip: pages that are erased, granules that are programmed, and what a power cut leaves.

Two bits of knowledge about a granule cannot be read from its bytes.  *Used*: with error correction a granule takes one
program after each erase, even one of all ones.  *Bad*: its check bits do not fit its bytes, and reading it is an
error that the processor hears of.  After a cut either may be true of a granule that looks blank.

Contents are kept in immutable chunks, so that a snapshot costs a few short lists.

Source: ST RM0351 and RM0394, 3.3 (double words, check bits, programming to zero); RM0090, 3.6; RM0367, 3.3 (erased
is zero); AN2606.  What a cut leaves is no vendor's promise: any bit may stand as before, as wanted, or between.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum, unique
from itertools import accumulate
from math import gcd
from typing import TYPE_CHECKING, Final, assert_never

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_CHUNK: Final = 1024

_ODDS_LOOKS_RIGHT: Final = 0.25
_ODDS_GARBLED: Final = 0.9
"""That the check bits do not fit after a cut.  Nobody knows; both ends of what may happen have to occur."""


@unique
class Rewrite(Enum):
    """What can be programmed where something is already."""

    ZEROS = "all zeros only"
    BITS = "anything; bits only move away from erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """How a flash memory is made."""

    granule: int
    """Bytes that are programmed at once."""
    erased: int = 0xFF
    corrects_errors: bool = True
    rewrite: Rewrite = Rewrite.ZEROS
    erase_s: float = 0.022
    """For a page."""
    program_s: float = 82e-6
    """For a granule."""

    @property
    def blank(self) -> bytes:
        """An erased granule."""
        return bytes((self.erased,)) * self.granule


@unique
class CheckBits(Enum):
    """What a cut does to the check bits of the granules that were to change."""

    CHANCE = "as chance has it"
    FIT = "they fit: garbage reads as if it were meant"
    CLASH = "they do not fit: reading is an error"


@dataclass(frozen=True, slots=True)
class Tear:
    """How far an operation got before the power went."""

    share: float
    """Of the cells that were to change, those that did; 0 for none, 1 for all."""
    seed: int = 0
    """Decides which."""
    check_bits: CheckBits = CheckBits.CHANCE


@dataclass(frozen=True, slots=True)
class SavedFlash:
    """Everything a flash holds."""

    data: tuple[bytes, ...]
    used: tuple[int, ...]
    bad: tuple[int, ...]
    wear: tuple[int, ...]


class Flash:
    """Pages of any sizes; what survives every loss of power.

    Attributes:
        wear: erases that were begun, by page.
    """

    def __init__(self, cells: Cells, pages: Sequence[int]) -> None:
        self.cells = cells
        self._starts = (0, *accumulate(pages))
        self.size = self._starts[-1]
        self._chunk = gcd(_LARGEST_CHUNK, *pages)
        if self._chunk % cells.granule:
            raise ValueError(f"pages of {sorted(set(pages))} bytes are no whole granules of {cells.granule}")
        self._blank = bytes((cells.erased,)) * self._chunk
        chunks = self.size // self._chunk
        self._data = [self._blank] * chunks
        self._used = [0] * chunks
        self._bad = [0] * chunks
        self.wear = [0] * len(pages)

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return len(self.wear)

    def page_at(self, offset: int) -> int:
        """Return the number of the page that has this byte."""
        return bisect_right(self._starts, offset) - 1

    def span(self, page: int) -> tuple[int, int]:
        """Return where a page begins, and where the next one does."""
        return self._starts[page], self._starts[page + 1]

    def read(self, offset: int, size: int) -> bytes:
        """Return what the cells hold, whether it can be trusted or not."""
        first, last = offset // self._chunk, -(-(offset + size) // self._chunk)
        return b"".join(self._data[first:last])[offset - first * self._chunk :][:size]

    def is_bad(self, offset: int, size: int) -> bool:
        """Tell whether reading these bytes meets check bits that do not fit."""
        if not any(self._bad):
            return False
        granule = self.cells.granule
        first = offset - offset % granule
        return any(self._flag(self._bad, each) for each in range(first, offset + size, granule))

    # --- work ----------------------------------------------------------------------------------------------

    def erase(self, page: int) -> None:
        """Erase a page."""
        self.wear[page] += 1
        for chunk in self._chunks(page):
            self._data[chunk] = self._blank
            self._used[chunk] = self._bad[chunk] = 0

    def program(self, offset: int, data: bytes) -> bool:
        """Program one granule; tell whether the flash took it."""
        chunk, within, bit = self._place(offset)
        if not self._takes(offset, data):
            return False
        old = self._data[chunk]
        data = self._merged(old[within : within + len(data)], data)
        self._data[chunk] = old[:within] + data + old[within + len(data) :]
        self._used[chunk] |= bit
        self._bad[chunk] &= ~bit
        return True

    def tear_erase(self, page: int, tear: Tear) -> None:
        """Begin to erase a page, and lose power."""
        if tear.share >= 1:
            self.erase(page)
            return
        self.wear[page] += 1
        if tear.share <= 0:
            return
        # Reproducible, not secret.
        rng = random.Random(f"{tear.seed}/erase/{page}")  # noqa: S311
        start, end = self.span(page)
        blank = self.cells.blank
        before = self.read(start, end - start)
        self._put(start, _towards(before, self._blank * len(self._chunks(page)), tear.share, rng))
        for offset in range(start, end, len(blank)):
            old = before[offset - start :][: len(blank)]
            if old != blank or self._flag(self._used, offset):
                self._settle(offset, old, blank, tear, rng)

    def tear_program(self, offset: int, data: bytes, tear: Tear) -> None:
        """Begin to program a granule, and lose power."""
        if tear.share >= 1:
            self.program(offset, data)
        elif tear.share > 0 and self._takes(offset, data):
            rng = random.Random(f"{tear.seed}/program/{offset}")  # noqa: S311
            before = self.read(offset, len(data))
            self._put(offset, _towards(before, self._merged(before, data), tear.share, rng))
            self._settle(offset, before, data, tear, rng)

    # --- snapshots -------------------------------------------------------------------------------------------

    def save(self) -> SavedFlash:
        """Return everything."""
        return SavedFlash(tuple(self._data), tuple(self._used), tuple(self._bad), tuple(self.wear))

    def load(self, saved: SavedFlash) -> None:
        """Take over what `save` returned."""
        self._data, self._used = list(saved.data), list(saved.used)
        self._bad, self.wear = list(saved.bad), list(saved.wear)

    # --- inside ------------------------------------------------------------------------------------------------

    def _chunks(self, page: int) -> range:
        start, end = self.span(page)
        return range(start // self._chunk, end // self._chunk)

    def _place(self, offset: int) -> tuple[int, int, int]:
        chunk, within = divmod(offset, self._chunk)
        return chunk, within, 1 << within // self.cells.granule

    def _flag(self, flags: list[int], offset: int) -> bool:
        chunk, _, bit = self._place(offset)
        return bool(flags[chunk] & bit)

    def _takes(self, offset: int, data: bytes) -> bool:
        if self.cells.rewrite is Rewrite.BITS or not any(data):
            return True
        if self.cells.corrects_errors:
            return not self._flag(self._used, offset)
        return self.read(offset, len(data)) == self.cells.blank

    def _merged(self, before: bytes, data: bytes) -> bytes:
        if self.cells.rewrite is Rewrite.ZEROS:
            return data
        pairs = zip(before, data, strict=True)
        return (
            bytes(old & new for old, new in pairs)
            if self.cells.erased
            else bytes(old | new for old, new in pairs)
        )

    def _put(self, offset: int, data: bytes) -> None:
        while data:
            chunk, within, _ = self._place(offset)
            piece = data[: self._chunk - within]
            old = self._data[chunk]
            self._data[chunk] = old[:within] + piece + old[within + len(piece) :]
            offset, data = offset + len(piece), data[len(piece) :]

    def _settle(self, offset: int, before: bytes, wanted: bytes, tear: Tear, rng: random.Random) -> None:
        """Decide what the check bits of a granule are after a cut, its bytes being what they are."""
        if not self.cells.corrects_errors:
            return
        after = self.read(offset, len(wanted))
        match tear.check_bits:
            case CheckBits.CHANCE:
                # Eight check bits find nearly every garbling; under bytes that look right they may still be half-way.
                bad = rng.random() < (_ODDS_LOOKS_RIGHT if after in {before, wanted} else _ODDS_GARBLED)
                used = after != self.cells.blank or rng.random() < _ODDS_LOOKS_RIGHT
            case CheckBits.FIT:
                bad, used = False, after != self.cells.blank
            case CheckBits.CLASH:
                bad = used = True
            case unreachable:
                assert_never(unreachable)
        chunk, _, bit = self._place(offset)
        self._used[chunk] = self._used[chunk] | bit if used else self._used[chunk] & ~bit
        self._bad[chunk] = self._bad[chunk] | bit if bad else self._bad[chunk] & ~bit


def _towards(before: bytes, after: bytes, share: float, rng: random.Random) -> bytes:
    """Change about a share of the bits that are to change."""
    mask = 0
    # Of one random draw after the other, joined by "or" and "and", each bit ends up set with that probability.
    for digit in reversed(f"{min(round(share * 256), 255):08b}"):
        draw = rng.getrandbits(8 * len(before))
        mask = mask | draw if digit == "1" else mask & draw
    one, other = int.from_bytes(before, "little"), int.from_bytes(after, "little")
    return ((one & ~mask) | (other & mask)).to_bytes(len(before), "little")
