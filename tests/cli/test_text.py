"""Tables and paragraphs."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from firmwarden.cli import text


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


def test_inv8_what_a_device_says_need_not_be_an_instant() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert text.with_local_times("it tells 2026-99-01T12:00:00Z", noon) == "it tells 2026-99-01T12:00:00Z"
    assert "(3 minutes ago)" in text.with_local_times("since 2026-03-01T11:57:00Z", noon)
