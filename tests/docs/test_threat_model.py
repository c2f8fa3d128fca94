"""The threat model says what the attackers of the suite try, and what it names is there."""

from __future__ import annotations

import re

from support.attackers import Attacker
from support.pages import DOCS, ROOT
from support.threat_page import PAGE, TRIED, marked, render

TEXT = PAGE.read_text(encoding="utf-8")


def functions_of(file: str) -> set[str]:
    return set(re.findall(r"^(?:async )?def (\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_tables_are_what_is_tried() -> None:
    assert marked(TEXT) == list(Attacker)
    assert render(TEXT) == TEXT, "docs/explanation/threat-model.md is out of date: `make docs` writes it anew"
    assert all(TRIED[each] for each in Attacker)


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"^- `(tests/\S+\.py)::(\w+)`$", TEXT, re.MULTILINE)
    assert len(named) > 25
    assert [f"{file}::{name}" for file, name in named if name not in functions_of(file)] == []


def test_every_attack_is_named() -> None:
    named = set(re.findall(r"`tests/attacks/\S+\.py::(\w+)`", TEXT))
    there = set()
    for file in (ROOT / "tests" / "attacks").glob("test_*.py"):
        there |= {name for name in functions_of(str(file)) if name.startswith("test_")}
    assert named == there


def test_every_module_that_stops_something_exists() -> None:
    package = ROOT / "daemon" / "firmwarden"
    stoppers = {
        path for rows in TRIED.values() for _, how in rows for path in re.findall(r"`([\w/]+\.py)`", how)
    }
    assert len(stoppers) > 15
    assert [path for path in sorted(stoppers) if not (package / path).exists()] == []


def test_every_section_but_the_last_names_a_test() -> None:
    *sections, last = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert last.startswith("What is not stopped")
    assert [each.splitlines()[0] for each in sections if "::test_" not in each] == []
    assert (DOCS / "README.md").read_text(encoding="utf-8").count("explanation/threat-model.md") == 1
