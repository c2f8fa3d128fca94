"""Whatever the wall clock does, wear is counted, nothing waits for years, and nothing is tried without end."""

from __future__ import annotations

import time
from math import ceil
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, ClassName, JobState, WaitKind
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.policy import Budgets
from firmwarden.service.warden import LONGEST_SLEEP_S
from firmwarden.store.rows import WATCHED_S
from support.house import NOON, PANEL, House, VirtualClock, content, living, virtual_time
from support.scripted import Play, Unit, fails, held

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
CUT = fails(CauseCode.LINK_LOST)
A_DAY = 3


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def policy(**more: float) -> list[ClassPolicy]:
    budgets = Budgets(**{"attempts": 100, "presence_s": 1e9, "erases_a_day": A_DAY, **more})  # type: ignore[arg-type]
    return [ClassPolicy(name=PANEL, budgets=budgets)]


async def used_up(house: House) -> None:
    await house.until(lambda ledger: len(ledger.attempts(None, 9)) == A_DAY and not ledger.running_attempts())
    await anyio.sleep(1_200.0)


async def wait_of(house: House) -> tuple[str, float | None]:
    await house.planned()
    (wait,) = house.warden.agenda.waits.values()
    assert wait.kind is WaitKind.WEAR
    return wait.detail, wait.until


@pytest.mark.anyio
async def test_inv3_a_clock_that_was_ahead_gives_no_fresh_budget_and_waits_for_a_day_not_for_years() -> None:
    unit = Unit(script=[CUT] * A_DAY)
    async with living({"panel-1": unit}, policies=policy()) as house:
        house.set_clock(40 * YEAR_S)
        house.drop("2.0.0")
        await used_up(house)
        house.set_clock(-40 * YEAR_S)
        detail, until = await wait_of(house)
        assert detail.endswith(
            "; a clock that was ahead dated them, so they count until Firmwarden has run for a day"
        )
        assert until is not None
        assert until <= house.clock.wall() + WATCHED_S
        await anyio.sleep(DAY_S - 3_600.0)
        assert unit.erases == A_DAY
        await anyio.sleep(2.5 * 3_600.0)
        assert unit.runs == content("2.0.0")
        assert await house.wear("panel-1") == unit.erases == A_DAY + 1


@pytest.mark.anyio
async def test_inv3_a_gateway_that_is_switched_off_each_night_waits_no_longer_than_it_takes(
    tmp_path: Path,
) -> None:
    unit = Unit(script=[CUT] * A_DAY)
    path = tmp_path / "db"

    def ahead(house: House) -> None:
        house.set_clock(40 * YEAR_S)

    async with living({"panel-1": unit}, "2.0.0", policies=policy(), path=path, change=ahead) as house:
        await used_up(house)
    for day in range(2):
        assert unit.runs != content("2.0.0"), day
        async with living({"panel-1": unit}, "2.0.0", policies=policy(), path=path):
            await anyio.sleep(14 * 3_600.0)
    assert unit.runs == content("2.0.0")


@pytest.mark.anyio
async def test_inv3_without_a_battery_a_power_cut_gives_no_fresh_budget(tmp_path: Path) -> None:
    unit = Unit(script=[CUT] * 20)
    path = tmp_path / "db"

    def in_1970(house: House) -> None:
        house.set_clock(-NOON + 60.0)

    for _ in range(6):
        async with living({"panel-1": unit}, "2.0.0", policies=policy(), path=path, change=in_1970) as house:
            await anyio.sleep(1_800.0)
            # The network says what time it is.
            house.set_clock(NOON - 60.0)
            await anyio.sleep(1_800.0)
            assert await house.wear("panel-1") == unit.erases
    # Those counted in 1970 are not of the day that the network told; those of that day are in the future in 1970.
    assert unit.erases <= 2 * A_DAY


@pytest.mark.anyio
async def test_an_instant_that_is_shown_lies_within_reach() -> None:
    unit = Unit(script=[CUT] * 3)
    async with living({"panel-1": unit}, "2.0.0", policies=policy(erases_a_day=99)) as house:
        await house.until(lambda ledger: any(job.not_before for job in ledger.open_jobs()))
        for years in (30.0, -60.0, 30.0):
            house.set_clock(years * YEAR_S)
            await house.planned()
            longest = Budgets().back_off_longest_s * 1.2
            for wait in house.warden.agenda.waits.values():
                assert wait.until is None or wait.until - house.clock.wall() <= longest
        await house.quiet(7_200.0)
        assert unit.runs == content("2.0.0")


