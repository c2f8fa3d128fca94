"""What a class says of its silicon: whether the part is known, and can do what the class relies on."""

from __future__ import annotations

from itertools import chain, product
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.config.faults import Fault
    from firmwarden.config.tree import DeviceClass
    from firmwarden.drivers.boot.facts import Family

_SERIES: Final = len("STM32L")

_OF_THE_SILICON: Final = frozenset({Failsafe.BFB2, Failsafe.EMPTY_CHECK, Failsafe.GOLDEN_BANK})
"""What only some families have; a loader of one's own can be put on any part."""


def faults_of_silicon(device: DeviceClass) -> Iterator[Fault]:
    """Look for what no unit of the class could do; what is only not proven is no fault, but makes updates wait."""
    if device.part is None:
        if device.failsafe in _OF_THE_SILICON:
            yield ("part",), f'is missing; failsafe = "{device.failsafe}" needs to know the silicon'
        return
    family = family_of(device.part)
    if family is None:
        yield ("part",), _why_unknown(device.part)
    elif lack := _lack(family, device.failsafe):
        yield ("failsafe",), f'expected another than "{device.failsafe}": {lack}'


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


def _lack(family: Family, failsafe: Failsafe | None) -> str:
    """Say what a family does not have; empty where it has it."""
    match failsafe:
        case Failsafe.EMPTY_CHECK if family.empty_check is None:
            return f"{family.title} has no empty check"
        case Failsafe.BFB2 | Failsafe.GOLDEN_BANK if family.bank_check is None:
            return f"the ROM of {family.title} does not look for a bank to start"
        case Failsafe.GOLDEN_BANK if family.bank_check is not None and family.bank_check.first == 1:
            return f"the ROM of {family.title} starts the image in bank 1 whatever bank 2 holds"
        case _:
            return ""
