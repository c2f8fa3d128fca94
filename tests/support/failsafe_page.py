"""Writes the table of families into docs/how-to/make-stm32-updates-failsafe.md, between two marks.

``python -m support.failsafe_page`` writes it; tests/docs/test_failsafe.py compares.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.option_block import LAYOUTS
from firmwarden.drivers.boot.outlook import Failsafe
from support.pages import DOCS
from support.reference_pages import code, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.drivers.boot.facts import BankCheck, Family

PAGE: Final = DOCS / "how-to" / "make-stm32-updates-failsafe.md"

_MARKED: Final = re.compile(r"(<!-- families: `make docs` writes them -->).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """Return a page with the table as the code has it."""
    lines = table(("parts", "`failsafe`", "what it takes"), map(_row, FAMILIES))
    written, count = _MARKED.subn(lambda marks: "\n".join((marks[1], *lines, "", marks[2])), page)
    assert count == 1
    return written


def _row(family: Family) -> tuple[str, str, str]:
    said: list[Failsafe] = []
    takes: list[str] = []
    check = family.bank_check
    if check is not None and check.proven:
        said += [Failsafe.BFB2] + ([Failsafe.GOLDEN_BANK] if check.first != 1 else [])
        takes += _takes(family, check)
    if family.empty_check is not None:
        said.append(Failsafe.EMPTY_CHECK)
        takes.append(f"{code(Failsafe.EMPTY_CHECK)}: nothing" if takes else "nothing to be set")
    if not said:
        said.append(Failsafe.RESIDENT_LOADER)
        takes.append("a loader of yours, or a line to BOOT0")
    if check is not None and not check.proven:
        takes.append(f"{code(Failsafe.BFB2)} is not relied on: {check.doubt}")
    return family.title, ", ".join(map(code, said)), "; ".join(takes)


def _takes(family: Family, check: BankCheck) -> Iterator[str]:
    how = code("firmwarden provision") if family.name in LAYOUTS else "a debugger"
    yield f"{code(check.setting)}, by {how}"
    for bit in check.bits:
        if str(bit) != check.setting:
            yield f"{code(str(bit))}, as delivered"
    if check.loader_at_least is not None:
        yield f"a loader of version 0x{check.loader_at_least:02X} or newer"


def main() -> None:
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
