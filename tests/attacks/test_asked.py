"""Requests by whom nobody should heed: one daemon, each is answered with a reason, and nothing happens."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.gateway import NEW, OLD, Gateway, device_class, image
from support.hostile_drops import CLASS, Maker
from support.hostile_requests import REQUESTS, TOKEN, Door
from support.wire_http import Somebody, ask_as

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRY = """\
for each; do
    test -r "$each" && echo "$each can be read"
    test -w "$each" && echo "$each can be written"
done
:"""

NOBODY = Somebody(65_534, 65_534)


def configure(gateway: Gateway, **settings: object) -> Maker:
    maker = Maker()
    rack = gateway.rack(CLASS, "--version", OLD)
    gateway.configure(maker.tables, device_class(CLASS, rack.match, signed=True), **settings)
    return maker


def nothing_happened(gateway: Gateway) -> bool:
    return (
        gateway.client.get("history")["actions"] == []
        and gateway.client.get("status")["problems"] == []
        and list(gateway.firmware.iterdir()) == []
    )


def test_inv8_requests_that_nobody_should_heed_change_nothing(gateway: Gateway) -> None:
    token = gateway.place / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    maker = configure(gateway, listen="127.0.0.1:0", token_file=str(token))
    gateway.start()
    host, _, port = str(gateway.daemon.said("listening")[-1]["address"]).rpartition(":")

    answers = {}
    for request in REQUESTS:
        status, body = request.sent(gateway.socket if request.door is Door.SOCKET else (host, int(port)))
        if (status, request.reason in body) != (request.status, True):
            answers[request.name] = (status, body)
        assert TOKEN not in body

    assert answers == {}
    assert nothing_happened(gateway)
    assert TOKEN not in "\n".join(gateway.daemon.lines)

    # And what should be heeded is.
    maker.release(gateway.firmware, NEW, image(NEW))
    gateway.runs(f"{CLASS}-0001", NEW)


@pytest.fixture
def open_gateway() -> Iterator[Gateway]:
    """A gateway in a place that other users reach; those of ``tmp_path`` are kept closed by any pytest that runs."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        made = Gateway(Path(name))
        yield made
        made.close()


def is_open_to_others(path: Path, within: Path) -> bool:
    """Whether the modes let somebody of no group read or write a file, and reach it."""
    ways = [each for each in path.parents if each.is_relative_to(within)]
    return bool(path.lstat().st_mode & 0o006) and all(way.stat().st_mode & 0o001 for way in ways)


def test_what_the_service_keeps_is_open_to_nobody_else(gateway: Gateway) -> None:
    configure(gateway)
    gateway.start()
    kept = [gateway.socket, gateway.state, *gateway.state.rglob("*")]
    assert len(kept) > 3
    assert [path for path in kept if is_open_to_others(path, gateway.place)] == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_a_user_without_rights_can_neither_ask_nor_order_nor_reach_any_file(open_gateway: Gateway) -> None:
    gateway = open_gateway
    configure(gateway, read_group="adm")
    gateway.start()

    # The socket lets everybody connect who has a group to look on; who has none is told so, and cut.
    answers = ask_as(NOBODY, gateway.socket, ("GET", "/v1/status"), ("POST", "/v1/unhold"), ("GET", "/"))
    assert [status for status, _ in answers] == [403, 403, 403]
    assert "members of the group adm" in answers[0][1]["detail"]
    assert nothing_happened(gateway)

    # What it keeps is for nobody else to read or to change.
    paths = [gateway.state, *gateway.state.rglob("*")]
    tried = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            _TRY,
            "sh",
            *map(str, paths),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tried.stdout == ""
