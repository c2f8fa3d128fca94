"""A rack of simulated boards, as the page has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from support.pages import DOCS
from support.terminals import Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = DOCS / "how-to" / "run-a-lab-rack.md"
BOARDS: Final = 24


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rack_of_twenty_four_boards(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        for shown in blocks(PAGE):
            # The port of the page may be somebody's.
            block = replace(shown, text=shown.text.replace("127.0.0.1:8642", "127.0.0.1:0"))
            if "firmwarden why" in block.text:
                # Who reads is slower than the boards.
                terminals.until(
                    "3", lambda: terminals.screen("3").count("update-succeeded") == BOARDS, "all ends"
                )
            if "rm -r" in block.text:
                terminals.interrupt("4", "3", "1")
            terminals.follow(block)

    assert list(tmp_path.iterdir()) == []
