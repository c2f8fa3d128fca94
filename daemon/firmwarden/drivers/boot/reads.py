"""What has to be read of a device before an update of it is planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.drivers.boot.facts import WORD
from firmwarden.drivers.boot.lookup import second_bank
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.vectors import VECTORS_SIZE
from firmwarden.protocol.dfu.segments import aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.drivers.boot.target import Target
    from firmwarden.protocol.dfu.segments import Segment


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes that somebody wants to know."""

    address: int
    size: int
    required: bool = True
    """False: it tells more, where the loader shows it (option bytes, its own version)."""

    def covers(self, other: Read) -> bool:
        """Tell whether this reads all that the other does."""
        return self.address <= other.address and other.address + other.size <= self.address + self.size


def wanted(target: Target, image: Iterable[Segment], *, whole: bool) -> tuple[Read, ...]:
    """Return what to read; no byte twice.

    Args:
        target: what is updated.
        image: the image, where its file says.
        whole: all that the image will replace, in whole granules.  Left out after a power cut, when nothing is kept
            anyway, and reading what was under way then may fault; the granule that is committed has been read by the
            ROM before.

    Raises:
        BadImage: the image does not belong there.
    """
    placed = target.place(image)
    if whole:
        granules = aligned(placed, target.granule, target.erased)
        body = tuple(Read(piece.address, len(piece.data)) for piece in granules)
    else:
        commit = target.commit(placed)
        body = (Read(commit.address, len(commit.data)),)
    facts = (fact for fact in dict.fromkeys(_facts(target)) if not any(each.covers(fact) for each in body))
    return (*facts, *body)


def _facts(target: Target) -> Iterator[Read]:
    match target.failsafe:
        case Failsafe.BFB2:
            yield Read(second_bank(target.memory), WORD)
        case Failsafe.GOLDEN_BANK | Failsafe.RESIDENT_LOADER if target.base < target.start:
            yield Read(target.base, VECTORS_SIZE)
        case _:
            pass
    family = target.family
    if family is None:
        return
    if family.protection is not None:
        yield Read(family.protection - family.protection % WORD, WORD, required=False)
    if family.bank_check is not None and target.failsafe in {Failsafe.BFB2, Failsafe.GOLDEN_BANK}:
        for address in sorted({bit.address for bit in family.bank_check.bits}):
            yield Read(address, WORD, required=False)
        if family.loader_id is not None and family.bank_check.loader_at_least is not None:
            yield Read(family.loader_id, 2, required=False)
