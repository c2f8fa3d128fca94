"""What the page shows of a unit that went back is what is shown of one that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import DOCS
from support.terminals import DAEMON, Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = DOCS / "how-to" / "go-back-by-itself.md"

DEVICE: Final = "firmwarden simulate mdfu --dir ports --version 2.3.1 --flash-time 0.1 --ill 2.5.0\n"
HEALTH: Final = r"""
health = { soak = "1s", query = { send = "STATUS?\n", expect = "WELL", timeout = "200ms" } }
roll_back = true
END
firmwarden simulate image"""
ILL: Final = r"""
firmwarden simulate image --version 2.5.0 --size 16384 firmware/ill.img
cat > ill.toml <<END
[release]
device = "front-panel"
version = "2.5.0"
image = "ill.img"
sha256 = "$(sha256sum firmware/ill.img | cut -d ' ' -f 1)"
size = 16384
END
mv ill.toml firmware/
"""


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_there_and_back(tmp_path: Path) -> None:
    with Terminals(tmp_path) as terminals:
        terminals.type("device", DEVICE, stays=True)
        terminals.see("device", '{"event": "ready", ...')
        terminals.type("daemon", DAEMON.replace("\nEND\nfirmwarden simulate image", HEALTH), stays=True)
        terminals.see("daemon", "... probation-passed ...")
        terminals.type("1", f"export FIRMWARDEN_SOCKET=$PWD/control.sock\n{ILL}")
        terminals.see("daemon", "... probation-failed ... probation-passed ...")

        for block in blocks(PAGE):
            terminals.follow(block)

        terminals.interrupt("1", "daemon", "device")
