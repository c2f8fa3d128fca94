import pytest

from bench.table import Row, lines


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row(figure="", ours=""), ""),
        (Row(figure="", ours="", value=2.0), ""),
        (Row(figure="", ours="", value=0.5, at_most=0.5), "reached"),
        (Row(figure="", ours="", value=0.6, at_most=0.5), "NOT REACHED"),
        (Row(figure="", ours="", value=0.3, at_most=0.5, goal=0.2), "reached, goal NOT REACHED"),
        (Row(figure="", ours="", value=0.1, at_most=0.5, goal=0.2), "reached, goal too"),
        (Row(figure="", ours="", value=21.0, at_least=20.0), "reached"),
        (Row(figure="", ours="", value=19.0, at_least=20.0), "NOT REACHED"),
        (Row(figure="", ours="", value=30.0, at_least=20.0, goal=40.0), "reached, goal NOT REACHED"),
    ],
)
def test_a_figure_is_judged_on_the_side_that_is_asked_for(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_the_table_is_markdown_in_columns() -> None:
    heading, rule, *rows = lines(
        [
            Row(figure="short", ours="1 s", theirs="2 s", value=0.5, at_most=0.75),
            Row(figure="rather longer", ours="1 %", value=1.0, unit=" %", at_least=2.0),
        ]
    )
    assert {len(heading), len(rule)} == {len(row) for row in rows}
    assert rows[1].split("|")[-2].strip() == "NOT REACHED"
