"""Units that were brought into their loader and left there with all that they ran: they are not left dark."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import Refused
from firmwarden.model import CauseCode, JobState, Outcome, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.policy import Budgets
from support.house import PANEL, content, living, states, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, must_wait
from support.usb_house import UsbHouse, UsbHouseByPort, place_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.anyio

LATER_S = 600.0
KILLED = Play(at=Step.PROBE, hangs=True, deaf=True)
"""The host dies when the unit has come into its loader, and nothing is erased yet."""
BOTH = pytest.mark.parametrize("make", [UsbHouse, UsbHouseByPort], ids=["by serial number", "by port"])


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


@asynccontextmanager
async def plugged(
    units: Mapping[str, Unit],
    *versions: str,
    make: type[UsbHouse] = UsbHouse,
    path: Path | None = None,
    policy: ClassPolicy | None = None,
) -> AsyncGenerator[UsbHouse]:
    """Start the service around units that are seen again and again."""
    policies = [policy or ClassPolicy(name=PANEL, settles_s=15.0)]
    async with (
        living(units, *versions, make=make, path=path, policies=policies) as house,
        anyio.create_task_group() as tasks,
    ):
        assert isinstance(house, UsbHouse)
        tasks.start_soon(house.watch)
        yield house
        tasks.cancel_scope.cancel()


def of_two() -> Unit:
    """Make a unit that the service has updated to 2.0.0 before it lets one go wrong."""
    unit = Unit()
    unit.detaches = True
    return unit


async def left_by_a_kill(unit: Unit, path: Path, make: type[UsbHouse] = UsbHouse) -> None:
    """Update a unit to 2.0.0, and let the host die when 3.0.0 has just brought it into its loader."""
    async with plugged({"panel-1": unit}, "2.0.0", make=make, path=path) as house:
        await house.quiet(10.0)
        assert unit.runs == content("2.0.0")
        await anyio.sleep(10.0)
        assert not (await house.device("panel-1")).entered, "it was seen running since"
        unit.script.append(KILLED)
        house.drop("2.0.0", "3.0.0")
        await house.until_running("panel-1")
        await anyio.sleep(10.0)
        assert (await house.device("panel-1")).entered, "on disk before the host dies"
    assert not unit.runs
    assert unit.flash == content("2.0.0")


@BOTH
async def test_inv5_it_starts_what_it_holds_when_what_brought_it_there_is_withdrawn(
    tmp_path: Path, make: type[UsbHouse]
) -> None:
    unit = of_two()
    await left_by_a_kill(unit, tmp_path / "state.db", make)
    erases = unit.erases
    async with plugged({"panel-1": unit}, "2.0.0", make=make, path=tmp_path / "state.db") as house:
        await house.quiet(10.0)
        assert unit.runs == content("2.0.0")
        assert (unit.erases, unit.was_entered[-1]) == (erases, True)
        assert states(await house.jobs("panel-1")) == [
            JobState.SUCCEEDED,
            JobState.SUPERSEDED,
            JobState.SUCCEEDED,
        ]
        await anyio.sleep(LATER_S)
        device = await house.device("panel-1")
        assert (device.entered, device.running_version) == (False, "2.0.0")
        assert len(await house.jobs("panel-1")) == 3


async def test_why_does_not_say_that_it_runs_what_it_should(tmp_path: Path) -> None:
    unit = of_two()
    await left_by_a_kill(unit, tmp_path / "state.db")
    async with plugged({"panel-1": unit}, path=tmp_path / "state.db") as house:
        await anyio.sleep(LATER_S)
        id_ = (await house.device("panel-1")).id
        view = await house.desk.why(id_)
        assert view["runs"].startswith("Nothing: it is in its loader; before that 2.0.0 (")
        assert view["should_run"].startswith(
            "Nothing new: it waits in its loader; by what is recorded, no release"
        )
        assert view["next"].startswith("Nothing by itself: it waits in its loader.")
        house.drop("2.0.0")
        await house.quiet(10.0)
        assert unit.runs == content("2.0.0")
        await anyio.sleep(10.0)
        assert "runs what it should" in (await house.desk.why(id_))["next"]


async def test_a_unit_that_somebody_else_brought_into_its_loader_is_left_to_them() -> None:
    unit = of_two()
    async with plugged({"panel-1": unit}, "2.0.0") as house:
        await house.quiet(10.0)
        await anyio.sleep(10.0)
        unit.enter()
        await anyio.sleep(LATER_S)
        assert unit.runs is None
        assert len(await house.jobs("panel-1")) == 1
        view = await house.desk.why((await house.device("panel-1")).id)
        assert view["should_run"].startswith(
            "Nothing new: it waits in its loader; by what is recorded, 2.0.0 is"
        )
        unit.put_back()
        await anyio.sleep(10.0)
        view = await house.desk.why((await house.device("panel-1")).id)
        assert view["next"] == "Nothing: the device runs what it should."


async def test_what_cannot_be_written_now_does_not_keep_it_dark(tmp_path: Path) -> None:
    """Nor does the unit oscillate between the two releases."""
    unit = of_two()
    policy = ClassPolicy(
        name=PANEL, budgets=Budgets(attempts=2, back_off_s=2.0, again_after_s=LATER_S), settles_s=15.0
    )
    async with plugged({"panel-1": unit}, "2.0.0", policy=policy, path=tmp_path / "state.db") as house:
        await house.quiet(10.0)
        await anyio.sleep(10.0)
        unit.script.extend([fails(CauseCode.LINK_LOST, Step.PROBE)] * 2)
        house.drop("2.0.0", "3.0.0")
        await anyio.sleep(LATER_S / 2)
        assert unit.runs == content("2.0.0")
        assert states(await house.jobs("panel-1")) == [
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.SUCCEEDED,
        ]
        await anyio.sleep(LATER_S)
        assert unit.runs == content("3.0.0"), "it is tried again later"


async def test_a_start_that_failed_may_be_tried_again_by_a_person(tmp_path: Path) -> None:
    unit = of_two()
    await left_by_a_kill(unit, tmp_path / "state.db")
    unit.script.append(fails(CauseCode.NOT_AUTHORIZED, Step.PROBE))
    async with plugged({"panel-1": unit}, "2.0.0", path=tmp_path / "state.db") as house:
        await anyio.sleep(LATER_S)
        id_ = (await house.device("panel-1")).id
        assert (await house.job("panel-1")).state is JobState.FAILED
        await house.desk.clear(id_, who="ann")
        await house.desk.retry(id_, who="ann")
        await house.quiet(10.0)
        assert unit.runs == content("2.0.0")


async def test_inv5_that_it_was_brought_there_survives_a_claim_that_is_taken_back() -> None:
    unit = of_two()
    unit.script.append(must_wait(left_in_loader=True))
    async with plugged({"panel-1": unit}, "2.0.0") as house:
        await anyio.sleep(LATER_S)
        assert (await house.job("panel-1")).attempts == 0
        assert (await house.device("panel-1")).entered
        assert unit.runs is None
        await house.desk.retry((await house.device("panel-1")).id, who="ann")
        await house.quiet(10.0)
        assert unit.was_entered == [False, True]
        assert unit.runs == content("2.0.0")


async def test_a_doubt_about_its_class_does_not_keep_it_dark(tmp_path: Path) -> None:
    """Its driver starts it again, and then it waits."""
    unit = of_two()
    await left_by_a_kill(unit, tmp_path / "state.db")
    unit.script.append(must_wait())
    policy = ClassPolicy(name=PANEL, settles_s=15.0, doubt="its class does not say what it relies on")
    async with plugged({"panel-1": unit}, "3.0.0", path=tmp_path / "state.db", policy=policy) as house:
        await anyio.sleep(LATER_S)
        assert unit.runs == content("2.0.0")
        assert not (await house.device("panel-1")).entered
        (wait,) = house.warden.agenda.waits.values()
        assert (wait.kind, wait.detail) == (WaitKind.FAILSAFE, policy.doubt)


async def test_inv4_a_person_may_say_that_a_loader_is_that_of_a_unit_that_ran() -> None:
    """One that was left half done is missing, and it may be that."""
    lost, here = Unit(script=[fails(CauseCode.LINK_LOST)]), of_two()
    async with plugged({"panel-1": lost, "panel-3": here}, "2.0.0") as house:
        await house.until(
            lambda ledger: any(one.outcome is Outcome.FAILED for one in ledger.attempts(None, 9))
        )
        await house.unplug("panel-1")
        await house.quiet_but_absent()
        await anyio.sleep(10.0)
        assert (lost.flash, here.runs) == (PARTIAL, content("2.0.0"))
        assert not house.registry.conflicts_of_known, "its own way through its loader is no riddle"
        here.enter()
        await anyio.sleep(LATER_S)
        riddle = house.registry.conflicts[0]
        ids = [(await house.device(name)).id for name in ("panel-1", "panel-3")]
        assert riddle.devices == tuple(sorted(ids))
        with pytest.raises(Refused, match=f"if this is it, `firmwarden adopt {place_of(3)} {ids[1]}`"):
            await house.desk.why(place_of(3))
        await house.desk.adopt(place_of(3), old=ids[1], running=None, who="ann")
        await anyio.sleep(60.0)
        assert not house.registry.conflicts_of_known
        assert here.runs == content("2.0.0"), "it was started"
        (wait,) = house.warden.agenda.waits.values()
        assert wait.kind is WaitKind.ABSENT
