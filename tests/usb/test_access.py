"""Who may do what, with real users: the kernel's word on the socket, a token over TCP."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.cli.client import DEFAULT_SOCKET
from lab.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.service import Service

USERS: Final = Path("/etc/sysusers.d/lab.conf")
TOKEN: Final = "once-upon-a-time-there-was"
CREDENTIAL: Final = Path("/etc/credstore/firmwarden.token")


@pytest.fixture(scope="module", autouse=True)
def users() -> None:
    """Three users, two of them members of a group."""
    USERS.write_text(
        "g lab-readers\ng lab-actors\nu lab-reader\nu lab-actor\nu lab-stranger\n"
        "m lab-reader lab-readers\nm lab-actor lab-actors\n"
    )
    subprocess.run(["systemd-sysusers", USERS], check=True)


@pytest.fixture(params=["own socket", "socket of systemd"])
def held(request: pytest.FixtureRequest, service: Service) -> Iterator[None]:
    """The socket, from whoever opens it."""
    if request.param == "own socket":
        yield
    else:
        with service.socket("SocketMode=0666"):
            yield


def as_user(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program as a user, with the groups that a login gives."""
    groups = os.getgrouplist(name, pwd.getpwnam(name).pw_gid)
    return subprocess.run(
        ["firmwarden", *words],
        user=name,
        group=name,
        extra_groups=groups,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@pytest.mark.usefixtures("held")
def test_users_may_do_what_their_groups_allow(service: Service) -> None:
    service.configure(read_group="lab-readers", act_group="lab-actors")
    service.start()
    hold = ("hold", "all", "--reason", "fair week")

    assert as_user("lab-reader", "devices").returncode == 0
    refused = as_user("lab-reader", *hold)
    assert (refused.returncode, "lab-actors" in refused.stderr) == (1, True), refused

    assert as_user("lab-actor", *hold).returncode == 0
    assert "lab-actor" in as_user("lab-actor", "history").stdout

    for words in (("devices",), hold):
        refused = as_user("lab-stranger", *words)
        assert (refused.returncode, "lab-stranger may not" in refused.stderr) == (1, True), refused


def test_without_groups_a_stranger_does_not_even_connect(service: Service) -> None:
    service.configure()
    service.start()
    assert DEFAULT_SOCKET.stat().st_mode & 0o777 == 0o660
    refused = as_user("lab-stranger", "devices")
    assert (refused.returncode, "'firmwarden'" in refused.stderr) == (1, True), refused


def order(token: str | None) -> int:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    with closing(http.client.HTTPConnection("127.0.0.1", 8642, timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/v1/hold", json.dumps({"reason": "fair week"}), headers)
        return connection.getresponse().status


def test_over_tcp_orders_need_the_token_that_systemd_hands_over(service: Service) -> None:
    service.configure(listen="127.0.0.1:8642")
    service.start()
    assert order(TOKEN) == http.HTTPStatus.UNAUTHORIZED
    service.stop()
    CREDENTIAL.parent.mkdir(mode=0o700, exist_ok=True)
    CREDENTIAL.write_text(f"{TOKEN}\n")
    CREDENTIAL.chmod(0o600)
    try:
        service.start()
        assert order(None) == http.HTTPStatus.UNAUTHORIZED
        assert order(TOKEN) == http.HTTPStatus.OK
    finally:
        CREDENTIAL.unlink()
