"""Makes the copy of an earlier state true again, before it becomes the state.

What a database says of devices was true when it was copied.  They went on since: this module alone decides what
still counts, and each decision errs on the side of waiting.

* A unit goes by what it goes by in the present state, with all that is known of it here and there.
* Flash wear and latches are facts about silicon: what was counted or set since the copy, as far as it is known, is
  kept, and nothing that the copy has is lowered or lifted.
* What a device runs is known from the present state, which is the later word on it; where that says nothing, it is
  not known any more.
* A probation of the present state goes on where that knows what the unit runs.  Any other is over: what it was about is
  not known to run any more.
* A rollout stands as it does in the present state, but none goes on by itself: it may have stopped since the copy, and
  the failures since then are not known here.
* No job goes on.  Its attempts are closed as what they were, but no device is asked about an attempt of that time: its
  answer would be about what it holds now.  Jobs of the present state are not taken over: what failed since the copy and
  set no latch, or was cancelled, may be tried again.
* The sequence below which nothing is given to a unit is the greater of both, and what it kept well with is what is
  known later: an old backup brings no old release back.
* A person's holds and pins since the copy stay: a stop that vanished would start updates.  Leave to go back that was
  given before the copy counts no more: it may have been used.
* Who was stopped to leave a port is who is noted now: the copy's were started long since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.model import Cause, CauseCode, DeviceId, JobState, Outcome, Phase, RolloutState
from firmwarden.store.ledger import Ledger
from firmwarden.store.probations import ProbationEnd

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from firmwarden.model import Action

_RUNNING: Final = (
    "running_version", "running_sequence", "running_image", "running_evidence", "complete", "entered",
)  # fmt: skip
_GOOD: Final = tuple(
    f"{which}_{column}"
    for which in ("good", "good_before")
    for column in ("version", "sequence", "image", "size")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of it."""

    devices: int
    not_known: int
    """Devices of which nobody knows any more what they run."""
    closed: int
    """Jobs that were open."""
    stopped: tuple[str, ...]
    """Classes with a rollout that does not go on by itself."""
    latches: int
    """Set since the copy, and kept."""
    erases: int
    """Erase starts counted since the copy, and kept."""


def settle(connection: sqlite3.Connection, later: Path | None, act: Action, made: str) -> Settled:
    """Settle a copy in one transaction.

    Args:
        connection: to the copy, which has this program's schema.
        later: a copy of the present state, with the same schema; None where there is none.
        act: the restoring, for the history.
        made: when and where the copy was made, in words.
    """
    if later is not None:
        connection.execute("ATTACH ? AS later", (str(later),))
    connection.execute("BEGIN IMMEDIATE")
    try:
        ledger = Ledger(connection)
        closed = _close_jobs(ledger, act.at, made)
        connection.execute(
            "UPDATE devices SET running_evidence = CASE WHEN running_version IS NULL "
            "THEN ? ELSE ? || running_version || ' then' END, "
            "running_version = NULL, running_sequence = NULL, running_image = NULL, complete = NULL, entered = 0, "
            "may_go_back_to = NULL",
            (f"the state was restored from {made}", f"the state was restored from {made}, and it ran "),
        )
        connection.execute("DELETE FROM handed_over")
        latches = erases = 0
        known: set[DeviceId] = set()
        if later is not None:
            before = _erases(connection)
            _follow_moves(ledger, connection)
            ours = _match(connection)
            known = _take_running(connection, ours)
            connection.execute("INSERT OR REPLACE INTO rollouts SELECT * FROM later.rollouts")
            _take_floors(connection, ours)
            _take_wear(connection, ours)
            latches = _take_latches(connection, ours)
            _take_wishes(connection, ours)
            connection.execute("INSERT INTO handed_over SELECT * FROM later.handed_over")
            erases = _erases(connection) - before
        _settle_probations(ledger, connection, known)
        stopped = _stop_rollouts(connection, f"the state was restored from {made}")
        ledger.record(act)
        devices = ledger.devices()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if later is not None:
        connection.execute("DETACH later")
    return Settled(
        devices=len(devices),
        not_known=sum(device.running_version is None and device.complete is None for device in devices),
        closed=closed,
        stopped=stopped,
        latches=latches,
        erases=erases,
    )


def _close_jobs(ledger: Ledger, now: float, made: str) -> int:
    cause = Cause(code=CauseCode.WITHDRAWN, detail=f"the state was restored from {made}")
    for attempt in ledger.running_attempts():
        ending = attempt.phase is Phase.ENDING
        ledger.finish(attempt.id, Outcome.UNKNOWN if ending else Outcome.INTERRUPTED, now=now, cause=cause)
    jobs = ledger.open_jobs()
    for job in jobs:
        # Withdrawn: the next planning makes another where the release is still wanted.
        ledger.move(job.id, JobState.CANCELLED, now=now, cause=cause)
    return len(jobs)


