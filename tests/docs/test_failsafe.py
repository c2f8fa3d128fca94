"""The how-to about failsafe updates: its table is that of the code, and its devices do what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.failsafe_page import PAGE, render
from support.terminals import Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table_of_families_is_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(page), f"{PAGE.name} is out of date: `make docs` writes it anew"


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_device_that_loses_power_comes_back_beside_one_that_waits(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        for block in blocks(PAGE):
            if "rm -r" in block.text:
                terminals.interrupt("1")  # as the text above it says
            terminals.follow(block)

    assert list(tmp_path.iterdir()) == []
