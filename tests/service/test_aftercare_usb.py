"""Probation of USB units, which show whether they run, tell what, and come up in their loader by themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.model import CauseCode, JobState
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from support.house import PANEL, content, living, release, states, virtual_time
from support.scripted import Unit
from support.usb_house import TellingUsbHouse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SOAK_S: Final = 600.0
RULE: Final = HealthRule(soak_s=SOAK_S, return_within_s=60.0, tells_version=True)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


@asynccontextmanager
async def on_probation(unit: Unit) -> AsyncGenerator[TellingUsbHouse]:
    """Let a unit be given 2.0.0, which has kept well with 1.0.0."""
    policies = [ClassPolicy(name=PANEL, settles_s=15.0, health=RULE, roll_back=True)]
    async with (
        living({"panel-1": unit}, "1.0.0", make=TellingUsbHouse, policies=policies) as house,
        anyio.create_task_group() as tasks,
    ):
        assert isinstance(house, TellingUsbHouse)
        tasks.start_soon(house.watch)
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert good.version == "1.0.0"
        house.drop("1.0.0", "2.0.0")
        await house.quiet()
        await anyio.sleep(30.0)
        yield house
        tasks.cancel_scope.cancel()


async def test_a_unit_that_tells_the_right_version_is_good() -> None:
    async with on_probation(unit := Unit()) as house:
        await anyio.sleep(SOAK_S + 60.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert (good.version, unit.erases) == ("2.0.0", 2)


async def test_a_unit_that_falls_back_by_itself_is_not_well_and_not_written_again() -> None:
    async with on_probation(unit := Unit()) as house:
        unit.runs = content("1.0.0")
        await anyio.sleep(600.0)
        (latch,) = await house.latches()
        assert (latch.image, latch.cause.code) == (release("2.0.0").image, CauseCode.UNHEALTHY)
        assert latch.cause.detail == "it says that it is 1.0.0, not 2.0.0"
        await anyio.sleep(86_400.0)
        assert (unit.runs, unit.erases) == (content("1.0.0"), 2)


async def test_a_unit_that_fell_back_while_nobody_looked_is_not_well_either(tmp_path: Path) -> None:
    policies = [ClassPolicy(name=PANEL, settles_s=15.0, health=RULE, roll_back=True)]
    unit = Unit()
    for found in ([], ["it says that it is 1.0.0, not 2.0.0"]):
        async with (
            living(
                {"panel-1": unit}, "2.0.0", make=TellingUsbHouse, policies=policies, path=tmp_path / "db"
            ) as house,
            anyio.create_task_group() as tasks,
        ):
            assert isinstance(house, TellingUsbHouse)
            tasks.start_soon(house.watch)
            await house.quiet()
            await anyio.sleep(60.0)
            assert [latch.cause.detail for latch in await house.latches()] == found
            tasks.cancel_scope.cancel()
        unit.runs = content("1.0.0")
    assert unit.erases == 1


async def test_a_unit_that_withdraws_into_its_loader_is_given_what_it_kept_well_with() -> None:
    async with on_probation(unit := Unit()) as house:
        unit.enter()
        await anyio.sleep(30.0)
        assert not unit.runs, "it may come back by itself"
        await anyio.sleep(60.0)
        assert unit.runs == content("1.0.0")
        (latch,) = await house.latches()
        assert latch.cause.detail.startswith("it is in its loader, and has been so for 6")
        await anyio.sleep(86_400.0)
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * 3
        assert unit.erases == 3


async def test_a_unit_whose_loader_comes_up_for_a_moment_is_left_to_itself() -> None:
    async with on_probation(unit := Unit()) as house:
        unit.enter()
        await anyio.sleep(30.0)
        unit.put_back()
        await anyio.sleep(SOAK_S + 60.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert (good.version, unit.erases) == ("2.0.0", 2)
