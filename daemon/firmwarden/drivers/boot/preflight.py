"""What is checked before the first erase: whether the image may go there at all, and whether its class's word holds.

Three grades.  *Refuse*: this image must not be written to this device; nobody's word changes that.  *Wait*: an update
that nobody watches must not begin, since the mechanism that its class relies on is not proven for this silicon, or the
device shows that it is off; the operator switches it on, or writes ``failsafe = "none"`` and takes the risk.  *Good*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.lookup import contradiction, second_bank
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.reliance import RELIED_ON, doubts
from firmwarden.drivers.boot.vectors import VECTORS_SIZE, Vectors, could_be_stack
from firmwarden.errors import BadImage
from firmwarden.images.dfu_image import check_fits
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.dfuse_host import blocks_of
from firmwarden.protocol.dfu.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.boot.facts import Family, Ram
    from firmwarden.drivers.boot.target import Target

_UNPROTECTED: Final = 0xAA
"""RDP of level 0, on every family."""


@unique
class Check(StrEnum):
    """What is looked at."""

    LAYOUT = "layout"
    """The image lies in memory that can be erased and written, and in nothing that must stay."""
    PART = "part"
    """The device could be the part that its class declares."""
    PROTECTION = "protection"
    """The flash is not read-protected."""
    BLOCKS = "blocks"
    """No block is one that the loader is known to corrupt."""
    VECTORS = "vectors"
    """The image could start."""
    FAILSAFE = "failsafe"
    """The mechanism that the class relies on is proven for this part, and the device does not show that it is off."""


@unique
class Grade(IntEnum):
    """How a check ended; the worst counts."""

    GOOD = 0
    WAIT = 1
    REFUSE = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: Check
    grade: Grade
    detail: str
    """One sentence for a person."""
    code: CauseCode | None = None
    """Of the failure that a refusal is."""


def verdict(findings: Iterable[Finding]) -> Finding:
    """Return the finding that decides: the first of the worst."""
    return max(findings, key=lambda finding: finding.grade)


def preflight(
    target: Target,
    image: tuple[Segment, ...],
    contents: Contents,
    *,
    block_size: int,
    readable: bool = True,
) -> tuple[Finding, ...]:
    """Check an update before it begins.

    Args:
        target: what is to be updated.
        image: the image, where its file says.
        contents: what was read (``reads.wanted``).
        block_size: what the loader moves at a time.
        readable: False when the loader refused to let its flash be read.
    """
    protection = _protection(target.family, contents, readable=readable)
    try:
        placed = target.place(image)
        check_fits(placed, target.memory)
    except BadImage as exc:
        return (Finding(Check.LAYOUT, Grade.REFUSE, str(exc), CauseCode.IMAGE_UNFIT), protection)
    return (
        Finding(
            Check.LAYOUT,
            Grade.GOOD,
            f"{sum(len(each.data) for each in placed)} bytes fit '{target.memory.name}'",
        ),
        _part(target),
        protection,
        _blocks(target, placed, block_size),
        _vectors(target, placed),
        _failsafe(target, contents),
    )


def _part(target: Target) -> Finding:
    if target.family is None:
        return Finding(Check.PART, Grade.GOOD, "no part is declared that anything is known of")
    resident = target.failsafe is Failsafe.RESIDENT_LOADER
    strange = contradiction(target.family, target.memory, partly=resident)
    if strange:
        # Not a word about the image: another unit is on the port, or the class is wrong.
        return Finding(Check.PART, Grade.WAIT, f"the device is no {target.family.title}: {strange}")
    return Finding(Check.PART, Grade.GOOD, f"it could be {target.family.title}")


def _protection(family: Family | None, contents: Contents, *, readable: bool) -> Finding:
    level = None if family is None or family.protection is None else contents.byte(family.protection)
    if not readable or level not in {None, _UNPROTECTED}:
        told = "the loader refuses to read" if level is None else f"RDP is 0x{level:02x}"
        return Finding(
            Check.PROTECTION,
            Grade.REFUSE,
            f"the flash is read-protected ({told}), so nothing that is written could be checked",
            CauseCode.READ_PROTECTED,
        )
    return Finding(Check.PROTECTION, Grade.GOOD, "the flash can be read")


def _blocks(target: Target, placed: tuple[Segment, ...], block_size: int) -> Finding:
    bug = target.family.length_bug if target.family else None
    if bug is not None:
        for block in blocks_of(placed, block_size, target.erased, target.granule):
            if len(block.data) > bug.above and len(block.data) % bug.multiple:
                return Finding(
                    Check.BLOCKS,
                    Grade.REFUSE,
                    f"the loader would corrupt the {len(block.data)} bytes at 0x{block.address:08x} and not tell",
                    CauseCode.IMAGE_UNFIT,
                )
    return Finding(Check.BLOCKS, Grade.GOOD, "no block is one that the loader is known to corrupt")


def _vectors(target: Target, placed: tuple[Segment, ...]) -> Finding:
    def refuse(detail: str) -> Finding:
        return Finding(Check.VECTORS, Grade.REFUSE, detail, CauseCode.IMAGE_UNFIT)

    if target.failsafe is Failsafe.RESIDENT_LOADER:
        # What an application has at its beginning is between it and its loader.
        return Finding(Check.VECTORS, Grade.GOOD, "the resident loader checks the image")
    if len(placed[0].data) < VECTORS_SIZE:
        return refuse(f"the image has no vectors, but {len(placed[0].data)} byte(s) at its beginning")
    linked = [Segment(piece.address - target.swap, piece.data) for piece in placed]
    fault = Vectors.decode(placed[0].data).fault(_stacks(target), linked)
    if fault:
        return refuse(fault)
    if target.failsafe is Failsafe.BFB2:
        start = second_bank(target.memory)
        word = Contents(placed).word(start)
        if word is not None and could_be_stack(word):
            return refuse(
                f"the image has 0x{word:08x} at 0x{start:08x}, where bank 2 begins: the ROM may take that for an "
                "image of its own; have the linker put 0 there"
            )
    return Finding(Check.VECTORS, Grade.GOOD, "stack pointer and reset vector are where they can be")


def _stacks(target: Target) -> tuple[Ram, ...]:
    family = target.family
    if family is None:
        return ()
    if target.failsafe in {Failsafe.BFB2, Failsafe.GOLDEN_BANK} and family.bank_check is not None:
        # Elsewhere the image would run, and the ROM would never start it.
        return family.bank_check.stacks
    return family.stacks


def _failsafe(target: Target, contents: Contents) -> Finding:
    doubt = next(doubts(target, contents), None)
    if doubt is None:
        return Finding(Check.FAILSAFE, Grade.GOOD, RELIED_ON[target.failsafe])
    return Finding(Check.FAILSAFE, Grade.WAIT, at_risk(doubt))


def at_risk(doubt: str) -> str:
    """Say what a doubt means for the update."""
    return f"{doubt}; an interruption may brick the device"
