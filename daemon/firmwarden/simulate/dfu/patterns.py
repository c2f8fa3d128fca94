"""What decides what a chip runs after a reset: AN2606's activation patterns as data, and one function that reads them.

A ``Way`` is a set of signals with values: pins (``BOOT0``, ``BOOT1``), option bits by their names, and ``EMPTY``, the
flag of the empty check as latched when the option bytes were loaded.  A pattern tells which ways lead into the ROM,
which into the ROM's choice between two banks, which into RAM; all others start the flash, whatever is in it.

Source: ST AN2606, table 2 ("bootloader activation patterns") and the figures "dual bank boot" of the families that have
one; RM0440, RM0444, RM0490, 2.6; the knowledge base article "Empty check mechanism on STM32".  Pattern numbers are
AN2606's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Way = MappingProxyType[str, int]


def _way(**signals: int) -> Way:
    return MappingProxyType(signals)


def _both(one: Way, **more: int) -> Way:
    return MappingProxyType(dict(one) | more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """How a family decides."""

    rom: tuple[Way, ...]
    banks: tuple[Way, ...] = ()
    """Here the ROM runs and looks for a bank to start; it stays when it finds none."""
    order: tuple[int, int] = (2, 1)
    """In which it looks."""
    ram: tuple[Way, ...] = ()

    def chooses_bank(self, signals: Mapping[str, int]) -> bool:
        """Tell whether the ROM runs first and looks for a bank."""
        return _any(self.banks, signals)

    @property
    def checks_banks(self) -> bool:
        """True for families of which the ROM can choose a bank."""
        return bool(self.banks)

    @property
    def checks_empty(self) -> bool:
        """True for families with the empty check."""
        return any("EMPTY" in way for way in self.rom)


_PINS: Final = _way(BOOT0=1, nBOOT1=1)
_OLD_PINS: Final = _way(BOOT0=1, BOOT1=0)

# With nSWBOOT0 set the pin decides, else the bit nBOOT0 does, which has the opposite sense.
_SWITCHED_ROM: Final = (_way(BOOT0=1, nBOOT1=1, nSWBOOT0=1), _way(nBOOT0=0, nBOOT1=1, nSWBOOT0=0))
_SWITCHED_RAM: Final = (_way(BOOT0=1, nBOOT1=0, nSWBOOT0=1), _way(nBOOT0=0, nBOOT1=0, nSWBOOT0=0))
_SWITCHED_FLASH: Final = (_way(BOOT0=0, nSWBOOT0=1), _way(nBOOT0=1, nSWBOOT0=0))

# The same with nBOOT_SEL, where 0 means the pin.
_SELECTED_ROM: Final = (_way(nBOOT_SEL=1, nBOOT0=0, nBOOT1=1), _way(nBOOT_SEL=0, BOOT0=1, nBOOT1=1))
_SELECTED_RAM: Final = (_way(nBOOT_SEL=1, nBOOT0=0, nBOOT1=0), _way(nBOOT_SEL=0, BOOT0=1, nBOOT1=0))
_SELECTED_FLASH: Final = (_way(nBOOT_SEL=1, nBOOT0=1), _way(nBOOT_SEL=0, BOOT0=0))

F7_ROM: Final = 0x0040
H7_ROM: Final = 0x1FF0
L5_ROM: Final = 0x17F2
"""What the boot address options hold when they mean the ROM."""


def _addressed(low: str, high: str, rom: int) -> tuple[Way, ...]:
    return _way(BOOT0=0, **{low: rom}), _way(BOOT0=1, **{high: rom})


PATTERN_1: Final = Pattern(rom=(_OLD_PINS,), ram=(_way(BOOT0=1, BOOT1=1),))
PATTERN_2: Final = Pattern(rom=(_PINS,), ram=(_way(BOOT0=1, nBOOT1=0),))
PATTERN_5: Final = Pattern(rom=(_OLD_PINS,), banks=(_way(BOOT0=0, BFB2=1),), ram=(_way(BOOT0=1, BOOT1=1),))
PATTERN_6: Final = Pattern(
    rom=(*_SWITCHED_ROM, *(_both(way, EMPTY=1) for way in _SWITCHED_FLASH)), ram=_SWITCHED_RAM
)
PATTERN_6_BANKS: Final = Pattern(
    rom=PATTERN_6.rom, banks=tuple(_both(way, BFB2=1) for way in _SWITCHED_FLASH), ram=_SWITCHED_RAM
)
"""The dual-bank parts of pattern 6, for which AN2606 has a figure of its own."""
PATTERN_7: Final = Pattern(rom=(_PINS,), banks=(_way(BOOT0=0, BFB2=1),), ram=(_way(BOOT0=1, nBOOT1=0),))
PATTERN_8: Final = Pattern(rom=_addressed("BOOT_ADD0", "BOOT_ADD1", F7_ROM))
PATTERN_9: Final = Pattern(rom=PATTERN_8.rom, banks=(_way(nDBANK=0, nDBOOT=0),), order=(1, 2))
"""The order of banks follows the boot address, which is bank 1's as delivered."""
PATTERN_10: Final = Pattern(rom=_addressed("BOOT_ADD0", "BOOT_ADD1", H7_ROM))
PATTERN_11: Final = Pattern(
    rom=tuple(
        _both(way, BOOT_LOCK=0)
        for way in (*_SELECTED_ROM, *(_both(flash, EMPTY=1) for flash in _SELECTED_FLASH))
    ),
    ram=tuple(_both(way, BOOT_LOCK=0) for way in _SELECTED_RAM),
)
PATTERN_12: Final = Pattern(
    rom=(
        _way(nSWBOOT0=1, BOOT0=0, NSBOOTADD0=L5_ROM),
        _way(nSWBOOT0=1, BOOT0=1, NSBOOTADD1=L5_ROM),
        _way(nSWBOOT0=0, nBOOT0=1, NSBOOTADD0=L5_ROM),
        _way(nSWBOOT0=0, nBOOT0=0, NSBOOTADD1=L5_ROM),
    )
)
"""Without TrustZone."""
PATTERN_14: Final = Pattern(
    rom=tuple(_both(way, BOOT_LOCK=0) for way in _SWITCHED_ROM),
    banks=tuple(_both(way, BFB2=1, BOOT_LOCK=0) for way in _SWITCHED_FLASH),
    ram=tuple(_both(way, BOOT_LOCK=0) for way in _SWITCHED_RAM),
)
PATTERN_15: Final = Pattern(rom=PATTERN_14.rom, ram=PATTERN_14.ram)
PATTERN_16: Final = PATTERN_6
"""Told in other words, for STM32WB."""
PATTERN_16_PIN: Final = Pattern(rom=(_PINS, _way(BOOT0=0, EMPTY=1)), ram=(_way(BOOT0=1, nBOOT1=0),))
"""Pattern 16 without the software bits."""
PATTERN_17: Final = Pattern(rom=(_way(BOOT0=1, PRODUCT_OPEN=1), _way(PRODUCT_PROVISIONING=1)))
PATTERN_19: Final = Pattern(
    rom=(
        _way(BOOT_SEL=0, BOOT0=1),
        _way(BOOT_SEL=1, BOOT0_BIT=1),
        _way(BOOT_SEL=0, BOOT0=0, EMPTY=1),
        _way(BOOT_SEL=1, BOOT0_BIT=0, EMPTY=1),
    )
)


