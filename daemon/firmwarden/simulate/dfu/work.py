"""What a simulated chip is busy with: operations one after the other, each in its time, and a watcher at every one.

A watcher is asked before each operation and each status poll, and may answer with a `Cut`: the power goes before,
during or after it.  It may also take a snapshot there, to come back and cut later: that is how a campaign walks every
instant of an update without playing it from the beginning each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.dfu.flash import Tear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from firmwarden.simulate.dfu.chip import Chip, Operation

_TICK_S: Final = 1e-9
"""Two instants that differ by less are the same: sums of floats do not come out even."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something is about to happen in the device."""

    number: int
    """Counts from 0, over the life of the device."""
    operation: Operation | None
    """None: a status poll is about to be answered."""


@unique
class When(Enum):
    """Where a cut is, seen from its moment."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


_HALF: Final = Tear(share=0.5)


@dataclass(frozen=True, slots=True)
class Cut:
    """The power goes."""

    when: When
    tear: Tear = _HALF
    """For `DURING`."""


class PowerLost(Exception):
    """The power went; whoever was at work knows no more."""


@dataclass(frozen=True, slots=True)
class SavedWork:
    """What is still to be done."""

    todo: tuple[Operation, ...] = ()
    at: int = 0
    began: float = 0.0
    busy_until: float = 0.0
    refused: int = 0


class Worker:
    """Carries operations out on a chip.

    Attributes:
        watcher: is asked before each operation.
        moments: how many there were.

    Args:
        chip: it works on.
        pace: factor on the time that operations take; 0 for none.
    """

    def __init__(self, chip: Chip, pace: float = 1.0) -> None:
        self.watcher: Callable[[Moment], Cut | None] | None = None
        self.moments = 0
        self._chip = chip
        self._pace = pace
        self._work = SavedWork()

    @property
    def busy_until(self) -> float:
        """When all that was begun is done."""
        return self._work.busy_until

    @property
    def wake_at(self) -> float | None:
        """When `advance` finishes what was begun; None if nothing is."""
        return self._work.busy_until if self._work.at < len(self._work.todo) else None

    @property
    def refused(self) -> int:
        """How many granules did not take their bytes, of those that were begun last."""
        return self._work.refused

    def begin(self, operations: Iterable[Operation], now: float) -> float:
        """Begin work, behind what is still under way; return when it will be done."""
        work = self._work
        todo = (*work.todo[work.at :], *operations)
        began = work.began if work.at < len(work.todo) else now
        total = sum(map(self._duration_s, todo))
        self._work = SavedWork(todo, 0, began, began + total)
        return self._work.busy_until

    def advance(self, now: float) -> None:
        """Finish what is finished by now; raises PowerLost if the watcher cut the power."""
        work = self._work
        if work.at == len(work.todo):
            return
        at, began, refused = work.at, work.began, work.refused
        all_due = work.busy_until <= now + _TICK_S
        while at < len(work.todo):
            operation = work.todo[at]
            ends = began + self._duration_s(operation)
            if not all_due and ends > now + _TICK_S:
                break
            if self.watcher is not None:
                # It may take a snapshot: what is done must be noted by then.
                self._work = replace(work, at=at, began=began, refused=refused)
            refused += not self._carry_out(operation)
            at, began = at + 1, ends
        self._work = replace(work, at=at, began=began, refused=refused)

    def lose_power(self, now: float, seed: int) -> None:
        """Stop where it stands: the operation under way is torn."""
        work = self._work
        if work.at < len(work.todo):
            operation = work.todo[work.at]
            duration_s = self._duration_s(operation)
            if duration_s:
                self._chip.tear(operation, Tear(max(0.0, min((now - work.began) / duration_s, 1.0)), seed))
        self._work = SavedWork()

    def poll(self) -> Cut | None:
        """Ask the watcher about a status poll."""
        return self._moment(None)

    def save(self) -> SavedWork:
        """Return what is still to be done."""
        return self._work

    def load(self, saved: SavedWork) -> None:
        """Take over what `save` returned."""
        self._work = saved

    def _carry_out(self, operation: Operation) -> bool:
        cut = self._moment(operation)
        if cut is None:
            return self._chip.apply(operation)
        match cut.when:
            case When.BEFORE:
                pass
            case When.DURING:
                self._chip.tear(operation, cut.tear)
            case When.AFTER:
                self._chip.apply(operation)
        self._work = SavedWork()
        raise PowerLost

    def _moment(self, operation: Operation | None) -> Cut | None:
        number = self.moments
        self.moments += 1
        return self.watcher(Moment(number, operation)) if self.watcher else None

    def _duration_s(self, operation: Operation) -> float:
        return self._chip.duration_s(operation) * self._pace
