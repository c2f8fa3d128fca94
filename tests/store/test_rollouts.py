"""How far a release has come, as it is stored, and how the units of a class fared with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState, Outcome, Rollout, RolloutState
from support.stored import CAUSE, NOON, PANEL, bare_ledger, enroll, image, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.store.ledger import Ledger

BEGUN = Rollout(
    device_class=PANEL,
    image=image(1),
    version="1.1.0",
    state=RolloutState.CANARY,
    began_at=NOON,
    wave_at=NOON,
)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with bare_ledger() as bare:
        yield bare


def test_a_rollout_is_kept_and_read_back(ledger: Ledger) -> None:
    later = replace(
        BEGUN,
        state=RolloutState.STOPPED,
        wave=2,
        wave_at=NOON + 60.0,
        soaks_since=NOON + 90.0,
        forgiven=3,
        changed_by="ann",
        reason="too many",
    )
    for rollout in (BEGUN, later):
        ledger.keep_rollout(rollout)
        assert ledger.rollouts() == [rollout]


def test_what_soaks_follows_a_clock_that_was_set(ledger: Ledger) -> None:
    soaking = replace(BEGUN, soaks_since=NOON)
    yet_to_show_it = replace(BEGUN, image=image(2))
    for rollout in (soaking, yet_to_show_it):
        ledger.keep_rollout(rollout)
    ledger.move_soaks(-3600.0)
    assert ledger.rollouts() == [replace(soaking, soaks_since=NOON - 3600.0), yet_to_show_it]


def test_how_units_fared_with_an_image_is_told_by_their_jobs(ledger: Ledger) -> None:
    tried, waiting, other = (enroll(ledger, number) for number in (1, 2, 3))
    first = ledger.create_job(tried, release(1), NOON)
    attempt = ledger.claim(first.id, NOON)
    ledger.finish(attempt.id, Outcome.FAILED, now=NOON, cause=CAUSE)
    ledger.move(first.id, JobState.FAILED, now=NOON, cause=CAUSE)
    again = ledger.create_job(tried, release(1), NOON + 1.0)
    waits = ledger.create_job(waiting, release(1), NOON)
    ledger.create_job(other, release(2), NOON)
    assert ledger.newest_jobs_of(image(1)) == {tried: again, waiting: waits}
    assert ledger.tried(image(1)) == {tried}, "it was tried, whatever became of a later wish"
    assert ledger.tried(image(2)) == set()
