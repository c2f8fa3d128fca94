"""Every way in which the daemon may not answer, and what is said then."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli import client
from firmwarden.cli.client import DEFAULT_SOCKET, Client, StreamBroken, Unreachable, find_socket
from firmwarden.control.access import Rules
from firmwarden.model import UnixGroup
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from support.memory_desk import MemoryDesk
    from support.served import Served

    Run = Callable[..., Result]


def answering(path: Path, answer: bytes) -> threading.Thread:
    """Listen for one request and give this answer, whatever it was."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer_once() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(answer)

    thread = threading.Thread(target=answer_once)
    thread.start()
    return thread


def said(result: Result) -> str:
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def test_no_daemon_says_how_to_start_one(run_alone: Run, tmp_path: Path) -> None:
    result = run_alone("status")
    assert result.exit_code == 1
    assert f"No daemon is running: the socket {tmp_path}/control.sock does not exist." in said(result)
    assert "`systemctl start firmwarden`" in said(result)
    assert "--socket" in said(result)


def test_a_dead_daemon_says_how_to_start_it(run_alone: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    result = run_alone("devices")
    assert result.exit_code == 1
    assert "nobody listens on the socket" in said(result)
    assert "`systemctl start firmwarden`" in said(result)


def test_no_daemon_as_json(run_alone: Run) -> None:
    result = run_alone("why", "panel-1", "--json")
    assert result.exit_code == 1
    assert result.stderr == ""
    error = json.loads(result.stdout)
    assert (error["event"], error["type"]) == ("error", "unreachable")


# Nobody may be unable to read the interpreter's modules: what a command imports late is imported before.
BECOME_NOBODY = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else ""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Make a directory that other users reach; those of ``tmp_path`` are kept closed by any pytest that runs."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("gid", [0, 1] if os.geteuid() == 0 else [os.getegid()])
@pytest.mark.parametrize("hidden", ["socket", "directory"])
def test_no_permission_names_who_has_it(
    desk: MemoryDesk, open_directory: Path, hidden: str, gid: int
) -> None:
    path = open_directory / "control.sock"
    with served(desk, path):
        obstacle = path if hidden == "socket" else open_directory
        os.chown(obstacle, -1, gid)
        obstacle.chmod(0)
        script = f"from firmwarden.cli import connection, main; {BECOME_NOBODY}; main()"
        result = subprocess.run(
            [sys.executable, "-c", script, "status", "--socket", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        open_directory.chmod(0o755)
    assert result.returncode == 1
    text = " ".join(result.stderr.split())
    assert f"You may not speak to the daemon at {path}: {obstacle} is for " in text
    if gid == 0:
        assert "is for root alone. Use sudo" in text
    else:
        assert "sudo usermod --append --groups" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
@pytest.mark.parametrize(
    ("command", "refused"), [("status", "ask the service"), ("unhold", "give orders to the service")]
)
def test_who_may_not_is_told_the_group_and_the_command(
    desk: MemoryDesk, open_directory: Path, command: str, refused: str
) -> None:
    path = open_directory / "control.sock"
    with served(desk, path, rules=Rules(act_group=UnixGroup(name="operators", gid=54_321))):
        script = f"from firmwarden.cli import connection, main; {BECOME_NOBODY}; main()"
        result = subprocess.run(
            [sys.executable, "-c", script, command, "--socket", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    text = " ".join(result.stderr.split())
    assert f"nobody may not {refused}: that is for members of the group operators." in text
    assert "`sudo usermod --append --groups operators nobody` and log in again, or use sudo." in text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "went away before it answered. Whether it did what was asked is not known"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "went away before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "went away before it answered"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "The daemon answered 503: busy. Try again"),
    ],
)
def test_half_an_answer_is_no_answer(run_alone: Run, tmp_path: Path, answer: bytes, says: str) -> None:
    thread = answering(tmp_path / "control.sock", answer)
    result = run_alone("unhold")
    thread.join()
    assert result.exit_code == 1
    assert says in said(result)


def test_a_daemon_that_hangs_is_not_waited_for(
    run_alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "control.sock"))
        mute.listen()
        result = run_alone("status")
    assert result.exit_code == 1
    assert "it is being started again, or it hangs, or its disk does" in said(result)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MESSAGE = b'id: 5\nevent: log\ndata: {"event":"x"}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_messages_come_whole_however_they_were_cut(tmp_path: Path) -> None:
    pieces = [MESSAGE[:7], MESSAGE[7:] + b": still", b" here\n\n" + MESSAGE]
    thread = answering(tmp_path / "s", HEAD + b"".join(map(chunk, pieces)) + b"0\r\n\r\n")
    item = {"id": 5, "kind": "log", "data": {"event": "x"}}
    assert list(Client(tmp_path / "s").events()) == [None, item, None, item]
    thread.join()


@pytest.mark.parametrize("rest", [b"", chunk(MESSAGE), chunk(MESSAGE[:9]), b"40\r\n" + MESSAGE])
def test_a_stream_that_breaks_off_is_not_one_that_ended(tmp_path: Path, rest: bytes) -> None:
    thread = answering(tmp_path / "s", HEAD + rest)
    with pytest.raises(StreamBroken, match="broke off"):
        list(Client(tmp_path / "s").events())
    thread.join()


def test_a_silent_stream_is_given_up(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_S", 0.05)
    with pytest.raises(StreamBroken, match="it hangs"):
        list(Client(api.path).events())


def test_the_socket_is_found_by_name_then_configuration_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "firmwarden.toml"
    config.write_text('[firmwarden]\nsocket = "/run/elsewhere.sock"\n')
    assert str(find_socket(tmp_path / "named", config)) == f"{tmp_path}/named"
    assert str(find_socket(None, config)) == "/run/elsewhere.sock"

    monkeypatch.setattr(client, "DEFAULT_CONFIG", tmp_path / "absent.toml")
    monkeypatch.delenv("FIRMWARDEN_SOCKET", raising=False)
    assert find_socket(None, None) == DEFAULT_SOCKET
    monkeypatch.setattr(client, "DEFAULT_CONFIG", config)
    assert str(find_socket(None, None)) == "/run/elsewhere.sock"

    monkeypatch.setenv("FIRMWARDEN_SOCKET", "/run/exported.sock")
    assert str(find_socket(None, None)) == "/run/exported.sock"
    assert str(find_socket(None, config)) == "/run/elsewhere.sock", "what is typed now is meant more"
    monkeypatch.delenv("FIRMWARDEN_SOCKET")

    for text in ("", "firmwarden = 3", "[firmwarden]\nsocket = 3"):
        config.write_text(text)
        assert find_socket(None, config) == DEFAULT_SOCKET
    config.write_text("[firmwarden")
    assert find_socket(None, None) == DEFAULT_SOCKET
    with pytest.raises(Unreachable, match="cannot be read"):
        find_socket(None, config)
