"""A database that somebody had in hand is refused unless this program could have written it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from firmwarden.errors import StoreError
from firmwarden.store.examine import examined
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import migrate, steps
from support.stored import NOON, enroll, release

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a good one."""
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        migrate(connection, None, steps())
        ledger = Ledger(connection)
        device = enroll(ledger, 1)
        ledger.erase_starting(ledger.claim(ledger.create_job(device, release(1), NOON).id, NOON).id, NOON)
    return path


def test_a_good_one_is_taken(path: Path) -> None:
    with closing(examined(path)) as connection:
        assert len(Ledger(connection).devices()) == 1


@pytest.mark.parametrize(
    ("tampering", "reason"),
    [
        ("CREATE TABLE more (x)", "other tables"),
        ("CREATE TRIGGER t AFTER INSERT ON actions BEGIN DELETE FROM wear; END", "other tables"),
        ("CREATE VIEW v AS SELECT 1", "other tables"),
        ("DROP INDEX one_running_job", "other tables"),
        ("DROP TABLE latches", "other tables"),
        ("UPDATE jobs SET device = 'nobody'", "belong to nothing"),
        ("UPDATE jobs SET cause = 'no JSON'", "cannot be read"),
        ("UPDATE jobs SET cause = '[]'", "cannot be read"),
        ("UPDATE jobs SET cause = '{}'", "cannot be read"),
        ("UPDATE devices SET first_seen = 9e99", "an instant in devices"),
        ("UPDATE attempts SET started_at = -1.0", "an instant in attempts"),
        ("UPDATE wear SET starts = -5", "less than nothing"),
        ("PRAGMA application_id = 7", "another program"),
        ("PRAGMA user_version = 99", "schema version 99"),
    ],
)
def test_inv8_another_is_refused(path: Path, tampering: str, reason: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(tampering)
    with pytest.raises(StoreError, match=reason):
        examined(path)


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8])
def test_inv8_a_damaged_one_is_refused(path: Path, place: float) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * place) // 4096 * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(StoreError, match="it is damaged"):
        examined(path)


def test_inv8_noise_is_refused(path: Path) -> None:
    path.write_bytes(b"noise" * 3000)
    with pytest.raises(StoreError, match="it is damaged"):
        examined(path)
