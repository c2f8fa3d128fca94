"""Whether a device class may rely on what it says: what the table knows of the silicon, and what the device shows.

The table has to know the mechanism and have it proven; what the device shows can only speak against it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.lookup import second_bank
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.vectors import VECTORS_SIZE, Vectors, could_be_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.facts import BankCheck, Family
    from firmwarden.drivers.boot.target import Target

RELIED_ON: Final[Mapping[Failsafe, str]] = MappingProxyType(
    {
        Failsafe.BFB2: "without an image the device comes up in its ROM's loader",
        Failsafe.EMPTY_CHECK: "while its first word is erased the device comes up in its ROM's loader",
        Failsafe.RESIDENT_LOADER: "a loader is there, and the update does not touch it",
        Failsafe.GOLDEN_BANK: "without an image in bank 2 the device starts the one in bank 1",
        Failsafe.NONE: "nothing protects it, as is declared: an interruption bricks the device",
    }
)
"""What to tell when there is no doubt."""


def doubts(target: Target, contents: Contents) -> Iterator[str]:
    """Yield what speaks against the class's word, the gravest first; nothing when it may be relied on."""
    family, failsafe = target.family, target.failsafe
    standing = standing_doubt(failsafe, target.declared, family)
    if standing is not None:
        yield standing
    elif failsafe is Failsafe.RESIDENT_LOADER:
        yield from _loader_doubts(target, contents)
    elif failsafe in {Failsafe.BFB2, Failsafe.GOLDEN_BANK} and family and family.bank_check:
        yield from _bank_check_doubts(family, family.bank_check, target, contents)
        if failsafe is Failsafe.BFB2:
            yield from _second_bank_doubts(target, contents)
        else:
            yield from _golden_doubts(family.bank_check, target, contents)


def standing_doubt(
    failsafe: Failsafe,
    declared: bool,  # noqa: FBT001
    family: Family | None,
    *,
    by_software: bool = False,
) -> str | None:
    """Say what speaks against a class's word whatever its devices show, as far as its configuration tells; else None.

    Args:
        failsafe: what the class says.
        declared: False when it says nothing; ``failsafe`` does not matter then.
        family: of the part that the class declares, if anything is known of it.
        by_software: the application brings the unit into its ROM, which then finds the chip as that left it.
    """
    if not declared:
        return _undeclared(family)
    match failsafe:
        case Failsafe.NONE | Failsafe.RESIDENT_LOADER:
            return None
        case _ if family is None:
            return f"{failsafe.value} is declared without a part of which anything is known"
        case Failsafe.EMPTY_CHECK:
            return None if family.empty_check is not None else f"{family.title} has no empty check"
        case Failsafe.BFB2 | Failsafe.GOLDEN_BANK:
            if family.bank_check is None:
                return f"the ROM of {family.title} does not look for a bank to start"
            if not family.bank_check.proven:
                return (
                    f"the ROM's choice of a bank is not proven on {family.title}: {family.bank_check.doubt}"
                )
            if failsafe is Failsafe.GOLDEN_BANK and family.bank_check.first == 1:
                return f"the ROM of {family.title} starts the image in bank 1 whatever bank 2 holds"
            if failsafe is Failsafe.GOLDEN_BANK and by_software:
                return (
                    "an application in bank 2 that jumps into the ROM may leave the banks swapped, and then the golden "
                    'image is what an update erases; bring it there by BOOT0 and a reset, with method = "command"'
                )
            return None


def _undeclared(family: Family | None) -> str:
    """Say what could be relied on, for a person who has to choose."""
    if family is None:
        return "nobody said which part it is, and what protects it when the power fails"
    offers = [f"{Failsafe.RESIDENT_LOADER.value}, with a loader of your own"]
    if family.empty_check is not None:
        offers.insert(0, Failsafe.EMPTY_CHECK.value)
    if family.bank_check is not None and family.bank_check.proven:
        offers.insert(0, f"{Failsafe.BFB2.value}, with {family.bank_check.setting}")
    can_have = "; ".join(offers)
    return f"nobody said what protects it when the power fails; {family.title} can have: {can_have}"


def _loader_doubts(target: Target, contents: Contents) -> Iterator[str]:
    if target.base == target.start:
        return  # It is the loader that we talk to: it does not show itself.
    vectors = contents.read(target.base, target.base + VECTORS_SIZE)
    if vectors is not None and not vectors.strip(bytes((target.erased,))):
        yield f"there is no loader at 0x{target.base:08x}"


def _bank_check_doubts(family: Family, check: BankCheck, target: Target, contents: Contents) -> Iterator[str]:
    strange = {sector.size for sector in target.memory.sectors()} - check.pages
    if check.pages and strange:
        yield f"its flash is one bank, as pages of {min(strange)} bytes tell"
    for bit in check.bits:
        word = contents.word(bit.address)
        if word is not None and not bit.holds(word):
            yield f"the device does not have {bit}, so its ROM does not stay when there is no image"
    if check.loader_at_least is not None:
        version = None if family.loader_id is None else contents.byte(family.loader_id)
        if version is None or version < check.loader_at_least:
            told = "a version that could not be read" if version is None else f"version 0x{version:02x}"
            yield f"its loader has {told}, and those before 0x{check.loader_at_least:02x} choose wrongly"


def _second_bank_doubts(target: Target, contents: Contents) -> Iterator[str]:
    address = second_bank(target.memory)
    word = contents.word(address)
    if word is None:
        yield f"what is at 0x{address:08x}, where bank 2 begins, was not read"
    elif could_be_stack(word):
        yield f"bank 2 begins with 0x{word:08x}, so the ROM may start it whatever bank 1 holds"


def _golden_doubts(check: BankCheck, target: Target, contents: Contents) -> Iterator[str]:
    vectors = contents.read(target.base, target.base + VECTORS_SIZE)
    stack = None if vectors is None else Vectors.decode(vectors).stack
    if stack is None or not any(ram.holds_stack(stack) for ram in check.stacks):
        yield f"bank 1 holds no image that could run instead, at 0x{target.base:08x}"
