"""The first scenario: eight devices of three classes, each with a story, in under a minute.

Nothing is staged: the daemon is the process that ``firmwarden run`` starts, with its own state on disk; the devices
are processes of ``firmwarden simulate`` behind ptys and TCP ports, and those of ``--simulated-usb``; a release is two
files dropped into a directory.  What became of each device is judged twice, by what the daemon says and by what the
device itself runs.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from firmwarden.cli.demo.fleet_cast import (
    CAST,
    MODULES,
    NEW,
    PANELS,
    configuration,
    meter_ports,
    releases,
    simulated_usb,
)
from firmwarden.cli.demo.role import OLD
from firmwarden.cli.demo.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.cli.demo.role import Role
    from firmwarden.cli.demo.stage import Stage
    from firmwarden.service.views import DeviceView

PATIENCE_S: Final = 50.0
"""The whole takes a quarter of this; a machine under load is slower."""


class Fleet:
    """One run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def run(self, *, linger: bool) -> list[str]:
        """Run it and return what was not as it should be.

        Args:
            linger: go on until Ctrl-C.  What a person does to the devices then is not judged.
        """
        with ExitStack() as stack:
            stage, place = self._stage, self._stage.place
            modules = stack.enter_context(
                stage.simulator(MODULES, "dspic", "--tcp", "127.0.0.1:0", report="modules")
            )
            panels = stack.enter_context(
                stage.simulator(PANELS, "generic", "--dir", str(place / "ports"), report="panels")
            )
            stage.configure(configuration(place, modules, stage.port), simulated_usb(place / "usb.json"))
            stack.enter_context(stage.daemon(len(CAST)))
            by_port = {f"tcp-{address}": name for address, name in modules.items()}
            telling = Telling(stage, CAST, by_port | panels | meter_ports())
            telling.introduce(f"Each runs {OLD}. Release {NEW} is dropped into {stage.firmware} now.")
            for device_class, image in releases().items():
                stage.drop(device_class, NEW, image)
            telling.watch(_is_settled, PATIENCE_S)
            devices = telling.devices()
            telling.conclude(devices)
            if linger:
                telling.linger()
                return list(self._judge(devices))
        return [*self._judge(devices), *self._judge_devices()]

    @staticmethod
    def _judge(devices: Mapping[str, DeviceView]) -> Iterator[str]:
        """Compare what the daemon says with what should be."""
        for role in CAST:
            job = devices[role.name]["job"] if role.name in devices else None
            if job is None:
                yield f"{role.name} got no job"
                continue
            if job["state"] != role.ends:
                yield f"{role.name} ended {job['state']}, not {role.ends}"
            wait = job["wait"]["kind"] if job["wait"] is not None else None
            if wait != role.waits:
                yield f"{role.name} waits for {wait}, not for {role.waits}"
            if job["attempts"] < role.attempts:
                yield f"{role.name} took {job['attempts']} attempt(s), not {role.attempts}"
            if devices[role.name]["latched"] is not (role.cause is not None):
                yield f"{role.name} is {'' if role.cause is None else 'not '}latched"
            code = job["cause"]["code"] if job["cause"] is not None else None
            if role.cause not in {None, code}:
                yield f"{role.name} ended for {code}, not for {role.cause}"

    def _judge_devices(self) -> Iterator[str]:
        """Compare what the devices themselves say with what should be."""
        roles = {role.name: role for role in CAST}
        for report in ("panels", "modules", "usb"):
            for device in json.loads((self._stage.place / f"{report}.json").read_text())["devices"]:
                role, running = roles[device["name"]], device["running"]
                version = None if running is None else running["version"]
                if device["started_partial"]:
                    yield f"{role.name} started a partial image"
                if role.fault and not any(device["faults"].values()):
                    yield f"{role.name} met no fault"
                if role.ends == "succeeded" and version != NEW:
                    yield f"{role.name} runs {version}, not {NEW}"
                if role.waits is not None and (version != OLD or device["erase_starts"]):
                    yield f"{role.name} runs {version} after {device['erase_starts']} erases, though it waits"


def _is_settled(devices: Mapping[str, DeviceView]) -> bool:
    return all(_has_ended(role, devices[role.name]) for role in CAST)


def _has_ended(role: Role, device: DeviceView) -> bool:
    job = device["job"]
    if job is None:
        return False
    if role.waits is not None and job["wait"] is not None:
        return job["wait"]["kind"] == role.waits
    return job["state"] in {"succeeded", "failed", "cancelled"}
