"""Writes what the attackers of tests/attacks try into docs/explanation/threat-model.md, each table between two marks.

``python -m support.threat_page`` writes them; tests/docs/test_threat_model.py compares.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from support import hostile_usb
from support.attackers import Attacker
from support.hostile_bundles import BUNDLES
from support.hostile_drops import DROPS
from support.hostile_requests import REQUESTS
from support.impostors import IMPOSTORS
from support.pages import DOCS
from support.reference_pages import sentence, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = DOCS / "explanation" / "threat-model.md"

Row = tuple[str, str]
"""What is tried, and what stops it."""


def _requests(by: Attacker) -> tuple[Row, ...]:
    return tuple((each.does, each.stopped) for each in REQUESTS if each.by is by)


TRIED: Final[Mapping[Attacker, tuple[Row, ...]]] = {
    Attacker.DIRECTORY: tuple((each.does, each.stopped) for each in (*DROPS, *BUNDLES)),
    Attacker.LOCAL: _requests(Attacker.LOCAL),
    Attacker.BROWSER: _requests(Attacker.BROWSER),
    Attacker.NETWORK: _requests(Attacker.NETWORK),
    Attacker.DEVICE: tuple(
        (each.does, each.stopped) for each in (*IMPOSTORS, *hostile_usb.DEVICES, *hostile_usb.MAPS)
    ),
}

_MARKED: Final = re.compile(r"(<!-- tried: (\w+); `make docs` writes it -->).*?(<!-- end -->)", re.DOTALL)


def marked(page: str) -> list[Attacker]:
    """Return whose tables are on the page."""
    return [Attacker(found[2]) for found in _MARKED.finditer(page)]


def render(page: str) -> str:
    """Return the page with the tables as the suite has them."""
    return _MARKED.sub(lambda marks: "\n".join((marks[1], *_table(Attacker(marks[2])), "", marks[3])), page)


def _table(by: Attacker) -> Iterator[str]:
    yield from table(("what is tried", "what stops it"), ((sentence(does), how) for does, how in TRIED[by]))


def main() -> None:
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
