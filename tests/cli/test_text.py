"""Values in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.cli import text

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
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
    assert text.duration(seconds) == words


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
    assert text.ago(instant, NOON) == past
    assert text.ahead(instant, NOON) == future


def test_how_long_something_took_is_never_negative() -> None:
    assert text.between("2026-03-01T12:00:00Z", "2026-03-01T11:00:00Z") == "0 seconds"


@pytest.mark.parametrize(
    ("count", "words"), [(1000, "1000 bytes"), (131_072, "128 KiB"), (1 << 27, "128.0 MiB")]
)
def test_sizes(count: int, words: str) -> None:
    assert text.size(count) == words


def test_the_last_column_wraps_under_itself() -> None:
    rows = [("panel-1", "", "waits for a slot, and for one more thing"), ("p", "", "")]
    assert text.table(("DEVICE", "LABEL", "STATE"), rows, fit=40) == [
        "DEVICE   STATE",
        "panel-1  waits for a slot, and for one",
        "         more thing",
        "p",
    ]


def test_a_narrow_last_column_stands_below_its_row() -> None:
    rows = [("panel-1", "x" * 12, "waits for a slot, and for one more thing"), ("panel-2", "", "up to date")]
    assert text.table(("DEVICE", "LABEL", "STATE"), rows, fit=40) == [
        "DEVICE   LABEL         STATE",
        "panel-1  xxxxxxxxxxxx",
        "    waits for a slot, and for one more",
        "    thing",
        "panel-2                up to date",
    ]


def test_a_command_stays_on_one_line_to_be_copied() -> None:
    for first, row in (("x" * 25, 1), ("x" * 35, 2)):
        rows = [(first, "see `firmwarden why panel-1` for the whole story")]
        assert "`firmwarden why panel-1`" in text.table(("A", "B"), rows, fit=60)[row]
    assert text.paragraph("x" * 70 + " `firmwarden why panel-1`")[1] == "`firmwarden why panel-1`"


@given(
    cells=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=60)), max_size=5),
    fit=st.none() | st.integers(min_value=1, max_value=200),
)
def test_inv8_any_text_makes_a_table_of_printable_lines(
    cells: list[tuple[str, str]], fit: int | None
) -> None:
    lines = text.table(("A", "B"), cells, fit=fit)
    assert len(lines) >= len(cells) + 1
    assert all(line.isprintable() for line in lines)
