"""Probations and good images: what a unit has yet to show, and what it may go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.model import GoodImage, JobState, Outcome, Probation
from firmwarden.store.probations import ProbationEnd
from support.stored import NOON, enroll, image, release

if TYPE_CHECKING:
    from firmwarden.model import DeviceId, Job
    from firmwarden.store.ledger import Ledger


def good(number: int) -> GoodImage:
    return GoodImage(version=f"1.{number}.0", sequence=None, image=image(number), size=1000 + number)


def updated(ledger: Ledger, device: DeviceId, number: int, now: float = NOON) -> Job:
    """Give a unit a release, which it then has to show that it keeps well with."""
    job = ledger.create_job(device, release(number), now)
    attempt = ledger.claim(job.id, now)
    ledger.erase_starting(attempt.id, now)
    ledger.ending(attempt.id, now)
    ledger.finish(attempt.id, Outcome.SUCCEEDED, now=now, evidence="it answers")
    ledger.set_running(
        device, version=job.version, sequence=None, image=job.image, evidence="it answers", now=now
    )
    job = ledger.move(job.id, JobState.SUCCEEDED, now=now)
    ledger.start_probation(job, now)
    return job


def ends(ledger: Ledger) -> dict[str, int]:
    return {row.outcome: row.probations for row in ledger.counted(NOON).probations}


def test_a_probation_soaks_and_ends(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    assert ledger.probation(device) is None
    job = updated(ledger, device, 1)
    expected = Probation(
        device=device, job=job.id, image=image(1), version="1.1.0", sequence=None, size=1001, began_at=NOON
    )
    assert ledger.probation(device) == expected
    assert ledger.probations() == [expected]
    assert expected.on_trial == good(1)
    ledger.soak(device, 12.5)
    soaked = ledger.probation(device)
    assert soaked is not None
    assert soaked.soaked_s == 12.5
    ledger.end_probation(device, ProbationEnd.PASSED)
    ledger.end_probation(device, ProbationEnd.PASSED)  # there is none left to count
    assert ledger.probations() == []
    assert ends(ledger) == {"passed": 1}


def test_what_is_erased_has_nothing_to_show_any_more(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    updated(ledger, device, 1)
    second = updated(ledger, device, 2)
    probation = ledger.probation(device)
    assert probation is not None
    assert probation.job == second.id
    assert ends(ledger) == {"overtaken": 1}
    attempt = ledger.claim(ledger.create_job(device, release(3), NOON).id, NOON)
    assert ledger.probation(device) == probation
    ledger.erase_starting(attempt.id, NOON)
    assert ledger.probation(device) is None
    assert ends(ledger) == {"overtaken": 2}


def test_the_good_image_before_the_last_is_kept_too(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    told: list[tuple[GoodImage | None, GoodImage | None]] = []
    for number in (1, 2, 2, 3, 2):
        ledger.keeps_well(device, good(number))
        unit = ledger.device(device)
        assert unit is not None
        told.append((unit.good, unit.good_before))
    assert told == [
        (good(1), None),
        (good(2), good(1)),
        (good(2), good(1)),
        (good(3), good(2)),
        (good(2), good(3)),
    ]
    assert ledger.needed_images() == {image(2), image(3)}


def test_a_forgotten_unit_has_nothing_to_show_nor_to_go_back_to(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    updated(ledger, device, 1)
    ledger.keeps_well(device, good(2))
    ledger.forget(device)
    assert ledger.probations() == []
    assert ledger.needed_images() == set()
    enroll(ledger, 1)
    unit = ledger.device(device)
    assert unit is not None
    assert (unit.good, unit.good_before) == (None, None)


@pytest.mark.parametrize("known", [True, False])
def test_of_two_records_of_one_unit_the_later_word_counts(ledger: Ledger, known: bool) -> None:
    old, new = enroll(ledger, 1), enroll(ledger, 2)
    earlier = updated(ledger, old, 1)
    ledger.keeps_well(old, good(1))
    if known:
        earlier = updated(ledger, new, 2)
        ledger.keeps_well(new, good(2))
    unit = ledger.adopt(new, old)
    (probation,) = ledger.probations()
    assert (probation.device, probation.job) == (old, earlier.id)
    assert (unit.good, unit.good_before) == ((good(2), good(1)) if known else (good(1), None))


def test_the_first_to_be_good_is_a_bug_without_a_device(ledger: Ledger) -> None:
    device = enroll(ledger, 1)
    other = enroll(ledger, 2)
    ledger.adopt(other, device)
    with pytest.raises(LookupError):
        ledger.keeps_well(other, good(1))
