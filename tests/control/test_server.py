"""The socket: whose it is, who may use it, what becomes of it."""

from __future__ import annotations

import signal
import socket
import stat
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.control.access import Access, Rules
from firmwarden.control.listeners import open_listeners
from firmwarden.control.server import serve
from firmwarden.errors import SocketUnavailable
from support.memory_desk import MemoryDesk
from support.served import MINE, served

if TYPE_CHECKING:
    from pathlib import Path


def test_the_group_may_connect_and_others_may_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    with served(MemoryDesk(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with served(MemoryDesk(), path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_living_daemon_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with served(MemoryDesk(), path):
        with pytest.raises(SocketUnavailable, match="another daemon listens there"):
            open_listeners(path, None, {})
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_daemon_that_is_too_busy_to_answer_is_living(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SocketUnavailable, match="another daemon listens there"):
            open_listeners(path, None, {})


def test_inv8_what_is_no_socket_is_left_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(SocketUnavailable, match="something else has that name"):
        open_listeners(path, None, {})
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 120, "file/control.sock"])
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SocketUnavailable, match=f"{name} cannot be opened: "):
        open_listeners(tmp_path / name, None, {})


def test_a_socket_that_another_daemon_put_there_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with served(MemoryDesk(), path):
        path.unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path))
    assert path.exists()
    successor.close()


@pytest.mark.anyio
async def test_signals_stay_the_daemons_own(tmp_path: Path) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with anyio.create_task_group() as tasks:
        listeners = open_listeners(tmp_path / "control.sock", None, {})
        scope = await tasks.start(serve, MemoryDesk(), Access(Rules(act_group=MINE)), listeners)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
        scope.cancel()
