"""Units on probation, and who is asked how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from support.house import PANEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmwarden.model import Address, Device, Probation
    from support.house import House

SOAK_S: Final = 600.0
RULE: Final = HealthRule(soak_s=SOAK_S, return_within_s=60.0)
POLICY: Final = ClassPolicy(name=PANEL, health=RULE, roll_back=True)


async def probation(house: House, name: str = "panel-1") -> Probation | None:
    id_ = (await house.device(name)).id
    return await house.store.run(lambda ledger: ledger.probation(id_))


async def good_with(house: House, version: str = "1.0.0", *names: str) -> None:
    """Let units be given a version and keep well with it."""
    house.drop(version)
    await house.quiet()
    await anyio.sleep(SOAK_S + 60.0)
    for name in names or ("panel-1",):
        device = await house.device(name)
        assert device.good is not None
        assert (device.running_version, device.good.version) == (version, version)
        assert await probation(house, name) is None


async def on_probation(house: House, version: str = "2.0.0") -> None:
    """Let a unit be given one more, of which nobody knows yet."""
    house.drop("1.0.0", version)
    await house.quiet()
    assert (await house.device("panel-1")).running_version == version
    assert await probation(house) is not None


class Examined:
    """Answers for units that are asked how they are, and for the operator's command."""

    def __init__(
        self, *, asked: list[str | Exception] | None = None, ran: Sequence[str | Exception] = ()
    ) -> None:
        self.answers = {"ask": asked or [], "run": list(ran)}
        self.done: list[tuple[str, str]] = []

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address
        return await self._answer("ask", expected_version)

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address
        return await self._answer("run", expected_version)

    async def _answer(self, what: str, expected_version: str) -> str:
        self.done.append((what, expected_version))
        await anyio.sleep(1.0)
        answer = self.answers[what].pop(0) if self.answers[what] else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


def asking(*, asks: bool = False, runs: bool = False, roll_back: bool = True) -> ClassPolicy:
    rule = HealthRule(soak_s=SOAK_S, return_within_s=60.0, asks=asks, runs=runs)
    return ClassPolicy(name=PANEL, health=rule, roll_back=roll_back)


def examining(examined: Examined) -> Callable[[House], None]:
    def change(house: House) -> None:
        house.warden.aftercare.examine = examined

    return change


ILL: Final = ["a", "b", "exit status 1: no heartbeat"]
"""A command that fails however often it is run."""
