"""The sandbox of the unit that ships: what it forbids is tried by a program in the daemon's place."""

from __future__ import annotations

import http
import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.cli.client import DEFAULT_SOCKET
from lab import probe
from lab.service import STATE
from lab.waiting import PATIENCE_S, until
from support.form import CONTENT_TYPE, release_form
from support.gateway import NEW, OLD, QUERY, QUICK, Rack, device_class, image, manifest
from support.processes import close_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.service import Service

PROGRAM: Final = Path("/usr/local/lib/firmwarden-probe.py")
"""Where the service can see it."""

REFUSALS: Final = {"EACCES", "EPERM", "EROFS", "ENOENT", "EAFNOSUPPORT"}
NEEDED: Final = {name for name in probe.attempts("", "", 0, "", "", "", "") if name.startswith("needed: ")}
OF_ONES_OWN: Final = {
    "write /run",
    "read /etc/shadow",
    "see another's process",
    "read another's /proc/PID",
    "signal another's process",
}
"""What root may, because it belongs to root; the service is another user."""

LISTEN: Final = "127.0.0.1:8642"
HOOKED: Final = STATE / "hooked"
ENTER: Final = """\
import os, socket
host, _, port = os.environ["FIRMWARDEN_PORT"].rpartition(":")
with socket.create_connection((host, int(port))) as device:
    device.sendall(b"BOOTLOADER!\\n")
    device.recv(100)
"""
"""Asks the application for its loader, as a command of the operator's might."""

Outcomes = dict[str, str]


def told(text: str) -> Outcomes:
    (line,) = [line for line in text.splitlines() if line.startswith("probed ")]
    found: Outcomes = json.loads(line.removeprefix("probed "))
    return found


@pytest.fixture
def command() -> Iterator[list[str]]:
    """Set out what is tempting, and give the command line of the program that tries."""
    with ExitStack() as undo:
        nodes = []
        for name, kind, number in (
            ("disk", stat.S_IFBLK, Path("/dev/vda").stat().st_rdev),
            ("character", stat.S_IFCHR, Path("/dev/hwrng").stat().st_rdev),
        ):
            node = Path("/dev", f"probe-{name}")
            os.mknod(node, kind | 0o666, number)
            undo.callback(node.unlink)
            node.chmod(0o666)
            nodes.append(node)
        places = []
        for directory in ("/tmp", "/home", "/root"):
            place = Path(directory, "probed")
            place.write_text("somebody's")
            place.chmod(0o644)
            undo.callback(place.unlink)
            places.append(place)
        victim = subprocess.Popen(["sleep", "infinity"])
        undo.callback(victim.wait)
        undo.callback(victim.kill)
        shutil.copy(probe.__file__, PROGRAM)
        undo.callback(PROGRAM.unlink)
        yield [sys.executable, str(PROGRAM), *map(str, (*nodes, victim.pid, STATE, *places))]


def tried(service: Service, command: list[str], *lines: str) -> Outcomes:
    """Have the program started by the unit, with lines added to it."""
    service.unit(
        *("Type=oneshot", "WatchdogSec=0", "Restart=no", "ExecStart=", f"ExecStart={' '.join(command)}"),
        *lines,
    )
    service.start()
    return told(service.journal())


def test_it_is_refused_what_it_does_not_need(service: Service, command: list[str]) -> None:
    service.configure()
    bare = told(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # Or a refusal would prove nothing.
    assert {name: outcome for name, outcome in bare.items() if outcome in REFUSALS} == {}
    found = tried(service, command)
    print(json.dumps(found, indent=1))
    assert {name for name, outcome in found.items() if outcome not in REFUSALS} == NEEDED
    assert {found[name] for name in NEEDED} == {"done"}


def test_the_sandbox_holds_whoever_is_inside(service: Service, command: list[str]) -> None:
    service.configure()
    found = tried(service, command, "User=root", "Group=root")
    assert {name for name, outcome in found.items() if outcome not in REFUSALS} == NEEDED | OF_ONES_OWN


def test_the_network_may_be_closed(service: Service, command: list[str]) -> None:
    service.configure()
    found = tried(service, command, "IPAddressDeny=any", "IPAddressAllow=127.0.0.1")
    assert found["needed: TCP to this machine"] == "done"
    assert found["needed: TCP to another machine"] != "done"


# --- what it does need, as it is used


def upload(body: bytes) -> int:
    """Send a release over the socket, as root."""
    head = f"POST /v1/releases HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}"
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(PATIENCE_S)
        connected.connect(str(DEFAULT_SOCKET))
        connected.sendall(f"{head}\r\n\r\n".encode() + body)
        with closing(http.client.HTTPResponse(connected)) as answer:
            answer.begin()
            return answer.status


def page(path: str) -> str:
    """Ask over TCP."""
    with closing(http.client.HTTPConnection(LISTEN, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == http.HTTPStatus.OK, answer.read()
        return answer.read().decode()


def test_commands_uploads_pages_and_figures_work_inside(service: Service, tmp_path: Path) -> None:
    rack = Rack(tmp_path, "panel", "--version", OLD, tcp=True)
    argv = json.dumps([sys.executable, "-c", ENTER])
    hook = f'on_outcome = ["/bin/sh", "-c", "cat >{HOOKED}"]'
    try:
        service.configure(
            device_class(
                "panel", rack.match, f'enter = {{ method = "command", argv = {argv} }}', QUERY, QUICK, hook
            ),
            listen=LISTEN,
        )
        service.start()
        content = image()
        described = manifest("panel", NEW, "panel.img", content).encode()
        assert upload(release_form(described, content)) == http.HTTPStatus.CREATED
        service.runs(NEW)
        until(HOOKED.exists, "the hook's file")
        assert json.loads(until(HOOKED.read_text, "what the hook got"))["outcome"] == "succeeded"
        assert service.said("hook-failed") == []
        device = service.device()["id"]
        assert device in page("/")
        figures = page("/metrics")
        assert "firmwarden_devices" in figures
        # What the process tells of itself is read where /proc shows little.
        assert "process_max_fds" in figures
        (told,) = {record["device"] for record in service.records(f"FIRMWARDEN_DEVICE={device}")}
        assert told == device
    finally:
        close_all([rack.process])
