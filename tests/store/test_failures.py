"""What cannot be used is refused with what to do, and nothing is half done."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from firmwarden.errors import StoreError
from firmwarden.store import store as store_module
from firmwarden.store.lock import lock
from firmwarden.store.store import Store
from support import killed_writer
from support.stored import enroll, release
from support.virtual_service import storage_error

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.store.ledger import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def pragma(ledger: Ledger, text: str) -> None:
    ledger._all(f"PRAGMA {text}")  # noqa: SLF001  the only way to a full disk without one


def fill(ledger: Ledger) -> None:
    for number in range(1000):
        ledger.create_job(enroll(ledger, number), release(number), 1.0)


async def fill_and_close(path: Path) -> None:
    store = await Store.open(path)
    await store.run(fill)
    await store.aclose()


async def test_inv5_a_full_disk_changes_nothing_and_passes(path: Path) -> None:
    store = await Store.open(path)
    await store.run(lambda ledger: enroll(ledger, 5000))
    await store.run(lambda ledger: pragma(ledger, "max_page_count = 40"))
    with pytest.raises(StoreError, match=r"state\.db: the disk is full; make room .*; nothing was changed"):
        await store.run(fill)
    assert [device.key for device in await store.run(lambda ledger: ledger.devices())] == ["serial:5000"]
    await store.run(lambda ledger: pragma(ledger, "max_page_count = 100000"))
    await store.run(fill)
    assert len(await store.run(lambda ledger: ledger.devices())) == 1001
    await store.aclose()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "the disk is full"),
        (sqlite3.SQLITE_IOERR_WRITE, "the storage reports an error"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "it cannot be written"),
    ],
)
async def test_the_store_remembers_what_ails_it_until_it_was_written_again(
    path: Path, code: int, advice: str
) -> None:
    codes = [code]

    def before_commit() -> None:
        if codes:
            raise storage_error(codes.pop())

    store = await Store.open(path, before_commit=before_commit)
    assert store.problem == ""
    with pytest.raises(StoreError, match=advice) as failure:
        await store.run(lambda ledger: enroll(ledger, 1))
    assert store.problem == str(failure.value)
    await store.run(lambda ledger: ledger.devices())
    assert store.problem, "to read proves nothing"
    await store.run(lambda ledger: ledger.try_writing())
    assert store.problem == ""
    assert await store.run(lambda ledger: (ledger.holds(), ledger.devices())) == ([], [])
    await store.aclose()


async def test_a_lock_needs_no_room(path: Path) -> None:
    # Whose it is cannot be written on a full disk; it is held all the same.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        descriptor = lock(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.with_name(f"{path.name}.lock").read_bytes() == b""
    with pytest.raises(StoreError, match="is locked by process unknown"):
        lock(path)
    os.close(descriptor)


async def test_a_copy_that_cannot_be_written_before_a_new_schema_says_so(path: Path) -> None:
    await (await Store.open(path)).aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    path.with_name(f"{path.name}.v1.part").mkdir()
    with pytest.raises(StoreError, match=r"state\.db: .*\.v1\.part: Is a directory; nothing was changed"):
        await Store.open(path)


async def test_a_database_that_cannot_be_written_says_so(path: Path) -> None:
    store = await Store.open(path)
    await store.run(lambda ledger: pragma(ledger, "query_only = 1"))
    with pytest.raises(StoreError, match="cannot be written; check the permissions"):
        await store.run(lambda ledger: enroll(ledger, 1))
    await store.aclose()


async def test_a_missing_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory; the state directory must exist"):
        await Store.open(tmp_path / "absent" / "state.db")


async def test_a_path_that_is_no_file_says_so(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be opened; check that its directory exists"):
        await Store.open(path)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreError, match=r"it is damaged; stop the service, put it aside .*not a database"):
        await Store.open(path)
    assert path.read_bytes() == b"this is not a database" * 1000


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9])
async def test_damage_is_found_at_start(path: Path, place: float) -> None:
    await fill_and_close(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * place) // 4096 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match="it is damaged"):
        await Store.open(path)


async def test_a_truncated_file_is_found_at_start(path: Path) -> None:
    await fill_and_close(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="it is damaged"):
        await Store.open(path)


async def test_a_failed_opening_gives_the_lock_back(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        await Store.open(path)
    path.unlink()
    await (await Store.open(path)).aclose()


async def test_a_second_owner_is_refused(path: Path) -> None:
    store = await Store.open(path)
    with pytest.raises(
        StoreError, match=rf"locked by process {os.getpid()}: another firmwarden uses this state"
    ):
        await Store.open(path)
    await store.aclose()
    await (await Store.open(path)).aclose()


async def test_another_process_is_refused_and_its_death_frees_the_state(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, killed_writer.__file__, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreError, match=rf"locked by process {process.pid}: "):
            await Store.open(path)
        process.kill()
    await (await Store.open(path)).aclose()


async def test_another_program_that_keeps_it_locked_is_named_as_the_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_BUSY_TIMEOUT_S", 0.0)
    store = await Store.open(path)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program keeps it locked"):
        await store.run(lambda ledger: enroll(ledger, 1))
    shell.execute("ROLLBACK")
    shell.close()
    await store.run(lambda ledger: enroll(ledger, 1))
    await store.aclose()


async def test_an_sqlite_without_strict_tables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_OLDEST_SQLITE", (99, 1, 0))
    with pytest.raises(
        StoreError, match=r"this Python brings SQLite 3\.[0-9.]+, firmwarden needs 99\.1\.0 or newer"
    ):
        await Store.open(None)


async def test_a_breach_of_the_schema_is_a_store_error(path: Path) -> None:
    def twice(ledger: Ledger) -> None:
        device = enroll(ledger, 1)
        ledger.create_job(device, release(1), 1.0)
        ledger.create_job(device, release(1), 1.0)

    store = await Store.open(path)
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        await store.run(twice)
    assert await store.run(lambda ledger: ledger.devices()) == []
    await store.aclose()
