"""In which order an update is done, as data: the pages to erase, what to write and read back, and when to start it.

There is one order, commit-last, and it is the best there is for every part, also for those that it cannot save:

1. erase the page with the vectors, so that the device does not start what comes next, and see that it is erased
   (loaders say nothing when a page is write-protected);
2. erase the other pages that differ, write everything but the first granule, read everything back;
3. write the first granule, with which the device starts the image, and read it back;
4. start the image.

What it protects from depends on what the device does between 1 and 3, and that is the class's ``failsafe``: it decides
where the image belongs and what is never touched.  If anything has to be written the vectors go first even when
they are the same in both images.  A page is kept when it holds the image's bytes already; bytes of an erased page that
the image does not give stay erased.  Any stage may be cut and all of it done again.

After an update was cut nothing is kept (``keep``), for it may have been the power that failed.  Of the page that was
under way then, a granule may look right and be weak, or look blank and be used; reading it may even fault.  Which page
that was cannot be told, and another erase of pages that are good for ten thousand is a small price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.drivers.boot.outlook import Outlook, Stage, outlook
from firmwarden.protocol.dfu.segments import Segment, aligned, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.target import Target
    from firmwarden.protocol.dfu.memory_map import Sector


# --- steps -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErasePage:
    """Erase one page."""

    page: Sector


@dataclass(frozen=True, slots=True)
class Program:
    """Write to erased flash; address and length are whole granules."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Read, and go no further unless it is this."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Commit:
    """Write what makes the device start the image.  It is one write; everything else has been read back."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Leave:
    """Start what is at `entry`."""

    entry: int


Step = ErasePage | Program | ReadBack | Commit | Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Steps in which a power cut leaves the same."""

    stage: Stage
    steps: tuple[Step, ...]
    outlook: Outlook


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A whole update."""

    phases: tuple[Phase, ...]
    image: tuple[Segment, ...]
    """Where it belongs: all of it has been read back, and not touched since, before the device is told to leave."""
    pages: tuple[Sector, ...]
    """The pages that are erased and written."""

    @property
    def writes(self) -> bool:
        """False when the device holds the image already and only has to start it."""
        return bool(self.pages)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in order."""
        return tuple(step for phase in self.phases for step in phase.steps)


# --- the order ---------------------------------------------------------------------------------------


def procedure(
    target: Target, image: Iterable[Segment], contents: Contents, *, keep: bool = True
) -> Procedure:
    """Plan an update.

    Args:
        target: what is updated.
        image: the image, where its file says.
        contents: what the device holds (``reads.wanted``); what was not read is taken to differ.
        keep: whether a page that holds the image's bytes may stay.

    Raises:
        BadImage: the image does not belong there.
    """
    placed = target.place(image)
    pages = target.pages(placed)
    changed = tuple(
        page for page in pages if not keep or not all(contents.holds(piece) for piece in within(placed, page))
    )
    if not changed:
        return _start_only(target, placed)
    first, commit = pages[0], target.commit(placed)
    blank = Segment(commit.address, bytes((target.erased,)) * len(commit.data))
    rest = tuple(page for page in changed if page != first)
    body = tuple(_without(placed, commit))
    steps: dict[Stage, tuple[Step, ...]] = {
        Stage.READ: (),
        Stage.INVALIDATE: (ErasePage(first), ReadBack(blank)),
        Stage.ERASE: tuple(ErasePage(page) for page in rest),
        Stage.WRITE: tuple(Program(piece) for piece in _programmed(target, body, (first, *rest))),
        Stage.VERIFY: (*(ReadBack(piece) for piece in body), ReadBack(blank)),
        Stage.COMMIT: (Commit(commit),),
        Stage.CHECK: tuple(ReadBack(piece) for piece in _between(placed, commit.address, commit.end)),
        Stage.LEAVE: (Leave(target.base),),
    }
    valid = not contents.holds(blank)
    return Procedure(
        phases=tuple(
            Phase(stage=stage, steps=todo, outlook=outlook(target.failsafe, stage, started_valid=valid))
            for stage, todo in steps.items()
        ),
        image=placed,
        pages=(first, *rest),
    )


def _start_only(target: Target, placed: tuple[Segment, ...]) -> Procedure:
    steps: dict[Stage, tuple[Step, ...]] = {
        Stage.READ: (),
        Stage.VERIFY: tuple(ReadBack(piece) for piece in placed),
        Stage.LEAVE: (Leave(target.base),),
    }
    return Procedure(
        phases=tuple(Phase(stage=stage, steps=todo, outlook=Outlook.NEW) for stage, todo in steps.items()),
        image=placed,
        pages=(),
    )


def within(image: Iterable[Segment], page: Sector) -> Iterator[Segment]:
    """Yield what of an image is in a page."""
    return _between(image, page.address, page.end)


def _between(image: Iterable[Segment], start: int, end: int) -> Iterator[Segment]:
    for piece in image:
        if data := piece.data[max(0, start - piece.address) : max(0, end - piece.address)]:
            yield Segment(max(start, piece.address), data)


def _without(image: tuple[Segment, ...], hole: Segment) -> Iterator[Segment]:
    yield from _between(image, 0, hole.address)
    yield from _between(image, hole.end, image[-1].end)


def _programmed(target: Target, body: tuple[Segment, ...], pages: Iterable[Sector]) -> tuple[Segment, ...]:
    """Return what has to be written to erased pages: whole granules, and none that are blank at an end of a page.

    A blank granule that is written counts as written, for flash that corrects errors.
    """
    whole = aligned(body, target.granule, target.erased) if body else ()
    return joined(
        trimmed for page in pages for piece in within(whole, page) if (trimmed := _trimmed(target, piece))
    )


def _trimmed(target: Target, piece: Segment) -> Segment | None:
    blank = bytes((target.erased,))
    head = len(piece.data) - len(piece.data.lstrip(blank))
    head -= head % target.granule
    tail = len(piece.data.rstrip(blank))
    tail += -tail % target.granule
    return Segment(piece.address + head, piece.data[head:tail]) if tail > head else None
