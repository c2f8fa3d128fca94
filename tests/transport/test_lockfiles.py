"""Lock files of programs that take a port in no other way."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from firmwarden.errors import PortHeld
from firmwarden.transport import lockfiles
from firmwarden.transport.lockfiles import locked_by
from firmwarden.transport.opening import open_link
from support.peers import PtyPeer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture
def somebody() -> Generator[int]:
    """The id of another process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("form", ["{:>10}\n", "{}\n", "{:>10}\nminicom root\n"])
def test_a_lock_names_its_process(tmp_path: Path, somebody: int, form: str) -> None:
    (tmp_path / "LCK..ttyUSB7").write_text(form.format(somebody))
    holder = locked_by("/dev/ttyUSB7", lock_dir=tmp_path)
    assert holder is not None
    assert holder.endswith(f" (pid {somebody})")
    assert locked_by("/dev/ttyUSB8", lock_dir=tmp_path) is None


def test_a_lock_counts_under_the_real_name_too(tmp_path: Path, somebody: int) -> None:
    link = tmp_path / "usb-panel"
    link.symlink_to("/dev/serial/whatever")
    (tmp_path / "LCK..serial_whatever").write_text(f"{somebody}\n")
    assert locked_by(str(link), lock_dir=tmp_path) is not None


def test_a_lock_left_behind_is_no_lock(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = tmp_path / "LCK..ttyUSB7"
    for text in (f"{gone.pid}\n", f"{os.getpid()}\n", "", "no number", "\0\0\1\2", "-1", "0", "9" * 20):
        lock.write_text(text)
        assert locked_by("/dev/ttyUSB7", lock_dir=tmp_path) is None


def test_inv4_a_lock_of_a_process_that_may_not_be_signalled_counts(tmp_path: Path) -> None:
    (tmp_path / "LCK..ttyUSB7").write_text("1\n")
    holder = locked_by("/dev/ttyUSB7", lock_dir=tmp_path)
    assert holder is not None
    assert holder.endswith(" (pid 1)")


@pytest.mark.anyio
async def test_inv4_a_locked_port_is_not_opened(
    tmp_path: Path, somebody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockfiles, "LOCK_DIR", tmp_path)
    peer = PtyPeer()
    try:
        lock = tmp_path / f"LCK..{peer.path.removeprefix('/dev/').replace('/', '_')}"
        lock.write_text(f"{somebody:>10}\n")
        with pytest.raises(PortHeld, match=str(somebody)):
            await open_link(peer.address)
        lock.unlink()
        await (await open_link(peer.address)).aclose()
    finally:
        peer.close()
