"""Writes down how an attempt ended and what follows, in one transaction.

The judgement is ``policy.decide``'s; this module gathers the history that it needs, and records the attempt,
the job, the latches and what is now known of the device together, so that no power loss can part them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.model import (
    Cause,
    CauseCode,
    GoodImage,
    JobState,
    Latch,
    LatchScope,
    LinkStats,
    Outcome,
    Phase,
)
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
    """As it stood before: its outcome is ``unknown`` where this is the answer to a question."""
    outcome: Outcome
    decision: Decision | None = None
    """What follows; None after a success."""
    cause: Cause | None = None
    evidence: str = ""
    latches: tuple[Latch, ...] = ()
    label: str = ""
    """Of the device."""


class Concluding:
    """The end of one attempt, or of one question after it, inside one transaction."""

    def __init__(
        self,
        ledger: Ledger,
        attempt: Attempt,
        *,
        stats: LinkStats,
        now: float,
        seconds: float,
        complete_before: bool | None = None,
        soaks: bool = False,
    ) -> None:
        """Take what is concluded.

        Args:
            ledger: of the open transaction.
            attempt: as it stands on disk, with its phase.
            stats: counters of the wire, to be added to the attempt's.
            now: wall clock.
            seconds: how long the attempt, or the question, took.
            complete_before: whether the device held a complete image before this attempt's first erase.
            soaks: whether a unit of its class has to show after an update that it keeps well.
        """
        job = ledger.job(attempt.job)
        if job is None:
            raise AssertionError(f"attempt {attempt.id} belongs to no job")
        self._ledger = ledger
        self._attempt = attempt
        self._job = job
        self._stats = stats
        self._now = now
        self._seconds = seconds
        self._complete_before = complete_before
        self._soaks = soaks

    def landed(self, landing: Landing) -> Conclusion:
        """Record that it did not fail: a success with its evidence, or an unknown outcome."""
        if not landing.confirmed:
            cause = landing.cause or Cause(code=CauseCode.END_UNANSWERED, detail=landing.evidence)
            return self._unknown(cause, landing.evidence)
        job = self._job
        self._finish(Outcome.SUCCEEDED, None, landing.evidence)
        self._ledger.set_running(
            job.device,
            version=job.version,
            sequence=job.sequence,
            image=job.image,
            evidence=landing.evidence,
            now=self._now,
        )
        self._keep(job)
        return self._concluded(
            Outcome.SUCCEEDED, self._move(JobState.SUCCEEDED), None, None, landing.evidence
        )

    def _keep(self, job: Job) -> None:
        """Take the image for a good one, unless its class wants to see first that the unit keeps well with it.

        Also with an image that was good before: what ails a unit that went back may be the unit.
        """
        device = self._ledger.device(job.device)
        if self._soaks:
            self._ledger.start_probation(job, self._now)
        if not self._soaks or (device is not None and job.image in device.good_images):
            good = GoodImage(version=job.version, sequence=job.sequence, image=job.image, size=job.size)
            self._ledger.keeps_well(job.device, good)
            self._ledger.raise_floor(job.device, job.sequence)

    def failed(self, cause: Cause, *, budgets: Budgets, dice: float) -> Conclusion:
        """Record that it ended for ``cause``, and what the policy says of that."""
        decision = decide(
            cause,
            phase=self._attempt.phase,
            history=self._history(cause),
            budgets=budgets,
            dice=dice,
        )
        match decision:
            case AskAgain():
                return self._unknown(cause)
            case Retry(delay_s=delay_s):
                self._finish(Outcome.FAILED, cause)
                job = self._move(JobState.QUEUED, cause, not_before=self._now + delay_s)
                return self._concluded(Outcome.FAILED, job, decision, cause)
            case Fail():
                return self._fail(cause, decision)
            case Release():
                cancelled = cause.code is CauseCode.CANCELLED
                outcome = Outcome.CANCELLED if cancelled else Outcome.INTERRUPTED
                self._finish(outcome, cause)
                job = self._move(JobState.CANCELLED if cancelled else JobState.QUEUED, cause)
                return self._concluded(outcome, job, decision, cause)

    def _fail(self, cause: Cause, decision: Fail) -> Conclusion:
        self._finish(Outcome.FAILED, cause)
        latches = tuple(self._latch(scope, cause) for scope in decision.latches)
        self._note_what_it_holds(cause)
        of_job = cause
        if decision.code is not cause.code:
            of_job = Cause(code=decision.code, detail=f"the last attempt: {cause.detail or cause.code.value}")
        job = self._move(JobState.FAILED, of_job)
        return self._concluded(Outcome.FAILED, job, decision, cause, latches=latches)

    def _unknown(self, cause: Cause, evidence: str = "") -> Conclusion:
        self._finish(Outcome.UNKNOWN, cause, evidence)
        if self._attempt.outcome is Outcome.RUNNING:
            self._ledger.set_complete(self._attempt.device, complete=None)
        job = self._job if self._job.state is JobState.UNKNOWN else self._move(JobState.UNKNOWN, cause)
        return self._concluded(Outcome.UNKNOWN, job, AskAgain(), cause, evidence)

    # --- recording

    def _finish(self, outcome: Outcome, cause: Cause | None, evidence: str = "") -> None:
        self._ledger.finish(
            self._attempt.id,
            outcome,
            now=self._now,
            cause=cause,
            evidence=evidence,
            stats=self._stats,
            seconds=self._seconds,
        )

    def _move(self, state: JobState, cause: Cause | None = None, *, not_before: float | None = None) -> Job:
        """Move the job on, unless a person did so while its device was asked: then only the attempt is settled."""
        if self._job.state not in {JobState.RUNNING, JobState.UNKNOWN}:
            return self._job
        return self._ledger.move(self._job.id, state, now=self._now, cause=cause, not_before=not_before)

    def _latch(self, scope: LatchScope, cause: Cause) -> Latch:
        return self._ledger.latch(
            scope,
            device=None if scope is LatchScope.IMAGE else self._attempt.device,
            image=None if scope is LatchScope.DEVICE else self._attempt.image,
            cause=cause,
            attempt=self._attempt.id,
            now=self._now,
        )

    def _note_what_it_holds(self, cause: Cause) -> None:
        """Correct "holds no complete image", which stands since the erase, by what the device said at the end."""
        if self._attempt.erase_starts == 0:
            return
        if cause.code is CauseCode.IMAGE_INVALID:
            self._ledger.set_complete(self._attempt.device, complete=False)
        elif self._attempt.phase is Phase.ENDING:
            self._ledger.set_complete(self._attempt.device, complete=None)
        elif self._complete_before is not False and not cause.offset and _is_of_the_image(cause):
            # It refused before it took any byte.  Whether it had erased by then depends on its family.
            self._ledger.set_complete(self._attempt.device, complete=None)

    def _concluded(
        self,
        outcome: Outcome,
        job: Job,
        decision: Decision | None,
        cause: Cause | None,
        evidence: str = "",
        *,
        latches: tuple[Latch, ...] = (),
    ) -> Conclusion:
        device = self._ledger.device(job.device)
        return Conclusion(
            job=job,
            attempt=self._attempt,
            outcome=outcome,
            decision=decision,
            cause=cause,
            evidence=evidence,
            latches=latches,
            label="" if device is None else device.label,
        )

    # --- gathering

    def _history(self, cause: Cause) -> History:
        """What the policy weighs.  Interrupted attempts are no transport trouble: they count against wear only."""
        failures = [
            entry
            for entry in self._ledger.job_attempts(self._job.id)
            if entry.id != self._attempt.id and entry.outcome is Outcome.FAILED
        ]
        return History(
            attempts=len(failures) + 1,
            present_s=self._job.present_s,
            stray_verdicts=sum(
                1 for entry in failures if entry.cause is not None and may_be_stray(entry.cause)
            ),
            other_suspects=self._other_suspects() if DISPOSITIONS[cause.code] is Disposition.SUSPECT else 0,
        )

    def _other_suspects(self) -> int:
        """Other units that gave a suspect verdict on this image."""
        return len(
            {
                latch.device
                for latch in self._ledger.pair_latches(self._job.image)
                if latch.device != self._attempt.device
                and DISPOSITIONS[latch.cause.code] is Disposition.SUSPECT
            }
        )


def _is_of_the_image(cause: Cause) -> bool:
    return DISPOSITIONS[cause.code] in {Disposition.SUSPECT, Disposition.FINAL_PAIR}