def _erases(connection: sqlite3.Connection) -> int:
    (starts,) = connection.execute("SELECT coalesce(sum(starts), 0) FROM wear").fetchone()
    return int(starts)


def _follow_moves(ledger: Ledger, connection: sqlite3.Connection) -> None:
    """Let each unit go by what it goes by now: since the copy it may have been moved, and then been adopted."""
    moved = connection.execute(
        "SELECT other.id, other.device_class, other.key, other.label, other.port, other.serial "
        "FROM later.devices AS other JOIN main.devices AS mine USING (id, device_class) "
        # A state that began anew may have given the id to another unit.
        "WHERE mine.key <> other.key AND mine.first_seen = other.first_seen"
    ).fetchall()
    # First out of each other's way: two may have changed places.
    connection.executemany(
        "UPDATE devices SET key = 'moved:' || id, forgotten = 0 WHERE id = ?", [(row["id"],) for row in moved]
    )
    for row in moved:
        here = connection.execute(
            "SELECT id FROM devices WHERE device_class = ? AND key = ?", (row["device_class"], row["key"])
        ).fetchone()
        if here is not None:  # what it was taken for, in the copy still a record of its own
            connection.execute("UPDATE devices SET forgotten = 0 WHERE id = ?", (here["id"],))
            ledger.adopt(DeviceId(here["id"]), DeviceId(row["id"]))
        connection.execute(
            "UPDATE devices SET key = ?, label = ?, port = ?, serial = ? WHERE id = ?",
            (row["key"], row["label"], row["port"], row["serial"], row["id"]),
        )


def _match(connection: sqlite3.Connection) -> dict[DeviceId, DeviceId]:
    """Say which device of the copy each present one is, by its id or else its identity; a new one is added."""
    ids = {row["id"] for row in connection.execute("SELECT id FROM devices")}
    keys = {
        (row["device_class"], row["key"]): row["id"]
        for row in connection.execute("SELECT id, device_class, key FROM devices")
    }
    ours: dict[DeviceId, DeviceId] = {}
    for row in connection.execute("SELECT * FROM later.devices").fetchall():
        id_ = row["id"] if row["id"] in ids else keys.get((row["device_class"], row["key"]))
        if id_ is None:
            names = row.keys()
            connection.execute(
                f"INSERT INTO devices ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608  ours
                tuple(row),
            )
            id_ = row["id"]
            # Its attempts are not here, and their numbers will be given to others.
            connection.execute("UPDATE devices SET vouched_after = 0 WHERE id = ?", (id_,))
        ours[DeviceId(row["id"])] = DeviceId(id_)
    # What was given away since the copy never names something else.
    connection.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, coalesce("
        "(SELECT seq FROM later.sqlite_sequence AS other WHERE other.name = sqlite_sequence.name), 0))"
    )
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT name, seq FROM later.sqlite_sequence "
        "WHERE name NOT IN (SELECT name FROM main.sqlite_sequence)"
    )
    return ours


def _take_running(connection: sqlite3.Connection, ours: Mapping[DeviceId, DeviceId]) -> set[DeviceId]:
    """Take the later word on what a device runs, where it surely is the same device; return of which it was taken."""
    columns = ", ".join(_RUNNING)
    taken = set()
    for theirs, id_ in ours.items():
        row = connection.execute(
            f"SELECT {columns} FROM later.devices AS other WHERE id = ? "  # noqa: S608  our own names
            "AND (running_version IS NOT NULL OR complete IS NOT NULL) "
            "AND key = (SELECT key FROM main.devices WHERE id = ?)",
            (theirs, id_),
        ).fetchone()
        if row is not None and theirs == id_:
            connection.execute(
                f"UPDATE devices SET {' = ?, '.join(_RUNNING)} = ? WHERE id = ?",  # noqa: S608
                (*tuple(row), id_),
            )
            taken.add(id_)
    return taken


def _settle_probations(ledger: Ledger, connection: sqlite3.Connection, known: AbstractSet[DeviceId]) -> None:
    """Let those of the present state go on that are about what a unit is known to run, and end the others."""
    kept = {}
    if known:
        for row in connection.execute(
            # A state that began anew gave its jobs numbers that those of other units have here.
            "SELECT * FROM later.probations AS other WHERE NOT EXISTS "
            "(SELECT 1 FROM main.jobs WHERE id = other.job AND device IS NOT other.device)"
        ).fetchall():
            if row["device"] in known:
                kept[row["device"], row["job"]] = tuple(row)
    for probation in ledger.probations():
        if (probation.device, probation.job) not in kept:
            ledger.end_probation(probation.device, ProbationEnd.OVERTAKEN)
    for values in kept.values():
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT OR REPLACE INTO probations VALUES ({marks})", values)  # noqa: S608  constants


