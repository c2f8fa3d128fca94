"""The unit that ships, under a real service manager: who it runs as, what it may, and what happens when it hangs."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmwarden.cli.client import DEFAULT_SOCKET
from lab.adapters import UsbSerial
from lab.service import STATE, UNIT, systemctl
from lab.waiting import until
from lab.wire import Panel
from support.gateway import NEW, OLD, USUAL, Rack, device_class, image
from support.processes import close_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.service import Service

LATER = "3.0.0"
MATCH = f'usb = "{UsbSerial.IDS}", serial = "SYSTEMD"'


@pytest.fixture
def adapter() -> Iterator[UsbSerial]:
    made = UsbSerial("SYSTEMD")
    yield made
    made.close()


@pytest.fixture
def panel(tmp_path: Path, adapter: UsbSerial) -> Iterator[Panel]:
    made = Panel(tmp_path, adapter.far_end, "--version", OLD, "--paced", 38_400)
    yield made
    made.close()


def test_it_has_no_more_rights_than_it_needs(service: Service) -> None:
    service.configure()
    service.start()
    process = Path("/proc", service.property("MainPID"))
    status = dict(
        line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
    )
    user = pwd.getpwnam("firmwarden")
    assert set(status["Uid"].split()) == {str(user.pw_uid)}
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert not STATE.stat().st_mode & 0o007
    assert {path.stat().st_mode & 0o077 for path in STATE.iterdir() if path.is_file()} == {0}
    assert (DEFAULT_SOCKET.stat().st_uid, DEFAULT_SOCKET.stat().st_mode & 0o777) == (user.pw_uid, 0o660)


def test_it_says_in_words_how_things_stand(service: Service, adapter: UsbSerial, panel: Panel) -> None:
    service.configure(device_class("panel", MATCH, *USUAL))
    service.start()
    assert service.property("StatusText") == "devices here: 0, being updated: 0, releases: 0"
    adapter.plug(1)
    service.drop("panel", NEW, image())
    until(
        lambda: service.property("StatusText") == "devices here: 1, being updated: 1, releases: 1", "a status"
    )
    service.configure("nonsense")
    systemctl("reload", UNIT)
    until(lambda: "refused at the last reload" in service.property("StatusText"), "a status")
    service.configure(device_class("panel", MATCH, *USUAL))
    systemctl("reload", UNIT)
    service.job("succeeded")
    until(
        lambda: service.property("StatusText") == "devices here: 1, being updated: 0, releases: 1", "a status"
    )
    panel.wait_for("end")


def test_a_port_whose_driver_came_with_the_service_may_be_opened(
    service: Service, adapter: UsbSerial, panel: Panel
) -> None:
    # As on a gateway on which nothing was plugged in since it was switched on.
    subprocess.run(["modprobe", "--remove", "ftdi_sio", "usbserial", "cdc_acm"], check=True)
    systemctl("stop", "modprobe@usbserial.service", "modprobe@cdc_acm.service")
    assert "ttyUSB" not in Path("/proc/devices").read_text()
    service.configure(device_class("panel", MATCH, *USUAL))
    service.start()
    adapter.plug(1)
    service.drop("panel", NEW, image())
    service.job("succeeded")
    panel.wait_for("end")


def test_a_port_that_the_unit_forbids_is_said_to_be_forbidden(
    service: Service, adapter: UsbSerial, panel: Panel
) -> None:
    service.unit("DeviceAllow=", "DeviceAllow=char-usb_device rw")
    service.configure(device_class("panel", MATCH, *USUAL))
    service.start()
    adapter.plug(1)
    service.drop("panel", NEW, image())
    assert "DeviceAllow" in service.wait_for("attempt-failed")["detail"]
    assert not panel.process.said("loader-requested")


def test_inv4_a_port_is_left_to_a_program_whose_process_is_out_of_sight(
    service: Service, adapter: UsbSerial, panel: Panel
) -> None:
    service.configure(device_class("panel", MATCH, *USUAL))
    adapter.plug(1)
    (tty,) = Path("/dev").glob("ttyUSB*")
    lock = Path("/var/lock", f"LCK..{tty.name}")
    lock.write_text(f"{os.getpid():>10}\n")
    try:
        service.drop("panel", NEW, image())
        service.start()
        waiting = service.wait_for("job-waiting", wait="port-held")
        assert waiting["detail"].endswith(f"is held by a process (pid {os.getpid()})")
        assert not panel.process.said("loader-requested")
    finally:
        lock.unlink()
    service.job("succeeded")


def test_inv5_a_service_that_hangs_is_restarted_and_finishes_its_work(
    service: Service, adapter: UsbSerial, panel: Panel
) -> None:
    service.unit("WatchdogSec=6s", "RestartSec=1s")
    service.configure(device_class("panel", MATCH, *USUAL))
    adapter.plug(1)
    service.drop("panel", NEW, image())
    service.start()
    panel.wait_for("erase")
    hung = int(service.property("MainPID"))
    os.kill(hung, signal.SIGSTOP)
    service.restarted(1)
    assert "Watchdog timeout" in service.journal()
    service.wait_for("attempt-interrupted")
    service.job("succeeded")
    service.runs(NEW)
    assert int(service.property("MainPID")) != hung
    assert panel.report()["started_partial"] == 0


def test_a_healthy_service_is_left_alone_by_the_watchdog(service: Service) -> None:
    service.unit("WatchdogSec=4s")
    service.configure()
    service.start()
    began = int(service.property("WatchdogTimestampMonotonic"))
    # Three times what is granted, by the last sign of life.
    until(lambda: int(service.property("WatchdogTimestampMonotonic")) > began + 12_000_000, "signs of life")
    assert service.property("NRestarts") == "0"


def test_a_stop_lets_a_transfer_finish(service: Service, adapter: UsbSerial, panel: Panel) -> None:
    service.configure(device_class("panel", MATCH, *USUAL))
    adapter.plug(1)
    service.drop("panel", NEW, image())
    service.start()
    panel.wait_for("erase")
    service.stop()
    assert len(service.said("update-succeeded")) == 1
    assert service.property("Result") == "success"
    assert not DEFAULT_SOCKET.exists()


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    """A device behind TCP."""
    made = Rack(tmp_path, "panel", "--version", OLD, "--paced", 57_600, tcp=True)
    yield made
    close_all([made.process])


def test_inv3_inv5_however_often_it_is_killed_it_finishes_its_work_within_the_budget(
    service: Service, rack: Rack
) -> None:
    # As fast as systemd can.
    service.unit("RestartSec=100ms")
    service.configure(device_class("panel", rack.match, *USUAL, "wear = { per_day = 4 }"))
    service.start()
    service.drop("panel", NEW, image())
    mark = 0
    for _ in range(3):
        mark = erased(rack, mark)
        service.kill()
    service.runs(NEW)
    service.drop("panel", LATER, image(LATER))
    service.wait_for("job-waiting", wait="wear")
    service.kill()
    service.wait_for("job-waiting", wait="wear", count=2)
    (device,) = rack.told().values()
    assert (device["erase_starts"], device["started_partial"]) == (4, 0)


def erased(rack: Rack, after: int) -> int:
    """Wait until an erase has begun."""
    rack.wait_for("erase", "panel-0001", after=after, timeout_s=60)
    return rack.process.mark
