"""kill -9 at any instant: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState, Outcome, Phase, Wear
from firmwarden.store.store import Store
from support import killed_writer

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.store.ledger import Ledger

pytestmark = pytest.mark.anyio


def start(database: Path, *failpoint: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, killed_writer.__file__, str(database), *failpoint],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def complete_jobs(ledger: Ledger) -> list[int]:
    """List the jobs, having seen that each has all the rows of its transaction."""
    attempts = {attempt.job: attempt for attempt in ledger.running_attempts()}
    jobs = ledger.open_jobs()
    assert len(jobs) == len(attempts) == len(ledger.devices())
    for job in jobs:
        attempt = attempts[job.id]
        assert (job.state, job.attempts) == (JobState.RUNNING, 1)
        assert (attempt.outcome, attempt.phase, attempt.erase_starts) == (Outcome.RUNNING, Phase.WRITING, 1)
        assert ledger.wear(job.device, 3.0) == Wear(today=1, life=1)
        device = ledger.device(job.device)
        assert device is not None
        assert device.complete is False
    return [job.id for job in jobs]


async def stored(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    store = await Store.open(database)
    jobs = await store.run(complete_jobs)
    await store.aclose()
    return jobs


async def test_inv5_kill_in_mid_stream_loses_nothing_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    acknowledged: list[int] = []
    for lines in (1, 17, 60):
        with start(database) as process:
            assert process.stdout is not None
            acknowledged.extend(int(process.stdout.readline()) for _ in range(lines))
            process.kill()
            # The last line may be cut off, then it was not said.
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        jobs = await stored(database)
        assert set(acknowledged) <= set(jobs)
        # A kill between the commit and the words about it: at most one a process.
        assert len(jobs) - len(acknowledged) <= 3
        acknowledged = jobs


@pytest.mark.parametrize(("where", "kept"), [("before", 4), ("after", 5)])
async def test_inv5_death_on_either_side_of_a_commit(tmp_path: Path, where: str, kept: int) -> None:
    database = tmp_path / "state.db"
    with start(database, where, "5") as process:
        assert process.stdout is not None
        acknowledged = [int(line) for line in process.stdout]
    assert process.returncode == 9
    assert acknowledged == [1, 2, 3, 4]
    assert await stored(database) == list(range(1, kept + 1))
