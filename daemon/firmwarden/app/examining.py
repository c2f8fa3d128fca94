"""Finds out more of a unit that was updated than can be seen, by the configuration in force at that time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmwarden.drivers.question import Question, ask_how_it_is
from firmwarden.errors import CannotTell
from firmwarden.model import SerialAddress, UsbAddress
from firmwarden.programs import hear_program
from firmwarden.service.health import HealthRule
from firmwarden.transport.opening import open_link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmwarden import config as cfg
    from firmwarden.model import Address, ClassName, Device


def health_rule(device_class: cfg.DeviceClass) -> HealthRule | None:
    """What the units of a class have to show after an update."""
    health = device_class.health
    if health is None:
        return None
    return HealthRule(
        soak_s=health.soak,
        return_within_s=health.return_within,
        tells_version=device_class.dfu.version is not None,
        asks=health.query is not None,
        runs=bool(health.command),
    )


class Examiner:
    """Implements ``service.aftercare.Examine``; a reload may take away what was to be found out."""

    def __init__(self, classes: Callable[[], Mapping[ClassName, cfg.DeviceClass]]) -> None:
        self._classes = classes

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        """Put the question of its class."""
        health = self._health(device)
        if health is None or health.query is None or isinstance(address, UsbAddress):
            return ""
        if isinstance(address, SerialAddress):
            address = replace(address, baud=self._classes()[device.device_class].baud)
        query = health.query
        question = Question(send=query.send, expect=query.expect, timeout_s=query.timeout, baud=query.baud)
        return await ask_how_it_is(question, address, expected_version, open_link)

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        """Run the command of its class."""
        health = self._health(device)
        if health is None or not health.command:
            return ""
        about = {
            "FIRMWARDEN_DEVICE": device.id,
            "FIRMWARDEN_LABEL": device.label,
            "FIRMWARDEN_CLASS": device.device_class,
            "FIRMWARDEN_PORT": str(address),
            "FIRMWARDEN_VERSION": expected_version,
        }
        heard = await hear_program(health.command, timeout_s=health.timeout, extra_env=about)
        wrong = heard.wrong and f"{health.command[0]}: {heard.wrong}"
        if not heard.started:
            raise CannotTell(wrong)
        return wrong

    def _health(self, device: Device) -> cfg.Health | None:
        device_class = self._classes().get(device.device_class)
        return None if device_class is None else device_class.health
