"""A process that commits as fast as it can until it dies: ``killed_writer.py DATABASE [before|after COMMIT]``.

It writes the id of each job when the store has acknowledged it.  With a failpoint it dies by itself, at once and
without any cleaning up, before or after the commit of that number.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from firmwarden.store.store import Store
from support.stored import enroll, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import JobId
    from firmwarden.store.ledger import Ledger


def _die_at(commit: int) -> Callable[[], None]:
    count = itertools.count(1)

    def failpoint() -> None:
        if next(count) == commit:
            os._exit(9)

    return failpoint


def _write(ledger: Ledger) -> JobId:
    """Make rows in every table that an attempt touches; all of them or none must be there."""
    number = len(ledger.devices())
    device = enroll(ledger, number)
    job = ledger.create_job(device, release(1), 1.0)
    ledger.erase_starting(ledger.claim(job.id, 2.0).id, 3.0)
    return job.id


async def main(database: str, where: str, commit: int) -> None:
    """Write until killed."""
    failpoint = _die_at(commit)
    store = await Store.open(
        Path(database),
        before_commit=failpoint if where == "before" else None,
        after_commit=failpoint if where == "after" else None,
    )
    while True:
        job = await store.run(_write)
        sys.stdout.write(f"{job}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], *((sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else ("", 0)))
