"""What a driver leaves to a person, and what it is told of the attempt before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, CommitMark, JobState, Outcome, Phase, Wait, WaitKind
from firmwarden.service.desired import ClassPolicy
from support.house import PANEL, content, living, virtual_time
from support.scripted import Play, Unit, fails, must_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from support.house import House

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
SETTLES_S = 20.0
SETTLES = [ClassPolicy(name=PANEL, settles_s=SETTLES_S)]
"""Units that come and go of themselves for some seconds."""


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def replug(house: House) -> None:
    await house.unplug("panel-1")
    await anyio.sleep(SETTLES_S)
    await house.plug("panel-1")


async def reconfigure(house: House) -> None:
    house.warden.configure(house.warden.planner.classes, 16, {})
    house.warden.poke()
    await anyio.lowlevel.checkpoint()


async def retry(house: House) -> None:
    text = await house.desk.retry((await house.device("panel-1")).id, who="ann")
    assert text == "job 1 is tried once more"


DECISIONS = {"plugged in anew": replug, "another configuration": reconfigure, "a retry": retry}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
async def test_what_a_driver_leaves_to_a_person_waits_for_the_person(
    decide: Callable[[House], Awaitable[None]],
) -> None:
    unit = Unit(script=[must_wait(), must_wait()])
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        await anyio.sleep(DAY_S)
        (wait,) = house.warden.agenda.waits.values()
        assert wait == Wait(kind=WaitKind.FAILSAFE, detail="the device does not have BFB2=1")
        assert unit.attempts == 1
        assert (await house.desk.status())["waiting_for_you"] == 1
        job = await house.job("panel-1")
        assert (job.state, job.attempts, job.cause) == (JobState.QUEUED, 0, None)
        assert await house.attempts("panel-1") == []
        assert house.conclusions == []
        await decide(house)
        await anyio.sleep(DAY_S)
        assert (unit.attempts, unit.erases) == (2, 0)
        await decide(house)
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert [attempt.number for attempt in await house.attempts("panel-1")] == [1]


async def test_a_device_that_comes_back_from_its_loader_by_itself_is_not_looked_at_again() -> None:
    """Else it would be sent there and back for ever."""
    unit = Unit(script=[must_wait()])
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        await anyio.sleep(1.0)
        await house.unplug("panel-1")
        await anyio.sleep(SETTLES_S / 2)
        await house.plug("panel-1")
        await anyio.sleep(DAY_S)
        assert unit.attempts == 1


@pytest.mark.parametrize("decide", [reconfigure, retry], ids=["another configuration", "a retry"])
async def test_a_unit_that_could_not_be_put_back_is_not_taken_down_by_each_power_cycle(
    decide: Callable[[House], Awaitable[None]],
) -> None:
    unit = Unit(script=[must_wait(left_in_loader=True)])
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        await anyio.sleep(DAY_S)
        await replug(house)
        await anyio.sleep(DAY_S)
        assert unit.attempts == 1
        (wait,) = house.warden.agenda.waits.values()
        assert "looked at again only when" in wait.detail
        await decide(house)
        await house.quiet()
        assert unit.runs == content("2.0.0")


async def test_what_was_left_to_a_person_is_looked_at_once_more_at_a_start(tmp_path: Path) -> None:
    unit = Unit(script=[must_wait(), must_wait()])
    for attempts in (1, 2):
        async with living({"panel-1": unit}, "2.0.0", policies=SETTLES, path=tmp_path / "state.db") as house:
            await anyio.sleep(DAY_S)
            assert unit.attempts == attempts
            (wait,) = house.warden.agenda.waits.values()
            assert wait.kind is WaitKind.FAILSAFE


async def test_inv2_a_question_that_is_left_to_a_person_settles_nothing() -> None:
    unit = Unit(script=[Play(end="lost")])
    unit.answers.append(must_wait(Step.CONFIRM, WaitKind.IDENTITY))
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        await anyio.sleep(DAY_S)
        (wait,) = house.warden.agenda.waits.values()
        assert (wait.kind, wait.until) == (WaitKind.IDENTITY, None)
        assert unit.questions == 1
        assert [attempt.outcome for attempt in await house.attempts("panel-1")] == [Outcome.UNKNOWN]
        await replug(house)
        await house.quiet()
        assert (unit.questions, unit.started) == (2, [content("2.0.0")])


async def test_a_driver_that_would_wait_after_its_first_erase_has_a_defect() -> None:
    unit = Unit(script=[must_wait(Step.WRITE)])
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        await house.quiet()
        first, second = await house.attempts("panel-1")
        assert first.cause is not None
        assert (first.outcome, first.cause.code) == (Outcome.FAILED, CauseCode.DEFECT)
        assert "would wait after its first erase: the device does not have BFB2=1" in first.cause.detail
        assert second.outcome is Outcome.SUCCEEDED


async def test_inv5_a_driver_is_told_what_was_left_unfinished(tmp_path: Path) -> None:
    unit = Unit(script=[Play(at=Step.WRITE, hangs=True, deaf=True), fails(CauseCode.NO_ANSWER, Step.PROBE)])
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES, path=tmp_path / "state.db") as house:
        await house.until_running("panel-1")
        await anyio.sleep(1.0)
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES, path=tmp_path / "state.db") as house:
        await house.quiet()
        cut, *_ = await house.attempts("panel-1")
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
    fresh, *again, later = unit.left
    assert (fresh, later) == (None, None)
    for found in again:
        assert found is not None
        assert (found.id, found.phase) == (cut.id, Phase.WRITING)
        assert found.mark == CommitMark(b"factory ", content("2.0.0")[:8])
    assert len(again) == 2


async def test_a_device_that_comes_and_goes_of_itself_is_not_asked_for_ever() -> None:
    """A question may have started what crashes and comes back to its loader."""
    unit = Unit(script=[Play(end="lost")])
    unit.answers.extend([Play(end="lost")] * 100)
    async with living({"panel-1": unit}, "2.0.0", policies=SETTLES) as house:
        asked = 0
        for _ in range(2_000):
            await anyio.sleep(10.0)
            if unit.questions > asked:
                asked = unit.questions
                await house.unplug("panel-1")
                await house.plug("panel-1")
        assert unit.questions == 5
