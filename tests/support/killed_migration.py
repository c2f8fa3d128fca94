"""Migrates a database again and again, and is killed at each step: ``killed_migration.py PLACE``.

For each instant a copy of ``PLACE/old.db`` is made as ``PLACE/0/state.db``, ``PLACE/1/state.db`` and so on, and a
process of its own dies there, at each statement and each thing that is done to a file, at once and without any
cleaning up; the last one lives to the end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import sys
from pathlib import Path

from firmwarden.store.migrations import migrate, steps

DIED = 9


def _migrate(database: Path, instant: int) -> None:
    count = itertools.count()

    def failpoint() -> None:
        if next(count) == instant:
            os._exit(DIED)

    def touched(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(("os.", "open")) and str(database) in " ".join(map(str, arguments)):
            failpoint()

    connection = sqlite3.connect(database, isolation_level=None)
    connection.set_trace_callback(lambda _sql: failpoint())
    sys.addaudithook(touched)
    migrate(connection, database, steps())


def main(place: Path) -> None:
    """Die everywhere."""
    for instant in itertools.count():
        database = place / str(instant) / "state.db"
        database.parent.mkdir()
        shutil.copy(place / "old.db", database)
        child = os.fork()
        if child == 0:
            _migrate(database, instant)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != DIED:
            sys.stdout.write(f"{instant} {os.waitstatus_to_exitcode(status)}\n")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
