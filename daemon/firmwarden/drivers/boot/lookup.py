"""Which family a device is of: what its class declares decides, what its loader tells may contradict.

Every ROM of ST goes by 0483:DF11, and so do those of clones, so a family is never concluded from what a loader tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.facts import FLASH_BASE
from firmwarden.drivers.boot.families import FAMILIES

if TYPE_CHECKING:
    from firmwarden.drivers.boot.facts import Family
    from firmwarden.protocol.dfu.memory_map import MemoryMap

_KILO: Final = 1 << 10


def family_of(part: str) -> Family | None:
    """Return the family of a part number, e.g. ``STM32L476RG``; None when nothing is known of it.

    Some rows hold for one size of the flash only: then the letter of the size is needed.
    """
    name = part.strip().upper()
    return next(
        (family for family in FAMILIES if any(pattern.match(name) for pattern in family.parts)),
        None,
    )


def contradiction(family: Family, memory: MemoryMap, *, partly: bool = False) -> str | None:
    """Say in what the memory that a device shows cannot be the flash of this family; None if it can.

    Args:
        family: the family.
        memory: the memory.
        partly: it need not show the beginning, as a loader does not that keeps itself out of what it shows.
    """
    sectors = memory.sectors()
    if sectors[0].address != FLASH_BASE and not (partly and sectors[0].address > FLASH_BASE):
        return f"its memory begins at 0x{sectors[0].address:08x}, not at 0x{FLASH_BASE:08x}"
    strange = sorted({sector.size for sector in sectors} - family.flash.pages)
    if strange:
        return f"it has pages of {strange[0]} bytes"
    # Some loaders show the largest flash of the family whatever the part has, so less is no proof, and more is.
    size = sum(sector.size for sector in sectors)
    if size > max(family.flash.kilobytes) * _KILO:
        return f"it has {size // _KILO} KiB of flash"
    return None


def second_bank(memory: MemoryMap) -> int:
    """Return where the second bank begins: at the gap, where there is one, else in the middle."""
    regions = sorted(memory.regions, key=lambda region: region.address)
    if len(regions) > 1:
        return regions[1].address
    return regions[0].address + (regions[0].end - regions[0].address) // 2
