"""Readers of what others wrote, given what nearly is what they expect: each takes it, or refuses it with a reason."""

from __future__ import annotations

import time
from itertools import count

import pytest
from hypothesis import given, seed, settings

from support.fuzz_targets import TARGETS, Target

_AT_LEAST = 40
_IN_A_ROUND = 500
"""Hypothesis learns within a round, and the clock is looked at between them."""


@pytest.fixture
def seconds_each(request: pytest.FixtureRequest) -> float:
    """How long to go on with each target; 0 is for the few examples of `make test`."""
    minutes: float = request.config.getoption("--fuzz-minutes")
    return minutes * 60 / len(TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_inv8_whatever_comes_is_taken_or_refused_with_a_reason(
    target: Target, seconds_each: float, examples: dict[str, int]
) -> None:
    tried = count(1)

    def whatever_comes(raw: bytes) -> None:
        examples[target.name] = next(tried)
        target.try_out(raw)

    if not seconds_each:
        settings(max_examples=_AT_LEAST)(given(target.inputs)(whatever_comes))()
        return
    a_round = settings(max_examples=_IN_A_ROUND, derandomize=False, database=None)
    deadline = time.monotonic() + seconds_each
    while time.monotonic() < deadline:
        seed(time.time_ns())(a_round(given(target.inputs)(whatever_comes)))()
