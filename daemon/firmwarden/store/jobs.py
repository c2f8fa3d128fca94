"""Jobs and their attempts, and the flash wear that attempts cause.

The order that a power cut cannot break (invariant 5): ``claim`` before the port is opened, ``entering``,
``erase_starting`` and ``ending`` before the command that they announce is sent, ``finish`` and ``move`` in one
transaction after.
A row found ``running`` at start therefore tells by its phase what the device may have been through.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.model import TRANSITIONS, AttemptId, JobId, JobState, LinkStats, Outcome, Phase, Wear
from firmwarden.store.probations import ProbationEnd, Probations
from firmwarden.store.rows import ATTEMPTS, CHANGED, WATCHED_S, attempt_of, cause_text, job_of, utc_day

if TYPE_CHECKING:
    from firmwarden.model import Attempt, Cause, CommitMark, DeviceId, ImageHash, Job, Release

_NO_STATS: Final = LinkStats()


class Jobs(Probations):
    """The part of the ledger about jobs, attempts and wear."""

    # --- jobs

    def create_job(self, device: DeviceId, release: Release, now: float) -> Job:
        """Queue a release for a device."""
        if self._first("SELECT 1 FROM devices WHERE id = ? AND NOT forgotten", device) is None:
            raise LookupError(f"no device {device}")
        id_ = self._insert(
            "INSERT INTO jobs (device, device_class, image, version, sequence, size, state, created_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            device, release.device_class, release.image, release.version, release.sequence, release.size,
            JobState.QUEUED, now, now,
        )  # fmt: skip
        return self._need(JobId(id_))

    def job(self, id: JobId) -> Job | None:  # noqa: A002  the word of the model
        """Look a job up."""
        row = self._first("SELECT * FROM jobs WHERE id = ?", id)
        return None if row is None else job_of(row)

    def open_jobs(self) -> list[Job]:
        """List the jobs that are not over, oldest first."""
        rows = self._all("SELECT * FROM jobs WHERE state IN ('queued', 'running', 'unknown') ORDER BY id")
        return [job_of(row) for row in rows]

    def jobs(self, *, limit: int, device: DeviceId | None = None) -> list[Job]:
        """List jobs, newest first, of one device or of all."""
        if device is None:
            rows = self._all("SELECT * FROM jobs ORDER BY id DESC LIMIT ?", limit)
        else:
            rows = self._all("SELECT * FROM jobs WHERE device = ? ORDER BY id DESC LIMIT ?", device, limit)
        return [job_of(row) for row in rows]

    def newest_jobs(self) -> list[Job]:
        """List the newest job of each device that has any."""
        rows = self._all("SELECT * FROM jobs WHERE id IN (SELECT max(id) FROM jobs GROUP BY device)")
        return [job_of(row) for row in rows]

    def last_job(self, device: DeviceId, image: ImageHash) -> Job | None:
        """Look up the newest job of a pair; it is never folded."""
        row = self._first(
            "SELECT * FROM jobs WHERE device = ? AND image = ? ORDER BY id DESC LIMIT 1", device, image
        )
        return None if row is None else job_of(row)

    def move(
        self,
        job: JobId,
        state: JobState,
        *,
        now: float,
        cause: Cause | None = None,
        not_before: float | None = None,
    ) -> Job:
        """Move a job on.

        Raises:
            ValueError: ``model.TRANSITIONS`` does not know the move: a defect of the caller.
        """
        before = self._need(job)
        if state not in TRANSITIONS[before.state]:
            raise ValueError(f"job {job} cannot become {state} from {before.state}")
        self._do(
            "UPDATE jobs SET state = ?, updated_at = ?, not_before = ?, cause = coalesce(?, cause) WHERE id = ?",
            state, now, not_before, cause_text(cause), job,
        )  # fmt: skip
        if state.final:
            self._count_job(before.device_class, state, cause)
        elif not_before is not None:
            self._count_attempt(before.device_class, Outcome.FAILED, cause, retried=1)
        return self._need(job)

    def add_presence(self, job: JobId, seconds: float) -> None:
        """Count time that the device was here while the job waited or ran."""
        self._do("UPDATE jobs SET present_s = present_s + ? WHERE id = ?", seconds, job)

    def hurry(self, job: JobId) -> None:
        """End the back-off of a queued job."""
        self._do("UPDATE jobs SET not_before = NULL WHERE id = ? AND state = 'queued'", job)

    # --- attempts

    def claim(self, job: JobId, now: float) -> Attempt:
        """Start the next attempt of a queued job."""
        number = self.move(job, JobState.RUNNING, now=now).attempts + 1
        self._do("UPDATE jobs SET attempts = ? WHERE id = ?", number, job)
        id_ = self._insert(
            "INSERT INTO attempts (job, number, started_at, phase, outcome) VALUES (?, ?, ?, ?, ?)",
            job, number, now, Phase.PROBING, Outcome.RUNNING,
        )  # fmt: skip
        return self._attempt(AttemptId(id_))

    def unclaim(self, attempt: AttemptId, now: float) -> Job:
        """Take back a claim whose port was never opened: nothing was tried, so nothing is kept or counted."""
        before = self._running(attempt)
        if before.phase is not Phase.PROBING:
            raise ValueError(f"attempt {attempt} has touched its device")
        self._do("DELETE FROM attempts WHERE id = ?", attempt)
        self._do("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", before.job)
        return self.move(before.job, JobState.QUEUED, now=now)

    def entering(self, attempt: AttemptId, now: float) -> None:
        """Record that a unit is about to be brought out of its application; stays true when the claim is taken back."""
        before = self._running(attempt)
        self._do("UPDATE devices SET entered = 1 WHERE id = ?", before.device)
        self._do("UPDATE jobs SET updated_at = ? WHERE id = ?", now, before.job)

    def erase_starting(self, attempt: AttemptId, now: float, mark: CommitMark | None = None) -> Wear:
        """Record that an erase is about to start: the phase, the wear and that no complete image can be relied on.

        A mark stays when a further erase of the attempt comes without one.
        """
        before = self._running(attempt)
        mark = mark or before.mark
        self._do(
            "UPDATE attempts SET phase = ?, erase_starts = erase_starts + 1, mark_before = ?, mark_after = ? "
            "WHERE id = ?",
            Phase.WRITING, mark and mark.before, mark and mark.after, attempt,
        )  # fmt: skip
        self._do(
            "INSERT INTO wear (device, day, starts) VALUES (?, ?, 1) "
            "ON CONFLICT (device, day) DO UPDATE SET starts = starts + 1, watched_s = 0",
            before.device, utc_day(now),
        )  # fmt: skip
        self._do("UPDATE devices SET complete = 0, entered = 0 WHERE id = ?", before.device)
        self.end_probation(before.device, ProbationEnd.OVERTAKEN)
        self._do("UPDATE jobs SET updated_at = ? WHERE id = ?", now, before.job)
        return self.wear(before.device, now)

    def ending(self, attempt: AttemptId, now: float, mark: CommitMark | None = None) -> None:
        """Record that the image is whole and checked, and the device about to be told to start it.

        A mark stays when none comes with it.
        """
        before = self._running(attempt)
        mark = mark or before.mark
        self._do(
            "UPDATE attempts SET phase = ?, mark_before = ?, mark_after = ? WHERE id = ?",
            Phase.ENDING, mark and mark.before, mark and mark.after, attempt,
        )  # fmt: skip
        self._do("UPDATE jobs SET updated_at = ? WHERE id = ?", now, before.job)

    def finish(
        self,
        attempt: AttemptId,
        outcome: Outcome,
        *,
        now: float,
        cause: Cause | None = None,
        evidence: str = "",
        stats: LinkStats = _NO_STATS,
        seconds: float | None = None,
    ) -> Attempt:
        """Record how an attempt ended, or settle one that ended ``unknown``.

        Settling keeps the instant at which it ended, adds ``stats`` to what was counted, and keeps the earlier
        evidence unless there is new.  ``seconds`` are what it took by a clock that does not jump, where that is known.

        Raises:
            ValueError: it was settled already, or a success comes without evidence (invariant 2): a defect.
        """
        before = self._attempt(attempt)
        if before.outcome not in {Outcome.RUNNING, Outcome.UNKNOWN} or outcome is Outcome.RUNNING:
            raise ValueError(f"attempt {attempt} cannot become {outcome} from {before.outcome}")
        if outcome is Outcome.SUCCEEDED and not evidence:
            raise ValueError(f"attempt {attempt}: no success without evidence")
        self._do(
            "UPDATE attempts SET outcome = ?, ended_at = coalesce(ended_at, ?), cause = ?, "
            "evidence = coalesce(nullif(?, ''), evidence), commands = commands + ?, resends = resends + ?, "
            "timeouts = timeouts + ?, damaged = damaged + ?, strays = strays + ?, sent_bytes = sent_bytes + ?, "
            "received_bytes = received_bytes + ? WHERE id = ?",
            outcome, now, cause_text(cause), evidence, stats.commands, stats.resends, stats.timeouts, stats.damaged,
            stats.strays, stats.sent_bytes, stats.received_bytes, attempt,
        )  # fmt: skip
        self._count_end(before, outcome, cause, stats, seconds)
        return self._attempt(attempt)

    def attempt(self, id: AttemptId) -> Attempt | None:  # noqa: A002
        """Look an attempt up."""
        row = self._first(f"{ATTEMPTS} WHERE attempts.id = ?", id)
        return None if row is None else attempt_of(row)

    def attempts(self, device: DeviceId | None, limit: int) -> list[Attempt]:
        """List attempts, newest first, of one device or of all."""
        if device is None:
            rows = self._all(f"{ATTEMPTS} ORDER BY attempts.id DESC LIMIT ?", limit)
        else:
            rows = self._all(
                f"{ATTEMPTS} WHERE jobs.device = ? ORDER BY attempts.id DESC LIMIT ?", device, limit
            )
        return [attempt_of(row) for row in rows]

    def job_attempts(self, job: JobId) -> list[Attempt]:
        """List the attempts of one job, oldest first."""
        return [
            attempt_of(row) for row in self._all(f"{ATTEMPTS} WHERE attempts.job = ? ORDER BY number", job)
        ]

    def running_attempts(self) -> list[Attempt]:
        """List the attempts under way, oldest first; after a start, those that the last process left behind."""
        rows = self._all(f"{ATTEMPTS} WHERE attempts.outcome = 'running' ORDER BY attempts.id")
        return [attempt_of(row) for row in rows]

    def last_attempt(self, job: JobId) -> Attempt | None:
        """Look up a job's newest attempt."""
        row = self._first(f"{ATTEMPTS} WHERE attempts.job = ? ORDER BY number DESC LIMIT 1", job)
        return None if row is None else attempt_of(row)

    def unfinished(self, device: DeviceId) -> Attempt | None:
        """Look up the last attempt that began to change a unit, unless the unit got a complete image since.

        It got one when an attempt succeeded, or when a person said what it runs.  The attempt under way does not
        count; one that is over with its outcome unknown does.
        """
        row = self._first(
            f"{ATTEMPTS} JOIN devices ON devices.id = jobs.device "  # noqa: S608  constants
            f"WHERE jobs.device = ? AND devices.complete IS NOT 1 AND {CHANGED} AND attempts.id > ("
            "  SELECT coalesce(max(good.id), 0) FROM attempts AS good "
            "  JOIN jobs AS its ON its.id = good.job WHERE its.device = devices.id AND good.outcome = 'succeeded'"
            ") ORDER BY attempts.id DESC LIMIT 1",
            device,
        )
        if row is None:
            return None
        vouched = self._first("SELECT 1 FROM devices WHERE id = ? AND vouched_after >= ?", device, row["id"])
        return replace(attempt_of(row), vouched=vouched is not None)

    def vouch(self, device: DeviceId) -> None:
        """Record a person's word that this is the unit, whatever its attempts so far left in its flash."""
        self._do(
            "UPDATE devices SET vouched_after = (SELECT coalesce(max(attempts.id), 0) FROM attempts "
            "JOIN jobs ON jobs.id = attempts.job WHERE jobs.device = devices.id) WHERE id = ?",
            device,
        )

    # --- wear

    def wear(self, device: DeviceId, now: float) -> Wear:
        """Count starts of an erase, in life and on the UTC day of ``now``.

        Days after ``now`` count as today: the clock of a gateway without a battery starts in the past, and its
        device would get a fresh budget with every power cut.  They do so until they were watched for long enough,
        lest a clock that was once years ahead keeps its device waiting for years.
        """
        (row,) = self._all(
            "SELECT coalesce(sum(starts), 0) AS life, coalesce(sum(starts) FILTER (WHERE left_s > 0), 0) AS today,"
            "  coalesce(sum(starts) FILTER (WHERE left_s > 0 AND day > today), 0) AS ahead,"
            "  coalesce(max(left_s) FILTER (WHERE left_s > 0 AND day > today), 0.0) AS ahead_s "
            "FROM (SELECT starts, day, iif(day >= today, ? - watched_s, 0.0) AS left_s, today "
            "      FROM wear, (SELECT ? AS today) WHERE device = ?)",
            WATCHED_S, utc_day(now), device,
        )  # fmt: skip
        return Wear(**row)

    def watch_wear(self, now: float, seconds: float) -> None:
        """Take note that wear which is dated after ``now`` was watched for so long; else nothing is changed."""
        self._do(
            "UPDATE wear SET watched_s = watched_s + ? WHERE day > ? AND watched_s < ?",
            seconds, utc_day(now), WATCHED_S,
        )  # fmt: skip

    def _count_end(
        self, before: Attempt, outcome: Outcome, cause: Cause | None, stats: LinkStats, seconds: float | None
    ) -> None:
        device_class = self._need(before.job).device_class
        ended = before.outcome is Outcome.RUNNING
        settled = not ended and outcome is not Outcome.UNKNOWN
        self._count_attempt(device_class, outcome, cause, stats=stats, attempts=ended, settled=settled)
        if ended and seconds is not None:
            self._count_seconds(device_class, outcome, seconds)

    def _need(self, job: JobId) -> Job:
        found = self.job(job)
        if found is None:
            raise LookupError(f"no job {job}")
        return found

    def _attempt(self, id_: AttemptId) -> Attempt:
        found = self.attempt(id_)
        if found is None:
            raise LookupError(f"no attempt {id_}")
        return found

    def _running(self, id_: AttemptId) -> Attempt:
        found = self._attempt(id_)
        if found.outcome is not Outcome.RUNNING:
            raise ValueError(f"attempt {id_} is over: {found.outcome}")
        return found
