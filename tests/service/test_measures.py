"""Values in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from firmwarden.service import measures

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a second"),
        (1.2, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (5_399, "90 minutes"),
        (5_400, "2 hours"),
        (129_599, "36 hours"),
        (129_600, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert measures.duration(seconds) == words


@pytest.mark.parametrize(
    ("instant", "past", "future"),
    [
        ("2026-03-01T11:59:59.500Z", "just now", "now"),
        ("2026-03-01T11:57:00Z", "3 minutes ago", "now"),
        (
            "2026-03-01T12:03:00.000Z",
            "at 2026-03-01T12:03:00.000Z, which is in the future: the clock was or is wrong",
            "in 3 minutes",
        ),
    ],
)
def test_instants(instant: str, past: str, future: str) -> None:
    assert measures.ago(instant, NOON) == past
    assert measures.ahead(instant, NOON) == future


def test_how_long_something_took_is_never_negative() -> None:
    assert measures.between("2026-03-01T12:00:00Z", "2026-03-01T11:00:00Z") == "less than a second"


@pytest.mark.parametrize(
    ("count", "words"), [(1000, "1000 bytes"), (131_072, "128 KiB"), (1 << 27, "128.0 MiB")]
)
def test_sizes(count: int, words: str) -> None:
    assert measures.size(count) == words


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2026-03-01T12:00:00Z", True),
        ("2026-03-01T12:00:00.250Z", True),
        ("2026-99-01T12:00:00Z", False),
        ("2026-03-01T12:00:60Z", False),
        ("0000-03-01T12:00:00Z", False),
        ("2026-03-01T12:00:00Z.", False),
    ],
)
def test_what_only_looks_like_an_instant_is_none(text: str, is_one: bool) -> None:
    assert measures.INSTANT.match(text)
    assert measures.is_instant(text) is is_one
