"""The server is a part of the daemon, not a program of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.control.access import Access, Rules
from firmwarden.control.listeners import open_listeners
from firmwarden.control.server import serve
from support.memory_desk import MemoryDesk
from support.served import MINE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_signals_stay_the_daemons_own(tmp_path: Path) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with anyio.create_task_group() as tasks:
        listeners = open_listeners(tmp_path / "control.sock", None, {})
        scope = await tasks.start(serve, MemoryDesk(), Access(Rules(act_group=MINE)), listeners)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
        scope.cancel()
    assert not (tmp_path / "control.sock").exists()
