"""A unit that a reload gives another identity while it is spoken to: nobody speaks to it twice at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import ClassName, JobState, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from support.house import PANEL, content, living, virtual_time
from support.scripted import Play, Unit

if TYPE_CHECKING:
    from firmwarden.model import Address, Device
    from support.house import House

pytestmark = pytest.mark.anyio

MOTOR: Final = ClassName("motor")
SOAK_S: Final = 600.0
WRITES: Final = Play(at=Step.WRITE, seconds=60.0)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


class Slow:
    """Waits for the answer of a unit until it is told not to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = anyio.Event()

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address, expected_version
        self.asked += 1
        await self.answers.wait()
        return ""

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        raise NotImplementedError


async def reload(house: House, policy: ClassPolicy) -> None:
    """Call the one class by another name, as ``Daemon._reload`` does."""
    name = ClassName(policy.name)
    house.warden.configure({name: policy}, 16, {})
    house.registry.configure([replace(house.rules[0], name=name)], {})
    await house.scan()


def checked(name: str) -> ClassPolicy:
    return ClassPolicy(name=name, health=HealthRule(soak_s=SOAK_S, return_within_s=60.0, asks=True))


async def test_inv1_inv4_a_unit_is_not_written_to_under_another_name_while_it_is_written_to() -> None:
    unit = Unit(script=[WRITES])
    async with living({"panel-1": unit}, "2.0.0") as house:
        house.drop("2.0.0", device_class=MOTOR)
        await house.until_running("panel-1")
        first = (await house.device("panel-1")).id
        await anyio.sleep(70.0)
        assert (unit.attempts, unit.erases) == (1, 1)
        await reload(house, ClassPolicy(name=MOTOR))
        await house.planned()
        (wait,) = house.warden.agenda.waits.values()
        assert wait.kind is WaitKind.PORT_HELD
        assert wait.detail == f"its port is held by Firmwarden itself, which speaks to {first} there"
        await anyio.sleep(60.0)
        assert (unit.attempts, unit.erases) == (1, 1)
        await house.quiet(600.0)
        assert unit.started == [content("2.0.0"), content("2.0.0", MOTOR)]
        assert unit.erases == 2


async def test_inv4_a_unit_is_not_written_to_under_another_name_while_it_is_asked() -> None:
    unit = Unit()
    slow = Slow()
    async with living({"panel-1": unit}, "2.0.0", policies=[checked(PANEL)]) as house:
        house.warden.aftercare.examine = slow
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        assert slow.asked == 1
        house.drop("2.0.0", device_class=MOTOR)
        await reload(house, ClassPolicy(name=MOTOR))
        await anyio.sleep(600.0)
        assert unit.attempts == 1
        slow.answers.set()
        await house.quiet(600.0)
        assert unit.runs == content("2.0.0", MOTOR)


async def test_inv4_a_unit_is_not_asked_under_another_name_while_it_is_written_to() -> None:
    unit = Unit()
    slow = Slow()
    slow.answers.set()
    async with living({"panel-1": unit}, "2.0.0", policies=[checked(PANEL)]) as house:
        house.warden.aftercare.examine = slow
        await house.quiet()
        await anyio.sleep(SOAK_S - 20.0)
        unit.script.append(WRITES)
        house.drop("2.0.0", device_class=MOTOR)
        await reload(house, ClassPolicy(name=MOTOR))
        await anyio.sleep(70.0)
        assert unit.runs is None, "it is being written"
        await reload(house, checked(PANEL))
        await anyio.sleep(60.0)
        assert (unit.runs, slow.asked) == (None, 0)
        await house.until(
            lambda ledger: [job.state for job in ledger.jobs(limit=1)] == [JobState.SUCCEEDED], 600.0
        )
        await anyio.sleep(SOAK_S)
        assert slow.asked == 1
