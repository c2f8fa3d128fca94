"""Sockets of the service manager, in a real process that inherits them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.app.activation import inherited_sockets
from support.activation import activated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAM: Final = """
import os
from firmwarden.app.activation import inherited_sockets
from firmwarden.errors import SocketUnavailable
try:
    found = inherited_sockets(os.environ)
except SocketUnavailable as exc:
    print(exc)
else:
    for name, sockets in found.items():
        print(name, *(f"{each.getsockname()} {os.get_inheritable(each.fileno())}" for each in sockets))
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def inherit(names: str, *descriptors: int) -> list[str]:
    """Have a process take these over, and return what it says of it."""
    done = subprocess.run(
        [str(each) for each in activated(descriptors, names, sys.executable, "-c", _PROGRAM)],
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    *lines, left = done.stdout.splitlines()
    assert left == "[]", "they mean nothing to the commands that the daemon runs"
    return lines


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        yield made


def test_sockets_are_known_by_their_names_and_go_no_further(tmp_path: Path, listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        found = inherit("page:control:page", one.fileno(), listener.fileno(), two.fileno())
        assert found == [
            f"page {one.getsockname()} False {two.getsockname()} False",
            f"control {tmp_path / 's'} False",
        ]


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    environment = {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(os.getpid() + 1),
        "LISTEN_FDNAMES": "control",
        "A": "b",
    }
    assert inherited_sockets(environment) == {}
    assert environment == {"A": "b"}
    assert inherited_sockets(environment) == {}


@pytest.mark.parametrize("names", ["firmwarden.socket", "", "unknown", "control2"])
def test_inv8_a_socket_of_another_name_is_refused(listener: socket.socket, names: str) -> None:
    [problem] = inherit(names, listener.fileno())
    assert problem.startswith(f"The service manager passed a socket by the name {names!r}.")
    assert "FileDescriptorName=control or page" in problem


def test_inv8_what_nobody_can_connect_to_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for each in (deaf, datagrams):
            [problem] = inherit("control", each.fileno())
            assert problem.startswith("The service manager passed a socket to which nobody can connect.")
    with (tmp_path / "file").open("w") as file:
        [problem] = inherit("control", file.fileno())
        assert problem.startswith("The service manager passed what is no socket: ")
