"""Schema steps: forward only, all or nothing, a copy first; and data of every version is still read.

``samples/version-N.sql`` is the dump of a database as the program of that version wrote it, and is never edited.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.errors import StoreError
from firmwarden.model import (
    Action,
    CauseCode,
    CommitMark,
    DeviceId,
    Hold,
    JobState,
    LatchScope,
    Outcome,
    Phase,
    Rollout,
    RolloutState,
    Wear,
)
from firmwarden.store.migrations import Step, migrate, steps
from firmwarden.store.store import Store
from support import killed_migration
from support.stored import CAUSE, NOON, PANEL, image

if TYPE_CHECKING:
    from firmwarden.store.ledger import Ledger

SAMPLES: Final = Path(__file__).parent / "samples"
LATEST: Final = steps()[-1].number
NEXT: Final = Step(LATEST + 1, "CREATE TABLE later (x INTEGER) STRICT; INSERT INTO later VALUES (7);")

ROLLOUT: Final = Rollout(
    device_class=PANEL,
    image=image(1),
    version="1.1.0",
    state=RolloutState.WAVES,
    wave=1,
    began_at=NOON,
    wave_at=NOON + 100.0,
    soaks_since=NOON + 200.0,
    forgiven=1,
    changed_by="ann",
    reason="looked at it",
)


def old_database(path: Path, version: int) -> None:
    """Make a database as the program with that schema version left it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SAMPLES / f"version-{version}.sql").read_text("utf-8"))


def schema(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"))


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        assert isinstance(version, int)
        return version


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_steps_are_numbered_without_gaps_and_each_has_a_sample() -> None:
    numbers = [step.number for step in steps()]
    assert numbers == list(range(1, LATEST + 1))
    assert sorted(file.name for file in SAMPLES.iterdir()) == [f"version-{number}.sql" for number in numbers]


@pytest.mark.anyio
@pytest.mark.parametrize("version", range(1, LATEST + 1))
async def test_data_of_every_version_is_read(path: Path, version: int) -> None:
    def read(ledger: Ledger) -> None:
        one, two = ledger.devices()
        assert (one.id, one.running_version, one.running_image, one.complete) == (
            "aaaaaa",
            "1.1.0",
            image(1),
            True,
        )
        assert (two.id, two.key, two.complete, two.pinned) == ("bbbbbb", "port:1-1.4:0", False, "1.1.0")
        done, failed, waiting = reversed(ledger.jobs(limit=10))
        assert (done.state, done.attempts, done.version, done.sequence) == (
            JobState.SUCCEEDED,
            1,
            "1.1.0",
            42,
        )
        assert (failed.state, failed.cause) == (JobState.FAILED, CAUSE)
        assert (waiting.state, waiting.not_before, waiting.present_s) == (JobState.UNKNOWN, NOON + 2.5, 30.25)
        unknown, erased, good = ledger.attempts(None, 10)
        assert (good.outcome, good.phase, good.evidence) == (
            Outcome.SUCCEEDED,
            Phase.ENDING,
            "END acknowledged",
        )
        assert (good.stats.commands, good.stats.received_bytes) == (11, 17)
        assert (erased.outcome, erased.cause, erased.erase_starts) == (Outcome.FAILED, CAUSE, 2)
        assert (unknown.outcome, unknown.phase) == (Outcome.UNKNOWN, Phase.ENDING)
        assert unknown.cause is not None
        assert unknown.cause.code is CauseCode.END_UNANSWERED
        assert (one.entered, two.entered) == (version >= 2, False)
        # What a unit runs by a success of before is what it was confirmed with.
        assert (one.floor, two.floor) == (7 if version >= 5 else 42, None)
        assert (one.may_go_back_to, two.may_go_back_to) == (None, "1.0.0" if version >= 5 else None)
        # Version 1 knew no marks.
        assert unknown.mark == (None if version < 2 else CommitMark(b"\x00\xff", b"new"))
        assert (good.mark, erased.mark) == (None, None)
        assert ledger.unfinished(two.id) == unknown
        assert ledger.wear(DeviceId("bbbbbb"), NOON) == Wear(today=2, life=5)
        # Version 4 had watched wear that a clock had dated in the future.
        assert ledger.wear(DeviceId("aaaaaa"), NOON) == Wear(today=1, life=1 if version < 4 else 4)
        latched, lifted = ledger.latches(active_only=False)
        assert (latched.scope, latched.device, latched.attempt) == (LatchScope.DEVICE, "bbbbbb", 2)
        assert (lifted.scope, lifted.image, lifted.lifted_by) == (LatchScope.IMAGE, image(9), "root")
        everything, *others = ledger.holds()
        assert everything == Hold(device=None, reason="fair", owner="ann", at=NOON)
        assert [hold.expires_at for hold in others] == ([] if version < 5 else [NOON + 7200.0])
        assert ledger.actions(5) == [Action(at=NOON, who="ann", what="hold", target="all", detail="fair")]
        assert ledger.rollouts() == ([] if version < 5 else [ROLLOUT])
        assert ledger.dropped() == (
            {} if version < 5 else {"panel-1.toml": "panel 1.1.0, image 000000000000"}
        )
        assert ledger.totals(DeviceId("bbbbbb")) == {Outcome.FAILED: 4, Outcome.UNKNOWN: 1}
        # Versions 1 and 2 counted nothing; what they had kept was counted when they were migrated.
        counted = ledger.counted(NOON)
        assert [(row.outcome, row.cause, row.attempts) for row in counted.attempts] == [
            ("failed", "", 3),
            ("failed", "erase-error", 1),
            ("succeeded", "", 1),
            ("unknown", "end-unanswered", 1),
        ]
        assert counted.attempts[2].stats == good.stats
        assert [(row.settled, row.retried) for row in counted.attempts][1] == (
            (2, 3) if version >= 3 else (0, 0)
        )
        assert [(row.state, row.cause, row.jobs) for row in counted.jobs] == [
            ("failed", "erase-error", 1),
            ("succeeded", "", 1),
        ]
        assert [(row.longer_than, row.seconds) for row in counted.seconds] == (
            [(1800.0, 4000.5), (2.0, 3.0)] if version >= 3 else []
        )

    old_database(path, version)
    store = await Store.open(path)
    await store.run(read)
    await store.aclose()
    assert version_of(path) == LATEST


@pytest.mark.anyio
async def test_a_new_database_is_what_the_old_ones_become(path: Path, tmp_path: Path) -> None:
    # Also says when somebody edits a step that databases out there have taken already.
    await (await Store.open(path)).aclose()
    for version in range(1, LATEST + 1):
        old = tmp_path / f"{version}.db"
        old_database(old, version)
        await (await Store.open(old)).aclose()
        assert schema(old) == schema(path)


def test_an_older_database_is_copied_before_it_changes(path: Path) -> None:
    old_database(path, LATEST)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, [*steps(), NEXT])
    assert version_of(path) == LATEST + 1
    copy = path.with_name(f"state.db.v{LATEST}")
    assert version_of(copy) == LATEST
    assert "later" in schema(path)
    assert "later" not in schema(copy)
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", copy.name]


