"""The condition of a class: a program of the operator's that is asked before each start, about one device.

A yes counts for the planning that follows, and for one start: what is true now need not be so later.  A no is taken for
an answer for a while.  Nobody waits for a program but the device that it is asked about (invariant 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from firmwarden.events import LogEvent
from firmwarden.model import Wait, WaitKind
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import TaskGroup

    from firmwarden.model import Device, DeviceId, Job, JobId
    from firmwarden.programs import Heard
    from firmwarden.service.clock import Clock

log = structlog.get_logger()

_REASON: Final = 200
"""Characters: a sentence, which is shown in tables."""
_REMEMBERED_S: Final = 3600.0
"""How long after its time a no is known, so that the same is not logged each time."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The program of a class."""

    argv: Sequence[str]
    """Program and arguments; no shell in between."""
    timeout_s: float = 10.0
    again_s: float = 60.0
    """How long a no counts."""


class Ask(Protocol):
    """Runs a program; as ``hear_program`` does."""

    async def __call__(self, argv: Sequence[str], *, timeout_s: float, extra_env: Mapping[str, str]) -> Heard:
        """Return what became of it."""


@dataclass(frozen=True, slots=True)
class _No:
    """What a program said, until it is asked again."""

    device: DeviceId
    reason: str
    ends_at: float
    """Boot clock."""


class Conditions:
    """Asks, and remembers the answers, which are about a job: one device and one version."""

    def __init__(self, clock: Clock, answered: Callable[[], None], *, ask: Ask) -> None:
        """Take what asking needs.

        Args:
            clock: reads time.
            answered: told of each answer.
            ask: runs a program.
        """
        self._clock = clock
        self._answered = answered
        self._ask = ask
        self._asked: dict[JobId, Condition] = {}
        """What is being asked."""
        self._yes: set[JobId] = set()
        self._no: dict[JobId, _No] = {}

    @property
    def asked(self) -> frozenset[JobId]:
        """Jobs about which a program is being asked."""
        return frozenset(self._asked)

    @property
    def said(self) -> dict[JobId, Wait]:
        """The last no about each job, whether or not it still counts."""
        return {job: Wait(kind=WaitKind.CONDITION, detail=no.reason) for job, no in self._no.items()}

    @property
    def unmet(self) -> frozenset[DeviceId]:
        """Devices about which a no counts."""
        boot = self._clock.boot()
        return frozenset(no.device for no in self._no.values() if boot < no.ends_at)

    def ask_again(self, device: DeviceId) -> None:
        """Take no earlier no for an answer about a device."""
        self._no = {job: no for job, no in self._no.items() if no.device != device}

    def forget(self) -> None:
        """Take no answer any more that was given, or is about to be given: something else may be asked from now on."""
        self._asked.clear()
        self._yes.clear()
        self._no.clear()

    def take(self) -> dict[JobId, Wait | None]:
        """Return what is known for one planning: None for a yes, which is used up by that, else what is waited for."""
        boot, wall = self._clock.boot(), self._clock.wall()
        self._no = {job: no for job, no in self._no.items() if boot < no.ends_at + _REMEMBERED_S}
        known: dict[JobId, Wait | None] = {
            job: Wait(kind=WaitKind.CONDITION, detail=no.reason, until=wall + no.ends_at - boot)
            for job, no in self._no.items()
            if boot < no.ends_at
        }
        known.update(dict.fromkeys(self._yes))
        self._yes.clear()
        return known

    def start(self, tasks: TaskGroup, condition: Condition, job: Job, device: Device, port: str) -> None:
        """Begin to ask about a device."""
        self._asked[job.id] = condition
        tasks.start_soon(self._hear, condition, job, device, port, name=f"condition of job {job.id}")

    async def _hear(self, condition: Condition, job: Job, device: Device, port: str) -> None:
        about = {
            "FIRMWARDEN_DEVICE": device.id,
            "FIRMWARDEN_LABEL": device.label,
            "FIRMWARDEN_PORT": port,
            "FIRMWARDEN_CLASS": device.device_class,
            "FIRMWARDEN_VERSION": job.version,
        }
        heard = await self._ask(condition.argv, timeout_s=condition.timeout_s, extra_env=about)
        if self._asked.get(job.id) is not condition:
            return
        del self._asked[job.id]
        if heard.wrong:
            self._take_no(condition, job, heard)
        else:
            self._no.pop(job.id, None)
            self._yes.add(job.id)
        self._answered()

    def _take_no(self, condition: Condition, job: Job, heard: Heard) -> None:
        if heard.status is None:
            event, tell = LogEvent.CONDITION_FAILED, log.warning
            reason = f"the condition of its class {heard.wrong}"
        else:
            event, tell = LogEvent.CONDITION_UNMET, log.info
            said = printable(heard.first)[:_REASON] or f"exit status {heard.status}"
            reason = f"the condition of its class says no: {said}"
        before = self._no.get(job.id)
        self._no[job.id] = _No(job.device, reason, self._clock.boot() + condition.again_s)
        if before is None or before.reason != reason:
            keys = {"device": job.device, "job": job.id, "release": job.version}
            tell(event, **keys, detail=reason, again_in_s=condition.again_s)
