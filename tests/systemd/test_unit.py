"""What the unit promises fits what the daemon does; that it works is tested where there is a systemd, in tests/usb."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from firmwarden.app import daemon
from firmwarden.app.notify import ServiceManager
from firmwarden.config import Settings
from firmwarden.service.warden import LAST_COMMAND_S, LONGEST_SLEEP_S

SYSTEMD: Final = Path(__file__).parents[2] / "systemd"
UNIT: Final = re.findall(r"^(\w+)=(.*)$", (SYSTEMD / "firmwarden.service").read_text(), re.MULTILINE)
_UNITS: Final = {"": 1, "s": 1, "min": 60}


def seconds(key: str) -> int:
    ((_, text),) = [line for line in UNIT if line[0] == key]
    number, unit = re.fullmatch(r"(\d+)(s|min|)", text).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


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
