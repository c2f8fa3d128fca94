"""A procedure, said to a DfuSe device.

Nothing is decided in here.  The steps are said in their order; the first that fails ends it, and nothing is undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from firmwarden.drivers.boot.procedures import Commit, ErasePage, Leave, Program, ReadBack
from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from firmwarden.drivers.boot.outlook import Stage
    from firmwarden.drivers.boot.procedures import Procedure
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.dfuse_host import DfuseHost


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
        AttemptFailed: a step failed.  The device is left as it was then, and told nothing more.
    """
    told = False
    for phase in plan.phases:
        yield StageBegins(phase.stage)
        for kind, steps in groupby(phase.steps, type):
            if kind is ErasePage:
                yield from host.erase(step.page for step in steps if isinstance(step, ErasePage))
            elif kind is ReadBack:
                yield from host.verify(step.segment for step in steps if isinstance(step, ReadBack))
            elif kind is Leave:
                for step in steps:
                    if isinstance(step, Leave):
                        told = yield from host.leave(plan.image, step.entry)
            else:
                yield from host.write(step.segment for step in steps if isinstance(step, Program | Commit))
    return told
