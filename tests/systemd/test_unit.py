"""What the unit promises fits what the daemon does; that it works is tested where there is a systemd, in tests/usb."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from firmwarden.app import daemon
from firmwarden.app.notify import ServiceManager
from firmwarden.config import Settings
from firmwarden.control.listeners import CONTROL, MEMBERS
from firmwarden.service.warden import LAST_COMMAND_S, LONGEST_SLEEP_S
from support.programs import program

SYSTEMD: Final = Path(__file__).parents[2] / "systemd"
UNIT: Final = re.findall(r"^(\w+)=(.*)$", (SYSTEMD / "firmwarden.service").read_text(), re.MULTILINE)
SOCKET: Final = dict(re.findall(r"^(\w+)=(.*)$", (SYSTEMD / "firmwarden.socket").read_text(), re.MULTILINE))

MOST_EXPOSED: Final = 20
"""Tenths of what systemd-analyze counts, from 0 to 10: it calls 2.0 OK, and a unit without a sandbox has 9.6."""

OLDER_DO_NOT_KNOW: Final = ("RestartSteps", "RestartMaxDelaySec")
"""systemd.service(5): since 254."""
_UNITS: Final = {"": 1, "s": 1, "min": 60}


def seconds(key: str) -> int:
    ((_, text),) = [line for line in UNIT if line[0] == key]
    number, unit = re.fullmatch(r"(\d+)(s|min|)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, starting a program that is there."""
    made = []
    for unit in (*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket")):
        copy = tmp_path / unit.name
        copy.write_text(re.sub(r"(?m)^(Exec\w+=-?)firmwarden\b", rf"\1{sys.executable}", unit.read_text()))
        made.append(copy)
    return made


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("systemd-analyze"), *map(str, words)], capture_output=True, text=True, check=False
    )


def test_the_service_is_exposed_no_more_than_its_devices_need() -> None:
    unit = SYSTEMD / "firmwarden.service"
    told = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", unit)
    assert told.returncode == 0, told.stdout


def test_systemd_understands_the_units(units: list[Path]) -> None:
    assert {unit.name for unit in units} == {"firmwarden.service", "firmwarden.socket"}
    told = analyze("verify", "--man=no", *units)
    complaints = [
        line for line in told.stderr.splitlines() if not any(each in line for each in OLDER_DO_NOT_KNOW)
    ]
    # Of units that are elsewhere on this machine it may complain, too.
    assert [line for line in complaints if "firmwarden" in line] == []


def test_the_socket_is_the_one_that_the_daemon_would_make() -> None:
    assert SOCKET["ListenStream"] == str(Settings().socket)
    assert SOCKET["FileDescriptorName"] == CONTROL
    assert int(SOCKET["SocketMode"], 8) == MEMBERS
    assert (SOCKET["SocketUser"], SOCKET["SocketGroup"]) == (dict(UNIT)["User"], dict(UNIT)["Group"])


def test_directories_are_the_same_whoever_makes_them() -> None:
    made = re.findall(
        r"^d (\S+) +(\S+) (\S+) (\S+)$", (SYSTEMD / "firmwarden.tmpfiles").read_text(), re.MULTILINE
    )
    unit = dict(UNIT)
    mode = unit["StateDirectoryMode"]
    # systemd.exec(5): RuntimeDirectoryMode= is 0755 by default.
    by_service = [
        *((f"/var/lib/{each}", mode) for each in unit["StateDirectory"].split()),
        (f"/run/{unit['RuntimeDirectory']}", "0755"),
    ]
    assert made == [(path, mode, unit["User"], unit["Group"]) for path, mode in by_service]


def test_a_stop_gets_as_long_as_it_may_need() -> None:
    needed_s = Settings().grace + LAST_COMMAND_S + daemon._CLOSING_S  # noqa: SLF001
    assert seconds("TimeoutStopSec") >= needed_s


def test_the_watchdog_asks_for_no_more_plannings_than_there_are_anyway() -> None:
    manager = ServiceManager({"WATCHDOG_USEC": str(seconds("WatchdogSec") * 1_000_000)})
    assert manager.silence_s >= LONGEST_SLEEP_S


def test_the_user_exists_and_may_use_dfu_devices() -> None:
    user = dict(UNIT)["User"]
    assert re.search(rf"^u {user} ", (SYSTEMD / "firmwarden.sysusers").read_text(), re.MULTILINE)
    rule = (SYSTEMD / "60-firmwarden-dfu.rules").read_text().splitlines()[-1]
    assert f'GROUP="{dict(UNIT)["Group"]}", MODE="0660"' in rule
