"""How to go on with an update that was cut: what its journal says, what the device holds, and what to do about it.

A device in its loader, with no image, looks like any other.  It is recognised by where it is plugged, which the caller
has done, and by what is in its flash, which is done here: only what our update can have left is written over.

Everything that was begun is begun again from the invalidation; never from the middle.  Nothing that reads right then is
kept.  If the power failed, the page that was under way may hold cells that read right today and not tomorrow, and
which page that was nobody can tell; and that the power did not fail, no device can prove: one that is found in the
middle of something may have restarted before somebody, or we, spoke to it again.

An image that was already told to start was read back whole before, and nothing was under way: what of it is right is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.model import Phase

if TYPE_CHECKING:
    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.target import Target
    from firmwarden.model import CommitMark
    from firmwarden.protocol.dfu.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What the journal tells of the update that was cut."""

    phase: Phase
    mark: CommitMark | None = None
    """None: it was not made by a driver that knows where a device starts its image."""
    same_image: bool = True
    """False: what is wanted by now is another image than the one that was being written."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Do the whole procedure."""

    keep: bool
    """Whether pages that match may stay."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read all that stands where the image belongs, and ask again."""


@dataclass(frozen=True, slots=True)
class Start:
    """The image is there, whole: read it back in this visit and start it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It is not what our update can have left: a person has to look."""

    reason: str


Decision = Begin | Look | Start | Wait

MARK_SIZE: Final = 64
"""Bytes of a commit that are enough to know it again: where no part is declared, a commit is a whole page."""


def recover(
    unfinished: Unfinished, target: Target, image: tuple[Segment, ...], contents: Contents
) -> Decision:
    """Decide how to go on with a device that turned up in its loader where an update was cut.

    Args:
        unfinished: the journal.
        target: what was being updated.
        image: what is wanted now, where its file says.
        contents: what was read: first only what ``reads.wanted`` names without `whole`.

    Raises:
        BadImage: the image does not belong there.
    """
    if unfinished.phase is Phase.PROBING:
        return Begin(keep=True)
    placed = target.place(image)
    if unfinished.phase is Phase.ENDING:
        if any(contents.read(piece.address, piece.end) is None for piece in placed):
            return Look()
        if all(contents.holds(piece) for piece in placed):
            return Start()
    mark = unfinished.mark
    if mark is None:
        return Wait("an update of it was cut, and nothing was noted by which it could be known again")
    start = target.commit(placed).address
    found = contents.read(start, start + len(mark.after))
    if found is None:
        return Look()
    if unfinished.phase is Phase.ENDING:
        if found == mark.after and not unfinished.same_image:
            return Begin(keep=True)
        return Wait(
            "it held the whole image when it was told to start it, and does not any more: the image may have withdrawn "
            "itself, or another unit is on the port"
        )
    if any(_on_the_way(found, end, target.erased) for end in (mark.after, mark.before)):
        # Also when it reads like the new image: a commit that was cut may look right and not hold.
        return Begin(keep=False)
    return Wait("it holds neither the new image nor what was there before: another unit is on the port")


def _on_the_way(found: bytes, end: bytes, erased: int) -> bool:
    """Tell whether `found` is between erased and `end`, as an erase or a write leaves it that was cut anywhere."""
    return len(found) == len(end) and not any(
        (one ^ erased) & ~(other ^ erased) for one, other in zip(found, end, strict=True)
    )
