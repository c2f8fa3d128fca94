"""Brings a database to the schema that this program knows: numbered steps, forward only, all in one transaction.

A step is a file ``schema/NNNN_name.sql``.  ``PRAGMA user_version`` tells the last one taken; it is part of the
file header and so of the transaction (https://www.sqlite.org/pragma.html#pragma_user_version).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from firmwarden.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

_APPLICATION_ID: Final = 0x46574452
"""The file header's mark, as the first step sets it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step from a version to the next."""

    number: int
    sql: str


def steps() -> tuple[Step, ...]:
    """Read the steps that this program knows, in order."""
    files = [
        file
        for file in resources.files(__package__).joinpath("schema").iterdir()
        if file.name.endswith(".sql")
    ]
    return tuple(
        Step(int(file.name.partition("_")[0]), file.read_text("utf-8"))
        for file in sorted(files, key=lambda file: file.name)
    )


def migrate(connection: sqlite3.Connection, path: Path | None, known: Sequence[Step]) -> None:
    """Take the steps that the database has not taken; a copy of an older one is put beside it first.

    Raises:
        StoreError: the database is newer than this program or belongs to another; it was not touched.
        sqlite3.Error: a step failed; none was taken.
        OSError: the copy could not be written; no step was taken.
    """
    where = path or "the database"
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise StoreError(f"{where} is a database of another program; give firmwarden a state_dir of its own")
    latest = known[-1].number
    if version > latest:
        raise StoreError(
            f"{where} has schema version {version}, this firmwarden knows up to {latest}: a newer one has used it; "
            f"install that again, or put back the copy that it made before the change ({_copy_name('NAME', latest)})"
        )
    if version == latest:
        return
    if version and path is not None:
        _back_up(connection, path, path.with_name(_copy_name(path.name, version)))
    script = "\n".join(step.sql for step in known if step.number > version)
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {latest};\nCOMMIT;")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _copy_name(name: str, version: int) -> str:
    return f"{name}.v{version}"


def _back_up(connection: sqlite3.Connection, path: Path, copy: Path) -> None:
    # VACUUM INTO neither overwrites nor syncs what it writes (https://www.sqlite.org/lang_vacuum.html).
    unfinished = copy.with_name(f"{copy.name}.part")
    unfinished.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(unfinished),))
    _sync(unfinished)
    unfinished.replace(copy)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
