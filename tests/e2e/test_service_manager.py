"""The daemon tells a service manager what it does, when it does it."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from support.gateway import OLD, Gateway, device_class

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(address)
        made.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        yield made


def hear(ear: socket.socket, variable: str) -> str:
    """Wait until a variable is told, and return the status that came with it."""
    while True:
        said = dict(line.split("=", 1) for line in ear.recv(4096).decode().split("\n"))
        if variable in said:
            return said.get("STATUS", "")


def test_a_life_from_readiness_to_the_end(gateway: Gateway, ear: socket.socket) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    gateway.start()
    # The first thing that is said: whoever waits for readiness finds devices and releases.
    assert ear.recv(4096).decode() == "READY=1\nSTATUS=devices here: 1, being updated: 0, releases: 0"
    for _ in range(3):
        hear(ear, "WATCHDOG")
    gateway.reload()
    hear(ear, "RELOADING")
    hear(ear, "READY")
    gateway.config.write_text("nonsense", encoding="utf-8")
    gateway.reload("config-refused")
    assert "refused at the last reload" in hear(ear, "READY")
    gateway.daemon.send(signal.SIGTERM)
    assert hear(ear, "STOPPING") == "stopping; what is under way has 30 s to finish"
    assert gateway.daemon.wait() == 0
