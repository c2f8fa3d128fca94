"""A unit of systemd that has the port, and a service that may stop it by a rule of polkit and not otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from lab.adapters import UsbSerial
from lab.service import systemctl
from lab.waiting import until
from lab.wire import Panel
from support.gateway import NEW, OLD, USUAL, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.service import Service

READER: Final = "port-reader.service"
UNIT_FILE: Final = Path("/etc/systemd/system", READER)
SHIPPED: Final = Path(__file__).parents[2] / "systemd" / "60-firmwarden-polkit.rules"
RULE: Final = Path("/etc/polkit-1/rules.d/60-firmwarden.rules")
EXAMPLES: Final = '"gpsd.service", "gpsd.socket"'
"""The units in the rule that ships."""


@pytest.fixture
def adapter() -> Iterator[UsbSerial]:
    made = UsbSerial("HANDOVER")
    yield made
    made.close()


@pytest.fixture
def panel(tmp_path: Path, adapter: UsbSerial) -> Iterator[Panel]:
    made = Panel(tmp_path, adapter.far_end, "--version", OLD, "--paced", 38_400)
    yield made
    made.close()


@pytest.fixture
def reader(adapter: UsbSerial) -> Iterator[None]:
    """It has the port, and does not come up where somebody else has it."""
    adapter.plug(1)
    (tty,) = until(lambda: list(Path("/dev").glob("ttyUSB*")), "a port")
    UNIT_FILE.write_text(
        f"[Service]\nType=exec\nExecStart=flock --nonblock --conflict-exit-code 75 {tty} sleep infinity\n"
    )
    systemctl("daemon-reload")
    systemctl("start", READER)
    yield
    systemctl("stop", READER)
    UNIT_FILE.unlink()
    systemctl("daemon-reload")


@pytest.fixture
def rule() -> Iterator[Path]:
    """Where the rule goes."""
    yield RULE
    RULE.unlink(missing_ok=True)


def is_denied(verb: str, unit: str) -> bool:
    """Try it as the service's user."""
    command = ["runuser", "-u", "firmwarden", "--", "systemctl", "--no-ask-password", verb, unit]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.usefixtures("reader")
def test_inv5_a_unit_leaves_its_port_and_is_back_also_when_the_daemon_is_not(
    service: Service, panel: Panel, rule: Path
) -> None:
    service.unit("Restart=no")
    match = f'usb = "{UsbSerial.IDS}", serial = "HANDOVER"'
    service.configure(device_class("panel", match, f'hand_over = {{ unit = "{READER}" }}', *USUAL))
    service.drop("panel", NEW, image())
    service.start()
    waiting = service.wait_for("job-waiting", wait="port-held")
    assert (
        f"held by {READER}, which cannot be made to leave: systemctl stop: exit status" in waiting["detail"]
    )
    assert "authentication required" in waiting["detail"]
    assert service.property("ActiveState", READER) == "active"
    assert not panel.process.said("loader-requested")

    text = SHIPPED.read_text()
    assert EXAMPLES in text
    rule.write_text(text.replace(EXAMPLES, f'"{READER}"'))
    panel.process.wait_for("erase", timeout_s=180)
    assert service.property("ActiveState", READER) == "inactive"
    # What is not in the rule stays forbidden.
    assert is_denied("stop", "systemd-udevd.service")
    assert is_denied("kill", READER)

    os.kill(int(service.property("MainPID")), signal.SIGKILL)
    until(lambda: service.property("ActiveState") == "failed", "the end of the service")
    assert service.property("ActiveState", READER) == "active"
    assert len(service.said("port-returned", owner=READER)) == 1

    service.start()
    service.runs(NEW)
    until(lambda: service.property("ActiveState", READER) == "active", "its return")
    service.wait_for("port-returned", owner=READER, count=2)
    assert panel.report()["started_partial"] == 0
