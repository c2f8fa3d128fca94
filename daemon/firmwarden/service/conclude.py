"""Writes down how an attempt ended and what follows, in one transaction.

The judgement is ``policy.decide``'s; this module gathers the history that it needs, and records the attempt,
the job, the latches and what is now known of the device together, so that no power loss can part them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.model import Cause, CauseCode, JobState, Latch, LatchScope, LinkStats, Outcome
from firmwarden.service.policy import (
    DISPOSITIONS,
    AskAgain,
    Budgets,
    Decision,
    Disposition,
    Fail,
    History,
    Release,
    Retry,
    decide,
    may_be_stray,
)

if TYPE_CHECKING:
    from firmwarden.drivers.base import Landing
    from firmwarden.model import Attempt, Job
    from firmwarden.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What was recorded."""

    job: Job
    attempt: Attempt
    outcome: Outcome
    decision: Decision | None = None
    """What follows; None after a success."""
    cause: Cause | None = None
    evidence: str = ""
    latches: tuple[Latch, ...] = ()


def landed(
    ledger: Ledger, attempt: Attempt, landing: Landing, *, stats: LinkStats, now: float
) -> Conclusion:
    """Record an attempt, or the question after one, that did not fail."""
    job = _job(ledger, attempt)
    if landing.confirmed:
        ledger.finish(attempt.id, Outcome.SUCCEEDED, now=now, evidence=landing.evidence, stats=stats)
        ledger.set_running(
            attempt.device,
            version=job.version,
            sequence=job.sequence,
            image=job.image,
            evidence=landing.evidence,
            now=now,
        )
        job = ledger.move(job.id, JobState.SUCCEEDED, now=now)
        return Conclusion(job=job, attempt=attempt, outcome=Outcome.SUCCEEDED, evidence=landing.evidence)
    cause = landing.cause or Cause(code=CauseCode.END_UNANSWERED, detail=landing.evidence)
    return _unknown(ledger, job, attempt, cause, landing.evidence, stats, now)


def failed(
    ledger: Ledger,
    attempt: Attempt,
    cause: Cause,
    *,
    stats: LinkStats,
    budgets: Budgets,
    dice: float,
    now: float,
) -> Conclusion:
    """Record an attempt that failed; ``attempt`` must carry the phase that stands on disk."""
    job = _job(ledger, attempt)
    decision = decide(
        cause, phase=attempt.phase, history=_history(ledger, job, attempt, cause), budgets=budgets, dice=dice
    )
    match decision:
        case AskAgain():
            return _unknown(ledger, job, attempt, cause, "", stats, now)
        case Retry(delay_s=delay_s):
            ledger.finish(attempt.id, Outcome.FAILED, now=now, cause=cause, stats=stats)
            job = ledger.move(job.id, JobState.QUEUED, now=now, cause=cause, not_before=now + delay_s)
            return Conclusion(job=job, attempt=attempt, outcome=Outcome.FAILED, decision=decision, cause=cause)
        case Fail(code=code, latches=scopes):
            ledger.finish(attempt.id, Outcome.FAILED, now=now, cause=cause, stats=stats)
            latches = tuple(_latch(ledger, scope, attempt, cause, now) for scope in scopes)
            _take_back_erasure(ledger, attempt, cause)
            verdict = cause if code is cause.code else Cause(code=code, detail=f"last: {cause.detail or cause.code.value}")
            job = ledger.move(job.id, JobState.FAILED, now=now, cause=verdict)
            return Conclusion(
                job=job, attempt=attempt, outcome=Outcome.FAILED, decision=decision, cause=cause, latches=latches
            )
        case Release():
            return released(ledger, attempt, cause, stats=stats, now=now)


def released(ledger: Ledger, attempt: Attempt, cause: Cause, *, stats: LinkStats, now: float) -> Conclusion:
    """Record an attempt that was given up without a verdict: cancelled, or stopped with the daemon."""
    job = _job(ledger, attempt)
    if cause.code is CauseCode.CANCELLED:
        ledger.finish(attempt.id, Outcome.CANCELLED, now=now, cause=cause, stats=stats)
        job = ledger.move(job.id, JobState.CANCELLED, now=now, cause=cause)
        return Conclusion(job=job, attempt=attempt, outcome=Outcome.CANCELLED, decision=Release(), cause=cause)
    ledger.finish(attempt.id, Outcome.INTERRUPTED, now=now, cause=cause, stats=stats)
    job = ledger.move(job.id, JobState.QUEUED, now=now, cause=cause)
    return Conclusion(job=job, attempt=attempt, outcome=Outcome.INTERRUPTED, decision=Release(), cause=cause)


def _unknown(
    ledger: Ledger, job: Job, attempt: Attempt, cause: Cause, evidence: str, stats: LinkStats, now: float
) -> Conclusion:
    ledger.finish(attempt.id, Outcome.UNKNOWN, now=now, cause=cause, evidence=evidence, stats=stats)
    ledger.set_complete(attempt.device, None)
    if job.state is not JobState.UNKNOWN:
        job = ledger.move(job.id, JobState.UNKNOWN, now=now, cause=cause)
    return Conclusion(
        job=job, attempt=attempt, outcome=Outcome.UNKNOWN, decision=AskAgain(), cause=cause, evidence=evidence
    )


def _history(ledger: Ledger, job: Job, attempt: Attempt, cause: Cause) -> History:
    """What the policy weighs.  Interrupted attempts are no transport trouble: they count against wear only."""
    before = [entry for entry in ledger.job_attempts(job.id) if entry.id != attempt.id]
    failures = [entry for entry in before if entry.outcome is Outcome.FAILED]
    others: set[str] = set()
    if DISPOSITIONS[cause.code] is Disposition.SUSPECT:
        others = {
            latch.device
            for latch in ledger.pair_latches(job.image)
            if latch.device not in (None, attempt.device)
            and DISPOSITIONS[latch.cause.code] is Disposition.SUSPECT
            and latch.device is not None
        }
    return History(
        attempts=len(failures) + 1,
        present_s=job.present_s,
        stray_verdicts=sum(1 for entry in failures if entry.cause is not None and may_be_stray(entry.cause)),
        other_suspects=len(others),
    )


def _latch(ledger: Ledger, scope: LatchScope, attempt: Attempt, cause: Cause, now: float) -> Latch:
    return ledger.latch(
        scope,
        device=None if scope is LatchScope.IMAGE else attempt.device,
        image=None if scope is LatchScope.DEVICE else attempt.image,
        cause=cause,
        attempt=attempt.id,
        now=now,
    )


def _take_back_erasure(ledger: Ledger, attempt: Attempt, cause: Cause) -> None:
    """Take back "holds no complete image" where the device refused before it took any of the image.

    Whether such a device had erased by then depends on its family, so afterwards it is not known either way;
    unless an earlier attempt since the last success had begun to erase as well.
    """
    if attempt.erase_starts == 0 or cause.offset:
        return
    for earlier in ledger.attempts(attempt.device, limit=1_000):
        if earlier.outcome is Outcome.SUCCEEDED:
            break
        if earlier.id != attempt.id and earlier.erase_starts:
            return
    ledger.set_complete(attempt.device, None)


def _job(ledger: Ledger, attempt: Attempt) -> Job:
    job = ledger.job(attempt.job)
    if job is None:
        raise AssertionError(f"attempt {attempt.id} belongs to no job")
    return job
