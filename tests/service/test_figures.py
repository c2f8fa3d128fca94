"""The figures of a whole service: what is counted where, and what a question for them costs."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import Unavailable
from firmwarden.model import CauseCode, ClassName, JobState, LatchScope, WaitKind
from firmwarden.service.clock import SystemClock
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.figures import NO_CLASS, DeviceState, ReleaseState
from firmwarden.service.health import HealthRule
from firmwarden.service.policy import Budgets
from firmwarden.service.shelf import RefusedRelease, Shelf
from firmwarden.service.words import state_of_device
from firmwarden.store.store import Store
from support.house import NOON, PANEL, House, living, virtual_time
from support.scripted import Play, Unit, fails, must_wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from firmwarden.store.ledger import Ledger

pytestmark = pytest.mark.anyio

MOTOR = ClassName("motor")
HANGS = Play(at=Step.WRITE, hangs=True)
LOST = fails(CauseCode.LINK_LOST)
W = TypeVar("W", bound=StrEnum)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def there(counted: Mapping[tuple[ClassName, W], float]) -> dict[W, float]:
    """What of the panels is not 0."""
    return {word: number for (name, word), number in counted.items() if name == PANEL and number}


async def test_every_device_is_in_the_state_that_matters_most() -> None:
    units = {
        "panel-1": Unit(script=[HANGS]),
        "panel-2": Unit(script=[LOST] * 9),
        "panel-3": Unit(script=[Play(end="answer-lost")]),
        "panel-4": Unit(script=[fails(CauseCode.ERASE_ERROR)]),
        "panel-5": Unit(),
        "panel-6": Unit(script=[must_wait()]),
        "panel-7": Unit(script=[fails(CauseCode.WRONG_DEVICE_ID)]),
    }
    budgets = Budgets(attempts=2, back_off_s=0.1)
    async with living(units, "2.0.0", policies=[ClassPolicy(name=PANEL, budgets=budgets)]) as house:
        await anyio.sleep(5.0)
        await house.unplug("panel-5")
        view = await house.desk.figures()
        assert there(view.devices) == {
            DeviceState.UPDATING: 1,
            DeviceState.FAILED: 1,
            DeviceState.UNKNOWN: 1,
            DeviceState.LATCHED: 2,
            DeviceState.UP_TO_DATE: 1,
            DeviceState.WAITING: 1,
        }
        assert view.present == {PANEL: 6}
        assert there(view.jobs) == {JobState.RUNNING: 1, JobState.UNKNOWN: 1, JobState.QUEUED: 1}
        assert there(view.waits)[WaitKind.FAILSAFE] == 1
        assert view.for_a_person == {PANEL: 1}
        assert there(view.latches) == {LatchScope.DEVICE: 1, LatchScope.PAIR: 1}
        assert (view.ready, view.conflicts, view.problems, view.everything_held) == (True, 0, 0, False)


async def test_a_unit_that_failed_is_no_failure_once_nothing_is_wanted_of_it() -> None:
    units = {"panel-1": Unit(), "panel-2": Unit(script=[LOST])}
    policies = [ClassPolicy(name=PANEL, budgets=Budgets(attempts=1))]
    async with living(units, "2.0.0", policies=policies) as house:
        await house.quiet()
        assert there((await house.desk.figures()).devices) == {
            DeviceState.UP_TO_DATE: 1,
            DeviceState.FAILED: 1,
        }
        house.drop()
        await house.planned()
        # But it was left half written.
        assert there((await house.desk.figures()).devices) == {
            DeviceState.UP_TO_DATE: 1,
            DeviceState.INCOMPLETE: 1,
        }


async def test_a_latch_on_what_it_runs_stops_a_unit_and_one_on_what_it_left_behind_does_not() -> None:
    """As `devices` and the page say it."""
    health = HealthRule(soak_s=60.0, return_within_s=60.0)
    units = {"panel-1": Unit(), "panel-2": Unit(script=[fails(CauseCode.WRONG_DEVICE_ID)])}
    async with living(units, "2.0.0", policies=[ClassPolicy(name=PANEL, health=health)]) as house:
        await house.quiet()
        await house.unplug("panel-1")
        await anyio.sleep(100.0)
        await house.plug("panel-1")
        await house.quiet()
        assert there((await house.desk.figures()).devices) == {DeviceState.LATCHED: 2}
        house.drop("2.0.0", "3.0.0")
        await house.quiet()
        await anyio.sleep(100.0)
        assert len(await house.latches()) == 2
        assert there((await house.desk.figures()).devices) == {DeviceState.UP_TO_DATE: 2}
        views = await house.desk.devices()
        assert {state_of_device(view, datetime.fromtimestamp(NOON, UTC)) for view in views} == {"up to date"}
        assert [view["latched"] for view in views] == [False, False]


async def test_what_it_refused_before_somebody_brought_it_to_what_is_newer_stops_no_unit() -> None:
    async with living({"panel-1": Unit(script=[fails(CauseCode.WRONG_DEVICE_ID)])}, "2.0.0") as house:
        await house.quiet()
        await house.desk.adopt((await house.device("panel-1")).id, old=None, running="3.0.0", who="ann")
        await house.planned()
        assert there((await house.desk.figures()).devices) == {DeviceState.UP_TO_DATE: 1}
        (view,) = await house.desk.devices()
        assert not view["latched"]


async def test_a_unit_whose_job_was_cancelled_is_behind() -> None:
    async with living({"panel-1": Unit(script=[LOST])}, "2.0.0") as house:
        await house.until(lambda ledger: any(job.attempts and job.not_before for job in ledger.open_jobs()))
        await house.desk.cancel((await house.job("panel-1")).id, who="ann")
        await house.planned()
        assert there((await house.desk.figures()).devices) == {DeviceState.BEHIND: 1}


async def test_holds_are_told_apart() -> None:
    policies = [ClassPolicy(name=PANEL), ClassPolicy(name=MOTOR)]
    async with living({"panel-1": Unit(), "motor-1": Unit()}, policies=policies) as house:
        await house.planned()
        await house.desk.hold((await house.device("motor-1")).id, reason="fair", who="ann")
        view = await house.desk.figures()
        assert (view.held, view.everything_held) == ({MOTOR: 1}, False)
        await house.desk.hold(None, reason="fair", who="ann")
        view = await house.desk.figures()
        assert (view.held, view.everything_held) == ({MOTOR: 1}, True)
        assert list(view.classes) == [MOTOR, PANEL]


async def test_what_names_no_class_of_the_configuration_makes_no_label() -> None:
    """Whoever writes into the firmware directory must not be able to make series without end."""
    async with living({"panel-1": Unit()}, "2.0.0") as house:
        refused = RefusedRelease(manifest="a.toml", reason="no", since=NOON)
        house.shelf = Shelf(
            releases=house.shelf.releases,
            refused=(
                refused,
                replace(refused, device_class=ClassName("hostile-1")),
                replace(refused, device_class=PANEL),
            ),
        )
        assert (await house.desk.figures()).releases == {
            (PANEL, ReleaseState.ACCEPTED): 1,
            (PANEL, ReleaseState.REFUSED): 1,
            (NO_CLASS, ReleaseState.REFUSED): 2,
        }


async def test_an_image_latch_is_told_under_the_class_of_its_image_and_those_of_forgotten_units_not_at_all() -> (
    None
):
    units = {name: Unit(script=[fails(CauseCode.INVALID_FILE)]) for name in ("panel-1", "panel-2")}
    async with living(units, "2.0.0") as house:
        await house.quiet()
        view = await house.desk.figures()
        assert there(view.latches) == {LatchScope.PAIR: 2, LatchScope.IMAGE: 1}
        assert there(view.releases) == {ReleaseState.LATCHED: 1}
        await house.unplug("panel-2")
        await house.desk.forget((await house.device("panel-2")).id, who="ann")
        assert there((await house.desk.figures()).latches) == {LatchScope.PAIR: 1, LatchScope.IMAGE: 1}


async def test_wear_is_told_beside_its_budgets() -> None:
    budgets = Budgets(attempts=9, erases_a_day=4, erases_a_life=20)
    units = {"panel-1": Unit(script=[LOST] * 2), "panel-2": Unit()}
    async with living(units, "2.0.0", policies=[ClassPolicy(name=PANEL, budgets=budgets)]) as house:
        await house.quiet()
        view = await house.desk.figures()
        assert (view.day_budget_used, view.life_budget_used) == ({PANEL: 0.75}, {PANEL: 0.15})
        house.set_clock(86_400)
        view = await house.desk.figures()
        assert (view.day_budget_used, view.life_budget_used) == ({PANEL: 0.0}, {PANEL: 0.15})


@pytest.mark.parametrize("late", ["panel-1", "panel-2"])
async def test_the_age_of_an_unknown_outcome_is_that_of_the_oldest(late: str) -> None:
    units = {name: Unit(script=[Play(end="answer-lost")]) for name in ("panel-1", "panel-2")}
    async with living(units, "2.0.0") as house:
        await house.unplug(late)
        await house.planned()
        await anyio.sleep(100.0)
        await house.plug(late)
        await house.until(lambda ledger: [job.state for job in ledger.open_jobs()] == [JobState.UNKNOWN] * 2)
        (age,) = (await house.desk.figures()).unknown_s.values()
        assert 100.0 < age < 102.0
        # A clock that was set back does not make it younger than nothing.
        house.set_clock(-86_400)
        assert (await house.desk.figures()).unknown_s == {PANEL: 0.0}


async def test_a_planner_that_stands_still_shows() -> None:
    async with living({"panel-1": Unit()}, "2.0.0") as house:
        await house.quiet()
        before = await house.desk.figures()
        assert before.planning_s < 31.0
        await anyio.sleep(3600.0)
        after = await house.desk.figures()
        assert after.planning_s < 31.0
        # Nobody scans here.
        assert after.device_scan_s == pytest.approx(before.device_scan_s + 3600.0)
        assert after.release_scan_s == pytest.approx(before.release_scan_s + 3600.0)


async def test_before_the_first_scans_it_is_not_ready_and_ages_count_from_the_start() -> None:
    async with living({"panel-1": Unit()}) as house:
        fresh = House(house.store, house.clock, house.units, ())
        await anyio.sleep(50.0)
        view = await fresh.desk.figures()
        assert not view.ready
        ages = [view.uptime_s, view.device_scan_s, view.release_scan_s, view.planning_s]
        assert ages == [pytest.approx(50.0)] * 4


@asynccontextmanager
async def stuck(store: Store) -> AsyncGenerator[None, None]:
    """Let the store do nothing as long as the context lasts, and wait until it does something again."""
    begun, end = threading.Event(), threading.Event()

    def hang(_: Ledger) -> None:
        begun.set()
        end.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run, hang)
        await anyio.to_thread.run_sync(begun.wait)
        try:
            yield
        finally:
            end.set()


async def test_inv6_who_asks_a_stuck_store_again_and_again_is_sent_away(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "firmwarden.db")
    house = House(store, SystemClock(), {}, ())
    async with stuck(store):
        for _ in range(50):
            with pytest.raises(Unavailable, match="has not answered for 5 s"):
                await house.desk.figures()
    assert (await house.desk.figures()).devices == {}
    await store.aclose()


async def test_inv6_what_is_being_updated_waits_for_one_question_at_most(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "firmwarden.db")
    house = House(store, SystemClock(), {}, ())
    done: list[str] = []

    async def note(name: str, work: Callable[[], Awaitable[object]]) -> None:
        await work()
        done.append(name)

    async with anyio.create_task_group() as tasks, stuck(store):
        for question in [house.desk.devices, house.desk.status, house.desk.waits, house.desk.plan] * 5:
            tasks.start_soon(note, "question", question)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(note, "update", lambda: store.run(lambda _: None))
        await anyio.wait_all_tasks_blocked()
    assert done.index("update") <= 1
    await store.aclose()
