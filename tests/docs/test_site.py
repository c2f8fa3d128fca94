"""The pages make a site, without a warning and without anything from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.pages import DOCS

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\]\(([^)#]+\.md)\)")
ASSET = re.compile(r"<(?:link|script|img|source|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//", re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"

    made = subprocess.run(
        [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", DOCS, site],
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*/*.md"))) - len(list(DOCS.glob("changelog.d/*")))
    assert [page for page in pages if ASSET.search(page.read_text(encoding="utf-8"))] == []


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))
    there = [str(page.relative_to(DOCS)) for page in DOCS.glob("*/*.md") if page.parent.name != "changelog.d"]
    assert sorted(listed) == sorted(there)
