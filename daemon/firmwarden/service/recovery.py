"""Closes, at start-up, what a kill or a power loss left open.  Runs before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from firmwarden.events import LogEvent
from firmwarden.model import Cause, CauseCode, JobState, Outcome, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import Attempt, Latch
    from firmwarden.store.ledger import Ledger

log = structlog.get_logger()

_BY_ITSELF = "firmwarden"
"""Who lifts a latch whose reason this version has outgrown."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done at a start."""

    attempts: list[Attempt]
    """Found running, and closed."""
    lifted: list[Latch] = field(default_factory=list)
    """Set because a device spoke a newer protocol than an earlier Firmwarden."""


def recover(ledger: Ledger, now: float, speaks: Callable[[Cause], bool] = lambda _cause: False) -> Recovered:
    """Close every attempt that is found running, by the phase that stands on disk; lift what this version lifts.

    In ``ending`` the device had called the image valid and the command that starts it may have been sent: the
    outcome is unknown and the device will be asked.  Before that nothing was started, so the job is queued again.

    Args:
        ledger: of an open transaction.
        now: wall clock.
        speaks: whether the drivers speak by now what a device said when it was latched for a protocol too new.
    """
    left = ledger.running_attempts()
    for attempt in left:
        close(ledger, attempt, f"Firmwarden died while {attempt.phase.value}", now)
    outgrown = [
        latch
        for latch in ledger.latches()
        if latch.cause.code is CauseCode.PROTOCOL_TOO_NEW and speaks(latch.cause)
    ]
    return Recovered(left, [ledger.lift(latch.id, _BY_ITSELF, now) for latch in outgrown])


def close(ledger: Ledger, attempt: Attempt, why: str, now: float) -> None:
    """Close one attempt that nobody runs any more."""
    cause = Cause(code=CauseCode.INTERRUPTED, detail=why)
    unknown = attempt.phase is Phase.ENDING
    ledger.finish(attempt.id, Outcome.UNKNOWN if unknown else Outcome.INTERRUPTED, now=now, cause=cause)
    if unknown:
        ledger.set_complete(attempt.device, complete=None)
    ledger.move(attempt.job, JobState.UNKNOWN if unknown else JobState.QUEUED, now=now, cause=cause)


def log_recovered(recovered: Recovered) -> None:
    """Tell what ``recover`` did, once it is on disk."""
    for latch in recovered.lifted:
        log.info(
            LogEvent.LATCH_LIFTED,
            device=latch.device,
            image=latch.image,
            scope=latch.scope.value,
            who=latch.lifted_by,
        )
    for attempt in recovered.attempts:
        log.warning(
            LogEvent.ATTEMPT_INTERRUPTED,
            device=attempt.device,
            job=attempt.job,
            attempt=attempt.id,
            release=attempt.version,
            phase=attempt.phase.value,
        )
