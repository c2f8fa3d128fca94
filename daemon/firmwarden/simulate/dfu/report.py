"""The state of simulated DFU devices as they see it themselves, for tests and demos that want the truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.report import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firmwarden.simulate.dfu.device import SimDfu


class DfuRunningReport(TypedDict):
    """The program that runs."""

    name: str
    version: str


class DfuReport(TypedDict):
    """One device."""

    name: str
    part: str
    mode: str
    running: DfuRunningReport | None
    landing: str | None
    dead: bool
    started_partial: int
    landings: dict[str, int]
    erase_starts: int
    page_wear_max: int
    appearances: int
    requests: dict[str, int]
    faults: dict[str, int]
    options: dict[str, int]


def report_device(device: SimDfu) -> DfuReport:
    """Return the state of a device."""
    boot = device.boot
    firmware = None if boot is None or boot.dead else boot.firmware
    return {
        "name": device.settings.name,
        "part": device.settings.part.name,
        "mode": device.mode.value if device.powered else "off",
        "running": None if firmware is None else {"name": firmware.name, "version": firmware.version},
        "landing": None if boot is None else boot.landing.name.lower(),
        "dead": boot is not None and boot.dead,
        "started_partial": device.landings[Landing.PARTIAL],
        "landings": {landing.name.lower(): count for landing, count in device.landings.items()},
        "erase_starts": sum(device.chip.flash.wear),
        "page_wear_max": max(device.chip.flash.wear),
        "appearances": device.generation,
        "requests": {request.name.lower(): count for request, count in device.transfers.items()},
        "faults": device.faults_struck,
        "options": device.chip.options,
    }


def write_report(path: Path, devices: Iterable[SimDfu]) -> None:
    """Write the report of all devices in one step: whoever reads it meets a whole one."""
    replace_text(
        path, json.dumps({"devices": [report_device(device) for device in devices]}, indent=1) + "\n"
    )
