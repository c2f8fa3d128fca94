"""What has to be known of a family of microcontrollers to update it without a hand near its BOOT0 pin.

A fact says where it is from and how sure it is.  It matters: an update that nobody watches relies on a mechanism only
if it is *proven*, that is, told by the vendor for this family and not contradicted by what users saw.

How these parts decide what to run, without the pin (ST AN2606):

* They start the flash, whatever is there.  Then no order of writing can rescue an update.
* *Empty check*: with the first word of the flash all ones the ROM's loader runs.  The check is made when the power
  comes up, not at every reset.
* *Bank check*: with an option bit set (BFB2 on most) the ROM runs first at every reset.  It starts bank 2 if the first
  word there could be a stack pointer, else bank 1 likewise, else it stays in its loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re

FLASH_BASE: Final = 0x0800_0000
"""Where the main flash of every STM32 is."""

WORD: Final = 4


@unique
class Confidence(Enum):
    """How sure a fact is, best first."""

    VENDOR = "told by the vendor"
    CODE = "read in code that works in the field"
    FIELD = "reported by users"
    GENERAL = "general knowledge, not read in a document of this family"
    INFERRED = "concluded, not tested"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact is from."""

    text: str
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Ram:
    """Memory that a stack may lie in."""

    start: int
    end: int
    """The address behind it, which a stack that grows down may begin with."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"memory from 0x{self.start:x} to 0x{self.end:x}")

    def holds_stack(self, pointer: int) -> bool:
        """Tell whether an initial stack pointer points in here, as the procedure call standard aligns it."""
        return self.start < pointer <= self.end and pointer % 8 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flash:
    """The main flash."""

    kilobytes: frozenset[int]
    """The sizes that are sold."""
    pages: frozenset[int]
    """Every size that a page can have, in bytes."""
    granule: int
    """The least that is written: what the flash programs at once, or what the loader's alignment allows if that is
    more.  With error correction it cannot be written in parts."""
    erased: int = 0xFF
    """What an erased byte reads as."""
    corrects_errors: bool = True
    """A granule has check bits: it takes one write for each erase, and one half written may not even read."""

    def __post_init__(self) -> None:
        if any(page % self.granule for page in self.pages):
            raise ValueError("a page that is no whole number of granules")

    @property
    def erased_word(self) -> int:
        """What an erased word reads as."""
        return int.from_bytes(bytes((self.erased,)) * WORD, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionBit:
    """A bit of the option bytes, where a DfuSe loader shows them, and what it must be."""

    name: str
    address: int
    """Of the word that it is in."""
    bit: int
    wanted: int

    def holds(self, word: int) -> bool:
        """Tell whether the bit is as wanted."""
        return (word >> self.bit) & 1 == self.wanted

    def __str__(self) -> str:
        return f"{self.name}={self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyCheck:
    """With the first word all ones the loader runs, after power-on."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class BankCheck:
    """The ROM runs first and looks for a bank whose first word could be a stack pointer."""

    proven: bool = True
    setting: str
    """What turns it on, for a person, e.g. ``BFB2=1``."""
    bits: tuple[OptionBit, ...] = ()
    """The same for us; empty where it is not known where a loader shows them."""
    pages: frozenset[int] = frozenset()
    """The sizes of pages while the flash is two banks, where they are others while it is one."""
    stacks: tuple[Ram, ...]
    """What every known version of the ROM takes for a stack pointer; where that is not told, the part's SRAM."""
    first: int = 2
    """The bank that it starts when both could be started."""
    loader_at_least: int | None = None
    """The oldest loader (by its id) that does it right."""
    doubt: str = ""
    """Why it is not proven."""
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBug:
    """The loader corrupts, and does not tell, writes of more than `above` bytes that are no multiple of `multiple`."""

    above: int
    multiple: int
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Parts that boot alike."""

    name: str
    """In kebab-case; for the log."""
    title: str
    """For a person."""
    parts: tuple[re.Pattern[str], ...]
    """Match the beginning of a part number, with the letter of its flash size where that matters."""
    flash: Flash
    stacks: tuple[Ram, ...]
    """Where an image's stack may begin."""
    empty_check: EmptyCheck | None = None
    bank_check: BankCheck | None = None
    protection: int | None = None
    """Address of the byte of the option bytes that is 0xAA while the flash is not read-protected."""
    loader_id: int | None = None
    """Address of the byte that tells the version of the loader; it is readable, though in no map."""
    length_bug: LengthBug | None = None
    remark: str = ""
    """What an engineer should know before relying on it."""
    source: Source
