"""The outcome of a job as one JSON object: the last line of ``update --json``, and what a hook reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.model import JobState, LatchScope
from firmwarden.service.telling import cause_view

if TYPE_CHECKING:
    from firmwarden.service.conclude import Conclusion


def outcome_message(conclusion: Conclusion) -> dict[str, object] | None:
    """Tell how a job ended, or that its outcome is unknown; None where it goes on."""
    job = conclusion.job
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        return None
    message: dict[str, object] = {
        "event": "update-finished",
        "outcome": job.state.value,
        "device": job.device,
        "device_class": job.device_class,
        "label": conclusion.label,
        "job": job.id,
        "attempt": conclusion.attempt.id,
        "attempts": job.attempts,
        "release": job.version,
        "image": job.image,
    }
    if conclusion.evidence:
        message["evidence"] = conclusion.evidence
    cause = job.cause if job.state is JobState.FAILED else conclusion.cause
    if cause is not None:
        scopes = [latch.scope for latch in conclusion.latches]
        scope = LatchScope.IMAGE if LatchScope.IMAGE in scopes else scopes[0] if scopes else None
        message["cause"] = {**cause_view(cause), "scope": None if scope is None else scope.value}
    return message
