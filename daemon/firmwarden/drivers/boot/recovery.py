"""How to go on with an update that was cut: what its journal says, what the device holds, and what to do about it.

A device in its loader, with no image, looks like any other.  It is recognised by where it is plugged, which the caller
has done, and by what is in its flash, which is done here: only what our update can have left is written over.

Everything that was begun is begun again from the invalidation; never from the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.model import Phase

if TYPE_CHECKING:
    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.target import Target
    from firmwarden.protocol.dfu.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What the journal tells of the update that was cut."""

    phase: Phase
    before: bytes
    """What stood where the commit goes, before anything was erased."""


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


def recover(
    unfinished: Unfinished,
    target: Target,
    image: tuple[Segment, ...],
    contents: Contents,
    *,
    kept_power: bool,
) -> Decision:
    """Decide how to go on with a device that turned up in its loader where an update was cut.

    Args:
        unfinished: the journal.
        target: what was being updated.
        image: what it was being updated to, where its file says.
        contents: what was read: first only what ``reads.wanted`` names without `whole`.
        kept_power: the device is known not to have restarted since, because its loader was found in the middle of
            something.  Then no page can be half erased, nor a granule half written.

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
        return Wait(
            "it held the whole image when it was told to start it, and does not any more: the image may have withdrawn "
            "itself, or another unit is on the port"
        )
    commit = target.commit(placed)
    found = contents.read(commit.address, commit.end)
    if found is None:
        return Look()
    if any(_on_the_way(found, end, target.erased) for end in (commit.data, unfinished.before)):
        # Also when it reads like the new image: a commit that was cut may look right and not hold.
        return Begin(keep=kept_power)
    return Wait("it holds neither the new image nor what was there before: another unit is on the port")


def _on_the_way(found: bytes, end: bytes, erased: int) -> bool:
    """Tell whether `found` is between erased and `end`, as an erase or a write leaves it that was cut anywhere."""
    return len(found) == len(end) and not any(
        (one ^ erased) & ~(other ^ erased) for one, other in zip(found, end, strict=True)
    )
