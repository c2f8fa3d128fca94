"""The reference pages that are tables of the code say what the code does."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from firmwarden.events import CATALOGUE, LogEvent
from firmwarden.model import CauseCode, JobState, Outcome, Phase, WaitKind
from firmwarden.service.figures import DeviceState, ReleaseState
from firmwarden.service.policy import Disposition
from support import reference_pages as pages

if TYPE_CHECKING:
    from collections.abc import Collection


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    written = (pages.REFERENCE / name).read_text(encoding="utf-8")
    assert written == pages.render(name), f"docs/reference/{name} is out of date: `make docs` writes it anew"


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (CATALOGUE, LogEvent),
        (pages.ADVICE, CauseCode),
        (pages.DISPOSITION_TEXTS, Disposition),
        (pages.STATES, JobState),
        (pages.OUTCOMES, Outcome),
        (pages.PHASES, Phase),
        (pages.WAITS, WaitKind),
        (pages.DEVICE_STATES, DeviceState),
        (pages.RELEASE_STATES, ReleaseState),
    ],
)
def test_everything_that_there_is_is_told(told: Collection[object], known: Collection[object]) -> None:
    assert set(told) == set(known)


def test_no_cell_breaks_its_table() -> None:
    for name in pages.PAGES:
        lines = pages.render(name).splitlines()
        for above, row in pairwise(lines):
            if above.startswith("|") and row.startswith("|"):
                assert row.count("|") == above.count("|"), row
