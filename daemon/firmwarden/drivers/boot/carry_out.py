"""A procedure, said to a DfuSe device.

The steps are said in their order; the first that fails ends it, and nothing is undone.  One thing only is decided in
here: a page that does not read back is erased and written once more in the same attempt, as a cell may fail to take one
pulse and take the next.  The order holds then, too: what was repaired is read back with everything else before the
commit, and a commit that is repaired begins with the erase of its page.  A page that reads wrong again is a matter of
the device, and no further erase makes it better.  So an attempt erases no page more often than twice, and the one count
that the journal makes of its wear, before the first erase, is enough for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from firmwarden.drivers.boot.outlook import Stage
from firmwarden.drivers.boot.procedures import Commit, ErasePage, Leave, Program, ReadBack, within
from firmwarden.protocol.dfu.dfuse_host import ReadsBackWrong
from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.boot.procedures import Phase, Procedure, Step
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.dfuse_host import DfuseHost
    from firmwarden.protocol.dfu.memory_map import Sector


@dataclass(frozen=True, slots=True)
class StageBegins(Milestone):
    """The next stage begins: its ``stage.journal`` must be on disk before."""

    stage: Stage


def carry_out(host: DfuseHost, plan: Procedure) -> Conversation[bool]:
    """Do a procedure, with a host that knows the granule and the erased byte of its target.

    Milestones: StageBegins before each stage, and those of the host.

    Returns:
        Whether the device said that it leaves; if not, only its coming back tells.

    Raises:
        ReadsBackWrong: a page does not hold what was written, and did not the second time.
        AttemptFailed: a step failed.  The device is left as it was then, and told nothing more.
    """
    told = False
    repaired: set[Sector] = set()
    for phase in plan.phases:
        yield StageBegins(phase.stage)
        while True:
            try:
                told = yield from _say(host, plan, phase.steps)
                break
            except ReadsBackWrong as wrong:
                page = next((each for each in plan.pages if each.address <= wrong.address < each.end), None)
                if page is None or page in repaired:
                    raise
                repaired.add(page)
                yield from _say(host, plan, _anew(plan, phase, page))
    return told


def _say(host: DfuseHost, plan: Procedure, steps: Iterable[Step]) -> Conversation[bool]:
    told = False
    for kind, alike in groupby(steps, type):
        if kind is ErasePage:
            yield from host.erase(step.page for step in alike if isinstance(step, ErasePage))
        elif kind is ReadBack:
            yield from host.verify(step.segment for step in alike if isinstance(step, ReadBack))
        elif kind is Leave:
            for step in alike:
                if isinstance(step, Leave):
                    told = yield from host.leave(plan.image, step.entry)
        else:
            # Where the granule is not known a commit is a page of many blocks: the one with the vectors goes last.
            pieces = (step.segment for step in alike if isinstance(step, Program | Commit))
            yield from host.write(pieces, descending=kind is Commit)
    return told


def _anew(plan: Procedure, phase: Phase, page: Sector) -> tuple[Step, ...]:
    """Return what is to be done to a page before a phase is begun again, in which it read wrong."""
    stages = {each.stage: each.steps for each in plan.phases}
    if phase.stage is Stage.INVALIDATE:
        return ()  # it begins with the erase
    pieces = (step.segment for step in stages[Stage.WRITE] if isinstance(step, Program))
    body: tuple[Step, ...] = (ErasePage(page), *(Program(piece) for piece in within(pieces, page)))
    return (*body, *stages[Stage.VERIFY], *stages[Stage.COMMIT]) if phase.stage is Stage.CHECK else body