def test_a_copy_replaces_what_an_interrupted_one_left(path: Path) -> None:
    old_database(path, LATEST)
    copy = path.with_name(f"state.db.v{LATEST}")
    copy.write_text("of an earlier try")
    copy.with_name(f"{copy.name}.part").write_text("cut off")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, [*steps(), NEXT])
    assert version_of(copy) == LATEST
    assert not copy.with_name(f"{copy.name}.part").exists()


def test_inv5_a_step_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    old_database(path, LATEST)
    before = schema(path)
    broken = Step(LATEST + 2, "CREATE TABLE even_later (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, path, [*steps(), NEXT, broken])
        assert not connection.in_transaction
    assert version_of(path) == LATEST
    assert schema(path) == before


def test_inv5_without_room_for_the_copy_nothing_changes(path: Path) -> None:
    old_database(path, LATEST)
    path.with_name(f"state.db.v{LATEST}.part").mkdir()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises(OSError, match=r"\.part"),
    ):
        migrate(connection, path, [*steps(), NEXT])
    assert version_of(path) == LATEST


@pytest.mark.anyio
async def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    old_database(path, LATEST)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=rf"schema version 99, this firmwarden knows up to {LATEST}: .*\.v{LATEST}\)"
    ):
        await Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.anyio
async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE devices (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program"):
        await Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("version", range(1, LATEST))
def test_inv5_killed_at_any_instant_it_leaves_the_old_schema_or_the_new_one(
    tmp_path: Path, version: int
) -> None:
    old_database(tmp_path / "old.db", version)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        facts = connection.execute("SELECT * FROM latches").fetchall()
    done = subprocess.run(
        [sys.executable, killed_migration.__file__, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    instants, status = map(int, done.stdout.split())
    assert (status, instants > 10) == (0, True)
    versions = []
    for instant in range(instants + 1):
        database = tmp_path / str(instant) / "state.db"
        versions.append(version_of(database))
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT * FROM latches").fetchall() == facts
        copy = database.with_name(f"state.db.v{version}")
        if versions[-1] == LATEST:
            assert version_of(copy) == version, "what was before is kept"
        # The next start takes it the rest of the way, whatever was left lying.
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            migrate(connection, database, steps())
        assert version_of(database) == LATEST
        assert version_of(copy) == version
        assert not copy.with_name(f"{copy.name}.part").exists()
    assert versions == sorted(versions)
    assert {*versions} == {version, LATEST}
