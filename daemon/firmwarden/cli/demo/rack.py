"""The second scenario: a rack of twenty-four goes through a release as carefully as a person would do it.

There are a bad image, a bad unit, a port that somebody else has, a window that closes in the middle, a kill of the
daemon in the middle, and a canary that its new firmware makes ill.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Timer
from typing import TYPE_CHECKING, Final

from firmwarden.cli.demo.judging import differences, differences_on_devices
from firmwarden.cli.demo.rack_cast import (
    BETWEEN,
    CANARIES,
    CAST,
    METERS,
    MODULES,
    PANELS,
    SENSORS,
    STOLEN,
    bad_image,
    canary_module,
    canary_sensor,
    classes,
    image,
    meter_ports,
    meter_too_late,
    simulated_usb,
)
from firmwarden.cli.demo.role import NEW, OLD
from firmwarden.cli.demo.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from firmwarden.cli.demo.role import Role
    from firmwarden.cli.demo.stage import Stage
    from firmwarden.service.views import DeviceView, RolloutView

PATIENCE_S: Final = 150.0
"""The whole takes half of this; a machine under load is slower."""
_STARTING_S: Final = 16.0
"""The window of the meters closes at a whole minute, no sooner than this after it was set."""
_BEFORE_CLOSING_S: Final = 8.0
"""So long before does the release for the meters come: one update begins in time, and never are all four done."""
_HALF: Final = 2


ROLLOUTS: Final = {"front-panel": "done", "io-module": "stopped", "sensor": "stopped"}
"""How each ends."""


class Rack:
    """One run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def run(self, *, linger: bool) -> list[str]:
        """Run it and return what was not as it should be.

        Args:
            linger: go on until Ctrl-C.  What a person does to the devices then is not judged.
        """
        stage, place = self._stage, self._stage.place
        with ExitStack() as stack:
            modules = stack.enter_context(
                stage.simulator(MODULES, "dspic", "--tcp", "127.0.0.1:0", report="modules")
            )
            panels = stack.enter_context(
                stage.simulator(PANELS, "generic", "--dir", str(place / "panels"), report="panels")
            )
            ill = ("--dir", str(place / "sensors"), "--ill", NEW)
            sensors = stack.enter_context(stage.simulator(SENSORS, "generic", *ill, report="sensors"))
            by_port = {f"tcp-{address}": name for address, name in modules.items()}
            by_port |= panels | sensors | meter_ports()
            stage.prepare(classes(place, modules), simulated_usb(place / "usb.json"))
            thief = stack.enter_context(ExitStack())
            with stage.daemon(len(CAST)) as daemon:
                telling = Telling(stage, CAST, by_port)
                self._until_the_kill(telling, thief)
                daemon.kill()
            closing = _next_closing()
            stage.configure(classes(place, modules, closing))
            telling.say(
                "The daemon was killed in the middle. It starts again with another configuration: from now on, the "
                f"meters may be updated until {closing:%H:%M} UTC only."
            )
            stack.enter_context(stage.daemon(len(CAST)))
            self._until_the_end(telling, thief, closing)
            devices = telling.devices()
            telling.conclude(devices)
            cast = [*PANELS, *(role for crowd in CROWDS for role in crowd.as_it_fell_out(devices))]
            faults = [fault for crowd in CROWDS for fault in crowd.differences(devices)]
            faults += differences(cast, devices)
            faults += [
                f"the rollout for {device_class} is {state}, not {ROLLOUTS.get(device_class)}"
                for device_class, state in self._rollouts().items()
                if ROLLOUTS.get(device_class) != state
            ]
            if linger:
                telling.linger()
                return faults
        reports = [place / f"{report}.json" for report in ("panels", "modules", "sensors", "usb")]
        return [*faults, *differences_on_devices(cast, reports)]

    def _rollouts(self) -> dict[str, str]:
        """How far each class is with the newest release that goes out with care."""
        views: list[RolloutView] = self._stage.client.get("rollouts")["rollouts"]
        return {view["device_class"]: view["state"] for view in views if view["version"] == NEW}

    def _until_the_kill(self, telling: Telling, thief: ExitStack) -> None:
        stage = self._stage
        telling.introduce(
            f"Each runs {OLD}. Another process takes the port of {STOLEN}, and the sensors are brought to {BETWEEN}; "
            f"then comes {NEW}, for the panels, the sensors and the modules."
        )
        thief.enter_context(_taken(stage.place / "panels" / STOLEN))
        stage.drop("sensor", BETWEEN, image("sensor", BETWEEN))
        telling.watch(until=lambda: _all_run(telling.devices(), SENSORS, BETWEEN), patience_s=PATIENCE_S)
        for device_class in ("front-panel", "sensor"):
            stage.drop(device_class, NEW, image(device_class, NEW))
        stage.drop("io-module", NEW, bad_image(NEW))
        telling.watch(until=lambda: _is_half_way(telling.devices()), patience_s=PATIENCE_S)

    def _until_the_end(self, telling: Telling, thief: ExitStack, closing: datetime) -> None:
        stage = self._stage

        def drop_for_meters() -> None:
            stage.drop("meter", NEW, image("meter", NEW))

        shortly_before = (closing - datetime.now(UTC)).total_seconds() - _BEFORE_CLOSING_S
        coming = Timer(max(shortly_before, 0.0), drop_for_meters)
        coming.start()
        try:
            telling.watch(until=lambda: _only_the_port_is_missing(telling.devices()), patience_s=PATIENCE_S)
            telling.say(f"The other process leaves the port of {STOLEN}.")
            thief.close()
            telling.watch(
                until=lambda: self._rollouts() == ROLLOUTS and _is_over(telling.devices(), closing),
                patience_s=PATIENCE_S,
            )
        finally:
            coming.cancel()


