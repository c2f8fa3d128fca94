"""The host is killed before and after every commit of its store, and starts again on the same file (invariant 5)."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState, Outcome
from support.virtual_service import Killed, Story, assert_honest
from support.virtual_stories import KINDS, story
from support.virtual_time import run

if TYPE_CHECKING:
    from pathlib import Path

FAULTS = {
    "nothing": (),
    "a cut": ("cut@chunk=1,back=0.5",),
    "a lost end": ("cut@step=end-transfer,back=0.5",),
}


def killed(told: Story) -> None:
    with pytest.raises(Killed):
        run(told.live)
    told.kill_before = told.kill_after = None


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["generic", "pic8", "dspic"])
def test_inv5_killed_at_every_commit(name: str, fault: str, side: str, tmp_path: Path) -> None:
    commits = run(story(KINDS[name], *FAULTS[fault]).live).commits
    assert commits >= 5
    for number in range(commits):
        told = story(KINDS[name], *FAULTS[fault], database=tmp_path / f"{number}.db")
        setattr(told, f"kill_{side}", number)
        try:
            killed(told)
            end = run(told.live)
            assert_honest(told, end)
            assert end.job.state is JobState.SUCCEEDED
            interrupted = [attempt for attempt in end.attempts if attempt.outcome is Outcome.INTERRUPTED]
            assert len(interrupted) <= 1, "one kill interrupts one attempt"
        except BaseException as exc:
            exc.add_note(f"{name}, {fault}: killed {side} commit {number} of {commits}")
            raise


def test_inv5_killed_again_and_again(samples: int, tmp_path: Path) -> None:
    for seed in range(samples):
        dice = random.Random(seed)
        name, fault = dice.choice([*KINDS]), dice.choice([*FAULTS])
        told = story(KINDS[name], *FAULTS[fault], database=tmp_path / f"{seed}.db")
        try:
            for _ in range(dice.randint(2, 6)):
                setattr(told, dice.choice(["kill_before", "kill_after"]), told.commits + dice.randint(0, 4))
                with suppress(Killed):
                    run(told.live)
                told.kill_before = told.kill_after = None
            end = run(told.live)
            assert_honest(told, end)
            assert end.job.state is JobState.SUCCEEDED
        except BaseException as exc:
            exc.add_note(f"seed {seed}: {name}, {fault}")
            raise
