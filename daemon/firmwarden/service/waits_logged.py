"""Logs what jobs wait for, once.

Waits may take turns for weeks, and an owner that does not leave its port is asked each minute: what was told of a job
is not told again before an attempt at it began or a person asked for one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from firmwarden.events import LogEvent
from firmwarden.model import WaitKind
from firmwarden.service.telling import instant_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.model import DeviceId, JobId, Wait

log = structlog.get_logger()

_UNTOLD: Final = frozenset({WaitKind.SLOT, WaitKind.CONDITION})
"""What is not logged of a job: the first is soon over, the other has events of its own."""
_REMEMBERED: Final = 20
"""So many waits of a device are known as told: more than take turns, also where each time gives another reason."""


class WaitsLogged:
    """What was told of each device."""

    def __init__(self) -> None:
        self._told: dict[DeviceId, deque[tuple[JobId, WaitKind, str]]] = {}

    def forget(self, device: DeviceId) -> None:
        """Tell everything of a device anew: an attempt begins, or a person asked for one."""
        self._told.pop(device, None)

    def tell(
        self, waits: Mapping[JobId, Wait], *, before: Mapping[JobId, Wait], owners: Mapping[JobId, DeviceId]
    ) -> None:
        """Log what jobs wait for that waited for something of another kind ``before``.

        Args:
            waits: of every job that waits.
            before: the same of the planning before.
            owners: the device of each job that waits.
        """
        for job, wait in waits.items():
            known = before.get(job)
            if wait.kind in _UNTOLD or (known is not None and known.kind is wait.kind):
                continue
            device = owners[job]
            told = self._told.setdefault(device, deque(maxlen=_REMEMBERED))
            if (job, wait.kind, wait.detail) not in told:
                told.append((job, wait.kind, wait.detail))
                log.info(
                    LogEvent.JOB_WAITING,
                    job=job,
                    device=device,
                    wait=wait.kind.value,
                    detail=wait.detail,
                    until=instant_or_none(wait.until),
                )
