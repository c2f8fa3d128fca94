"""Knows whether the time is right: by which clock windows go, what workloads hold, and what conditions answer."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from firmwarden.service.conditions import Conditions
from firmwarden.service.inhibitors import Inhibitors
from firmwarden.service.timing import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import tzinfo

    from anyio.abc import TaskGroup

    from firmwarden.model import Address, ClassName, Device, DeviceId, Job
    from firmwarden.service.clock import Clock
    from firmwarden.service.conditions import Ask
    from firmwarden.service.desired import ClassPolicy


class Timekeeper:
    """What each planning has to know of the time, for all classes."""

    def __init__(
        self,
        clock: Clock,
        changed: Callable[[], None],
        *,
        zone: Callable[[], tzinfo],
        ask: Ask,
    ) -> None:
        """Take what it is told by.

        Args:
            clock: reads time.
            changed: told when something may start that could not, or the other way round.
            zone: reads the zone of this machine; anew each time, because somebody may set it.
            ask: runs the program of a condition.
        """
        self._zone = zone
        self.inhibitors = Inhibitors(clock, changed)
        """The files of workloads."""
        self._conditions = Conditions(clock, changed, ask=ask)
        self._classes: Mapping[ClassName, ClassPolicy] = {}

    def configure(self, classes: Mapping[ClassName, ClassPolicy]) -> None:
        """Put another configuration in force; what was asked by the former one is asked anew."""
        self._classes = classes
        self.inhibitors.configure(
            {name: policy.inhibitor for name, policy in classes.items() if policy.inhibitor is not None}
        )
        self._conditions.forget()

    def moment(self) -> Moment:
        """Return what is known for one planning; what conditions allowed is used up by that."""
        by_our_clock = any(
            policy.timetable.windows and policy.timetable.zone is None for policy in self._classes.values()
        )
        return Moment(
            zone=self._zone() if by_our_clock else UTC,
            inhibited=self.inhibitors.waits(),
            asked=self._conditions.asked,
            answers=self._conditions.take(),
            said=self._conditions.said,
        )

    def ask(
        self,
        tasks: TaskGroup,
        about: Sequence[tuple[Job, Device]],
        place: Callable[[DeviceId], Address | None],
    ) -> None:
        """Ask the conditions of these jobs' classes; ``place`` says where a device is."""
        for job, device in about:
            address = place(device.id)
            policy = self._classes.get(job.device_class)
            if policy is not None and policy.condition is not None and address is not None:
                self._conditions.start(tasks, policy.condition, job, device, str(address))

    @property
    def unmet(self) -> AbstractSet[DeviceId]:
        """Devices of which a condition said no, and is not asked again yet."""
        return self._conditions.unmet

    def ask_again(self, device: DeviceId) -> None:
        """Take no earlier no of a condition for an answer about a device."""
        self._conditions.ask_again(device)
