"""A restore happens whole or not at all, and puts aside what was there."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from firmwarden.app.archive import DATABASE, BadBackup, Contents, member_of, pack, unpack
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.app.restore import restore
from firmwarden.errors import Refused, StoreError
from firmwarden.images.cas import hash_of
from firmwarden.store.lock import lock
from firmwarden.store.migrations import steps
from support import killed_restore
from support.backups import (
    IMAGE,
    NEWER,
    backup_of,
    files_of,
    images,
    in_state,
    make_state,
    older_database,
    went_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.model import DeviceId
    from firmwarden.store.ledger import Ledger


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def device(state: Path) -> DeviceId:
    return make_state(state)


def restored(state: Path, raw: bytes) -> Any:  # noqa: ANN401
    return restore(state, io.BytesIO(raw), who="ann")


def whats(ledger: Ledger) -> list[str]:
    return [action.what for action in ledger.actions(10)]


def rebuilt(place: Path, raw: bytes, change: Callable[[Path], object], **said: object) -> bytes:
    """Make another backup of one in an empty directory, whose hashes are right again."""
    place.mkdir()
    contents = unpack(io.BytesIO(raw), place)
    change(place)
    members = tuple(member_of(place, member.name) for member in contents.members)
    out = io.BytesIO()
    pack(Contents(**{**contents.model_dump(), "members": members, **said}), place, out)
    return out.getvalue()


# --- what comes of it


@pytest.mark.usefixtures("device")
def test_on_another_machine(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    done = restored(other, backup_of(state))
    assert done.aside is None
    assert (done.settled.devices, done.settled.not_known, done.settled.closed) == (1, 1, 1)
    assert in_state(other, whats) == ["restore", "hold"]
    kept = images(other)
    assert (kept.load(hash_of(IMAGE)), kept.load(hash_of(NEWER))) == (IMAGE, NEWER)
    assert (other / STATE_FILE).stat().st_mode & 0o777 == 0o600


def test_the_present_state_is_put_aside_and_can_be_restored(state: Path, device: DeviceId) -> None:
    early = backup_of(state)
    went_on(state, device)
    done = restored(state, early)
    assert (done.settled.latches, done.settled.erases) == (1, 2)
    assert in_state(state, whats) == ["restore", "hold", "hold"]
    assert sorted(each.name for each in state.iterdir()) == [
        done.aside.name,
        STATE_FILE,
        f"{STATE_FILE}.lock",
        IMAGES_DIR,
    ]
    again = restored(state, done.aside.read_bytes())
    assert again.aside != done.aside
    assert in_state(state, whats) == ["restore", "restore", "hold", "hold"]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("version", range(1, steps()[-1].number + 1))
def test_a_backup_of_an_older_version_is_brought_up(state: Path, version: int, tmp_path: Path) -> None:
    def older(place: Path) -> None:
        (place / DATABASE).unlink()
        older_database(place / DATABASE, version)

    restored(state, rebuilt(tmp_path / "rebuilt", backup_of(state), older, schema_version=version))
    assert {device.key for device in in_state(state, lambda ledger: ledger.devices())} >= {"port:1-1.4:0"}
    assert not list(state.glob("*.v*"))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("version", range(1, steps()[-1].number))
def test_inv5_a_present_state_that_no_start_has_migrated_yet_is_put_aside_and_still_counts(
    state: Path, version: int
) -> None:
    raw = backup_of(state)
    for each in state.glob(f"{STATE_FILE}*"):
        each.unlink()
    older_database(state / STATE_FILE, version)
    done = restored(state, raw)
    assert (done.settled.devices, done.settled.latches) == (3, 1)
    again = restored(state, done.aside.read_bytes())
    assert again.contents.schema_version == version


def test_a_log_that_a_kill_left_is_put_aside_with_the_rest(
    state: Path, device: DeviceId, tmp_path: Path
) -> None:
    early = backup_of(state)
    with closing(sqlite3.connect(state / STATE_FILE)) as connection:
        # As kill -9 leaves it: the last commits are in the write-ahead log alone.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE wear SET starts = 77 WHERE device = ?", (device,))
        connection.commit()
        killed = tmp_path / "killed"
        shutil.copytree(state, killed)
    assert (killed / f"{STATE_FILE}-wal").stat().st_size > 0
    done = restored(killed, early)
    assert done.settled.erases == 76
    assert not (killed / f"{STATE_FILE}-wal").exists()


# --- what is refused


@pytest.mark.usefixtures("device")
def test_beside_a_daemon_it_is_refused(state: Path) -> None:
    raw = backup_of(state)
    before = files_of(state)
    descriptor = lock(state / STATE_FILE)
    try:
        with pytest.raises(StoreError, match=f"locked by process {os.getpid()}: another firmwarden uses"):
            restored(state, raw)
    finally:
        os.close(descriptor)
    assert files_of(state) == before


def sql(text: str) -> Callable[[Path], None]:
    def work(place: Path) -> None:
        with closing(sqlite3.connect(place / DATABASE, isolation_level=None)) as connection:
            connection.execute(text)

    return work


REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "newer": (
        sql("PRAGMA user_version = 99"),
        {"schema_version": 99},
        "schema version 99, this Firmwarden knows",
    ),
    "of another version": (sql("PRAGMA user_version = 1"), {}, "its manifest says"),
    "no database": (lambda place: (place / DATABASE).write_bytes(b"x" * 9000), {}, "not a database"),
    "with a trigger": (
        sql("CREATE TRIGGER t AFTER INSERT ON actions BEGIN DELETE FROM wear; END"),
        {},
        "other tables",
    ),
}


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("case", REFUSED)
def test_inv8_a_bad_database_is_refused_and_nothing_is_touched(
    state: Path, case: str, tmp_path: Path
) -> None:
    change, said, reason = REFUSED[case]
    raw = rebuilt(tmp_path / "rebuilt", backup_of(state), change, **said)
    before = files_of(state)
    with pytest.raises(BadBackup, match=reason):
        restored(state, raw)
    assert files_of(state) == before
    assert not (state / "restore.part").exists()


@pytest.mark.usefixtures("device")
def test_inv8_a_truncated_backup_is_refused_and_nothing_is_touched(state: Path) -> None:
    raw = backup_of(state)
    before = files_of(state)
    for size in range(0, len(raw), 5000):
        with pytest.raises(BadBackup, match="cut off"):
            restored(state, raw[:size])
    assert files_of(state) == before


@pytest.mark.usefixtures("device")
def test_a_present_state_that_cannot_be_read_is_a_persons_to_give_up(state: Path) -> None:
    raw = backup_of(state)
    for log in state.glob("*-*"):
        log.unlink()
    (state / STATE_FILE).write_bytes(b"rotten" * 2000)
    with pytest.raises(
        Refused, match=r"would be lost: .*it is damaged.*mkdir .*/aside && mv .*firmwarden\.db "
    ) as said:
        restored(state, raw)
    before = files_of(state)
    assert before[STATE_FILE] == b"rotten" * 2000
    command = str(said.value).partition("restore again: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert restored(state, raw).aside is None
    assert (state / "aside" / STATE_FILE).read_bytes() == b"rotten" * 2000


@pytest.mark.usefixtures("device")
def test_a_log_without_its_database_is_not_left_for_the_new_one(state: Path) -> None:
    raw = backup_of(state)
    (state / STATE_FILE).rename(state / "moved.db")
    (state / f"{STATE_FILE}-wal").write_bytes(b"x")
    with pytest.raises(Refused, match=r"firmwarden\.db-wal belongs to a database that is not there"):
        restored(state, raw)


@pytest.mark.usefixtures("device")
def test_without_a_state_directory_it_says_how_to_have_one(state: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sudo install -d -o firmwarden -g firmwarden -m 750 "):
        restored(tmp_path / "nowhere", backup_of(state))


# --- kills


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_inv5_killed_at_any_instant_it_leaves_the_old_state_or_the_new_one(
    state: Path, device: DeviceId, tmp_path: Path
) -> None:
    (tmp_path / "b.tar").write_bytes(backup_of(state))
    went_on(state, device)
    done = subprocess.run(
        [sys.executable, killed_restore.__file__, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    instants, status = map(int, done.stdout.split())
    assert (status, instants > 40) == (0, True)
    old = in_state(state, whats)
    new = ["restore", *old]
    seen = []
    for instant in range(instants + 1):
        killed = tmp_path / str(instant)
        found = in_state(killed, whats)
        jobs = in_state(killed, lambda ledger: [job.state.value for job in ledger.jobs(limit=9)])
        seen.append(found)
        assert (found, jobs) in ((old, ["running"]), (new, ["cancelled"])), instant
        life = in_state(killed, lambda ledger: ledger.wear(device, 0.0).life)
        assert life == 3, "worn flash is known either way"
        kept = images(killed)
        assert (kept.load(hash_of(IMAGE)), kept.load(hash_of(NEWER))) == (IMAGE, NEWER)
    assert seen == sorted(seen, key=lambda found: found == new), "once restored it stays"
    assert seen.count(old) > 30
    # Whatever a kill left lying does not hinder the next try, and goes.
    for instant in range(0, instants, 7):
        killed = tmp_path / str(instant)
        restored(killed, (tmp_path / "b.tar").read_bytes())
        assert not (killed / "restore.part").exists()
