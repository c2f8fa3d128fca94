"""A block of option bytes as STM32L4, L4+ and G4 have it, and a change of one bit in it.

The block of a bank is words that are each followed by their complement: FLASH_OPTR, which counts in that of bank 1
only, the first and the last double word that are protected against reading (PCROP), two areas of pages that are
protected against writing (WRP), and on G4 the secure area.  An area whose first page lies behind its last is none.

Source: ST RM0351, 3.4.1 and 3.7.8 to 3.7.12; RM0432, 3.4.1 and 3.7; RM0440, 5.4.1 and 5.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.facts import WORD
from firmwarden.protocol.dfu.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.facts import OptionBit

ENTRY: Final = 2 * WORD
"""Bytes of a word and its complement."""
_ONES: Final = 0xFFFF_FFFF
_RDP: Final = 0xFF
UNPROTECTED: Final = 0xAA
"""RDP of level 0."""

_NSWBOOT0: Final = 1 << 26
_NBOOT0: Final = 1 << 27
_BOOT_LOCK: Final = 1 << 16
_SECURE_PAGES: Final = 0xFF


def words_of(block: bytes) -> list[int]:
    """Return the words of a block, without their complements."""
    return [int.from_bytes(block[at : at + WORD], "little") for at in range(0, len(block), ENTRY)]


def entry(word: int) -> bytes:
    """Return a word with its complement."""
    return word.to_bytes(WORD, "little") + (word ^ _ONES).to_bytes(WORD, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What stands in the option bytes of a bank."""

    words: frozenset[int]
    """How many of them loaders show."""
    code_bits: int
    """Of PCROP_STRT and PCROP_END, the second and the third word."""
    write_bits: int
    """Of WRP_STRT and, from bit 16 on, WRP_END."""
    boots_by_bits: bool
    """FLASH_OPTR has nSWBOOT0 and nBOOT0, which can send the processor into the ROM at every reset."""

    def doubts(self, block: bytes, *, first: bool) -> Iterator[str]:
        """Yield what of a block is not as it should be before anybody rewrites it.

        Args:
            block: the option bytes of a bank.
            first: they are those of bank 1, where FLASH_OPTR counts.
        """
        options, code_first, code_last, *areas = words_of(block)
        fits = all(block[at : at + ENTRY] == entry(word) for at, word in _entries(block, skip=not first))
        if not fits:
            yield "option bytes do not fit their complements, as after a write that was cut"
        if first and options & _RDP != UNPROTECTED:
            yield f"the flash is read-protected (RDP is 0x{options & _RDP:02x})"
        if first and self.boots_by_bits and not options & (_NSWBOOT0 | _NBOOT0):
            yield "its option bytes send it into the ROM at every reset (nSWBOOT0=0, nBOOT0=0)"
        code, write = (1 << self.code_bits) - 1, (1 << self.write_bits) - 1
        if code_first & code <= code_last & code:
            yield "code is protected against reading (PCROP), and loaders cannot write that field"
        for area in areas[:2]:
            if area & write <= area >> 16 & write:
                yield (
                    f"pages {area & write} to {area >> 16 & write} of bank {1 if first else 2} are write-protected "
                    "(WRP), so no update could replace them"
                )
        locks = _SECURE_PAGES | (_BOOT_LOCK if first else 0)
        if any(word & locks for word in areas[2:]):
            yield "it has a secure area or BOOT_LOCK, so its ROM may not run at all"


def _entries(block: bytes, *, skip: bool) -> Iterator[tuple[int, int]]:
    for number, word in enumerate(words_of(block)):
        if number or not skip:
            yield number * ENTRY, word


_L4_PLUS: Final = Layout(words=frozenset({5}), code_bits=17, write_bits=8, boots_by_bits=True)

LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        "stm32l47x": Layout(words=frozenset({5}), code_bits=16, write_bits=8, boots_by_bits=False),
        "stm32l4p5": _L4_PLUS,
        "stm32l4r": _L4_PLUS,
        "stm32g47x": Layout(words=frozenset({5, 6}), code_bits=15, write_bits=7, boots_by_bits=True),
    }
)
"""By family; only where all of it is known."""


@dataclass(frozen=True, slots=True)
class WordChange:
    """A word of the option bytes, as it is and as it will be."""

    address: int
    before: int
    after: int


@unique
class Result(StrEnum):
    """What is known of the option bytes after they were written."""

    DONE = "done"
    """They are as they should be."""
    UNCHANGED = "unchanged"
    """They are as they were; loaders do not say so."""
    DIFFERENT = "different"
    """They are neither as they were nor as they should be."""
    PROTECTED = "read-protected"
    """The loader runs, and refuses to be read, as with option bytes that do not fit their complements."""
    UNREADABLE = "not-read"
    """The loader runs, and they could not be read."""
    RUNNING = "application-runs"
    """Something else than the loader is there, and shows no option bytes."""
    GONE = "gone"
    """Nothing is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One bit, in a block of option bytes that is otherwise left as it is."""

    bit: OptionBit
    before: Segment
    beside: tuple[Segment, ...] = ()
    """Option bytes of the other bank, which are not written."""

    def __post_init__(self) -> None:
        if self.bit.bit < _RDP.bit_length():
            raise ValueError(f"{self.bit} is a bit of RDP, some of whose values can never be taken back")

    @property
    def after(self) -> Segment:
        """What is written, in one piece."""
        at = self.bit.address - self.before.address
        word = int.from_bytes(self.before.data[at : at + WORD], "little")
        word = word & ~(1 << self.bit.bit) | self.bit.wanted << self.bit.bit
        data = self.before.data
        return Segment(self.before.address, data[:at] + entry(word) + data[at + ENTRY :])

    @property
    def nothing_to_do(self) -> bool:
        """True when the bit is as it should be."""
        return self.before == self.after

    @property
    def all_seen(self) -> bool:
        """True when the loader shows the option bytes of both banks, which every part with this bit has.

        A write erases all of them, shown or not.
        """
        return bool(self.beside)

    def words(self) -> tuple[WordChange, ...]:
        """Return every word of the block."""
        pairs = zip(words_of(self.before.data), words_of(self.after.data), strict=True)
        return tuple(
            WordChange(self.before.address + number * ENTRY, *pair) for number, pair in enumerate(pairs)
        )

    def result(self, contents: Contents) -> Result:
        """Judge what was read afterwards."""
        if all(map(contents.holds, (self.after, *self.beside))):
            return Result.DONE
        if all(map(contents.holds, (self.before, *self.beside))):
            return Result.UNCHANGED
        return Result.DIFFERENT
