"""Whether the time is right for a job: what the planner needs of windows, files of workloads and conditions.  Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Final

from firmwarden.model import Wait, WaitKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import tzinfo

    from firmwarden.model import ClassName, Job, JobId

SPARE: Final = 3
"""So many devices of a class more are asked about at once than may start: where the program hangs for one of them, that
takes nobody's turn."""
BEING_ASKED: Final = Wait(kind=WaitKind.CONDITION, detail="the condition of its class is being asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known of the time, for one planning."""

    zone: tzinfo = UTC
    """The machine's."""
    inhibited: Mapping[ClassName, Wait] = field(default_factory=dict)
    """Classes that a workload holds."""
    asked: AbstractSet[JobId] = frozenset()
    """Jobs of which the condition is being asked."""
    answers: Mapping[JobId, Wait | None] = field(default_factory=dict)
    """What it said: None is a yes."""
    said: Mapping[JobId, Wait] = field(default_factory=dict)
    """What it said last, which is told on while it is asked again."""


@dataclass(slots=True)
class Asking:
    """Whom to ask about next."""

    moment: Moment
    asked: Counter[ClassName]
    """How many are asked about, by class."""
    next: list[Job] = field(default_factory=list)

    @classmethod
    def of(cls, moment: Moment, jobs: Sequence[Job]) -> Asking:
        """Begin with those who are asked about already."""
        return cls(moment, Counter(job.device_class for job in jobs if job.id in moment.asked))

    def wait(self, job: Job, free: int) -> Wait | None:
        """What a job waits for that nothing else keeps waiting; ``free``: how many of its class may start now."""
        said = self.moment.said.get(job.id, BEING_ASKED)
        if job.id in self.moment.asked:
            return said
        if job.id in self.moment.answers:
            return self.moment.answers[job.id]
        if self.asked[job.device_class] >= free + SPARE:
            return Wait(
                kind=WaitKind.CONDITION, detail="the condition of its class is asked about others first"
            )
        self.asked[job.device_class] += 1
        self.next.append(job)
        return said