def _next_closing() -> datetime:
    earliest = datetime.now(UTC) + timedelta(seconds=_STARTING_S)
    return earliest.replace(second=0, microsecond=0) + timedelta(minutes=1)


@contextmanager
def _taken(port: Path) -> Iterator[None]:
    """Have a port as a terminal program has it."""
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _all_run(devices: Mapping[str, DeviceView], roles: Sequence[Role], version: str) -> bool:
    return all(_stands(devices[role.name], "succeeded", version) for role in roles)


def _stands(device: DeviceView, state: str, version: str) -> bool:
    return (
        device["running_version"] == version and device["job"] is not None and device["job"]["state"] == state
    )


def _is_half_way(devices: Mapping[str, DeviceView]) -> bool:
    """Whether a panel that is no canary has taken half of its image."""
    panels = [devices[role.name] for role in PANELS]
    return any(_stands(panel, "succeeded", NEW) for panel in panels) and any(
        progress is not None and progress["done"] * _HALF >= progress["total"] > 0
        for progress in (panel["job"] and panel["job"]["progress"] for panel in panels)
    )


def _wait_of(device: DeviceView) -> str | None:
    job = device["job"]
    return None if job is None or job["wait"] is None else job["wait"]["kind"]


def _has_ended(device: DeviceView) -> bool:
    job = device["job"]
    return job is not None and job["state"] in {"succeeded", "failed"}


def _only_the_port_is_missing(devices: Mapping[str, DeviceView]) -> bool:
    others = (devices[role.name] for role in PANELS if role.name != STOLEN)
    return _wait_of(devices[STOLEN]) == "port-held" and all(map(_has_ended, others))


def _is_over(devices: Mapping[str, DeviceView], closing: datetime) -> bool:
    quiet = (
        _has_ended(device) or _wait_of(device) in {"canary", "window"}
        for device in devices.values()
        if device["job"] is not None
    )
    return (
        datetime.now(UTC) > closing
        and all(quiet)
        and all(_has_ended(devices[role.name]) for role in PANELS)
        and any(
            sensor["latched"] and _stands(sensor, "succeeded", BETWEEN)
            for sensor in (devices[role.name] for role in SENSORS)
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Devices of one class, of which some fare otherwise than the others; nobody knows before which."""

    roles: Sequence[Role]
    some: Callable[[DeviceView], bool]
    fare: Callable[[Role], Role]
    least: int
    most: int

    def as_it_fell_out(self, devices: Mapping[str, DeviceView]) -> list[Role]:
        """Say what should have become of each."""
        return [self.fare(role) if self.some(devices[role.name]) else role for role in self.roles]

    def differences(self, devices: Mapping[str, DeviceView]) -> Iterator[str]:
        """Tell if they are too few or too many."""
        found = [role.name for role in self.roles if self.some(devices[role.name])]
        if not self.least <= len(found) <= self.most:
            others = f"{self.least} to {self.most} of {len(self.roles)}"
            yield f"{', '.join(found) or 'nobody'} fared as {others} should"


CROWDS: Final = (
    Crowd(
        roles=MODULES,
        some=lambda device: device["latched"],
        fare=canary_module,
        least=CANARIES,
        most=CANARIES,
    ),
    Crowd(
        roles=METERS,
        some=lambda device: _wait_of(device) is not None,
        fare=meter_too_late,
        least=1,
        most=len(METERS) - 1,
    ),
    Crowd(roles=SENSORS, some=lambda device: device["latched"], fare=canary_sensor, least=1, most=1),
)
