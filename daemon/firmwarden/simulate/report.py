"""The state of simulated devices as they see it themselves, for tests and demos that want the truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from firmwarden.protocol.mdfu.packet import Command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from firmwarden.simulate.client import SimClient
    from firmwarden.simulate.ports import Port


class RunningReport(TypedDict):
    """The application that runs."""

    version: str
    sha256: str


class DeviceReport(TypedDict):
    """One device; see `SimClient` for what each means."""

    name: str
    address: str
    profile: str
    mode: str
    link: str
    running: RunningReport | None
    complete: bool
    started_partial: int
    ended_partial: int
    erase_starts: int
    page_wear_max: int
    boots: int
    opens: int
    commands: dict[str, int]
    faults: dict[str, int]


def report_device(port: Port) -> DeviceReport:
    """Return the state of the device behind a port."""
    client = port.client
    running = client.running
    return {
        "name": client.settings.name,
        "address": port.address,
        "profile": client.profile.name,
        "mode": client.mode.value,
        "link": client.link.value,
        "running": None if running is None else {"version": running.version, "sha256": running.sha256},
        "complete": client.complete,
        "started_partial": client.started_partial,
        "ended_partial": client.ended_partial,
        "erase_starts": client.flash.erase_starts,
        "page_wear_max": max(client.flash.wear),
        "boots": client.boots,
        "opens": port.opens,
        "commands": count_commands(client),
        "faults": client.faults_fired,
    }


def count_commands(client: SimClient) -> dict[str, int]:
    """Return how often each command was executed, by its name."""
    return {
        command.name.lower().replace("_", "-") if isinstance(command, Command) else f"0x{command:02x}": count
        for command, count in client.commands.items()
    }


def write_report(path: Path, ports: Iterable[Port]) -> None:
    """Write the report of all devices in one step: whoever reads it meets a whole one."""
    replace_text(path, json.dumps({"devices": [report_device(port) for port in ports]}, indent=1) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Put a whole file in the place of another."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(text)
    fresh.replace(path)
