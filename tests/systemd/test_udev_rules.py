"""The udev rules that ship can be read by udev, and do nothing until the operator lists devices."""

import re
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "systemd" / "60-firmwarden-modemmanager.rules"
_TERM = re.compile(r'([A-Z]+)(?:\{(\w+)\})?(==|!=|\+=|:=|=)"([^"]*)"')
"""udev(7): a key, perhaps an attribute, an operator, a value."""
_MATCHED = {"ACTION", "SUBSYSTEM", "KERNEL", "ATTRS"}

Term = tuple[str, str, str, str]


def terms(line: str) -> list[Term]:
    found = []
    for text in re.split(r",\s*", line):
        term = _TERM.fullmatch(text)
        assert term is not None, f"{text} in {line}"
        found.append((term[1], term[2] or "", term[3], term[4]))
    return found


LINES = RULES.read_text().splitlines()
ACTIVE = [terms(line) for line in LINES if line and not line.startswith("#")]
EXAMPLES = [line.removeprefix("#") for line in LINES if re.match(r"#[A-Z]+(\{\w+\})?==", line)]


def test_nothing_is_marked_until_a_line_is_taken_out_of_its_comment() -> None:
    assert {term[0] for rule in ACTIVE for term in rule} == {"ACTION", "SUBSYSTEM", "GOTO", "LABEL"}


def test_what_is_jumped_to_exists_and_comes_last() -> None:
    jumps = {value for rule in ACTIVE for key, _, _, value in rule if key == "GOTO"}
    assert jumps == {value for key, _, _, value in ACTIVE[-1] if key == "LABEL"}
    assert LINES[-1].startswith("LABEL=")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_marks_what_it_matches(example: str) -> None:
    rule = terms(example)

    for key, _, operator, value in rule:
        assert (operator in {"==", "!="}) == (key in _MATCHED), example
        assert value, example
    marks = [(key, name, operator, value) for key, name, operator, value in rule if key not in _MATCHED]
    tag = ("TAG", "", "+=", "firmwarden")
    assert marks in ([("ENV", name, "=", "1"), tag] for name in ("ID_MM_DEVICE_IGNORE", "ID_MM_PORT_IGNORE"))


def test_there_are_examples_for_a_product_an_adapter_and_a_built_in_port() -> None:
    assert [("serial" in example, "KERNEL" in example) for example in EXAMPLES] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_modemmanager_reads_its_marks_later() -> None:
    assert int(RULES.name.partition("-")[0]) < 80
