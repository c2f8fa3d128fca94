"""The sockets: whose they are, who may connect, what becomes of them."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from firmwarden.control.access import Rules
from firmwarden.control.listeners import CONTROL, PAGE, Listeners, open_listeners
from firmwarden.errors import SocketUnavailable
from firmwarden.model import TcpAddress, UnixGroup
from support.memory_desk import MemoryDesk
from support.served import MINE, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHERS = UnixGroup(name="onlookers", gid=54_322)
ANY_PORT = TcpAddress(host="127.0.0.1", port=0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_group_may_connect_and_others_may_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    with served(MemoryDesk(), path):
        assert mode(path) == 0o660
    assert not path.exists()


@pytest.mark.parametrize(
    "rules", [Rules(act_group=OTHERS), Rules(act_group=MINE, read_group=OTHERS)], ids=["acts", "reads"]
)
def test_where_another_group_is_named_everybody_may_connect(tmp_path: Path, rules: Rules) -> None:
    path = tmp_path / "control.sock"
    with closing(open_listeners(path, None, {})) as listeners:
        assert mode(path) == 0o660, "until the rules are known"
        listeners.admit(rules)
        assert mode(path) == 0o666
        listeners.admit(Rules(act_group=MINE))
        assert mode(path) == 0o660
        path.unlink()
        listeners.admit(rules)


def test_what_took_the_place_of_our_socket_keeps_its_mode(tmp_path: Path) -> None:
    path, other = tmp_path / "control.sock", tmp_path / "token"
    other.touch(mode=0o600)
    with closing(open_listeners(path, None, {})) as listeners:
        path.unlink()
        path.symlink_to(other)
        listeners.admit(Rules(act_group=OTHERS))
    assert mode(other) == 0o600
    assert path.is_symlink()


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


# --- on TCP


def test_nothing_listens_on_tcp_unless_asked_to(tmp_path: Path) -> None:
    with closing(open_listeners(tmp_path / "s", None, {})) as listeners:
        assert listeners.addresses == [str(tmp_path / "s")]
        assert not listeners.over_tcp
        assert listeners.exposed == []


@pytest.mark.parametrize(
    ("host", "exposed"),
    [("127.0.0.1", False), ("::1", False), ("127.9.8.7", False), ("0.0.0.0", True), ("::", True)],
)
def test_what_other_machines_may_reach_is_known(tmp_path: Path, host: str, exposed: bool) -> None:
    with closing(open_listeners(tmp_path / "s", TcpAddress(host=host, port=0), {})) as listeners:
        _, address = listeners.addresses
        assert address.startswith(f"[{host}]:" if ":" in host else f"{host}:")
        assert not address.endswith(":0")
        assert listeners.over_tcp
        assert listeners.exposed == ([address] if exposed else [])


def test_an_address_that_is_not_there_yet_is_waited_for_by_the_kernel(tmp_path: Path) -> None:
    """192.0.2.0/24 is for documentation, RFC 5737."""
    open_listeners(tmp_path / "s", TcpAddress(host="192.0.2.7", port=0), {}).close()


def test_an_address_that_somebody_has_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(
            SocketUnavailable, match=f"The address {address} cannot be opened: Address already in use"
        ):
            open_listeners(tmp_path / "s", address, {})
    assert not (tmp_path / "s").exists()


# --- inherited ones


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "passed"))
        made.listen()
        yield made


def test_inherited_sockets_stand_in_for_our_own_and_keep_their_names(
    tmp_path: Path, passed: socket.socket
) -> None:
    (tmp_path / "passed").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as page:
        listeners = open_listeners(tmp_path / "s", ANY_PORT, {CONTROL: [passed], PAGE: [page]})
        assert listeners.sockets == (passed, page)
        listeners.admit(Rules(act_group=OTHERS))
        listeners.close()
    assert not (tmp_path / "s").exists()
    assert mode(tmp_path / "passed") == 0o600, "it is not ours to change"


def test_what_is_not_inherited_is_opened(tmp_path: Path, passed: socket.socket) -> None:
    with closing(open_listeners(tmp_path / "s", ANY_PORT, {PAGE: [passed]})) as listeners:
        assert listeners.addresses == [str(tmp_path / "s"), str(tmp_path / "passed")]
    with socket.create_server(("127.0.0.1", 0)) as control:
        listeners = open_listeners(tmp_path / "s", ANY_PORT, {CONTROL: [control]})
        assert len(listeners.sockets) == 2
        assert not (tmp_path / "s").exists()
        listeners.close()


@pytest.mark.parametrize(
    ("octal", "gid", "shut_out"),
    [
        (0o666, os.getegid(), []),
        (0o660, os.getegid(), ["onlookers"]),
        (0o606, os.getegid(), ["mine"]),
        (0o600, os.getegid(), ["mine", "onlookers"]),
    ],
)
def test_whom_the_mode_of_an_inherited_socket_shuts_out_is_told(
    tmp_path: Path, passed: socket.socket, octal: int, gid: int, shut_out: list[str]
) -> None:
    (tmp_path / "passed").chmod(octal)
    os.chown(tmp_path / "passed", -1, gid)
    listeners = Listeners([], [passed], None)
    rules = Rules(act_group=UnixGroup(name="mine", gid=os.getegid()), read_group=OTHERS)
    told = list(listeners.shut_out(rules))
    assert [problem.split()[4] for problem in told] == shut_out
    assert all(f"its mode is 0{octal:o}" in problem and "SocketMode=0666" in problem for problem in told)


def test_a_name_without_a_mode_shuts_nobody_out() -> None:
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0firmwarden-test-listeners")
        listeners = Listeners([], [abstract], None)
        assert listeners.addresses == ["@firmwarden-test-listeners"]
        assert list(listeners.shut_out(Rules(act_group=OTHERS))) == []


def test_a_name_that_is_gone_stops_nothing(tmp_path: Path, passed: socket.socket) -> None:
    (tmp_path / "passed").unlink()
    assert list(Listeners([], [passed], None).shut_out(Rules(act_group=OTHERS))) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_a_directory_that_hides_an_inherited_socket_stops_nothing(
    tmp_path: Path, passed: socket.socket
) -> None:
    tmp_path.chmod(0o700)
    os.seteuid(54_000)
    try:
        assert list(Listeners([], [passed], None).shut_out(Rules(act_group=OTHERS))) == []
    finally:
        os.seteuid(0)
