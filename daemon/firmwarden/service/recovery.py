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
        cause = Cause(code=CauseCode.INTERRUPTED, detail=f"Firmwarden died while {attempt.phase.value}")
        unknown = attempt.phase is Phase.ENDING
        ledger.finish(attempt.id, Outcome.UNKNOWN if unknown else Outcome.INTERRUPTED, now=now, cause=cause)
        if unknown:
            ledger.set_complete(attempt.device, None)
        ledger.move(attempt.job, JobState.UNKNOWN if unknown else JobState.QUEUED, now=now, cause=cause)
    return left


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
