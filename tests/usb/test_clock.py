"""Clocks that jump, zones that change, and machines that sleep: nothing hangs, and nothing is done twice."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from lab.adapters import UsbSerial
from lab.clocks import DAY_S, WallClock, suspend
from lab.waiting import until
from lab.wire import Panel
from support.gateway import NEW, OLD, QUERY, SEND, Rack, device_class, image
from support.processes import close_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.service import Service

BACK_OFF_S: Final = 6.0
PATIENT: Final = f"""\
settle = "150ms"
boot_delay = "200ms"
mdfu = {{ discovery = "1s" }}
retry = {{ back_off = "{BACK_OFF_S:g}s", back_off_max = "{BACK_OFF_S:g}s" }}"""
LATER: Final = "3.0.0"


@pytest.fixture
def wall() -> Iterator[WallClock]:
    with WallClock() as clock:
        yield clock


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    """A device that vanishes in the middle, twice."""
    made = Rack(
        tmp_path,
        "panel",
        *("--version", OLD, "--paced", 57_600, "--fault", "cut@chunk=8,back=0.5,times=2"),
        tcp=True,
    )
    yield made
    close_all([made.process])


def test_a_clock_that_jumps_while_a_job_waits_changes_no_pause(
    service: Service, rack: Rack, wall: WallClock
) -> None:
    service.configure(device_class("panel", rack.match, SEND, QUERY, PATIENT))
    service.start()
    service.drop("panel", NEW, image())
    began = time.monotonic()
    until(lambda: service.job("queued")["attempts"] == 1, "a pause")
    wall.jump(3 * 365 * DAY_S)
    wall.move(-7 * 3600)
    until(lambda: service.job("queued", "running")["attempts"] == 2, "a second attempt")
    service.job("queued")
    # A start finds an instant on disk that is ten years ahead.
    wall.jump(-7 * 365 * DAY_S)
    service.kill()
    service.job("succeeded")
    assert time.monotonic() - began < 60
    # Time goes on where it is, and so do scans.
    wall.move(9 * 3600)
    service.drop("panel", LATER, image(LATER))
    service.runs(LATER)
    (device,) = rack.told().values()
    assert (device["started_partial"], device["erase_starts"]) == (0, 4)


def test_a_clock_that_jumps_while_an_update_runs_changes_nothing(
    service: Service, tmp_path: Path, wall: WallClock
) -> None:
    rack = Rack(tmp_path, "panel", "--version", OLD, "--paced", 57_600, tcp=True)
    try:
        service.configure(device_class("panel", rack.match))
        service.start()
        service.drop("panel", NEW, image())
        rack.wait_for("erase", "panel-0001", timeout_s=60)
        wall.jump(-3 * 365 * DAY_S)
        until(lambda: (service.job("running")["progress"] or {"done": 0})["done"] > 0, "progress")
        wall.jump(3 * 365 * DAY_S)
        service.job("succeeded")
        service.runs(NEW)
        (device,) = rack.told().values()
        assert (device["started_partial"], device["erase_starts"]) == (0, 1)
    finally:
        close_all([rack.process])


def test_inv7_a_suspend_in_the_middle_of_an_update_is_an_interruption_like_others(
    service: Service, tmp_path: Path
) -> None:
    adapter = UsbSerial("SLEEPER")
    with (
        closing(adapter),
        closing(Panel(tmp_path, adapter.far_end, "--version", OLD, "--paced", 38_400)) as panel,
    ):
        match = f'usb = "{UsbSerial.IDS}", serial = "SLEEPER"'
        service.configure(device_class("panel", match, 'identity = "serial"', SEND, QUERY, PATIENT))
        adapter.plug(1)
        service.drop("panel", NEW, image())
        service.start()
        panel.wait_for("erase")
        assert suspend(5) > 3
        service.job("succeeded")
        service.runs(NEW)
        assert service.property("NRestarts") == "0"
        report = panel.report()
        assert report["started_partial"] == 0
        assert report["erase_starts"] <= 2
