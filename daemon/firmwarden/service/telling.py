"""Turns what the model holds into the plain data of ``views``.  Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firmwarden.model import LatchScope
from firmwarden.service.policy import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.drivers.base import PlannedStep, Progress
    from firmwarden.model import Action, Attempt, Cause, Device, Hold, Job, Latch, Release, Wait, Wear
    from firmwarden.service.policy import Budgets
    from firmwarden.service.views import (
        ActionView,
        AttemptView,
        CauseView,
        HoldView,
        JobView,
        LatchView,
        PowerCutView,
        ProgressView,
        ReleaseView,
        WaitCountView,
        WaitingView,
        WaitView,
        WearView,
    )

_LAST_INSTANT = 253_402_300_799.0
"""9999-12-31T23:59:59Z: a wild clock must not make an answer impossible."""


def instant(seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    told = datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_INSTANT), tz=UTC)
    return told.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_or_none(seconds: float | None) -> str | None:
    """Like ``instant``, where there may be none."""
    return None if seconds is None else instant(seconds)


def cause_view(cause: Cause) -> CauseView:
    """Tell a cause."""
    return {
        "code": cause.code.value,
        "detail": cause.detail,
        "meaning": MEANINGS[cause.code],
        "raw": cause.raw.hex(),
        "offset": cause.offset,
        "chunk": cause.chunk,
        "sequence": cause.sequence,
    }


def wait_view(wait: Wait) -> WaitView:
    """Tell a wait."""
    return {"kind": wait.kind.value, "detail": wait.detail, "until": instant_or_none(wait.until)}


def waiting_view(job: Job, device: Device, wait: Wait) -> WaitingView:
    """Tell a job that waits."""
    return {
        "job": job.id,
        "device": device.id,
        "label": device.label,
        "device_class": device.device_class,
        "version": job.version,
        "wait": wait_view(wait),
    }


def wait_counts(waits: Iterable[Wait]) -> list[WaitCountView]:
    """Count waits by what they are for, the most frequent first."""
    return [
        {"kind": kind.value, "jobs": jobs}
        for kind, jobs in Counter(wait.kind for wait in waits).most_common()
    ]


def progress_view(progress: Progress) -> ProgressView:
    """Tell a sample of progress."""
    return {"step": progress.step.value, "done": progress.done, "total": progress.total}


def job_view(
    job: Job, *, budgets: Budgets, wait: Wait | None = None, progress: Progress | None = None
) -> JobView:
    """Tell a job."""
    return {
        "id": job.id,
        "device": job.device,
        "device_class": job.device_class,
        "version": job.version,
        "image": job.image,
        "state": job.state.value,
        "created_at": instant(job.created_at),
        "updated_at": instant(job.updated_at),
        "attempts": job.attempts,
        "attempts_budget": budgets.attempts,
        "wait": None if wait is None else wait_view(wait),
        "progress": None if progress is None else progress_view(progress),
        "cause": None if job.cause is None else cause_view(job.cause),
    }


def attempt_view(attempt: Attempt) -> AttemptView:
    """Tell an attempt."""
    return {
        "id": attempt.id,
        "job": attempt.job,
        "device": attempt.device,
        "number": attempt.number,
        "version": attempt.version,
        "image": attempt.image,
        "started_at": instant(attempt.started_at),
        "ended_at": instant_or_none(attempt.ended_at),
        "phase": attempt.phase.value,
        "outcome": attempt.outcome.value,
        "cause": None if attempt.cause is None else cause_view(attempt.cause),
        "evidence": attempt.evidence,
        "erase_starts": attempt.erase_starts,
        "stats": asdict(attempt.stats),
    }


def latch_view(latch: Latch) -> LatchView:
    """Tell a latch, with the command that lifts it."""
    target = latch.image[:12] if latch.scope is LatchScope.IMAGE and latch.image else latch.device
    return {
        "id": latch.id,
        "scope": latch.scope.value,
        "device": latch.device,
        "image": latch.image,
        "cause": cause_view(latch.cause),
        "set_at": instant(latch.set_at),
        "clear": f"firmwarden clear {target}",
    }


def hold_view(hold: Hold) -> HoldView:
    """Tell a hold."""
    return {
        "device": hold.device,
        "owner": hold.owner,
        "reason": hold.reason,
        "at": instant(hold.at),
        "until": instant_or_none(hold.expires_at),
    }


def release_view(release: Release, *, latched: bool, too_late_for: int) -> ReleaseView:
    """Tell a release that is accepted, and how many devices have been confirmed with something newer."""
    who = (
        "1 device does not get it: it was"
        if too_late_for == 1
        else f"{too_late_for} devices do not get it: they were"
    )
    return {
        "manifest": release.manifest,
        "state": "accepted",
        "device_class": release.device_class,
        "version": release.version,
        "sequence": release.sequence,
        "image": release.image,
        "size": release.size,
        "signed_by": release.signed_by or None,
        "reason": f"{who} confirmed with something newer" if too_late_for else None,
        "latched": latched,
    }


def wear_view(wear: Wear, budgets: Budgets) -> WearView:
    """Tell wear beside its budget."""
    return {
        "today": wear.today,
        "today_budget": budgets.erases_a_day,
        "life": wear.life,
        "life_budget": budgets.erases_a_life,
    }


def power_cut_view(step: PlannedStep) -> PowerCutView:
    """Tell what a loss of power in a part of an update would leave."""
    return {"step": step.step.value, "does": step.does, "if_interrupted": step.if_interrupted}


def action_view(action: Action) -> ActionView:
    """Tell what a person did."""
    return {
        "at": instant(action.at),
        "who": action.who,
        "what": action.what,
        "target": action.target,
        "detail": action.detail,
    }