@pytest.mark.anyio
async def test_inv7_what_was_waited_for_in_suspend_is_over_soon_after() -> None:
    backs_off, is_held, is_worn = Unit(script=[CUT] * 9), Unit(script=[held()] * 20), Unit(script=[CUT] * 9)
    worn_out = ClassPolicy(name="motor", budgets=Budgets(erases_a_day=1))
    units = {"panel-1": backs_off, "panel-2": is_held, "motor-1": is_worn}
    async with living(units, policies=[*policy(erases_a_day=99), worn_out]) as house:
        assert isinstance(house.clock, VirtualClock)
        house.drop("2.0.0")
        house.drop("2.0.0", device_class=ClassName("motor"))
        await house.until(
            lambda ledger: any(
                (job.not_before or 0.0) > house.clock.wall() + 200.0 for job in ledger.open_jobs()
            ),
            1_200.0,
        )
        before = [unit.attempts for unit in units.values()]
        assert is_worn.attempts == 1
        house.clock.suspend(DAY_S)
        await anyio.sleep(LONGEST_SLEEP_S + 1.0)
        assert all(unit.attempts > count for unit, count in zip(units.values(), before, strict=True))


@pytest.mark.anyio
@pytest.mark.parametrize("asleep", ["between two attempts", "in the middle of one"])
async def test_suspend_is_no_time_of_trying(asleep: str) -> None:
    unit = Unit(script=[Play(at=Step.WRITE, seconds=20.0, fails=CUT.fails), CUT])
    async with living(
        {"panel-1": unit}, policies=policy(attempts=5, presence_s=3_600.0, erases_a_day=99)
    ) as house:
        assert isinstance(house.clock, VirtualClock)
        house.drop("2.0.0")
        await house.until_running("panel-1")
        if asleep == "between two attempts":
            await house.until(lambda ledger: any(job.not_before for job in ledger.open_jobs()))
        house.clock.suspend(2 * DAY_S)
        await house.quiet(1_200.0)
        assert unit.runs == content("2.0.0")
        (job,) = await house.jobs("panel-1")
        assert 20.0 < job.present_s < 600.0


@pytest.mark.anyio
async def test_a_time_zone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(script=[CUT] * 3)
    async with living({"panel-1": unit}, "2.0.0", policies=policy(erases_a_day=2)) as house:
        await house.until(lambda ledger: len(ledger.attempts(None, 9)) == 2 and not ledger.running_attempts())
        await anyio.sleep(1_200.0)
        told = await wait_of(house)
        seen = await house.desk.why((await house.device("panel-1")).id)
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert await wait_of(house) == told
            now = await house.desk.why((await house.device("panel-1")).id)
            assert (now["device"]["wear"], now["attempts"]) == (seen["device"]["wear"], seen["attempts"])
        monkeypatch.undo()
        time.tzset()


@pytest.mark.slow
@pytest.mark.timeout(180)
@settings(max_examples=12)
@given(
    jumps=st.lists(
        st.tuples(
            st.floats(0.0, 6 * 3_600.0),
            st.one_of(
                st.floats(-YEAR_S, YEAR_S), st.floats(-60 * YEAR_S, 60 * YEAR_S), st.floats(-7_200.0, 7_200.0)
            ),
        ),
        max_size=8,
    ),
    cuts=st.integers(0, 7),
)
def test_inv3_inv7_whatever_the_clock_does_the_device_gets_its_release(
    jumps: list[tuple[float, float]], cuts: int
) -> None:
    async def story() -> None:
        unit = Unit(script=[CUT] * cuts)
        async with living({"panel-1": unit}, "2.0.0", policies=policy()) as house:
            for after_s, by_s in jumps:
                await anyio.sleep(after_s)
                house.set_clock(by_s if house.clock.wall() + by_s > 0.0 else -house.clock.wall())
                if unit.runs == content("2.0.0"):
                    break
                assert await house.wear("panel-1") == unit.erases
                # Each day that the clock shows has its budget; it shows a new one at midnight, and when it jumps.
            days = ceil((cuts + 1) / A_DAY)
            await house.until(
                lambda ledger: [job.state for job in ledger.jobs(limit=1)] == [JobState.SUCCEEDED],
                days * WATCHED_S + 7_200.0,
            )
            assert unit.runs == content("2.0.0")
            assert await house.wear("panel-1") == unit.erases == cuts + 1

    trio.run(story, clock=trio.testing.MockClock(autojump_threshold=0))
