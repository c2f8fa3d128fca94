"""Rows to the values of ``model`` and back, and the base of what runs inside a transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from firmwarden.model import (
    Action,
    Attempt,
    AttemptId,
    Cause,
    CauseCode,
    ClassName,
    CommitMark,
    Device,
    DeviceId,
    GoodImage,
    Hold,
    ImageHash,
    Job,
    JobId,
    JobState,
    Latch,
    LatchId,
    LatchScope,
    LinkStats,
    Outcome,
    Phase,
    Probation,
)

if TYPE_CHECKING:
    import sqlite3

ATTEMPTS: Final = """
    SELECT attempts.*, jobs.device, jobs.image, jobs.version
    FROM attempts JOIN jobs ON jobs.id = attempts.job
"""
"""What ``attempt_of`` reads; a WHERE may follow."""

_DAY_S: Final = 86_400

WATCHED_S: Final = 90_000.0
"""After how long wear that is dated in the future no longer counts as today's: a day, and more than lies between two
times of watching, since the last start of an erase may be younger than that."""

CHANGED: Final = "attempts.phase <> 'probing' AND attempts.outcome <> 'running'"
"""Of attempts that are over and began to change their unit."""


class Transaction:
    """One open transaction on the store's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    def _first(self, sql: str, *values: object) -> sqlite3.Row | None:
        rows = self._all(sql, *values)
        return rows[0] if rows else None

    def _do(self, sql: str, *values: object) -> int:
        """Change rows and return how many; they are read back with SELECT (RETURNING tells a REAL 1.0 as 1)."""
        return self._connection.execute(sql, values).rowcount

    def _insert(self, sql: str, *values: object) -> int:
        """Add one row and return its id."""
        id_ = self._connection.execute(sql, values).lastrowid
        return id_ or 0


def utc_day(now: float) -> int:
    """The day of an instant, as wear is kept by."""
    return int(now // _DAY_S)


def cause_text(cause: Cause | None) -> str | None:
    """Write a cause as JSON, which a person can read with any SQLite shell."""
    if cause is None:
        return None
    return json.dumps(
        {
            "code": cause.code.value,
            "detail": cause.detail,
            "raw": cause.raw.hex(),
            "offset": cause.offset,
            "chunk": cause.chunk,
            "sequence": cause.sequence,
        }
    )


def cause_of(text: str) -> Cause:
    """Read what ``cause_text`` wrote, also when a newer program wrote it with a code that we do not know."""
    columns = json.loads(text)
    detail = columns["detail"]
    try:
        code = CauseCode(columns["code"])
    except ValueError:
        # The package was rolled back: what stands here is history, and what it led to (states, latches) is stored.
        code = CauseCode.ABORT_UNKNOWN
        detail = f"recorded as {columns['code']!r}: {detail}"
    return Cause(
        code=code,
        detail=detail,
        raw=bytes.fromhex(columns["raw"]),
        offset=columns["offset"],
        chunk=columns["chunk"],
        sequence=columns["sequence"],
    )


def good_of(row: sqlite3.Row, which: str = "good") -> GoodImage | None:
    """Read what a row of ``devices`` says of the last good image, or of the one before (``good_before``)."""
    if row[f"{which}_image"] is None:
        return None
    return GoodImage(
        version=row[f"{which}_version"],
        sequence=row[f"{which}_sequence"],
        image=ImageHash(row[f"{which}_image"]),
        size=row[f"{which}_size"],
    )


def probation_of(row: sqlite3.Row) -> Probation:
    """Read a row of ``probations``."""
    return Probation(
        device=DeviceId(row["device"]),
        job=JobId(row["job"]),
        image=ImageHash(row["image"]),
        version=row["version"],
        sequence=row["sequence"],
        size=row["size"],
        began_at=row["began_at"],
        soaked_s=row["soaked_s"],
    )


def device_of(row: sqlite3.Row) -> Device:
    """Read a row of ``devices``."""
    image = row["running_image"]
    return Device(
        id=DeviceId(row["id"]),
        device_class=ClassName(row["device_class"]),
        key=row["key"],
        label=row["label"],
        port=row["port"],
        serial=row["serial"],
        running_version=row["running_version"],
        running_sequence=row["running_sequence"],
        running_image=None if image is None else ImageHash(image),
        running_evidence=row["running_evidence"],
        complete=None if row["complete"] is None else bool(row["complete"]),
        entered=bool(row["entered"]),
        pinned=row["pinned"],
        floor=row["floor"],
        may_go_back_to=row["may_go_back_to"],
        good=good_of(row),
        good_before=good_of(row, "good_before"),
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
    )


def job_of(row: sqlite3.Row) -> Job:
    """Read a row of ``jobs``."""
    return Job(
        id=JobId(row["id"]),
        device=DeviceId(row["device"]),
        device_class=ClassName(row["device_class"]),
        image=ImageHash(row["image"]),
        version=row["version"],
        sequence=row["sequence"],
        size=row["size"],
        state=JobState(row["state"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        attempts=row["attempts"],
        not_before=row["not_before"],
        present_s=row["present_s"],
        cause=None if row["cause"] is None else cause_of(row["cause"]),
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """Read a row of ``ATTEMPTS``."""
    return Attempt(
        id=AttemptId(row["id"]),
        job=JobId(row["job"]),
        device=DeviceId(row["device"]),
        image=ImageHash(row["image"]),
        version=row["version"],
        number=row["number"],
        started_at=row["started_at"],
        phase=Phase(row["phase"]),
        outcome=Outcome(row["outcome"]),
        ended_at=row["ended_at"],
        cause=None if row["cause"] is None else cause_of(row["cause"]),
        evidence=row["evidence"],
        erase_starts=row["erase_starts"],
        mark=None if row["mark_after"] is None else CommitMark(row["mark_before"], row["mark_after"]),
        stats=LinkStats(
            commands=row["commands"],
            resends=row["resends"],
            timeouts=row["timeouts"],
            damaged=row["damaged"],
            strays=row["strays"],
            sent_bytes=row["sent_bytes"],
            received_bytes=row["received_bytes"],
        ),
    )


def latch_of(row: sqlite3.Row) -> Latch:
    """Read a row of ``latches``."""
    return Latch(
        id=LatchId(row["id"]),
        scope=LatchScope(row["scope"]),
        device=None if row["device"] is None else DeviceId(row["device"]),
        image=None if row["image"] is None else ImageHash(row["image"]),
        cause=cause_of(row["cause"]),
        set_at=row["set_at"],
        attempt=None if row["attempt"] is None else AttemptId(row["attempt"]),
        lifted_at=row["lifted_at"],
        lifted_by=row["lifted_by"],
    )


def hold_of(row: sqlite3.Row) -> Hold:
    """Read a row of ``holds``."""
    return Hold(
        device=None if row["device"] is None else DeviceId(row["device"]),
        reason=row["reason"],
        owner=row["owner"],
        at=row["at"],
        expires_at=row["expires_at"],
    )


def action_of(row: sqlite3.Row) -> Action:
    """Read a row of ``actions``."""
    return Action(at=row["at"], who=row["who"], what=row["what"], target=row["target"], detail=row["detail"])
