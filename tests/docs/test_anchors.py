"""Links into a page lead to a heading of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from support.pages import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the headings: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_anchors_exist() -> None:
    links = [
        (page, target, anchor)
        for page in PAGES
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 10
    assert [
        f"{page.relative_to(ROOT)}: {target}#{anchor}"
        for page, target, anchor in links
        if anchor not in anchors(page.parent / target if target else page)
    ] == []
