"""Probation: for how long a unit has to be here and well after its update, and what counts as that."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import StoreError
from firmwarden.model import CauseCode, JobState, LatchScope, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import VANISHES_AT_MOST
from firmwarden.service.shelf import Shelf
from support.house import PANEL, VirtualClock, content, living, release, virtual_time
from support.probation import POLICY, SOAK_S, good_with, on_probation, probation
from support.scripted import Unit

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def test_a_unit_is_good_when_it_has_been_here_and_well_for_long_enough() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        assert (await house.job("panel-1")).state is JobState.SUCCEEDED, "the update itself is over"
        await anyio.sleep(SOAK_S - 60.0)
        device = await house.device("panel-1")
        assert (device.good, await probation(house) is not None) == (None, True)
        await anyio.sleep(61.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert device.good.image == release("2.0.0").image
        assert await probation(house) is None


async def test_the_floor_is_raised_when_it_kept_well_and_not_before() -> None:
    async with living({"panel-1": Unit()}, policies=[POLICY]) as house:
        house.shelf = Shelf(releases=(release("2.0.0", sequence=7),))
        house.warden.shelve(house.shelf.releases)
        await house.quiet()
        assert (await house.device("panel-1")).floor is None
        await anyio.sleep(SOAK_S + 60.0)
        assert (await house.device("panel-1")).floor == 7


async def test_without_a_rule_the_confirmation_is_enough() -> None:
    async with living({"panel-1": Unit()}) as house:
        house.shelf = Shelf(releases=(release("2.0.0", sequence=7),))
        house.warden.shelve(house.shelf.releases)
        await house.quiet()
        device = await house.device("panel-1")
        assert device.good is not None
        assert (device.good.version, device.floor, await probation(house)) == ("2.0.0", 7, None)


async def test_a_rule_that_a_reload_takes_away_ends_what_it_began() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        house.warden.poke()
        await anyio.sleep(1.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert await probation(house) is None


async def test_time_away_is_no_time_of_being_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2)
        await house.unplug("panel-1")
        await anyio.sleep(50.0)
        await house.plug("panel-1")
        await anyio.sleep(SOAK_S / 2 - 20.0)
        assert await probation(house) is not None
        await anyio.sleep(30.0)
        assert await probation(house) is None


async def test_a_unit_that_does_not_come_back_is_latched_and_goes_back_once_it_is_here(
    logs: list[MutableMapping[str, Any]],
) -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(55.0)
        assert await house.latches() == []
        await anyio.sleep(10.0)
        (latch,) = await house.latches()
        assert (latch.scope, latch.image, latch.cause.code) == (
            LatchScope.PAIR,
            release("2.0.0").image,
            CauseCode.UNHEALTHY,
        )
        assert latch.cause.detail == "it is not here, and has been so for 60 s"
        assert latch.attempt is not None
        assert [wait.kind for wait in house.warden.agenda.waits.values()] == [WaitKind.ABSENT]
        await anyio.sleep(3_600.0)
        assert unit.runs == content("2.0.0")
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("1.0.0")
        failed = [entry for entry in logs if entry["event"] == "probation-failed"]
        assert [entry["release"] for entry in failed] == ["2.0.0"]
        # It is on record for good: a latch goes when somebody lifts it, and the attempt was a success.
        id_ = (await house.device("panel-1")).id
        (act,) = await house.store.run(lambda ledger: ledger.actions(10, id_))
        assert (act.who, act.what) == ("the daemon", "probation-failed")
        assert act.detail == "2.0.0: it is not here, and has been so for 60 s"


async def test_a_unit_that_comes_and_goes_is_not_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(10.0)
        for _ in range(VANISHES_AT_MOST):
            await house.unplug("panel-1")
            await anyio.sleep(10.0)
            await house.plug("panel-1")
            await anyio.sleep(10.0)
        assert await house.latches() == []
        await house.unplug("panel-1")
        await anyio.sleep(1.0)
        (latch,) = await house.latches()
        assert latch.cause.detail == "it came and went 4 times; it is not here"


async def test_another_update_overtakes_a_probation() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "1.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2)
        await on_probation(house)
        await anyio.sleep(SOAK_S - 60.0)
        standing = await probation(house)
        assert standing is not None
        assert standing.version == "2.0.0"
        await anyio.sleep(120.0)
        device = await house.device("panel-1")
        assert device.good is not None
        assert (device.good.version, device.good_before) == ("2.0.0", None)
        counted = (await house.store.run(lambda ledger: ledger.counted(0.0))).probations
        assert {row.outcome: row.probations for row in counted} == {"overtaken": 1, "passed": 1}


async def test_a_person_s_word_overtakes_a_probation() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        await house.desk.adopt(id_, old=None, running="9.0.0", who="ann")
        await anyio.sleep(60.0)
        assert await probation(house) is None
        assert (await house.device("panel-1")).good is None


async def test_inv5_a_soak_goes_on_after_a_restart(tmp_path: Path) -> None:
    unit = Unit()
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY], path=tmp_path / "db") as house:
        await house.quiet()
        await anyio.sleep(SOAK_S / 2 + 60.0)
    async with living({"panel-1": unit}, "2.0.0", policies=[POLICY], path=tmp_path / "db") as house:
        await anyio.sleep(SOAK_S / 2 - 60.0)
        assert await probation(house) is not None
        await anyio.sleep(120.0)
        assert await probation(house) is None


@pytest.mark.parametrize("looked_s", range(0, 30, 7))
async def test_inv2_time_in_which_no_scan_can_be_recorded_is_not_held_against_a_unit(looked_s: int) -> None:
    full = False

    def before_commit() -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")

    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY], before_commit=before_commit) as house:
        await house.quiet()
        await anyio.sleep(60.0 + looked_s)
        await house.unplug("panel-1")
        await anyio.sleep(5.0)
        full = True
        with pytest.raises(StoreError):
            await house.plug("panel-1")
        await anyio.sleep(SOAK_S)
        full = False
        await anyio.sleep(30.0)
        await house.scan()
        await anyio.sleep(60.0)
        assert await house.latches() == []
        standing = await probation(house)
        assert standing is not None, "nor is it time of being well"
        await anyio.sleep(SOAK_S)
        assert await probation(house) is None


async def test_suspend_and_set_clocks_are_no_time_of_being_well() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        assert isinstance(house.clock, VirtualClock)
        house.clock.suspend(86_400.0)
        house.clock.set(7 * 86_400.0)
        await anyio.sleep(SOAK_S - 120.0)
        assert await probation(house) is not None
        house.clock.set(-14 * 86_400.0)
        await anyio.sleep(180.0)
        assert await probation(house) is None
