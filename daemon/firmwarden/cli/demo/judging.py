"""Compares what became of the devices with what should have, by what the daemon says and by what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from firmwarden.cli.demo.role import OLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from firmwarden.cli.demo.role import Role
    from firmwarden.service.views import DeviceView


def differences(cast: Sequence[Role], devices: Mapping[str, DeviceView]) -> Iterator[str]:
    """Compare what the daemon says, by the names of the devices."""
    for role in cast:
        if role.name not in devices:
            yield f"{role.name} is not known"
            continue
        job = devices[role.name]["job"]
        state = None if job is None else job["state"]
        if state != role.ends:
            yield f"the job of {role.name} is {state}, not {role.ends}"
        wait = None if job is None or job["wait"] is None else job["wait"]["kind"]
        if wait != role.waits:
            yield f"{role.name} waits for {wait}, not for {role.waits}"
        if job is not None and job["attempts"] < role.attempts:
            yield f"{role.name} took {job['attempts']} attempt(s), not {role.attempts}"
        if devices[role.name]["latched"] is not (role.cause is not None):
            yield f"{role.name} is {'' if role.cause is None else 'not '}latched"
        code = None if job is None or job["cause"] is None else job["cause"]["code"]
        if role.ends == "failed" and code != role.cause:
            yield f"{role.name} ended for {code}, not for {role.cause}"


def differences_on_devices(cast: Sequence[Role], reports: Iterable[Path]) -> Iterator[str]:
    """Compare what the devices themselves say when they are switched off."""
    roles = {role.name: role for role in cast}
    for report in reports:
        for device in json.loads(report.read_text(encoding="utf-8"))["devices"]:
            role, running = roles[device["name"]], device["running"]
            version = None if running is None else running["version"]
            if device["started_partial"]:
                yield f"{role.name} started a partial image"
            if role.fault and not any(device["faults"].values()):
                yield f"{role.name} met no fault"
            if version != role.runs:
                yield f"{role.name} runs {version}, not {role.runs}"
            if role.runs == OLD and device["erase_starts"]:
                yield f"{role.name} was erased {device['erase_starts']} times, though it was not its turn"
