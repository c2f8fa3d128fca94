"""Units that are USB devices: through their loader and back, cut half-way, moved, and finished by themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import NotFound, Refused
from firmwarden.model import CauseCode, ClassName, CommitMark, JobState, Outcome, Phase, WaitKind
from firmwarden.service.desired import ClassPolicy
from support.house import content, living, states, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, must_wait
from support.usb_house import UsbHouse, UsbHouseByPort, place_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from support.house import House

pytestmark = pytest.mark.anyio

CUT = Play(at=Step.WRITE, hangs=True, deaf=True)
POLICIES = [ClassPolicy(name="panel"), ClassPolicy(name="stranger")]
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
    policies: Sequence[ClassPolicy] = (ClassPolicy(name="panel"),),
) -> AsyncGenerator[UsbHouse]:
    """Start the service around units that are seen again and again."""
    async with (
        living(units, *versions, make=make, path=path, policies=policies) as house,
        anyio.create_task_group() as tasks,
    ):
        assert isinstance(house, UsbHouse)
        tasks.start_soon(house.watch)
        yield house
        tasks.cancel_scope.cancel()


async def cut_half_way(unit: Unit, path: Path, *, make: type[UsbHouse] = UsbHouse) -> None:
    """Let the host die when the unit is erased and nothing is written yet."""
    unit.script.appendleft(CUT)
    async with plugged({"panel-1": unit}, "2.0.0", make=make, path=path) as house:
        await house.until(lambda ledger: any(one.phase is Phase.WRITING for one in ledger.running_attempts()))
        await anyio.sleep(10.0)
    assert (unit.flash, unit.runs) == (PARTIAL, None)


def unplug_all(house: House) -> None:
    house.plugged.clear()


async def test_a_unit_goes_through_its_loader_and_back_as_one(logs: list[MutableMapping[str, Any]]) -> None:
    units = {"panel-1": Unit(script=[Play(seconds=5.0)]), "panel-2": Unit()}
    async with plugged(units, "2.0.0") as house:
        await house.quiet(120.0)
        await anyio.sleep(10.0)
        assert states(await house.jobs("panel-1")) == [JobState.SUCCEEDED]
        assert len(await house.store.run(lambda ledger: ledger.devices())) == 2
        assert house.registry.conflicts == ()
    events = {entry["event"] for entry in logs}
    assert events.isdisjoint({"device-conflict", "attempt-failed", "device-gone", "device-appeared"})


@pytest.mark.parametrize(
    ("end", "told_at_once"),
    [(fails(CauseCode.LINK_LOST, Step.PROBE), True), (must_wait(), False)],
    ids=["lost", "sent back"],
)
async def test_inv2_a_unit_that_does_not_come_back_is_told_to_be_gone_when_that_is_over(
    logs: list[MutableMapping[str, Any]],
    end: Play,
    told_at_once: bool,
) -> None:
    unit = Unit(script=[replace(end, seconds=5.0)])
    policies = [ClassPolicy(name="panel", settles_s=15.0)]

    def told() -> bool:
        return "device-gone" in [entry["event"] for entry in logs]

    async with plugged({"panel-1": unit}, policies=policies) as house:
        house.drop("2.0.0")
        await house.until_running("panel-1")
        house.plugged.clear()
        await anyio.sleep(4.0)
        assert not house.registry.plugged_at
        assert not told()
        await anyio.sleep(4.0)
        assert told() is told_at_once
        await anyio.sleep(15.0)
        assert told()


@BOTH
@pytest.mark.parametrize(
    ("versions", "ended"),
    [
        (["2.0.0"], []),
        (["2.0.0", "3.0.0"], [JobState.SUPERSEDED]),
        (["1.0.0"], [JobState.SUPERSEDED]),
    ],
    ids=["the same release", "a newer one", "only an older one"],
)
async def test_inv5_what_was_cut_half_way_is_finished_at_the_next_start(
    tmp_path: Path, make: type[UsbHouse], versions: list[str], ended: list[JobState]
) -> None:
    unit = Unit()
    await cut_half_way(unit, tmp_path / "state.db", make=make)
    async with plugged({"panel-1": unit}, *versions, make=make, path=tmp_path / "state.db") as house:
        await house.quiet(1.0)
        assert unit.runs == content(versions[-1])
        assert states(await house.jobs("panel-1")) == [*ended, JobState.SUCCEEDED]
        first, second = await house.attempts("panel-1")
        assert (first.outcome, second.outcome) == (Outcome.INTERRUPTED, Outcome.SUCCEEDED)
        *_, left = unit.left
        assert left is not None
        assert (left.id, left.mark) == (first.id, CommitMark(b"factory ", content("2.0.0")[:8]))
        assert (await house.device("panel-1")).serial == "1"


async def test_why_says_that_a_unit_waits_in_its_loader_for_a_release(tmp_path: Path) -> None:
    unit = Unit()
    await cut_half_way(unit, tmp_path / "state.db")
    async with plugged({"panel-1": unit}, path=tmp_path / "state.db") as house:
        await house.planned()
        view = await house.desk.why((await house.device("panel-1")).id)
        assert view["device"]["present"]
        assert "waits in its loader" in view["next"]
        house.drop("1.0.0")
        await house.quiet(1.0)
        assert unit.runs == content("1.0.0")


async def test_inv4_a_loader_at_another_place_is_nobodys_until_it_is_plugged_in_where_it_was(
    tmp_path: Path,
) -> None:
    unit = Unit()
    await cut_half_way(unit, tmp_path / "state.db")
    async with living(
        {"panel-1": unit}, "2.0.0", make=UsbHouse, path=tmp_path / "state.db", change=unplug_all
    ) as house:
        assert isinstance(house, UsbHouse)
        await house.move("panel-1", 4)
        await anyio.sleep(3_600.0)
        (wait,) = house.warden.agenda.waits.values()
        assert wait.kind is WaitKind.IDENTITY
        assert f"at {place_of(1)}: plug it in there again" in wait.detail
        id_ = (await house.device("panel-1")).id
        assert (await house.desk.why(id_))["commands"][0] == f"firmwarden adopt {place_of(4)} {id_}"
        assert (await house.desk.status())["waiting_for_you"] == 0, "it is one of the conflicts"
        await house.move("panel-1", 1)
        await house.quiet(1.0)
        assert unit.runs == content("2.0.0")


async def test_why_names_the_command_that_sets_what_a_unit_lacks() -> None:
    policies = [ClassPolicy(name="panel", provision="set it at {topology}")]
    async with plugged({"panel-1": Unit(script=[must_wait()])}, "2.0.0", policies=policies) as house:
        await anyio.sleep(10.0)
        id_ = (await house.device("panel-1")).id
        first, *_, last = (await house.desk.why(id_))["commands"]
        assert (first, last) == ("set it at 3-1.1", "systemctl reload firmwarden")
        house.plugged.clear()
        await anyio.sleep(10.0)
        assert "set it" not in " ".join((await house.desk.why(id_))["commands"])


@BOTH
async def test_inv4_a_person_may_say_whose_loader_it_is(tmp_path: Path, make: type[UsbHouse]) -> None:
    unit = Unit()
    await cut_half_way(unit, tmp_path / "state.db", make=make)
    units = {"panel-1": unit, "panel-2": Unit()}
    async with living(units, "2.0.0", make=make, path=tmp_path / "state.db", change=unplug_all) as house:
        assert isinstance(house, UsbHouse)
        id_ = (await house.device("panel-1")).id
        await house.plug("panel-2")
        other = (await house.device("panel-2")).id
        await house.move("panel-1", 4)
        await house.quiet_but_absent()
        with pytest.raises(NotFound):
            await house.desk.adopt(place_of(5), old=id_, running=None, who="ann")
        with pytest.raises(Refused, match=f"{other} is here itself"):
            await house.desk.adopt(place_of(4), old=other, running=None, who="ann")
        text = await house.desk.adopt(place_of(4), old=id_, running=None, who="ann")
        assert text == f"the loader at {place_of(4)} is that of {id_} from now on"
        await house.scan()
        await house.quiet(1.0)
        assert unit.runs == content("2.0.0")
        assert (await house.device("panel-1")).id == id_
        (action,) = await house.store.run(lambda ledger: ledger.actions(9, id_))
        assert (action.what, action.detail) == ("adopt", f"the loader at {place_of(4)}")


@BOTH
async def test_inv4_on_a_bench_a_loader_is_the_unit_that_was_plugged_in_last(make: type[UsbHouse]) -> None:
    units = {f"panel-{number}": Unit() for number in (1, 2, 3)}
    async with living(units, make=make) as house:
        assert isinstance(house, UsbHouse)
        house.places = dict.fromkeys(units, 1)
        for name in units:
            await house.plug_only(name)
        house.drop("2.0.0")
        units["panel-3"].script.append(CUT)
        await house.until_running("panel-3")
        await anyio.sleep(1.0)
        await house.scan()
        assert house.registry.conflicts == ()
        assert (await house.device("panel-3")).id in house.registry.plugged_at


async def test_inv4_a_unit_that_was_left_half_done_is_not_forgotten_for_the_next_in_its_place() -> None:
    units = {"panel-1": Unit(script=[fails(CauseCode.LINK_LOST)]), "panel-2": Unit()}
    async with living(units, "2.0.0", make=UsbHouse) as house:
        assert isinstance(house, UsbHouse)
        await house.plug_only("panel-1")
        await house.until(
            lambda ledger: any(one.outcome is Outcome.FAILED for one in ledger.attempts(None, 9))
        )
        await house.plug_only()
        house.places["panel-2"] = 1
        await house.plug_only("panel-2")
        await house.quiet_but_absent()
        assert units["panel-2"].runs == content("2.0.0")
        await house.plug_only("panel-1")
        (riddle,) = house.registry.conflicts
        assert len(riddle.devices) == 2
        await house.desk.adopt(place_of(1), old=(await house.device("panel-1")).id, running=None, who="ann")
        await house.scan()
        await house.quiet(60.0)
        assert units["panel-1"].runs == content("2.0.0")


async def test_inv4_a_loader_that_was_there_while_a_unit_ran_is_not_that_unit(
    logs: list[MutableMapping[str, Any]],
) -> None:
    """Nobody says it is, and once it was away for a moment somebody may again."""
    stranger = Unit()
    stranger.enter()
    units = {"panel-1": Unit(script=[fails(CauseCode.LINK_LOST)]), "panel-5": stranger}
    async with plugged(units, "2.0.0") as house:
        await house.until(
            lambda ledger: any(one.outcome is Outcome.FAILED for one in ledger.attempts(None, 9))
        )
        await house.unplug("panel-1")
        await house.quiet_but_absent()
        await anyio.sleep(10.0)
        (riddle,) = house.registry.conflicts
        assert (riddle.place, riddle.devices) == (place_of(5), ())
        assert [entry["event"] for entry in logs].count("device-conflict") == 1
        await house.unplug("panel-5")
        await house.plug("panel-5")
        (riddle,) = house.registry.conflicts
        assert riddle.devices == ((await house.device("panel-1")).id,)


async def test_inv4_a_unit_that_is_being_updated_is_looked_for_elsewhere_only_when_that_is_over() -> None:
    stranger = Unit()
    stranger.enter()
    units = {"panel-1": Unit(script=[replace(fails(CauseCode.LINK_LOST), seconds=30.0)]), "panel-5": stranger}
    async with plugged(units) as house:
        await house.unplug("panel-5")
        house.drop("2.0.0")
        await house.until(lambda ledger: any(one.phase is Phase.WRITING for one in ledger.running_attempts()))
        await house.unplug("panel-1")
        await house.plug("panel-5")
        (riddle,) = house.registry.conflicts
        assert riddle.devices == ()
        await house.until(
            lambda ledger: any(one.outcome is Outcome.FAILED for one in ledger.attempts(None, 9)), 600.0
        )
        await anyio.sleep(10.0)
        (riddle,) = house.registry.conflicts
        assert riddle.devices == ((await house.device("panel-1")).id,), "and nothing else has changed"


async def test_inv4_a_loader_is_not_that_of_a_unit_of_a_class_that_has_another() -> None:
    units = {"panel-1": Unit(), "stranger-2": Unit()}
    stranger = ClassName("stranger")
    async with living(units, make=UsbHouse, change=unplug_all, policies=POLICIES) as house:
        assert isinstance(house, UsbHouse)
        rules = [replace(rule, loader=None) if rule.name == stranger else rule for rule in house.rules]
        rules = [replace(rule, serial="2" if rule.name == stranger else "1") for rule in rules]
        house.registry.configure(rules, {})
        await house.plug("stranger-2")
        id_ = (await house.device("stranger-2")).id
        await house.unplug("stranger-2")
        units["panel-1"].erase()
        await house.plug("panel-1")
        with pytest.raises(
            Refused, match=f"{id_} is a stranger, and the loader at .* may be that of a panel"
        ):
            await house.desk.adopt(place_of(1), old=id_, running=None, who="ann")


async def test_inv2_a_unit_that_was_about_to_be_started_is_asked_and_told_what_was_written(
    tmp_path: Path,
) -> None:
    unit = Unit(script=[Play(at=Step.LEAVE, hangs=True, deaf=True, end="lost")])
    async with plugged({"panel-1": unit}, "2.0.0", path=tmp_path / "state.db") as house:
        await house.until(lambda ledger: any(one.phase is Phase.ENDING for one in ledger.running_attempts()))
        await anyio.sleep(10.0)
    assert unit.runs is None
    async with plugged({"panel-1": unit}, "2.0.0", path=tmp_path / "state.db") as house:
        await house.quiet(1.0)
        (attempt,) = await house.attempts("panel-1")
        assert attempt.outcome is Outcome.SUCCEEDED
        assert (unit.questions, unit.erases) == (1, 1)
        *_, left = unit.left
        assert left is not None
        assert (left.id, left.phase) == (attempt.id, Phase.ENDING)
        assert left.mark == CommitMark(b"factory ", content("2.0.0")[:8])


@pytest.mark.parametrize(
    "end",
    [Play(at=Step.WRITE, hangs=True, deaf=True), Play(at=Step.LEAVE, hangs=True, deaf=True, end="lost")],
)
async def test_inv4_a_person_may_vouch_for_a_unit_that_its_memory_does_not_tell(
    tmp_path: Path, end: Play
) -> None:
    unit = Unit(script=[end, must_wait(kind=WaitKind.IDENTITY)])
    unit.answers.append(must_wait(Step.CONFIRM, WaitKind.IDENTITY))
    async with plugged({"panel-1": unit}, "2.0.0", path=tmp_path / "state.db"):
        await anyio.sleep(60.0)
    async with plugged({"panel-1": unit}, "2.0.0", path=tmp_path / "state.db") as house:
        await anyio.sleep(3_600.0)
        id_ = (await house.device("panel-1")).id
        command = f"firmwarden adopt {place_of(1)} {id_}"
        assert command in (await house.desk.why(id_))["commands"]
        unit.script.clear()
        await house.desk.adopt(place_of(1), old=id_, running=None, who="ann")
        await house.quiet(10.0)
        assert unit.runs == content("2.0.0")
        left = unit.left[-1]
        assert left is not None
        assert left.vouched