@unique
class BankState(Enum):
    """What the ROM finds in the first word of a bank."""

    VALID = "it could be a stack pointer"
    INVALID = "it is none"
    FAULT = "reading it is an error"


@unique
class Start(Enum):
    """Where the processor begins."""

    ROM = "rom"
    BANK_1 = "bank 1"
    BANK_2 = "bank 2"
    RAM = "ram"
    BLOCKED = "blocked"
    FAULT = "fault"


def decide(
    pattern: Pattern, signals: Mapping[str, int], bank: Callable[[int], BankState], *, locked: bool
) -> Start:
    """Return where a chip begins after a reset.

    Args:
        pattern: of its family.
        signals: pins, option bits and the empty flag.
        bank: looks into a bank, as the ROM would.
        locked: read protection level 2, at which the ROM's loader does not run.
    """
    into_rom = _any(pattern.rom, signals)
    if pattern.chooses_bank(signals) or (locked and into_rom and pattern.checks_banks):
        for number in pattern.order:
            match bank(number):
                case BankState.VALID:
                    return Start.BANK_1 if number == 1 else Start.BANK_2
                case BankState.FAULT:
                    return Start.FAULT
                case BankState.INVALID:
                    pass
        return Start.BLOCKED if locked else Start.ROM
    if locked:
        return Start.BANK_1
    if into_rom:
        return Start.ROM
    return Start.RAM if _any(pattern.ram, signals) else Start.BANK_1


def _any(ways: tuple[Way, ...], signals: Mapping[str, int]) -> bool:
    return any(all(signals.get(name) == value for name, value in way.items()) for way in ways)
