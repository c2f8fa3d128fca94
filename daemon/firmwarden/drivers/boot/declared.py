"""What a person declares of a device, before any device is at hand: its part, and what protects its updates."""

from __future__ import annotations

from itertools import chain, product
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.reliance import standing_doubt

if TYPE_CHECKING:
    from firmwarden.drivers.boot.facts import Family

_SERIES: Final = len("STM32L")

_OF_THE_SILICON: Final = frozenset({Failsafe.BFB2, Failsafe.EMPTY_CHECK, Failsafe.GOLDEN_BANK})
"""What only some families have; a loader of one's own can be put on any part."""


def fault_of_part(part: str | None, failsafe: Failsafe | None) -> str | None:
    """Say what is wrong with the part that is declared, or with declaring none; None if nothing is."""
    if part is None:
        if failsafe in _OF_THE_SILICON:
            return f'is missing; failsafe = "{failsafe}" needs to know the silicon'
        return None
    return _why_unknown(part) if family_of(part) is None else None


def fault_of_failsafe(part: str | None, failsafe: Failsafe | None) -> str | None:
    """Say what the declared part does not have; None if it can be relied on, or if that is only not proven."""
    family = None if part is None else family_of(part)
    if family is None or failsafe is None or not _lacks(family, failsafe):
        return None
    why = standing_doubt(failsafe, declared=True, family=family)
    return f'expected another than "{failsafe}": {why}'


def _why_unknown(part: str) -> str:
    name = part.strip().upper()
    # The letter of the flash size is the second behind the digits, and the parts of one name may differ in it.
    endings = chain(*(product(ascii_uppercase + digits, repeat=count) for count in (1, 2)))
    if any(family_of(name + "".join(ending)) for ending in endings):
        return (
            f"expected more of the part number than {part}, up to the letter of the flash size, "
            "such as the G of STM32L476RG: parts with that beginning boot differently"
        )
    alike = [family.title for family in FAMILIES if family.title[:_SERIES] == name[:_SERIES]]
    titles = alike or [family.title for family in FAMILIES]
    return f"no facts are known of {part}; known families: {'; '.join(titles)}"


def _lacks(family: Family, failsafe: Failsafe) -> bool:
    match failsafe:
        case Failsafe.EMPTY_CHECK:
            return family.empty_check is None
        case Failsafe.BFB2:
            return family.bank_check is None
        case Failsafe.GOLDEN_BANK:
            return family.bank_check is None or family.bank_check.first == 1
        case Failsafe.RESIDENT_LOADER | Failsafe.NONE:
            return False
