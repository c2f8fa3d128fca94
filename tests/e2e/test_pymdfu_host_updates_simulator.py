"""Microchip's own host updates our simulated clients, so that they are not merely a mirror of our host."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from firmwarden.simulate.profile import PROFILES
from support.hand import update_file
from support.simulator import Process, read_report, simulator_process

PYMDFU = Path(sys.executable).with_name("pymdfu")


def pymdfu(image: Path, *tool: str) -> subprocess.CompletedProcess[str]:
    """Run one update with Microchip's host."""
    command = [str(PYMDFU), "update", "--image", str(image), "--tool", *tool]
    return subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)


def serial(simulator: Process) -> tuple[str, ...]:
    return "serial", "--port", simulator.addresses[0], "--baudrate", "115200"


def network(simulator: Process) -> tuple[str, ...]:
    host, _, port = simulator.addresses[0].rpartition(":")
    return "network", "--host", host, "--port", port


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def write_image(tmp_path: Path, profile: str) -> Path:
    image = tmp_path / "new.img"
    image.write_bytes(update_file(profile, "2.0.0", 20_000))
    return image


def assert_runs(simulator: Process, report: Path, image: Path) -> None:
    """Wait for the new application, end the simulator and look at what it says."""
    while simulator.until("boot")["mode"] != "application":
        pass
    simulator.process.terminate()
    assert simulator.process.wait(10) == 0
    (device,) = read_report(report)
    assert device["running"] == {"version": "2.0.0", "sha256": sha256(image.read_bytes()).hexdigest()}
    assert (device["complete"], device["started_partial"], device["ended_partial"]) == (True, 0, 0)
    assert (device["erase_starts"], device["page_wear_max"]) == (1, 1)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_over_a_pty(profile: str, tmp_path: Path, report: Path) -> None:
    image = write_image(tmp_path, profile)
    with simulator_process(
        "--dir", str(tmp_path), "--profile", profile, "--flash-time", "0.1", "--report", str(report)
    ) as simulator:
        done = pymdfu(image, *serial(simulator))
        assert done.returncode == 0, done.stderr
        assert_runs(simulator, report, image)


def test_over_tcp(tmp_path: Path, report: Path) -> None:
    image = write_image(tmp_path, "generic")
    with simulator_process("--tcp", ":0", "--report", str(report)) as simulator:
        done = pymdfu(image, *network(simulator))
        assert done.returncode == 0, done.stderr
        assert_runs(simulator, report, image)


def test_over_a_line_that_damages_commands(tmp_path: Path, report: Path) -> None:
    image = write_image(tmp_path, "generic")
    fault = "corrupt@frame=3,dir=tx,times=1"
    error = "line-error@frame=7,times=3"
    with simulator_process(
        "--dir", str(tmp_path), "--report", str(report), "--fault", fault, "--fault", error
    ) as simulator:
        done = pymdfu(image, *serial(simulator))
        assert done.returncode == 0, done.stderr
        assert_runs(simulator, report, image)
    (device,) = read_report(report)
    assert device["faults"] == {fault: 1, error: 3}


def test_an_abort_is_understood(tmp_path: Path, report: Path) -> None:
    image = write_image(tmp_path, "generic")
    with simulator_process(
        "--dir", str(tmp_path), "--report", str(report), "--fault", "abort@chunk=5,cause=write-error"
    ) as simulator:
        done = pymdfu(image, *serial(simulator))
        assert simulator.until("abort")["cause"] == 5
        simulator.process.terminate()
        assert simulator.process.wait(10) == 0
    assert done.returncode == 1
    assert "write" in done.stderr.lower() + done.stdout.lower()
    (device,) = read_report(report)
    assert (device["mode"], device["complete"], device["ended_partial"]) == ("loader", False, 0)
