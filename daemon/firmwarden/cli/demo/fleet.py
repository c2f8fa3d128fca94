"""The first scenario: eight devices of three classes, each with a story, in under a minute.

Nothing is staged: the daemon is the process that ``firmwarden run`` starts, with its own state on disk; the devices
are processes of ``firmwarden simulate`` behind ptys and TCP ports, and those of ``--simulated-usb``; a release is two
files dropped into a directory.  What became of each device is judged twice, by what the daemon says and by what the
device itself runs.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from firmwarden.cli.demo.fleet_cast import (
    CAST,
    MODULES,
    PANELS,
    classes,
    meter_ports,
    releases,
    simulated_usb,
)
from firmwarden.cli.demo.judging import differences, differences_on_devices
from firmwarden.cli.demo.role import NEW, OLD
from firmwarden.cli.demo.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            stage.prepare(classes(place, modules), simulated_usb(place / "usb.json"))
            stack.enter_context(stage.daemon(len(CAST)))
            by_port = {f"tcp-{address}": name for address, name in modules.items()}
            telling = Telling(stage, CAST, by_port | panels | meter_ports())
            telling.introduce(f"Each runs {OLD}. Release {NEW} is dropped into {stage.firmware} now.")
            for device_class, image in releases().items():
                stage.drop(device_class, NEW, image)
            telling.watch(until=lambda: _is_settled(telling.devices()), patience_s=PATIENCE_S)
            devices = telling.devices()
            telling.conclude(devices)
            if linger:
                telling.linger()
                return list(differences(CAST, devices))
        reports = [place / f"{report}.json" for report in ("panels", "modules", "usb")]
        return [*differences(CAST, devices), *differences_on_devices(CAST, reports)]


def _is_settled(devices: Mapping[str, DeviceView]) -> bool:
    return all(_has_ended(role, devices[role.name]) for role in CAST)


def _has_ended(role: Role, device: DeviceView) -> bool:
    job = device["job"]
    if job is None:
        return False
    if role.waits is not None and job["wait"] is not None:
        return job["wait"]["kind"] == role.waits
    return job["state"] in {"succeeded", "failed", "cancelled"}
