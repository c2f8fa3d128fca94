"""Closes, at start-up, what a kill or a power loss left open.  Runs before anything is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from firmwarden.events import LogEvent
from firmwarden.model import Cause, CauseCode, JobState, Outcome, Phase

if TYPE_CHECKING:
    from firmwarden.model import Attempt
    from firmwarden.store.ledger import Ledger

log = structlog.get_logger()


def recover(ledger: Ledger, now: float) -> list[Attempt]:
    """Close every attempt that is found running, by the phase that stands on disk.

    In ``ending`` the device had called the image valid and the command that starts it may have been sent: the
    outcome is unknown and the device will be asked.  Before that nothing was started, so the job is queued again.
    """
    left = ledger.running_attempts()
    for attempt in left:
        close(ledger, attempt, f"Firmwarden died while {attempt.phase.value}", now)
    return left


def close(ledger: Ledger, attempt: Attempt, why: str, now: float) -> None:
    """Close one attempt that nobody runs any more."""
    cause = Cause(code=CauseCode.INTERRUPTED, detail=why)
    unknown = attempt.phase is Phase.ENDING
    ledger.finish(attempt.id, Outcome.UNKNOWN if unknown else Outcome.INTERRUPTED, now=now, cause=cause)
    if unknown:
        ledger.set_complete(attempt.device, complete=None)
    ledger.move(attempt.job, JobState.UNKNOWN if unknown else JobState.QUEUED, now=now, cause=cause)


def log_recovered(attempts: list[Attempt]) -> None:
    """Tell what ``recover`` closed, once it is on disk."""
    for attempt in attempts:
        log.warning(
            LogEvent.ATTEMPT_INTERRUPTED,
            device=attempt.device,
            job=attempt.job,
            attempt=attempt.id,
            release=attempt.version,
            phase=attempt.phase.value,
        )
