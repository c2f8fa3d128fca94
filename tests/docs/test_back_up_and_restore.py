"""There and back, typed in as the page has it, beside a daemon that has updated a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import DOCS
from support.terminals import DAEMON, Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = DOCS / "how-to" / "back-up-and-restore.md"

DEVICE: Final = """\
firmwarden simulate mdfu --dir ports --version 2.3.1 --flash-time 0.02
"""


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_there_and_back(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        terminals.type("device", DEVICE, stays=True)
        terminals.see("device", '{"event": "ready", ...')
        terminals.type("daemon", DAEMON, stays=True)
        terminals.see("daemon", "... update-succeeded ...")

        copy, told, *rest = blocks(PAGE)
        terminals.follow(copy)
        terminals.follow(told)
        terminals.interrupt("daemon")
        for block in rest:
            terminals.follow(block)

        terminals.interrupt("1", "device")
