"""Copies a database as it stands at one instant, beside whoever writes to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from firmwarden.errors import StoreError
from firmwarden.store.failures import translated

if TYPE_CHECKING:
    from pathlib import Path

_BUSY_TIMEOUT_S: Final = 5.0


def snapshot(database: Path, copy: Path) -> None:
    """Copy ``database`` to the new file ``copy``, which then needs no write-ahead log beside it.

    One step copies it all within one reading transaction, so the copy is of one instant; in WAL mode a reader
    neither waits for the writer nor holds it up (https://www.sqlite.org/backup.html, https://www.sqlite.org/wal.html).

    Raises:
        StoreError: there is no such database, it cannot be read, or the copy cannot be written.
    """
    if not database.exists():
        raise StoreError(f"{database} does not exist: there is no state yet, or it is elsewhere")
    with translated(str(database)), closing(_reading(database)) as source:
        (tables,) = source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:  # as a kill leaves it in the middle of the first start
            raise StoreError(f"{database} is empty: there is no state yet")
        # From here on a full disk is the copy's.
        with translated(str(copy)), closing(sqlite3.connect(copy, isolation_level=None)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")


def _reading(database: Path) -> sqlite3.Connection:
    # https://www.sqlite.org/uri.html
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
