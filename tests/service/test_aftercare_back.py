"""Probation: units that do not keep well go back, and those that may not or cannot."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import Cause, CauseCode, JobState, LatchScope, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.policy import Budgets
from support.house import PANEL, content, living, release, states, virtual_time
from support.probation import (
    ILL,
    POLICY,
    SOAK_S,
    Examined,
    asking,
    examining,
    good_with,
    on_probation,
    probation,
)
from support.scripted import Unit, fails

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def test_it_goes_back_once_and_is_not_given_the_other_again() -> None:
    unit, examined = Unit(), Examined(ran=["", *ILL])
    async with living({"panel-1": unit}, policies=[asking(runs=True)], change=examining(examined)) as house:
        await good_with(house)
        await on_probation(house)
        await anyio.sleep(SOAK_S + 60.0)
        await house.quiet()
        assert unit.runs == content("1.0.0")
        device = await house.device("panel-1")
        assert device.good is not None
        assert device.good.version == "1.0.0"
        assert examined.done == [("run", "1.0.0"), *[("run", "2.0.0")] * 3]
        assert await probation(house) is not None, "what ails it may be the unit"
        await anyio.sleep(3 * 86_400.0)
        assert examined.done[4:] == [("run", "1.0.0")]
        assert await probation(house) is None
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED] * 3
        assert unit.attempts == 3
        (latch,) = await house.latches()
        assert (latch.cause.code, latch.cause.detail) == (CauseCode.UNHEALTHY, ILL[-1])


async def test_without_roll_back_it_stays_with_its_latch_until_there_is_a_newer_one() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[replace(POLICY, roll_back=False)]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await anyio.sleep(3_600.0)
        assert unit.runs == content("2.0.0")
        house.drop("1.0.0", "2.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")


async def test_where_nothing_good_is_known_it_stays_and_why_says_so() -> None:
    async with living({"panel-1": Unit()}, "2.0.0", policies=[POLICY]) as house:
        await house.quiet()
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await house.quiet()
        id_ = (await house.device("panel-1")).id
        why = await house.desk.why(id_)
        assert "nothing is known to which it could go back" in why["should_run"]
        assert why["next"].startswith("Nothing, until a person lifts the latch or another image is released.")
        assert f"firmwarden clear {id_}" in why["commands"]


async def test_a_unit_that_is_ill_with_its_good_image_too_is_left_alone_until_there_is_a_newer_one() -> None:
    unit, examined = Unit(), Examined(ran=["", "", *ILL, *ILL])
    policy = replace(asking(runs=True), allow_downgrade=True)
    async with living({"panel-1": unit}, policies=[policy], change=examining(examined)) as house:
        await good_with(house)
        house.drop("1.0.0", "2.0.0")
        await house.quiet()
        await anyio.sleep(SOAK_S + 60.0)
        house.drop("1.0.0", "2.0.0", "3.0.0")
        await house.quiet()
        await anyio.sleep(3 * SOAK_S)
        assert unit.runs == content("2.0.0")
        assert [latch.image for latch in await house.latches()] == [
            release("3.0.0").image,
            release("2.0.0").image,
        ]
        await anyio.sleep(3 * 86_400.0)
        assert (unit.runs, unit.attempts) == (content("2.0.0"), 4), (
            "no further back, though that may be given"
        )
        why = await house.desk.why((await house.device("panel-1")).id)
        assert (
            "2.0.0 did not keep well on it, with which it did before: it is left alone" in why["should_run"]
        )
        house.drop("1.0.0", "2.0.0", "3.0.0", "4.0.0")
        await house.quiet()
        assert unit.runs == content("4.0.0")


async def test_inv3_who_lifts_the_latch_has_to_say_that_it_is_to_be_tried_again() -> None:
    unit, examined = Unit(), Examined(ran=["", *ILL])
    async with living({"panel-1": unit}, policies=[asking(runs=True)], change=examining(examined)) as house:
        await good_with(house)
        await on_probation(house)
        await anyio.sleep(3 * SOAK_S)
        id_ = (await house.device("panel-1")).id
        await house.desk.clear(id_, who="ann")
        await anyio.sleep(86_400.0)
        assert unit.runs == content("1.0.0")
        why = await house.desk.why(id_)
        assert why["next"] == (
            "Nothing by itself: it was given 2.0.0 before, and that did not go well. "
            "A new release or a retry starts another job."
        )
        assert why["commands"] == [f"firmwarden retry {id_}"]
        await house.desk.retry(id_, who="ann")
        await house.quiet()
        assert unit.runs == content("2.0.0")
        await anyio.sleep(SOAK_S + 60.0)
        good = (await house.device("panel-1")).good
        assert good is not None
        assert good.version == "2.0.0", "whatever ailed it is mended"


async def test_whoever_pinned_it_has_chosen() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await house.desk.pin((await house.device("panel-1")).id, "2.0.0", who="ann")
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_wear_keeps_it_from_going_back_today() -> None:
    unit = Unit()
    policy = replace(POLICY, budgets=Budgets(erases_a_day=2))
    async with living({"panel-1": unit}, policies=[policy]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await anyio.sleep(60.0)
        assert [wait.kind for wait in house.warden.agenda.waits.values()] == [WaitKind.WEAR]
        await anyio.sleep(86_400.0)
        assert unit.runs == content("1.0.0")


async def test_a_way_back_that_fails_waits_for_a_person_or_something_newer() -> None:
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        unit.script.append(fails(CauseCode.NOT_AUTHORIZED, Step.PROBE))
        await house.plug("panel-1")
        await anyio.sleep(86_400.0)
        assert unit.runs == content("2.0.0")
        assert [latch.cause.code for latch in await house.latches()] == [
            CauseCode.UNHEALTHY,
            CauseCode.NOT_AUTHORIZED,
        ]
        why = await house.desk.why((await house.device("panel-1")).id)
        assert "nothing is known to which it could go back" in why["should_run"]
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
        assert unit.runs == content("3.0.0")


async def test_a_way_back_that_was_cut_goes_on_without_its_release() -> None:
    """Also when what it ran is erased by then, and nobody has the release any more."""
    unit = Unit()
    async with living({"panel-1": unit}, policies=[POLICY]) as house:
        await good_with(house)
        await on_probation(house)
        house.drop("2.0.0")
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        unit.script.extend([fails(CauseCode.LINK_LOST)] * 2)
        await house.plug("panel-1")
        await house.quiet()
        assert unit.runs == content("1.0.0")
        assert [attempt.version for attempt in await house.attempts("panel-1")][-3:] == ["1.0.0"] * 3


async def test_a_person_s_recall_takes_back_also_who_kept_well_and_where_the_class_does_not() -> None:
    units = {"panel-1": Unit(), "panel-2": Unit()}
    async with living(units, policies=[ClassPolicy(name=PANEL)]) as house:
        house.drop("1.0.0")
        await house.quiet()
        house.drop("1.0.0", "2.0.0")
        await house.quiet()
        cause = Cause(code=CauseCode.RECALLED, detail="ann: it forgets its calibration")
        image, now = release("2.0.0").image, house.clock.wall()
        await house.store.run(
            lambda ledger: ledger.latch(
                LatchScope.IMAGE, device=None, image=image, cause=cause, attempt=None, now=now
            )
        )
        await house.quiet()
        assert [unit.runs for unit in units.values()] == [content("1.0.0")] * 2
        await anyio.sleep(86_400.0)
        assert [unit.attempts for unit in units.values()] == [3, 3]
