"""What the documentation shows: fenced blocks, commands, and names of tests."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent.parent
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_FENCED: Final = re.compile(r"^ *```(\w+)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
"""In an item of a list they are indented."""
_INLINE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Shown:
    """Something that a page shows."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.splitlines()[0]}"


def fenced(language: str) -> Iterator[Shown]:
    """Yield the blocks of a language on all pages."""
    for page in PAGES:
        for found, text in _FENCED.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield Shown(page, textwrap.dedent(text))


def inline() -> Iterator[Shown]:
    """Yield what stands in backticks in the prose of all pages."""
    for page in PAGES:
        prose = _FENCED.sub("", page.read_text(encoding="utf-8"))
        for text in _INLINE.findall(prose):
            yield Shown(page, text)


def block_after(page: Path, heading: str, language: str) -> str:
    """Return the first block of a language below a heading."""
    _, _, rest = page.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    return str(next(text for found, text in _FENCED.findall(rest) if found == language))
