"""What follows when a person lifts the latch of a unit that did not keep well with what it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.model import CauseCode, JobState
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from firmwarden.service.rollout import Rule, Stage
from support.house import PANEL, content, living, release, virtual_time
from support.scripted import Unit

if TYPE_CHECKING:
    from firmwarden.model import DeviceId, Probation
    from support.house import House

pytestmark = pytest.mark.anyio

SOAK_S = 600.0
POLICY = ClassPolicy(name=PANEL, health=HealthRule(soak_s=SOAK_S, return_within_s=60.0))


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def fall_ill(house: House, name: str = "panel-1") -> DeviceId:
    """Let a unit stay away for longer than it may after its update, and be latched for that; return its id."""
    await anyio.sleep(30.0)
    await house.unplug(name)
    await anyio.sleep(100.0)
    await house.plug(name)
    await anyio.sleep(30.0)
    (latch,) = await house.latches()
    assert latch.cause.code is CauseCode.UNHEALTHY
    return (await house.device(name)).id


async def probation(house: House, name: str = "panel-1") -> Probation | None:
    id_ = (await house.device(name)).id
    return await house.store.run(lambda ledger: ledger.probation(id_))


async def test_inv2_a_unit_that_runs_it_has_to_show_anew_that_it_keeps_well() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY]) as house:
        id_ = await fall_ill(house)
        said = await house.desk.clear(id_, who="ann")
        assert said == f"1 latch lifted; {id_} runs the image, and on probation shows anew how well"
        (view,) = await house.desk.devices()
        assert (view["latched"], view["good_version"]) == (False, None)
        assert view["probation"] is not None
        await anyio.sleep(SOAK_S - 60.0)
        assert (await house.device("panel-1")).good is None
        await anyio.sleep(120.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert good.image == release("2.0.0").image
        assert unit.attempts == 1


async def test_inv3_one_that_is_still_ill_is_latched_again() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        id_ = await fall_ill(house)
        await house.desk.clear(id_, who="ann")
        assert await house.latches() == []
        assert await fall_ill(house) == id_
        assert await probation(house) is None


async def test_inv2_a_canary_whose_latch_was_lifted_does_not_count_as_well_before_it_is() -> None:
    rule = Rule(first=1, soak_s=60.0, waves=(100,), stop_at=1)
    policies = [replace(POLICY, rollout=rule)]
    async with living({"panel-1": Unit(), "panel-2": Unit()}, "2.0.0", policies=policies) as house:
        await anyio.sleep(30.0)
        canary = "panel-1" if await probation(house, "panel-1") is not None else "panel-2"
        id_ = await fall_ill(house, canary)
        await house.desk.clear(id_, who="ann")
        await anyio.sleep(60.0)
        (progress,) = house.warden.agenda.rollouts
        assert {member.device: member.stage for member in progress.members}[id_] is Stage.PROVING


async def test_one_that_runs_something_else_by_now_is_tried_again_by_a_retry() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY]) as house:
        id_ = await fall_ill(house)
        house.drop("3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")
        assert await house.desk.clear(id_, who="ann") == (
            f"1 latch lifted; `firmwarden retry {id_}` tries the image again"
        )
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED
        overtaking = await probation(house)
        assert overtaking is not None
        assert overtaking.version == "3.0.0", "its own probation goes on"
