"""A procedure in words, for ``plan`` and ``why``."""

from __future__ import annotations

from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.base import PlannedStep, Step
from firmwarden.drivers.boot.outlook import OUTLOOKS, Stage
from firmwarden.drivers.boot.procedures import Commit, ErasePage, Leave, Program, ReadBack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.drivers.boot.outlook import Failsafe
    from firmwarden.drivers.boot.procedures import Phase, Procedure

DOING: Final[Mapping[Stage, Step]] = MappingProxyType(
    {
        Stage.READ: Step.PROBE,
        Stage.INVALIDATE: Step.WRITE,
        Stage.ERASE: Step.WRITE,
        Stage.WRITE: Step.WRITE,
        Stage.VERIFY: Step.VERIFY,
        Stage.COMMIT: Step.WRITE,
        Stage.CHECK: Step.VERIFY,
        Stage.LEAVE: Step.LEAVE,
    }
)
"""What a driver says it is doing."""

_IN_SHORT: Final[Mapping[Stage, str]] = MappingProxyType(
    {
        Stage.READ: "read what is there",
        Stage.INVALIDATE: "erase the page with which the device starts",
        Stage.ERASE: "erase the other pages",
        Stage.WRITE: "write all but the first granule",
        Stage.VERIFY: "read it back",
        Stage.COMMIT: "write the first granule",
        Stage.CHECK: "read that back",
        Stage.LEAVE: "start the image",
    }
)
"""Of any update, before anything is known of the image."""


def outlooks(failsafe: Failsafe) -> tuple[PlannedStep, ...]:
    """Say what a loss of power would leave, in stages of which the same is true together."""
    row = OUTLOOKS[failsafe]
    told = []
    for outlook, same in groupby(Stage, key=row.__getitem__):
        stages = tuple(same)
        does = ", ".join(_IN_SHORT[stage] for stage in stages)
        told.append(PlannedStep(step=DOING[stages[0]], does=does, if_interrupted=outlook.value))
    return tuple(told)


def planned_steps(plan: Procedure) -> tuple[PlannedStep, ...]:
    """Say what will be done, and what a loss of power in each stage would leave."""
    return tuple(
        PlannedStep(step=DOING[phase.stage], does=_does(phase), if_interrupted=phase.outlook.value)
        for phase in plan.phases
        if phase.steps or phase.stage is Stage.READ
    )


def _does(phase: Phase) -> str:
    erased = [step.page for step in phase.steps if isinstance(step, ErasePage)]
    written = sum(len(step.segment.data) for step in phase.steps if isinstance(step, Program | Commit))
    read = sum(len(step.segment.data) for step in phase.steps if isinstance(step, ReadBack))
    match phase.stage:
        case Stage.READ:
            return "read what is there"
        case Stage.INVALIDATE:
            return f"erase the page at 0x{erased[0].address:08x}, with which the device starts, and see that it is"
        case Stage.ERASE:
            return f"erase {len(erased)} more page(s), {sum(page.size for page in erased)} bytes"
        case Stage.WRITE:
            return f"write {written} bytes, all but the first granule"
        case Stage.VERIFY:
            return f"read back {read} bytes and compare"
        case Stage.COMMIT:
            return f"write the first {written} bytes, with which the device starts"
        case Stage.CHECK:
            return "read them back and compare"
        case Stage.LEAVE:
            entry = next(step.entry for step in phase.steps if isinstance(step, Leave))
            return f"start what is at 0x{entry:08x}"
