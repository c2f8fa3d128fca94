"""Devices as they come and go, ports that others hold, and the ways into their loaders."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from firmwarden.exit_status import ExitStatus
from support.gateway import NEW, OLD, QUERY, QUICK, SEND, USUAL, device_class, image
from support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gateway import Gateway

HOLDER = """\
import fcntl, os, sys, termios
port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
if sys.argv[2] == "flock":
    fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
else:
    fcntl.ioctl(port, termios.TIOCEXCL)
print('{"event": "holds"}', flush=True)
sys.stdin.read()
"""


def test_devices_come_and_go(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    # The interval of scans is long: only the hint that a name came or went is quick enough.
    gateway.configure(device_class("panel", rack.match), scan_interval="1h")
    daemon = gateway.start()
    enrolled = daemon.wait_for("device-enrolled")
    assert gateway.client.get("status")["present"] == 1

    rack.report()
    assert daemon.wait_for("device-gone")["device"] == enrolled["device"]
    gateway.drop("panel", NEW, image())
    daemon.wait_for("job-waiting", wait="absent")
    (device,) = gateway.devices()
    assert (device["present"], device["running_version"]) == (False, None)
    assert "away, last seen" in gateway.command("why", device["id"]).stdout

    gateway.rack("panel", "--version", OLD)
    assert daemon.wait_for("device-appeared")["device"] == enrolled["device"]
    assert daemon.wait_for("update-succeeded")["device"] == enrolled["device"]
    assert len(gateway.devices()) == 1


def test_a_device_with_its_job_may_be_forgotten_only_when_it_is_gone(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    gateway.start()
    device = gateway.id("panel-0001")
    refused = gateway.command("forget", device)
    assert refused.returncode == 1
    assert "is here" in refused.stderr
    rack.report()
    gateway.daemon.wait_for("device-gone")
    assert gateway.command("forget", device).returncode == 0
    assert gateway.devices() == []


@pytest.fixture
def holders() -> Iterator[list[Process]]:
    made: list[Process] = []
    yield made
    for process in made:
        process.close()


@pytest.mark.parametrize("how", ["flock", "TIOCEXCL"])
def test_a_port_that_somebody_holds_is_waited_for(
    gateway: Gateway, tmp_path: Path, holders: list[Process], how: str
) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    (tmp_path / "hold.py").write_text(HOLDER)
    holder = Process("holder", sys.executable, tmp_path / "hold.py", rack.addresses["panel-0001"], how)
    holders.append(holder)
    holder.wait_for("holds")
    gateway.configure(device_class("panel", rack.match))
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()

    waiting = daemon.wait_for("job-waiting", wait="port-held")
    assert f"(pid {holder.pid})" in waiting["detail"]
    why = gateway.why("panel-0001")
    assert waiting["detail"] in why["next"]
    # It was not an attempt: nothing was tried.
    assert (why["device"]["job"]["attempts"], why["attempts"]) == (0, [])
    assert f"pid {holder.pid}" in gateway.command("devices").stdout
    path = tmp_path / "new.img"
    path.write_bytes(image())

    holder.close()
    succeeded = daemon.wait_for("update-succeeded")
    assert succeeded["attempt"]
    assert gateway.device("panel-0001")["job"]["attempts"] == 1  # type: ignore[index]
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_the_command_names_the_daemon_that_has_the_port(gateway: Gateway, tmp_path: Path) -> None:
    rack = gateway.rack("panel", "--version", OLD, "--paced", 38_400)
    gateway.configure(device_class("panel", rack.match))
    digest = gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    rack.wait_for("start", "panel-0001")
    (tmp_path / "other.img").write_bytes(image("3.0.0"))
    update = gateway.begin(
        "update", tmp_path / "other.img", "--serial", rack.addresses["panel-0001"], "--json"
    )
    waiting = update.wait_for("job-waiting", wait="port-held")
    assert f"(pid {daemon.pid})" in waiting["detail"]
    update.send(signal.SIGINT)
    assert update.wait() == ExitStatus.INTERRUPTED
    daemon.wait_for("update-succeeded")
    running = rack.report()["panel-0001"]["running"]
    assert running is not None
    assert running["sha256"] == digest


TOUCH = 'enter = { method = "touch-1200", wait = "5s" }'
RESET = """\
import os, sys
port = os.open(os.environ["FIRMWARDEN_PORT"], os.O_WRONLY | os.O_NOCTTY)
os.write(port, b"BOOTLOADER!\\n")
"""


@pytest.mark.parametrize("way", ["none", "send", "send-silent", "touch-1200", "command"])
def test_ways_into_the_loader(gateway: Gateway, tmp_path: Path, way: str) -> None:
    options = ["--version", OLD]
    match way:
        case "none":
            enter = 'enter = { method = "none" }'
            options.append("--stay-in-loader")
        case "send":
            enter = SEND
        case "send-silent":
            enter = 'enter = { method = "send", send = [66, 79, 79, 84, 10] }'
            options += ["--loader-request", "BOOT\\n", "--loader-answer", ""]
        case "touch-1200":
            enter = TOUCH
        case _:
            (tmp_path / "reset.py").write_text(RESET)
            argv = json.dumps([sys.executable, str(tmp_path / "reset.py")])
            enter = f'enter = {{ method = "command", argv = {argv} }}'
    rack = gateway.rack("panel", *options)
    gateway.configure(device_class("panel", rack.match, enter, QUERY, QUICK))
    gateway.drop("panel", NEW, image())
    gateway.start().wait_for("update-succeeded")
    device = rack.report()["panel-0001"]
    assert device["running"] is not None
    assert device["running"]["version"] == NEW
    assert (device["erase_starts"], device["commands"]["end-transfer"]) == (1, 1)
    assert gateway.devices()[0]["job"]["attempts"] == 1  # type: ignore[index]


def test_a_way_that_fails_is_told_and_tried_again(gateway: Gateway, tmp_path: Path) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    script = tmp_path / "press-boot"
    script.write_text("#!/bin/sh\necho the relay is stuck >&2\nexit 3\n")
    script.chmod(0o755)
    gateway.configure(
        device_class(
            "panel", rack.match, f'enter = {{ method = "command", argv = ["{script}"] }}', QUERY, QUICK
        )
    )
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    failed = daemon.wait_for("attempt-failed")
    assert (failed["cause"], failed["next"]) == ("entry-failed", "retry")
    assert "status 3" in failed["detail"]
    assert failed["detail"].endswith("the relay is stuck")
    script.write_text('#!/bin/sh\nprintf "BOOTLOADER!\\n" > "$FIRMWARDEN_PORT"\n')
    daemon.wait_for("update-succeeded")


def test_devices_behind_tcp(gateway: Gateway) -> None:
    rack = gateway.rack("module", "--count", 3, "--version", OLD, "--profile", "pic8", tcp=True)
    gateway.configure(device_class("module", rack.match, *USUAL, 'label = "at {port}"'))
    gateway.start()
    assert gateway.client.get("status")["present"] == 3
    # They are dialled for a job only.
    assert [device["opens"] for device in rack.told().values()] == [0, 0, 0]
    gateway.drop("module", NEW, image(profile="pic8"))
    for name, address in rack.addresses.items():
        gateway.job(name, "succeeded")
        assert gateway.device(name)["label"] == f"at tcp-{address}"
    assert all(device["running"] and device["running"]["version"] == NEW for device in rack.report().values())
