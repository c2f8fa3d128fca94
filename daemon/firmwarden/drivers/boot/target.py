"""What is to be updated: a memory, the silicon behind it, and what protects it; and where in it an image belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.lookup import second_bank
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.errors import BadImage
from firmwarden.protocol.dfu.segments import Segment, aligned, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.boot.facts import Family
    from firmwarden.protocol.dfu.memory_map import MemoryMap, Sector

_UNKNOWN_GRANULE: Final = 32
"""The largest there is (STM32H7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One memory of one device, as an update has to see it."""

    memory: MemoryMap
    failsafe: Failsafe = Failsafe.NONE
    declared: bool = True
    """False: nobody said what it relies on, so it is nothing; but nobody took the risk either."""
    family: Family | None = None
    """None: nothing is known of the silicon."""
    application: int | None = None
    """Where the application begins behind a resident loader."""

    def __post_init__(self) -> None:
        if (self.failsafe is Failsafe.RESIDENT_LOADER) != (self.application is not None):
            raise ValueError("a resident loader, and only that, needs the address of its application")

    @property
    def base(self) -> int:
        """Where the memory begins: there the device, or its resident loader, starts."""
        return min(region.address for region in self.memory.regions)

    @property
    def end(self) -> int:
        """The address behind the memory's last byte."""
        return max(region.end for region in self.memory.regions)

    @property
    def start(self) -> int:
        """Where an update may begin to change anything, and where its image has to begin."""
        match self.failsafe:
            case Failsafe.GOLDEN_BANK:
                return second_bank(self.memory)
            case Failsafe.RESIDENT_LOADER if self.application is not None:
                return self.application
            case _:
                return self.base

    @property
    def swap(self) -> int:
        """How far from its place an image is seen when it runs: bank 2 runs where bank 1 is."""
        return self.start - self.base if self.failsafe is Failsafe.GOLDEN_BANK else 0

    @property
    def erased(self) -> int:
        """What an erased byte reads as."""
        return self.family.flash.erased if self.family else 0xFF

    @property
    def granule(self) -> int:
        """What must be programmed in one go."""
        return self.family.flash.granule if self.family else _UNKNOWN_GRANULE

    def place(self, image: Iterable[Segment]) -> tuple[Segment, ...]:
        """Return an image where it belongs; one that is linked for where bank 2 is seen when it runs is moved there.

        Raises:
            BadImage: it does not begin where it must, or reaches into what no update touches.
        """
        pieces = joined(image)
        if not pieces:
            raise BadImage("the image is empty")
        if self.swap and pieces[0].address == self.base:
            pieces = tuple(Segment(piece.address + self.swap, piece.data) for piece in pieces)
        if pieces[0].address != self.start:
            raise BadImage(f"the image begins at 0x{pieces[0].address:08x} and must at 0x{self.start:08x}")
        first = self.memory.touched([(pieces[0].address, pieces[0].end)])[:1]
        if not first or first[0].address != self.start:
            raise BadImage(f"no page begins at 0x{self.start:08x}, where the image does")
        return pieces

    def pages(self, placed: Iterable[Segment]) -> tuple[Sector, ...]:
        """Return the pages that have a byte of an image, in ascending order."""
        return self.memory.touched((piece.address, piece.end) for piece in placed)

    def commit(self, placed: tuple[Segment, ...]) -> Segment:
        """Return what is written last: the first granule, or the first page where the granule is not known.

        With the part known it is as small as the flash allows, for as long as it is written the power must not fail.
        """
        whole = aligned(placed, self.granule, self.erased)[0]
        size = self.granule if self.family else self.pages(placed)[0].size
        return Segment(whole.address, whole.data[:size])
