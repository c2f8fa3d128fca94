"""A backup is of one instant, whole or not there, and taken beside a daemon that goes on writing."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from firmwarden.app.archive import unpack
from firmwarden.app.backup import back_up, write_backup
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.errors import Refused, StoreError
from firmwarden.images.cas import hash_of
from firmwarden.store.examine import examined
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import steps
from support import killed_writer
from support.backups import IMAGE, NEWER, files_of, make_state, older_database
from support.stored import image


@pytest.fixture
def state(tmp_path: Path) -> Path:
    make_state(tmp_path / "state")
    return tmp_path / "state"


def test_what_is_in_a_backup(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    made = back_up(state, file)
    assert (made.devices, made.missing) == (1, frozenset())
    with tarfile.open(file) as tar:
        members = {each.name: each for each in tar.getmembers()}
        images = sorted((hash_of(IMAGE), hash_of(NEWER)))
        assert list(members) == ["manifest.json", "firmwarden.db", *(f"images/{image}" for image in images)]
        assert all(each.isreg() and each.mode == 0o600 for each in members.values())
        content = tar.extractfile(f"images/{hash_of(IMAGE)}")
        assert content is not None
        assert content.read() == IMAGE
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.tar", "state"], "nothing is left beside it"


def test_a_backup_changes_nothing_of_the_state(state: Path, tmp_path: Path) -> None:
    before = files_of(state)
    back_up(state, tmp_path / "b.tar")
    after = files_of(state)
    # A reader makes the files of the write-ahead log anew, empty.
    assert {name: after[name] for name in before} == before
    assert after.get(f"{STATE_FILE}-wal", b"") == b""


def test_nothing_is_overwritten(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_text("dear")
    with pytest.raises(Refused, match=r"b\.tar exists already"):
        back_up(state, file)
    with pytest.raises(Refused, match="exists already"):
        back_up(state, state / STATE_FILE)
    assert file.read_text() == "dear"


def test_without_a_state_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"firmwarden\.db does not exist"):
        back_up(tmp_path, tmp_path / "b.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", range(1, steps()[-1].number))
def test_inv5_a_state_that_no_start_has_migrated_yet_is_backed_up_as_it_is(
    version: int, tmp_path: Path
) -> None:
    older_database(tmp_path / STATE_FILE, version)
    before = files_of(tmp_path)
    with (tmp_path / "b.tar").open("w+b") as file:
        made = write_backup(tmp_path, file)
        file.seek(0)
        (tmp_path / "unpacked").mkdir()
        contents = unpack(file, tmp_path / "unpacked")
    assert (contents.schema_version, made.devices) == (version, 2)
    assert made.missing == {image(1), image(3)}, "what its jobs and devices need is known all the same"
    with (
        closing(sqlite3.connect(tmp_path / STATE_FILE)) as state,
        closing(sqlite3.connect(tmp_path / "unpacked" / STATE_FILE)) as copy,
    ):
        assert [*copy.iterdump()] == [*state.iterdump()]
    assert files_of(tmp_path)[STATE_FILE] == before[STATE_FILE]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("PRAGMA user_version = 99", "schema version 99, this firmwarden knows up to"),
        ("PRAGMA application_id = 7", "a database of another program"),
    ],
)
def test_inv8_what_is_no_state_of_this_program_is_refused_with_what_to_do(
    state: Path, script: str, says: str
) -> None:
    with closing(sqlite3.connect(state / STATE_FILE, isolation_level=None)) as connection:
        connection.executescript(script)
    with pytest.raises(StoreError, match=says):
        write_backup(state, io.BytesIO())


def test_inv8_a_damaged_database_is_no_backup(state: Path) -> None:
    content = bytearray((state / STATE_FILE).read_bytes())
    size = int.from_bytes(content[16:18])  # of a page, https://www.sqlite.org/fileformat.html
    content[3 * size :] = bytes(len(content) - 3 * size)
    (state / STATE_FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"state/firmwarden\.db: it is damaged"):
        write_backup(state, io.BytesIO())


def test_a_database_that_a_kill_left_empty_is_no_state_yet(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).touch()
    with pytest.raises(StoreError, match=r"firmwarden\.db is empty: there is no state yet"):
        write_backup(tmp_path, io.BytesIO())


def test_an_image_that_is_not_there_or_damaged_is_told_and_left_out(state: Path) -> None:
    (state / IMAGES_DIR / hash_of(IMAGE)).unlink()
    (state / IMAGES_DIR / hash_of(NEWER)).write_bytes(b"rotten")
    made = write_backup(state, io.BytesIO())
    assert made.missing == {hash_of(IMAGE), hash_of(NEWER)}
    assert made.contents.images == []


def test_without_room_there_is_no_backup(state: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        write_backup(state, full)


@pytest.mark.slow
def test_inv5_backups_beside_a_writer_hold_whole_transactions(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with subprocess.Popen(
        [sys.executable, killed_writer.__file__, str(state / STATE_FILE)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        counts = []
        for number in range(8):
            acknowledged = int(writer.stdout.readline())
            file = tmp_path / f"{number}.tar"
            back_up(state, file)
            place = tmp_path / str(number)
            place.mkdir()
            with file.open("rb") as source:
                unpack(source, place)
            connection = examined(place / STATE_FILE)
            ledger = Ledger(connection)
            # A device, a job, an attempt and its wear come in one transaction.
            jobs = len(ledger.open_jobs())
            assert jobs == len(ledger.devices()) == len(ledger.running_attempts())
            assert acknowledged <= jobs
            counts.append(jobs)
            connection.close()
        assert writer.poll() is None, "it went on"
        writer.kill()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
