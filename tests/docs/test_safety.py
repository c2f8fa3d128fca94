"""What the explanations name is there: modules, and for each thing that must stay true the tests that hold it."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING

from support.pages import DOCS, ROOT, block_after, inline

if TYPE_CHECKING:
    from pathlib import Path

EXPLANATIONS = DOCS / "explanation"
SAFETY = (EXPLANATIONS / "safety.md").read_text(encoding="utf-8")
DFU = (EXPLANATIONS / "dfu.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "daemon" / "firmwarden"


@cache
def functions_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", SAFETY + DFU)
    assert len(named) > 80
    assert [f"{file}::{name}" for file, name in named if name not in functions_in(ROOT / file)] == []


def test_every_section_names_tests_of_its_number() -> None:
    sections = re.split(r"^## (?=\d\. )", SAFETY, flags=re.MULTILINE)[1:]
    assert [section[0] for section in sections] == list("12345678")
    for section in sections:
        numbered = re.findall(rf"::test_(?:inv\d_)*inv{section[0]}_", section)
        assert len(numbered) >= 3, section.splitlines()[0]


def test_every_module_that_is_named_exists() -> None:
    named = [
        shown
        for shown in inline()
        if shown.page.parent == EXPLANATIONS
        and re.fullmatch(r"[\w/]+\.py", shown.text)
        and not shown.text.startswith("tests/")
    ]
    assert len(named) > 30
    # Beside a folder that was named, a file's name is enough.
    known = {path.name for path in PACKAGE.rglob("*.py")}
    assert [
        str(each) for each in named if not (PACKAGE / each.text).exists() and each.text not in known
    ] == []


def test_every_layer_is_on_the_page_in_its_order() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    lines = block_after(EXPLANATIONS / "architecture.md", "## The layers", "text").splitlines()
    assert len(lines) == len(layers)
    for line, layer in zip(lines, layers, strict=True):
        assert set(layer.split(" | ")) <= set(re.findall(r"\w+", line)), line
        assert line.split()[0] in layer, line


def test_the_words_are_those_of_the_architecture() -> None:
    architecture = (EXPLANATIONS / "architecture.md").read_text(encoding="utf-8")
    rules = re.findall(r"^(\d)\. \*\*(.+?)\*\*", architecture.replace("\n   ", " "), re.MULTILINE)
    titles = re.findall(r"^## (\d)\. (.+)$", SAFETY, re.MULTILINE)
    assert titles == [(number, rule.rstrip(".")) for number, rule in rules]
