"""Sixteen devices of two classes under one daemon, and what must hold of them whatever was done to them.

Half of them are on ptys and tell their version; the other half are behind TCP and do not, so that some of their
outcomes can never be known.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from support.gateway import NEW, OLD, QUERY, SEND, Gateway, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.service.views import AttemptView, DeviceView
    from firmwarden.simulate.report import DeviceReport
    from support.gateway import Rack

EACH: Final = 8
SIZE: Final = 8192
LONGEST_S: Final = 60.0
"""Fifteen times what it takes."""
BUDGETS: Final = """\
settle = "150ms"
boot_delay = "500ms"
mdfu = { discovery = "3s" }
retry = { attempts = 100, back_off = "50ms", back_off_max = "400ms" }
wear = { per_day = 1000, per_life = 1000 }"""
"""Nobody is to be stopped by a budget: what is done too often is counted in the end.  Applications are
given long to start, so that a kill finds some updates waiting for that."""


class Fleet:
    """The devices, the releases that they should run, and the daemon's word against theirs."""

    def __init__(
        self,
        gateway: Gateway,
        profiles: tuple[str, str],
        *options: object,
        faults: Mapping[str, str] | None = None,
        parallel: int = 16,
    ) -> None:
        """Start the devices and write the configuration; the daemon is left to the test.

        Args:
            gateway: where.
            profiles: of the devices on ptys and of those behind TCP.
            options: of ``firmwarden simulate mdfu``.
            faults: one for each device that has one, by its name.
            parallel: updates at once.
        """
        self.gateway = gateway
        self.racks: list[Rack] = []
        self.images: dict[str, str] = {}
        """Hash of what each device should run, by its name."""
        classes = []
        for name, profile, tcp in (("panel", profiles[0], False), ("module", profiles[1], True)):
            given = [
                argument
                for device, fault in (faults or {}).items()
                if device.startswith(name)
                for argument in ("--fault", f"{int(device[-4:])}:{fault}")
            ]
            rack = gateway.rack(
                name, "--count", EACH, "--profile", profile, "--version", OLD, *options, *given, tcp=tcp
            )
            self.racks.append(rack)
            classes.append(device_class(name, rack.match, SEND, *(() if tcp else (QUERY,)), BUDGETS))
            digest = gateway.drop(name, NEW, image(NEW, size=SIZE, profile=profile))
            self.images |= dict.fromkeys(rack.addresses, digest)
        gateway.configure(*classes, parallel=parallel)

    # --- while it runs

    def settle(self) -> None:
        """Wait until there is nothing more to come; if that takes too long, `faults` knows why."""
        with suppress(AssertionError):
            self.gateway.daemon.until(self._is_settled, "every outcome", timeout_s=LONGEST_S)

    def _is_settled(self) -> bool:
        """Tell whether every device runs what it should, and every outcome is known or cannot be."""
        truth = self._told()
        devices = self._devices()
        return len(devices) == len(self.images) and all(
            self._runs_it(truth[name])
            and _state(device) in {"succeeded", *(("unknown",) if _is_silent(name) else ())}
            for name, device in devices.items()
        )

    def _told(self) -> dict[str, DeviceReport]:
        """What the devices said last."""
        return {name: device for rack in self.racks for name, device in rack.told().items()}

    def _runs_it(self, device: DeviceReport) -> bool:
        return device["running"] is not None and device["running"]["sha256"] == self.images[device["name"]]

    def _devices(self) -> dict[str, DeviceView]:
        names = {port: name for rack in self.racks for port, name in rack.names().items()}
        return {names[device["port"]]: device for device in self.gateway.devices()}

    # --- in the end

    def faults(self, disturbances: Mapping[str, int]) -> list[str]:
        """Say what did not hold.

        Args:
            disturbances: how often each device was disturbed: so much more often than once it may be written.
        """
        devices = self._devices()
        history: list[AttemptView] = self.gateway.client.get("history", limit=1000)["attempts"]
        jobs = self.gateway.client.get("jobs", limit=1000)["jobs"]
        truth = {name: device for rack in self.racks for name, device in rack.report().items()}
        found = []
        if sorted(job["device"] for job in jobs) != sorted(device["id"] for device in devices.values()):
            found.append(f"not one job for each device, but {len(jobs)} for {len(devices)}")
        for name in self.images:
            attempts = [each for each in reversed(history) if each["device"] == devices[name]["id"]]
            told = [
                *self._about_the_device(truth[name]),
                *self._about_the_outcome(devices[name], truth[name]),
                *_about_the_attempts(attempts, truth[name], disturbances[name]),
                *_about_wear(devices[name], attempts, truth[name]),
            ]
            found += [f"{name}: {fault}" for fault in told]
            if told:
                print(name, json.dumps(truth[name]), *map(json.dumps, attempts), sep="\n  ")
        return found

    def _about_the_device(self, truth: DeviceReport) -> Iterator[str]:
        if truth["started_partial"]:
            yield "it started a partial image"
        if truth["ended_partial"]:
            yield "it was told to start a partial image"
        if not self._runs_it(truth):
            yield f"it runs {truth['running']}"

    def _about_the_outcome(self, device: DeviceView, truth: DeviceReport) -> Iterator[str]:
        match _state(device):
            case "succeeded":
                if not self._runs_it(truth):
                    yield "its success is a lie"
                if device["running_image"] != self.images[truth["name"]] or device["complete"] is not True:
                    yield f"it is said to run {device['running_image']}, complete: {device['complete']}"
            case "unknown" if _is_silent(truth["name"]):
                pass
            case other:
                yield f"its job is {other}"


def _is_silent(name: str) -> bool:
    """Tell whether a device is one that does not tell its version."""
    return name.startswith("module")


def _state(device: DeviceView) -> str | None:
    return None if device["job"] is None else device["job"]["state"]


def _about_the_attempts(attempts: list[AttemptView], truth: DeviceReport, disturbances: int) -> Iterator[str]:
    if [attempt["number"] for attempt in attempts] != list(range(1, len(attempts) + 1)):
        yield f"its attempts are numbered {[attempt['number'] for attempt in attempts]}"
    for attempt in attempts[:-1]:
        if attempt["outcome"] not in {"failed", "interrupted"} or attempt["cause"] is None:
            yield f"attempt {attempt['number']} was {attempt['outcome']}, and yet there was another"
        if (attempt["phase"], attempt["outcome"]) == ("ending", "interrupted"):
            yield f"nobody asked what became of attempt {attempt['number']}"
    starts = truth["commands"].get("start-transfer", 0)
    writing = sum(attempt["phase"] != "probing" for attempt in attempts)
    if writing > 1 + disturbances:
        yield f"it was written {writing} times, disturbed {disturbances} time(s)"
    if starts > writing:
        yield f"{starts} transfers were started in {writing} attempts that are known to have"


def _about_wear(device: DeviceView, attempts: list[AttemptView], truth: DeviceReport) -> Iterator[str]:
    recorded = device["wear"]["life"]
    if recorded < truth["erase_starts"]:
        yield f"{recorded} starts of an erase are recorded, and {truth['erase_starts']} happened"
    if recorded != sum(attempt["erase_starts"] for attempt in attempts):
        yield "its wear is not that of its attempts"
