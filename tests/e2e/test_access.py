"""Where a real daemon answers, and whom it obeys there."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from support.activation import activated
from support.gateway import PROGRAM
from support.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway

TOKEN = "a-token-of-some-length"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def ask(port: int) -> tuple[int, Any]:
    return request(port, "GET", "/v1/status")


def order(port: int, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return request(port, "POST", "/v1/hold", b'{"reason": "fair week"}', headers)[0]


def request(port: int, *what: Any) -> tuple[int, Any]:  # noqa: ANN401 - as http.client takes it
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(*what)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def port_of(daemon: Process) -> int:
    addresses = [str(event["address"]) for event in daemon.said("listening")]
    return int(addresses[-1].rpartition(":")[2])


def test_orders_over_tcp_need_the_token_of_the_file(gateway: Gateway, token: Path) -> None:
    gateway.configure(listen="127.0.0.1:0", token_file=str(token))
    daemon = gateway.start()
    assert daemon.said("listening-exposed") == []
    port = port_of(daemon)
    assert ask(port)[1]["problems"] == []
    assert order(port) == 401
    assert order(port, TOKEN) == 200
    [action] = gateway.client.get("history")["actions"]
    assert action["who"] == "token from 127.0.0.1"

    # Another token, by a reload; then one that others can read.
    token.write_text("another-token-of-some-length")
    gateway.reload()
    assert order(port, TOKEN) == 401
    assert order(port, "another-token-of-some-length") == 200
    token.chmod(0o644)
    mark = daemon.mark
    gateway.reload()
    assert "is not for the service alone" in daemon.wait_for("access-impaired", after=mark)["detail"]
    assert order(port, "another-token-of-some-length") == 401
    [problem] = gateway.client.get("status")["problems"]
    assert problem.startswith("nobody may give orders over TCP, because of the token: ")


def test_the_token_is_the_credential_of_the_unit_where_there_is_one(
    gateway: Gateway, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(token.parent))
    gateway.configure(listen="127.0.0.1:0")
    port = port_of(gateway.start())
    assert order(port, TOKEN) == 200


def test_an_address_that_others_reach_is_warned_of(gateway: Gateway) -> None:
    gateway.configure(listen="0.0.0.0:0")
    daemon = gateway.start()
    assert daemon.said("listening-exposed")[0]["address"] == f"0.0.0.0:{port_of(daemon)}"


def test_groups_come_with_a_reload_and_listening_with_a_restart(gateway: Gateway) -> None:
    gateway.configure()
    gateway.start()
    assert stat.S_IMODE(gateway.socket.stat().st_mode) == 0o660
    gateway.configure(read_group="adm")
    gateway.reload()
    assert stat.S_IMODE(gateway.socket.stat().st_mode) == 0o666
    gateway.configure()
    gateway.reload()
    assert stat.S_IMODE(gateway.socket.stat().st_mode) == 0o660
    gateway.configure(listen="127.0.0.1:0")
    assert "a restart is needed for a change of listen" in gateway.reload("config-refused")["problems"][0]


def test_check_says_who_may_what_and_what_listens(gateway: Gateway) -> None:
    gateway.configure(read_group="adm", act_group="root", listen="127.0.0.1:8642")
    said = " ".join(gateway.command("check", "--config", gateway.config).stdout.split())
    assert "Members of adm may ask there; members of root may give orders too." in said
    assert "It also listens at http://127.0.0.1:8642, where whoever reaches it may ask" in said


def test_sockets_of_the_service_manager_outlive_the_daemon(gateway: Gateway, tmp_path: Path) -> None:
    gateway.configure(listen="127.0.0.1:1")
    path = tmp_path / "of-the-manager"
    with ExitStack() as stack:
        control = stack.enter_context(socket.socket(socket.AF_UNIX))
        page = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        control.bind(str(path))
        control.listen()

        def start() -> Process:
            passed = (control.fileno(), page.fileno())
            command = activated(passed, "control:page", *PROGRAM, "run", "--config", gateway.config)
            gateway.daemons.append(Process("activated daemon", *command, pass_fds=passed))
            return gateway.daemon

        def asking() -> http.client.HTTPConnection:
            connection = stack.enter_context(closing(http.client.HTTPConnection("localhost", timeout=20)))
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(path))
            connection.request("GET", "/v1/status")
            return connection

        daemon = start()
        daemon.wait_for("daemon-ready")
        assert [event["address"] for event in daemon.said("listening")] == [
            str(path),
            f"127.0.0.1:{page.getsockname()[1]}",
        ]
        assert asking().getresponse().status == 200
        assert ask(page.getsockname()[1])[0] == 200
        assert not gateway.socket.exists()
        mode = path.stat().st_mode

        assert daemon.stop(signal.SIGTERM) == 0
        assert path.stat().st_mode == mode
        waiting = asking()  # nobody is there who would answer, and nobody who would refuse
        start()
        assert waiting.getresponse().status == 200


@pytest.mark.parametrize("name", ["page2", ""])
def test_inv8_a_socket_that_means_nothing_is_refused(gateway: Gateway, name: str) -> None:
    gateway.configure()
    with socket.create_server(("127.0.0.1", 0)) as strange:
        command = activated([strange.fileno()], name, *PROGRAM, "run", "--config", gateway.config)
        gateway.daemons.append(Process("activated daemon", *command, pass_fds=[strange.fileno()]))
        assert gateway.daemon.wait() == 1
    assert f"passed a socket by the name {name!r}" in "\n".join(gateway.daemon.lines)


def test_a_port_that_somebody_has_is_told_at_once(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway.configure(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert gateway.launch().wait() == 1
    assert "Address already in use. Stop who has it, or set another `listen`." in gateway.daemon.lines[-1]
    assert not os.path.lexists(gateway.socket)
