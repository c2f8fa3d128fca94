"""Where the output goes is no reason to stop: logs that cannot be written, pipes that are closed, terminals too."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.client import Unreachable
from firmwarden.exit_status import ExitStatus
from support.gateway import LOADER, NEW, OLD, PROGRAM, device_class, image
from support.processes import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gateway import Gateway


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def ready(gateway: Gateway) -> bool:
    try:
        return bool(gateway.client.get("status")["state"] == "ready")
    except Unreachable:
        return False


def test_a_daemon_whose_log_nobody_takes_goes_on(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    with subprocess.Popen(
        [*PROGRAM, "run", "--config", str(gateway.config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as daemon:
        try:
            assert daemon.stderr is not None
            daemon.stderr.readline()
            daemon.stderr.close()
            rack.process.until(lambda: ready(gateway), "a daemon that answers")
            gateway.drop("panel", NEW, image())
            rack.wait_for("boot", "panel-0001", version=NEW, complete=True)
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE_S)


def test_a_daemon_started_in_a_terminal_ends_with_it(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    ours, theirs = pty.openpty()
    # Whoever leads a session and opens a terminal is the one that SIGHUP is for.
    in_terminal = ("sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs))
    daemon = subprocess.Popen(
        [*in_terminal, *PROGRAM, "run", "--config", str(gateway.config)], start_new_session=True
    )
    try:
        rack.process.until(lambda: ready(gateway), "a daemon that answers")
        os.close(theirs)
        os.close(ours)  # the terminal is closed: its programs get SIGHUP
        assert daemon.wait(PATIENCE_S) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert not gateway.socket.exists()


@pytest.mark.parametrize("command", ["check --config nowhere.toml", "simulate mdfu --help", "--help"])
def test_a_full_disk_is_told_in_a_sentence(gateway: Gateway, command: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - it is no file
        done = subprocess.run(
            [*PROGRAM, *command.split()], stdout=full, stderr=subprocess.PIPE, cwd=gateway.place, check=False
        )
    assert done.stderr == b"firmwarden: The output cannot be written: No space left on device.\n"
    assert done.returncode == 1


def test_a_closed_output_is_no_trouble(gateway: Gateway) -> None:
    gateway.configure()
    argv = (*PROGRAM, "check", "--config", str(gateway.config))
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *argv], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("form", ["words", "json"])
def test_an_update_goes_on_when_nobody_reads_of_it_any_more(
    gateway: Gateway, tmp_path: Path, form: str
) -> None:
    rack = gateway.rack("panel", *LOADER, "--paced", 230_400)
    new = tmp_path / "new.img"
    new.write_bytes(image())
    with subprocess.Popen(
        [
            *PROGRAM,
            *("update", str(new), "--serial", rack.addresses["panel-0001"]),
            *(("--json",) if form == "json" else ()),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as update:
        assert update.stdout is not None
        assert update.stderr is not None
        update.stdout.readline()
        update.stdout.close()
        assert update.wait(PATIENCE_S) == ExitStatus.SUCCEEDED
        assert update.stderr.read() == b""
    rack.wait_for("boot", "panel-0001", version=NEW, complete=True)
