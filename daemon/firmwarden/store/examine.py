"""Looks at a database that somebody else had in hand, before it becomes the state.

A backup may have been damaged or made up.  The hashes in it only say that it is as it was written; here every
page, every table and every row is held to what this program could have written itself.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from firmwarden.errors import StoreError
from firmwarden.store.failures import damaged, translated
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import migrate, steps

if TYPE_CHECKING:
    from pathlib import Path

_EVERYTHING: Final = -1
"""As a limit: none."""
_LATEST_INSTANT: Final = 253_402_300_800.0
"""The end of the year 9999."""


def examined(database: Path) -> sqlite3.Connection:
    """Open the database file at ``database``, bring it to the schema of this program, and look at all of it.

    The file is a private copy; nobody else may have it open.

    Raises:
        StoreError: it is newer than this program, damaged, or not one of Firmwarden's.
    """
    where = str(database)
    with translated(where):
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            _examine(connection, where)
        except BaseException:
            connection.close()
            raise
    return connection


def _examine(connection: sqlite3.Connection, where: str) -> None:
    # What stands in its schema is not run before it was compared: https://www.sqlite.org/security.html
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if finding != "ok":
        raise damaged(where, finding)
    migrate(connection, None, steps())
    connection.row_factory = sqlite3.Row
    if _schema(connection) != _own_schema():
        raise StoreError(f"{where} has other tables than Firmwarden makes")
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise StoreError(f"{where} has rows that belong to nothing")
    _read_all(connection, where)
    connection.execute("PRAGMA foreign_keys = ON")


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return sorted((row[0], row[1], row[2]) for row in rows if row[1] != "sqlite_sequence")


def _own_schema() -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh, None, steps())
        return _schema(fresh)


def _read_all(connection: sqlite3.Connection, where: str) -> None:
    """Read every row as the service would."""
    ledger = Ledger(connection)
    try:
        ledger.devices()
        ledger.jobs(limit=_EVERYTHING)
        ledger.attempts(None, _EVERYTHING)
        ledger.latches(active_only=False)
        ledger.holds()
        ledger.actions(_EVERYTHING)
        ledger.counted(0.0)
        for device in ledger.devices():
            ledger.totals(device.id)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{where} has a row that cannot be read: {error!r}") from error
    for table, columns in _instants(connection).items():
        outside = " OR ".join(f"{column} NOT BETWEEN 0 AND {_LATEST_INSTANT}" for column in columns)
        if connection.execute(f"SELECT 1 FROM {table} WHERE {outside}").fetchone() is not None:  # noqa: S608  our own
            raise StoreError(f"{where} has an instant in {table} that is none")
    if connection.execute("SELECT 1 FROM wear WHERE starts < 0").fetchone() is not None:
        raise StoreError(f"{where} has counted less than nothing")


def _instants(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Find the columns with numbers that are not whole: all of them are instants or durations."""
    found: dict[str, list[str]] = {}
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for column in connection.execute(f"PRAGMA table_info({table})"):
            if column["type"] == "REAL":
                found.setdefault(table, []).append(column["name"])
    return found
