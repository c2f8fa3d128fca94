"""How far a DFU attempt is, for people who watch: the bytes that are written, then those that are read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.drivers.base import Progress, Step
from firmwarden.drivers.boot.describe import DOING
from firmwarden.drivers.boot.outlook import Stage
from firmwarden.drivers.boot.procedures import Commit, Program, ReadBack

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from firmwarden.drivers.boot.procedures import Procedure
    from firmwarden.drivers.boot.procedures import Step as ProcedureStep

_WRITING: Final = frozenset({Stage.WRITE, Stage.COMMIT})
"""Counted as one: the commit is the end of the writing."""

_READING: Final = frozenset({Stage.VERIFY, Stage.CHECK})


class Meter:
    """Counts what conversations tell of, each of which begins at nothing."""

    def __init__(self) -> None:
        self._step = Step.PROBE
        self._counts = False
        self._before = self._done = self._total = 0

    @property
    def progress(self) -> Progress:
        """A sample."""
        return Progress(self._step, min(self._done, self._total), self._total)

    def step(self, step: Step, total: int = 0) -> None:
        """Begin something of which so many bytes are to be moved, if any are counted."""
        self._step = step
        self._counts = total > 0
        self._before = self._done = 0
        self._total = total

    def begin(self, stage: Stage, plan: Procedure) -> None:
        """Begin a stage of a procedure."""
        if stage in _READING:
            self.step(DOING[stage], _read(plan, stage))
            return
        self.step(DOING[stage], _written(plan, _WRITING))
        self._counts = stage in _WRITING
        if stage is Stage.COMMIT:
            self._before = self._done = _written(plan, _WRITING - {stage})

    def count(self, done: int, total: int) -> None:
        """Note how far a conversation is."""
        if self._counts:
            self._done = self._before + done
            if done == total:
                self._before = self._done


def _written(plan: Procedure, stages: frozenset[Stage]) -> int:
    return sum(len(each.segment.data) for each in _steps(plan, stages) if isinstance(each, Program | Commit))


def _read(plan: Procedure, stage: Stage) -> int:
    return sum(len(each.segment.data) for each in _steps(plan, {stage}) if isinstance(each, ReadBack))


def _steps(plan: Procedure, stages: Container[Stage]) -> Iterator[ProcedureStep]:
    return (step for phase in plan.phases if phase.stage in stages for step in phase.steps)
