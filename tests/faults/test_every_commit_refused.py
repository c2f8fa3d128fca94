"""The disk refuses each commit, once and for a while: nothing is lost, made up or done without a record."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState, Outcome
from support.virtual_service import assert_honest
from support.virtual_stories import KINDS, story
from support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.virtual_service import End, Story

FAULTS = {
    "nothing": (),
    "a cut": ("cut@chunk=1,back=0.5",),
    "a lost end": ("cut@step=end-transfer,back=0.5",),
}
CODES = {
    "full": sqlite3.SQLITE_FULL,
    "read-only": sqlite3.SQLITE_READONLY,
    "broken": sqlite3.SQLITE_IOERR,
}


def refusing(first: int, count: int, code: int) -> Callable[[int], int | None]:
    return lambda number: code if first <= number < first + count else None


def carried_out(told: Story) -> End:
    end = run(told.live)
    assert_honest(told, end)
    assert end.job.state is JobState.SUCCEEDED
    assert all(attempt.outcome is not Outcome.RUNNING for attempt in end.attempts)
    return end


@pytest.mark.parametrize("count", [1, 4, 40])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["generic", "pic8", "dspic"])
def test_inv5_refused_at_every_commit(name: str, fault: str, count: int) -> None:
    commits = carried_out(story(KINDS[name], *FAULTS[fault])).commits
    codes = [*CODES.values()]
    for number in range(commits):
        told = story(KINDS[name], *FAULTS[fault])
        told.refuse = refusing(number, count, codes[number % len(codes)])
        try:
            end = carried_out(told)
            assert told.refused == count
            # The disk is not the device's fault: no attempt of its budget is used up by it.
            failed = [attempt for attempt in end.attempts if attempt.outcome is Outcome.FAILED]
            assert len(failed) <= len(FAULTS[fault])
        except BaseException as exc:
            exc.add_note(f"{name}, {fault}: {count} refused from commit {number} of {commits}")
            raise


def test_inv5_refused_again_and_again(samples: int) -> None:
    for seed in range(samples):
        dice = random.Random(seed)
        name, fault = dice.choice([*KINDS]), dice.choice([*FAULTS])
        told = story(KINDS[name], *FAULTS[fault])
        share = dice.choice([0.1, 0.3])
        until = dice.randint(5, 60)

        def refuse(
            number: int, dice: random.Random = dice, share: float = share, until: int = until
        ) -> int | None:
            return dice.choice([*CODES.values()]) if number < until and dice.random() < share else None

        told.refuse = refuse
        try:
            carried_out(told)
        except BaseException as exc:
            exc.add_note(f"seed {seed}: {name}, {fault}")
            raise
