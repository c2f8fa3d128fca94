"""Restores a backup again and again, and is killed at each thing that it does to files: ``killed_restore.py PLACE``.

The backup is ``PLACE/b.tar``.  For each instant a copy of ``PLACE/state`` is made in ``PLACE/0``, ``PLACE/1`` and so
on, and a process of its own dies there, at once and without any cleaning up; the last one lives to the end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from pathlib import Path

from firmwarden.app.restore import restore

DIED = 9


def _restore(state: Path, backup: Path, instant: int) -> None:
    count = itertools.count()

    def failpoint(event: str, arguments: tuple[object, ...]) -> None:
        # https://docs.python.org/3/library/audit_events.html
        touches = event.startswith(("os.", "open", "sqlite3.", "shutil.", "tempfile.", "fcntl."))
        if touches and str(state) in " ".join(map(str, arguments)) and next(count) == instant:
            os._exit(DIED)

    sys.addaudithook(failpoint)
    with backup.open("rb") as source:
        restore(state, source, who="ann")


def main(place: Path) -> None:
    """Die everywhere."""
    for instant in itertools.count():
        state = place / str(instant)
        shutil.copytree(place / "state", state)
        child = os.fork()
        if child == 0:
            _restore(state, place / "b.tar", instant)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != DIED:
            sys.stdout.write(f"{instant} {os.waitstatus_to_exitcode(status)}\n")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
