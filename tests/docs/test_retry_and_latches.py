"""The way from "it did not update" to "it did", typed in as the page has it, at a device that refuses once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import DOCS, block_after
from support.terminals import DAEMON, Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = DOCS / "how-to" / "retry-and-latches.md"

DEVICE: Final = """\
firmwarden simulate mdfu --dir ports --version 2.3.1 --flash-time 0.1 --fault abort@chunk=20,cause=write-error
"""


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_from_a_refusal_to_a_success(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        terminals.type("device", DEVICE, stays=True)
        terminals.see("device", '{"event": "ready", ...')
        terminals.type("daemon", DAEMON, stays=True)
        terminals.see("daemon", "... latch-set ...")
        terminals.type("1", "export FIRMWARDEN_SOCKET=$PWD/control.sock")

        for block in blocks(PAGE):
            terminals.follow(block)

        # A latch may be on a device whose last job succeeded.
        terminals.type("1", "firmwarden recall front-panel --reason hums")
        terminals.type("1", block_after(PAGE, "## From a script", "sh"))
        terminals.see("1", "k3f9q2 recalled")

        terminals.interrupt("1", "daemon", "device")
