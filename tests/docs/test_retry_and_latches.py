"""The way from "it did not update" to "it did", typed in as the page has it, at a device that refuses once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import DOCS
from support.terminals import Terminals, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = DOCS / "how-to" / "retry-and-latches.md"

DEVICE: Final = """\
firmwarden simulate mdfu --dir ports --version 2.3.1 --flash-time 0.1 --fault abort@chunk=20,cause=write-error
"""

DAEMON: Final = r"""
mkdir firmware
cat > firmwarden.toml <<END
[firmwarden]
firmware_dir = "$PWD/firmware"
state_dir = "$PWD/state"
socket = "$PWD/control.sock"

[[device]]
name = "front-panel"
driver = "mdfu"
match = { path = "$PWD/ports/*" }
label = "panel-7"
enter = { method = "send", send = "BOOTLOADER!\n", expect = "OK" }
settle = "200ms"
boot_delay = "200ms"
version_query = { send = "VERSION?\n", expect = 'VERSION (\S+)\s' }
END
firmwarden simulate image --version 2.4.0 --size 16384 firmware/panel.img
cat > firmware/panel.toml <<END
[release]
device = "front-panel"
version = "2.4.0"
image = "panel.img"
sha256 = "$(sha256sum firmware/panel.img | cut -d ' ' -f 1)"
size = 16384
END
firmwarden run --config firmwarden.toml
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

        terminals.interrupt("1", "daemon", "device")
