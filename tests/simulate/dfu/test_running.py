"""A simulated bus within a program: its time goes on, and its devices tell the truth."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.requests import Request, Setup
from firmwarden.simulate.dfu.description import DescribedBus, DescribedDevice
from firmwarden.simulate.dfu.running import RunningBus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.simulate.dfu.report import DfuReport

STATUS = Setup.of(Request.GETSTATUS, interface=1, length=6)


def report(path: Path) -> DfuReport:
    told: DfuReport = json.loads(path.read_text())["devices"][0]
    return told


def until(path: Path, holds: Callable[[DfuReport], bool]) -> DfuReport:
    """Look at the report again and again; nothing else touches the devices."""
    while not holds(told := report(path)):
        time.sleep(0.01)
    return told


def test_devices_boot_and_come_back_though_nobody_speaks_to_them(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    device = DescribedDevice(
        name="meter-1", port=(2, 1), version="1.0.0", faults=("power@getstatus=1,back=0.2",)
    )
    with RunningBus(DescribedBus(device=(device,), report=path)) as running:
        assert report(path)["mode"] == "off"
        until(path, lambda told: told["appearances"] == 1)
        (seen,) = running.bus.devices()
        assert seen.port == (2, 1)
        assert running.bus.control(seen, STATUS) == bytes(6)
        assert running.bus.control(seen, STATUS) is Trouble.GONE
        until(path, lambda told: told["mode"] == "off")
        told = until(path, lambda told: told["appearances"] == 2)
        assert told["landings"] == {"application": 2}
        (again,) = running.bus.devices()
        assert running.bus.control(again, STATUS) == bytes(6)
    told = report(path)
    assert (told["name"], told["mode"], told["dead"], told["started_partial"]) == (
        "meter-1", "run-time", False, 0,
    )  # fmt: skip
    assert told["requests"] == {"getstatus": 2}
    assert told["faults"] == {"power@getstatus=1,back=0.2": 1}
    assert told["running"] == {"name": "Simulated application 1.0.0", "version": "1.0.0"}


def test_without_a_report_nothing_is_written(tmp_path: Path) -> None:
    device = DescribedDevice(name="meter-1", port=(1,))
    with RunningBus(DescribedBus(device=(device,))) as running:
        assert running.bus.devices() == []
    assert list(tmp_path.iterdir()) == []