def _stop_rollouts(connection: sqlite3.Connection, reason: str) -> tuple[str, ...]:
    """Stop those that were under way; return the classes in which that is the newest, and not one long overtaken."""
    under_way = (RolloutState.CANARY, RolloutState.WAVES)
    newest = connection.execute(
        "SELECT DISTINCT device_class FROM rollouts AS one WHERE state IN (?, ?) AND began_at = "
        "(SELECT max(began_at) FROM rollouts WHERE device_class = one.device_class) ORDER BY device_class",
        under_way,
    ).fetchall()
    connection.execute(
        "UPDATE rollouts SET state = ?, soaks_since = NULL, changed_by = '', reason = ? WHERE state IN (?, ?)",
        (RolloutState.STOPPED, reason, *under_way),
    )
    return tuple(row["device_class"] for row in newest)


def _take_floors(connection: sqlite3.Connection, ours: Mapping[DeviceId, DeviceId]) -> None:
    columns = ", ".join(_GOOD)
    for theirs, id_ in ours.items():
        row = connection.execute(
            f"SELECT floor, {columns} FROM later.devices WHERE id = ?",  # noqa: S608  our own names
            (theirs,),
        ).fetchone()
        if row["floor"] is None and row["good_image"] is None:
            continue
        connection.execute(
            f"UPDATE devices SET floor = coalesce(max(floor, :floor), :floor, floor), ({columns}) = "  # noqa: S608
            f"({', '.join(f':{column}' for column in _GOOD)}) WHERE id = :id",
            {**dict(row), "id": id_},
        )


def _take_wear(connection: sqlite3.Connection, ours: Mapping[DeviceId, DeviceId]) -> None:
    """Raise what is counted to what is known by now.

    A record that began in the same instant is the continuation of the copy's, or has a beginning in common with it:
    the larger count of a day includes the smaller.  Any other was begun anew and counted what the copy does not know.
    """
    for theirs, id_ in ours.items():
        (together,) = connection.execute(
            "SELECT (SELECT first_seen FROM devices WHERE id = ?) "
            "     = (SELECT first_seen FROM later.devices WHERE id = ?)",
            (id_, theirs),
        ).fetchone()
        count = "max(starts, excluded.starts)" if together else "starts + excluded.starts"
        connection.execute(
            "INSERT INTO wear SELECT ?, day, starts, watched_s FROM later.wear WHERE device = ? "  # noqa: S608  constants
            f"ON CONFLICT (device, day) DO UPDATE SET starts = {count}, "
            "watched_s = min(watched_s, excluded.watched_s)",
            (id_, theirs),
        )


def _take_latches(connection: sqlite3.Connection, ours: Mapping[DeviceId, DeviceId]) -> int:
    taken = 0
    for row in connection.execute(
        "SELECT * FROM later.latches WHERE lifted_at IS NULL ORDER BY id"
    ).fetchall():
        device = None if row["device"] is None else ours[row["device"]]
        # Without the attempt, which is not here; the cause has what the device said.
        taken += connection.execute(
            "INSERT INTO latches (scope, device, image, cause, set_at) SELECT ?, ?, ?, ?, ? WHERE NOT EXISTS "
            "(SELECT 1 FROM main.latches WHERE scope = ? AND device IS ? AND image IS ? AND lifted_at IS NULL)",
            (
                row["scope"],
                device,
                row["image"],
                row["cause"],
                row["set_at"],
                row["scope"],
                device,
                row["image"],
            ),
        ).rowcount
    return taken


def _take_wishes(connection: sqlite3.Connection, ours: Mapping[DeviceId, DeviceId]) -> None:
    for row in connection.execute("SELECT * FROM later.holds").fetchall():
        device = None if row["device"] is None else ours[row["device"]]
        connection.execute(
            # In the place of what the same owner said before the copy was made.
            "INSERT OR REPLACE INTO holds (device, reason, owner, at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (device, row["reason"], row["owner"], row["at"], row["expires_at"]),
        )
    for theirs, id_ in ours.items():
        connection.execute(
            "UPDATE devices SET pinned = coalesce(pinned, (SELECT pinned FROM later.devices WHERE id = ?)) "
            "WHERE id = ?",
            (theirs, id_),
        )
        connection.execute(
            "UPDATE devices SET may_go_back_to = (SELECT may_go_back_to FROM later.devices AS other "
            "WHERE other.id = ? AND other.pinned IS main.devices.pinned) WHERE id = ?",
            (theirs, id_),
        )
    # Who did what stays known, whatever becomes of what it did.
    columns = "at, who, what, target, detail"
    connection.execute(
        f"INSERT INTO actions ({columns}) SELECT {columns} FROM later.actions AS other "  # noqa: S608  our own names
        "WHERE NOT EXISTS (SELECT 1 FROM main.actions AS mine WHERE (mine.at, mine.who, mine.what, mine.target, "
        "mine.detail) IS (other.at, other.who, other.what, other.target, other.detail)) ORDER BY other.id"
    )
    connection.execute("DELETE FROM main.dropped")
    connection.execute("INSERT INTO main.dropped SELECT * FROM later.dropped")
