"""Ports that somebody else has: off them while a device there is spoken to, and back whatever happens."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import StoreError
from firmwarden.model import Cause, CauseCode, ClassName, JobState, LatchScope, Wait, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.hand_over import AGAIN_FIRST_S
from firmwarden.service.port_owner import OwnerStays
from support.house import NOON, PANEL, House, content, living, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, held

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
    from pathlib import Path

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.model import Address, Device, Job

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


class Killed(BaseException):
    """The process is gone: nothing of it may do anything any more."""


class Guard:
    """Somebody who has the port, unless asked to leave it."""

    key = title = "guard.service"

    def __init__(self, *, here: bool = True) -> None:
        self.here = here
        self.asked: list[str] = []
        self.in_the_way: list[bool] = []
        self.wont_stop = self.wont_start = 0
        """How often it refuses yet."""
        self.takes_s = 0.0
        self.dead: Callable[[], bool] = lambda: False

    async def runs(self) -> bool:
        await self._asked("runs")
        return self.here

    async def stop(self) -> None:
        await self._asked("stop")
        if self.wont_stop:
            self.wont_stop -= 1
            raise OwnerStays("Access denied")
        self.here = False

    async def start(self) -> None:
        await self._asked("start")
        if self.wont_start:
            self.wont_start -= 1
            raise OwnerStays("no such file")
        self.here = True

    async def _asked(self, what: str) -> None:
        if self.dead():
            raise Killed
        self.asked.append(what)
        await anyio.sleep(self.takes_s)


class Watched(House):
    """Lets the guard note of each attempt and question whether it was there when that began."""

    def make_driver(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        owner = self.warden.owner(job.device_class)
        if isinstance(owner, Guard):
            owner.in_the_way.append(owner.here)
        return super().make_driver(job, device, address, journal)


@asynccontextmanager
async def guarded(
    guard: Guard, *units: Unit, path: Path | None = None, before_commit: Callable[[], None] | None = None
) -> AsyncGenerator[House]:
    """Start the service for units that share a guard, and a release for them."""
    async with living(
        {f"panel-{number}": unit for number, unit in enumerate(units, start=1)},
        "2.0.0",
        policies=[ClassPolicy(name=PANEL, hand_over=guard)],
        path=path,
        before_commit=before_commit,
        make=Watched,
    ) as house:
        yield house


async def stands(house: House) -> dict[str, float]:
    return await house.store.run(lambda ledger: ledger.handed_over())


async def until_back(house: House, guard: Guard, within_s: float = 600.0) -> None:
    await house.until(lambda ledger: guard.here and not ledger.handed_over(), within_s)


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ([], JobState.SUCCEEDED),
        ([fails(CauseCode.LINK_LOST)], JobState.SUCCEEDED),
        ([fails(CauseCode.WRITE_ERROR)], JobState.FAILED),
        ([Play(fails=RuntimeError("a defect of the driver"))], JobState.SUCCEEDED),
        ([held()], JobState.SUCCEEDED),
        ([Play(end="answer-lost")], JobState.SUCCEEDED),
    ],
)
async def test_an_owner_is_off_its_port_for_each_attempt_and_question_and_back_after_it(
    script: list[Play], state: JobState, logs: list[MutableMapping[str, Any]]
) -> None:
    guard, unit = Guard(), Unit(script=script)
    unit.tells = True
    async with guarded(guard, unit) as house:
        await house.quiet(3600.0)
        await until_back(house, guard)
        assert (await house.job("panel-1")).state is state
    times = len(guard.in_the_way)
    assert guard.in_the_way == [False] * times
    assert guard.asked == ["runs", "stop", "start"] * times
    told = [entry["event"] for entry in logs if entry["event"].startswith("port-")]
    assert told == ["port-lent", "port-returned"] * times


async def test_who_did_not_run_before_is_not_started_afterwards() -> None:
    guard = Guard(here=False)
    async with guarded(guard, Unit()) as house:
        await house.quiet()
        assert await stands(house) == {}
    assert guard.asked == ["runs"]


async def test_an_owner_of_several_ports_is_stopped_once_and_started_after_the_last() -> None:
    guard = Guard()
    units = [Unit(script=[Play(at=Step.WRITE, seconds=seconds)]) for seconds in (5.0, 20.0, 60.0)]
    async with guarded(guard, *units) as house:
        await house.quiet(600.0)
        await until_back(house, guard)
    assert guard.asked == ["runs", "stop", "start"]
    assert guard.in_the_way == [False] * 3
    assert [unit.runs for unit in units] == [content("2.0.0")] * 3


async def test_nothing_is_sent_to_a_device_whose_owner_does_not_leave(
    logs: list[MutableMapping[str, Any]],
) -> None:
    guard, unit = Guard(), Unit()
    guard.wont_stop = 3
    async with guarded(guard, unit) as house:
        await house.planned()
        await anyio.sleep(1.0)
        job = await house.job("panel-1")
        wait = house.warden.agenda.waits[job.id]
        assert wait.kind is WaitKind.PORT_HELD
        assert wait.detail == (
            "its port is held by guard.service, which cannot be made to leave: Access denied"
        )
        assert unit.attempts == 0
        assert guard.here
        began = house.clock.boot()
        await house.quiet(600.0)
        # The pause doubles: 2, 4 and 8 s.
        assert 12.0 < house.clock.boot() - began < 16.0
        assert len(await house.attempts("panel-1")) == 1, "waiting for a port is no attempt"
        assert unit.runs == content("2.0.0")
    # It may have stopped half, so it is started again each time.
    assert guard.asked == ["runs", "stop", "start"] * 4
    told = [entry["event"] for entry in logs if entry["event"].startswith("port-")]
    assert told == ["port-lent", "port-returned"], "who did not leave does not return"


@pytest.mark.parametrize("takes_s", [0.0, 0.5, 5.0])
async def test_an_owner_that_does_not_leave_is_asked_and_told_of_once_for_all_who_wait(
    logs: list[MutableMapping[str, Any]], takes_s: float
) -> None:
    guard = Guard()
    guard.takes_s, guard.wont_stop = takes_s, 3
    async with guarded(guard, Unit(), Unit()) as house:
        await house.quiet(600.0)
    assert guard.asked[:9] == ["runs", "stop", "start"] * 3
    assert guard.in_the_way == [False, False]
    waits = [entry["device"] for entry in logs if entry["event"] == "job-waiting"]
    assert len(waits) == len(set(waits)) == 2


async def test_who_cannot_be_asked_is_not_stopped() -> None:
    class Masked(Guard):
        async def runs(self) -> bool:
            await self._asked("runs")
            raise OwnerStays("systemd calls it masked")

    guard, unit = Masked(), Unit()
    async with guarded(guard, unit) as house:
        await house.planned()
        await anyio.sleep(1.0)
        assert await stands(house) == {}
    assert guard.asked == ["runs"]
    assert unit.attempts == 0


async def test_an_owner_comes_back_when_the_service_is_taken_down_in_the_middle() -> None:
    guard = Guard()
    async with guarded(guard, Unit(script=[Play(at=Step.WRITE, hangs=True, deaf=True)])) as house:
        await house.until_running("panel-1")
        assert not guard.here
        assert await stands(house) == {"guard.service": pytest.approx(NOON, abs=60.0)}
    assert guard.asked == ["runs", "stop", "start"]


async def test_an_owner_comes_back_when_the_service_is_taken_down_while_it_leaves() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit):
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
    assert guard.asked == ["runs", "stop", "start"]
    assert unit.attempts == 0


async def test_nothing_begins_when_a_stop_came_before_the_owner_had_left() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit) as house:
        await anyio.sleep(15.0)
        assert await house.warden.stop(60.0)
    assert guard.here
    assert unit.attempts == 0


async def test_inv8_what_is_withdrawn_before_the_owner_has_left_is_not_begun() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit) as house:
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
        house.drop()
        await until_back(house, guard)
        assert unit.attempts == 0
        assert (await house.job("panel-1")).state is JobState.CANCELLED


async def call_back(house: House) -> None:
    await house.desk.recall(PANEL, reason="it bricks", who="ann")


async def hold(house: House) -> None:
    await house.desk.hold((await house.device("panel-1")).id, reason="calibration", who="ann")


async def pin(house: House) -> None:
    await house.desk.pin((await house.device("panel-1")).id, "1.0.0", who="ann")


async def reload_with_doubt(house: House) -> None:
    policy = house.warden.planner.classes[PANEL]
    house.warden.configure({PANEL: replace(policy, doubt="nothing protects its units")}, 16, {})


@pytest.mark.parametrize("forbid", [call_back, hold, pin, reload_with_doubt])
async def test_what_is_forbidden_before_the_owner_has_left_is_not_begun(
    forbid: Callable[[House], Awaitable[None]],
) -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit) as house:
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
        await forbid(house)
        await until_back(house, guard)
        await anyio.sleep(600.0)
    assert unit.attempts == 0
    assert guard.asked == ["runs", "stop", "start"]


async def test_a_file_that_a_workload_makes_before_the_owner_has_left_holds_its_class() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    waits: dict[ClassName, Wait] = {}
    async with guarded(guard, unit) as house:
        # In the place of a look at the file, which takes a thread, and a thread no virtual time.
        house.warden.timekeeper.inhibitors.waits = lambda: dict(waits)  # type: ignore[method-assign]
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
        waits[PANEL] = Wait(kind=WaitKind.HOLD, detail="its class is held by ann with /run/busy: a show")
        await until_back(house, guard)
        await anyio.sleep(600.0)
        assert unit.attempts == 0
        waits.clear()
        await house.quiet(600.0)
        assert unit.runs == content("2.0.0")


async def test_inv3_what_two_units_refuse_before_the_owner_has_left_is_not_begun() -> None:
    refuses = Play(at=Step.VERIFY, seconds=30.0, fails=Cause(code=CauseCode.WRONG_TARGET))
    slow, unit = Guard(), Unit()
    slow.takes_s = 60.0
    units = {"panel-1": Unit(script=[refuses]), "panel-2": Unit(script=[refuses]), "panel-3": unit}
    async with living(units, policies=[ClassPolicy(name=PANEL)]) as house:
        await house.unplug("panel-3")
        house.drop("2.0.0")
        await house.until_running("panel-2")
        house.warden.configure({PANEL: ClassPolicy(name=PANEL, hand_over=slow)}, 16, {})
        await house.plug("panel-3")
        await anyio.sleep(80.0)
        assert slow.asked == ["runs", "stop"]
        await house.until(lambda ledger: any(latch.scope is LatchScope.IMAGE for latch in ledger.latches()))
        slow.takes_s = 0.0
        await until_back(house, slow)
        assert unit.attempts == 0


async def test_inv4_a_unit_that_becomes_ambiguous_before_the_owner_has_left_is_not_written_to() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit) as house:
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
        (rule,) = house.rules
        house.registry.configure([rule, replace(rule, name=ClassName("motor"))], {})
        await house.scan()
        await anyio.sleep(600.0)
        assert unit.attempts == 0
        house.registry.configure([rule], {})
        await house.scan()
        await house.quiet(600.0)
        assert unit.runs == content("2.0.0")


async def test_an_order_about_another_device_breaks_nothing_off() -> None:
    guard, unit, other = Guard(), Unit(), Unit()
    guard.takes_s = 10.0
    async with guarded(guard, unit, other) as house:
        await anyio.sleep(15.0)
        assert guard.asked == ["runs", "stop"]
        await house.desk.hold((await house.device("panel-2")).id, reason="calibration", who="ann")
        await anyio.sleep(120.0)
        assert unit.runs == content("2.0.0")
        assert (unit.attempts, other.attempts) == (1, 0)
    assert guard.asked == ["runs", "stop", "start"]


async def test_inv6_orders_that_come_faster_than_an_owner_leaves_keep_no_other_unit_waiting() -> None:
    guard, unit = Guard(), Unit()
    guard.takes_s = 10.0
    async with living(
        {"panel-1": unit, "motor-1": Unit()},
        "2.0.0",
        policies=[ClassPolicy(name=PANEL, hand_over=guard), ClassPolicy(name="motor")],
    ) as house:
        await house.planned()
        other = (await house.device("motor-1")).id
        for _ in range(20):
            await house.desk.hold(other, reason="a show", for_s=60.0, who="player")
            await anyio.sleep(8.0)
        assert unit.runs == content("2.0.0")
    assert guard.asked == ["runs", "stop", "start"]


async def test_who_cannot_be_started_again_is_tried_until_it_can_and_everybody_is_told(
    logs: list[MutableMapping[str, Any]],
) -> None:
    guard, unit = Guard(), Unit()
    guard.wont_start = 4
    async with guarded(guard, unit) as house:
        await house.quiet()
        assert unit.runs == content("2.0.0"), "an owner in trouble takes nothing from the device"
        assert await stands(house) == {"guard.service": pytest.approx(NOON, abs=60.0)}
        (problem,) = house.warden.hand_over.problems
        assert problem.startswith("guard.service is stopped since 2024-10-04T12:00:")
        assert "cannot be started again: no such file" in problem
        began = house.clock.boot()
        await until_back(house, guard)
        assert house.clock.boot() - began == pytest.approx(AGAIN_FIRST_S * (1 + 2 + 4 + 8), abs=2.0)
        assert house.warden.hand_over.problems == []
    failures = [entry for entry in logs if entry["event"] == "port-not-returned"]
    assert [entry["retry_in_s"] for entry in failures] == [5.0, 10.0, 20.0, 40.0]
    assert {entry["log_level"] for entry in failures} == {"error"}


async def test_who_cannot_be_started_again_is_stopped_for_the_next_device_all_the_same() -> None:
    guard, second = Guard(), Unit(script=[held()])
    guard.wont_start = 1
    async with guarded(guard, second) as house:
        await house.quiet(600.0)
        await until_back(house, guard)
    # It was not seen to run in between, but nobody but Firmwarden had stopped it.
    assert guard.asked == ["runs", "stop", "start", "stop", "start"]


async def test_a_stop_tries_once_more_to_start_who_could_not_be_started() -> None:
    guard = Guard()
    guard.wont_start = 1
    async with guarded(guard, Unit()) as house:
        await house.quiet()
        assert await stands(house)
    assert guard.here
    assert guard.asked == ["runs", "stop", "start", "start"]


async def test_inv6_an_owner_that_takes_its_time_holds_up_no_other_class() -> None:
    guard, motor = Guard(), Unit()
    guard.takes_s = 1000.0
    async with living(
        {"panel-1": Unit(), "motor-1": motor},
        "2.0.0",
        policies=[ClassPolicy(name=PANEL, hand_over=guard), ClassPolicy(name="motor")],
    ) as house:
        house.drop("2.0.0", device_class=ClassName("motor"))
        with anyio.fail_after(60.0):
            while motor.runs != content("2.0.0", "motor"):  # noqa: ASYNC110  nobody tells
                await anyio.sleep(0.5)
        assert guard.asked == ["runs"]
        guard.takes_s = 0.0


async def test_a_reload_in_the_middle_changes_nothing_for_who_was_stopped() -> None:
    guard = Guard()
    async with guarded(guard, Unit(script=[Play(at=Step.WRITE, seconds=30.0)])) as house:
        await house.until_running("panel-1")
        house.warden.configure({PANEL: ClassPolicy(name=PANEL)}, 16, {})
        await house.quiet(600.0)
        await until_back(house, guard)


@pytest.mark.parametrize("commit", range(8))
async def test_inv5_a_kill_before_any_commit_leaves_an_owner_that_the_next_start_starts(
    tmp_path: Path, commit: int
) -> None:
    guard, unit = Guard(), Unit()
    unit.tells = True
    commits, dead = 0, False

    def before_commit() -> None:
        nonlocal commits, dead
        dead = dead or commits == commit
        if dead:
            raise Killed
        commits += 1

    guard.dead = lambda: dead
    try:
        async with guarded(guard, unit, path=tmp_path / "db", before_commit=before_commit) as house:
            await house.quiet()
            await until_back(house, guard)
    except BaseExceptionGroup as group:
        if group.split(Killed)[1] is not None:
            raise
    except Killed:
        pass
    dead = False
    async with guarded(guard, unit, path=tmp_path / "db") as house:
        await house.quiet()
        await until_back(house, guard)
    assert guard.in_the_way == [False] * len(guard.in_the_way)
    assert unit.runs == content("2.0.0")
    assert PARTIAL not in unit.started


async def test_inv5_whoever_an_earlier_run_left_stopped_is_started_first(tmp_path: Path) -> None:
    guard, unit = Guard(here=False), Unit()
    async with living({}, path=tmp_path / "db") as house:
        await house.store.run(lambda ledger: ledger.hand_over(guard.key, NOON))
    async with guarded(guard, unit, path=tmp_path / "db") as house:
        await house.quiet()
        await until_back(house, guard)
    assert guard.asked[0] == "start"
    assert unit.runs == content("2.0.0")


async def test_a_port_that_cannot_be_noted_as_lent_is_not_asked_for(tmp_path: Path) -> None:
    guard, unit = Guard(), Unit()
    full = False

    def before_commit() -> None:
        if full:
            raise StoreError("disk full")

    async with guarded(guard, unit, path=tmp_path / "db", before_commit=before_commit) as house:
        guard.takes_s = 1.0
        await house.planned()
        full = True
        await anyio.sleep(2.0)
        assert guard.asked == ["runs"]
        assert guard.here
        full = False
        await house.quiet(600.0)
        await until_back(house, guard)
