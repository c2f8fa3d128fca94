"""The tutorial does what it says, typed in as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.terminals import Terminals, blocks

PAGE = Path(__file__).parent.parent.parent / "docs" / "tutorial" / "first-update.md"


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_the_first_update(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        for block in blocks(PAGE):
            if "rm -r" in block.text:
                terminals.interrupt("4", "2", "1")  # as the text above it says
            terminals.follow(block)
            if "firmwarden watch" in block.text:
                # A reader takes longer to go on to the next window than the command to connect; a test does not.
                terminals.until("4", lambda: _connected_to(tmp_path), "that it watches")

    assert list(tmp_path.iterdir()) == []


def _connected_to(place: Path) -> bool:
    """Whether anybody is connected to a socket in ``place``, besides who listens."""
    return Path("/proc/net/unix").read_text(encoding="utf-8").count(f" {place}/") > 1
