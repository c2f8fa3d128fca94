"""Whether a unit keeps well, look by look."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.service.health import (
    LONGEST_STEP_S,
    VANISHES_AT_MOST,
    Course,
    HealthRule,
    Ill,
    Seen,
    follow,
    left_s,
)

RULE: Final = HealthRule(soak_s=100.0, return_within_s=30.0)
HERE: Final = Seen()
GONE: Final = Seen(away="it is not here")


def course(*looks: tuple[float, Seen], begun: Course | None = None) -> Course | Ill:
    """Follow a unit through looks, each so many seconds after the one before."""
    now: Course | Ill = begun or Course(soaked_s=0.0)
    for elapsed_s, seen in looks:
        assert isinstance(now, Course)
        now = follow(RULE, "2.0.0", now, seen, elapsed_s)
    return now


def test_time_here_counts_up_to_the_soak() -> None:
    assert course((40.0, HERE), (40.0, HERE)) == Course(soaked_s=80.0)
    assert course((40.0, HERE), (40.0, HERE), (40.0, HERE)) == Course(soaked_s=100.0)


def test_neither_time_away_counts_nor_the_step_in_which_it_came_back() -> None:
    assert course((10.0, HERE), (10.0, GONE), (10.0, HERE), (5.0, HERE)) == Course(soaked_s=15.0, vanished=1)


def test_it_may_be_away_for_less_than_its_deadline() -> None:
    away = course((10.0, GONE), (29.0, GONE))
    assert away == Course(soaked_s=0.0, away=GONE.away, away_s=29.0, vanished=1)
    assert isinstance(away, Course)
    assert left_s(RULE, away) == 1.0
    assert follow(RULE, "2.0.0", away, GONE, 1.0) == Ill("it is not here, and has been so for 30 s")


def test_what_is_doubtful_says_nothing() -> None:
    assert course((10.0, HERE), (50.0, Seen(doubtful=True, away="x", version="9.0.0"))) == Course(
        soaked_s=10.0
    )


@pytest.mark.parametrize("told", ["1.0.0", "", "2.0.0-rc.1"])
def test_another_version_is_ill_at_once(told: str) -> None:
    assert course((1.0, Seen(version=told))) == Ill(f"it says that it is {told}, not 2.0.0")
    assert course((1.0, Seen(version="2.0.0"))) == Course(soaked_s=1.0)


def test_a_suspend_is_one_step() -> None:
    assert course((86_400.0, HERE)) == Course(soaked_s=LONGEST_STEP_S)
    assert course((-5.0, HERE)) == Course(soaked_s=0.0)


def test_a_unit_that_comes_and_goes_is_ill() -> None:
    looks = [(1.0, GONE), (1.0, HERE)] * VANISHES_AT_MOST
    assert isinstance(course(*looks), Course)
    assert course(*looks, (1.0, GONE)) == Ill("it came and went 4 times; it is not here")


_SEEN: Final = st.sampled_from([HERE, GONE, Seen(doubtful=True), Seen(version="2.0.0")])


@given(st.lists(st.tuples(st.floats(-1.0, 1e6), _SEEN), max_size=30))
def test_a_course_stays_within_its_rule(looks: list[tuple[float, Seen]]) -> None:
    now: Course | Ill = Course(soaked_s=0.0)
    for elapsed_s, seen in looks:
        assert isinstance(now, Course)
        before, now = now, follow(RULE, "2.0.0", now, seen, elapsed_s)
        if isinstance(now, Ill):
            return
        assert before.soaked_s <= now.soaked_s <= RULE.soak_s
        assert now.soaked_s - before.soaked_s <= LONGEST_STEP_S
        assert 0.0 <= now.away_s < RULE.return_within_s
        assert left_s(RULE, now) >= 0.0
        assert now == replace(now, away_s=0.0) or now.away
