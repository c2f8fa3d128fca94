"""The service killed in every phase, and before and after every commit: the next start puts it right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.model import CauseCode, JobState, Outcome, Phase
from support.house import content, living, virtual_time
from support.reaper import Reaper, outliving
from support.scripted import PARTIAL, Play, Unit, fails

if TYPE_CHECKING:
    from pathlib import Path

    from support.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


async def run_until_killed(units: dict[str, Unit], path: Path, reaper: Reaper, during: float = 600.0) -> None:
    """Run the service until it is killed, or for so long."""
    with outliving():
        async with living(
            units,
            "2.0.0",
            path=path,
            before_commit=reaper.before_commit,
            after_commit=reaper.after_commit,
        ) as house:
            await house.quiet(during)


@pytest.mark.parametrize(
    ("at", "phase"),
    [(Step.PROBE, "probing"), (Step.WRITE, "writing"), (Step.VERIFY, "writing"), (Step.LEAVE, "ending")],
)
@pytest.mark.parametrize("end", ["acknowledged", "lost"])
async def test_inv2_a_kill_in_any_phase_ends_in_the_right_image(
    tmp_path: Path, at: Step, phase: str, end: str
) -> None:
    unit = Unit(script=[Play(at=at, hangs=True, end="lost" if end == "lost" else "acknowledged")])
    unit.tells = True
    reaper = Reaper()
    with outliving():
        async with living(
            {"panel-1": unit}, "2.0.0", path=tmp_path / "db", before_commit=reaper.before_commit
        ) as house:
            await house.until(lambda ledger: [each.phase for each in ledger.running_attempts()] == [phase])
            reaper.kill()
    async with living({"panel-1": unit}, "2.0.0", path=tmp_path / "db") as house:
        await house.quiet()
        assert unit.runs == content("2.0.0")
        assert PARTIAL not in unit.started
        assert await house.wear("panel-1") == unit.erases == (1 if phase in {"ending", "probing"} else 2)
        first, *more = await house.attempts("panel-1")
        assert first.outcome is (Outcome.SUCCEEDED if phase == "ending" else Outcome.INTERRUPTED)
        assert [attempt.outcome for attempt in more] == ([] if phase == "ending" else [Outcome.SUCCEEDED])


def fleet() -> dict[str, Unit]:
    """One that goes well, one whose link fails and then loses the last answer, one that refuses."""
    units = {
        "panel-1": Unit(),
        "panel-2": Unit(script=[fails(CauseCode.LINK_LOST), Play(end="answer-lost")]),
        "panel-3": Unit(script=[fails(CauseCode.WRITE_ERROR, offset=512)] * 9),
    }
    for unit in units.values():
        unit.tells = True  # else a kill at the very end leaves an outcome unknown, rightly so
    return units


async def commits_of_a_whole_run(path: Path) -> int:
    reaper = Reaper()
    units = fleet()
    async with living(units, "2.0.0", path=path, after_commit=reaper.after_commit) as house:
        await house.quiet(600.0)
        await check(house, units, kills=0)
    return reaper.commits


async def check(house: House, units: dict[str, Unit], *, kills: int) -> None:
    """What must hold at the end, whatever happened on the way."""
    jobs = {name: await house.jobs(name) for name in units}
    assert [len(each) for each in jobs.values()] == [1, 1, 1], "no job is lost, none is made twice"
    for name in ("panel-1", "panel-2"):
        assert units[name].runs == content("2.0.0")
        assert jobs[name][0].state is JobState.SUCCEEDED
    assert jobs["panel-3"][0].state is JobState.FAILED, "no false success"
    assert [latch.device for latch in await house.latches()] == [jobs["panel-3"][0].device]
    for name, unit in units.items():
        assert PARTIAL not in unit.started
        assert await house.wear(name) >= unit.erases, "a start of an erase is never under-counted"
        assert await house.wear(name) <= unit.erases + kills
        attempts = await house.attempts(name)
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert unit.attempts <= len(attempts) <= unit.attempts + kills, "each is counted, and once"
        assert sum(attempt.erase_starts for attempt in attempts) == await house.wear(name)
        outcomes = [attempt.outcome for attempt in attempts]
        assert Outcome.RUNNING not in outcomes
        assert outcomes.count(Outcome.SUCCEEDED) == (name != "panel-3")
        assert outcomes.count(Outcome.INTERRUPTED) <= kills
    assert units["panel-3"].attempts <= 1 + kills, "its verdict is final as soon as it is on disk"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_inv5_a_kill_at_any_commit_loses_and_doubles_nothing(tmp_path: Path, after: bool) -> None:
    commits = await commits_of_a_whole_run(tmp_path / "whole")
    assert commits > 12
    for number in range(commits):
        path, units = tmp_path / f"{number}", fleet()
        reaper = Reaper(number, after=after)
        await run_until_killed(units, path, reaper)
        assert reaper.dead
        async with living(units, "2.0.0", path=path) as house:
            await house.quiet(600.0)
            await check(house, units, kills=1)


async def test_inv5_kill_upon_kill(tmp_path: Path) -> None:
    """Killed again and again, ever a little later, it still gets there: each life keeps what the last one wrote."""
    path, units = tmp_path / "db", fleet()
    kills = 0
    for number in range(2, 9):
        reaper = Reaper(number, after=bool(number % 2))
        await run_until_killed(units, path, reaper)
        kills += reaper.dead
    assert kills > 3
    async with living(units, "2.0.0", path=path) as house:
        await house.quiet(86_400.0)
        await check(house, units, kills=kills)


async def test_inv3_a_daemon_that_dies_in_every_erase_is_stopped_by_the_flash_s_budget(
    tmp_path: Path,
) -> None:
    """Interrupted attempts use no attempt up, so wear alone ends the loop of a gateway that browns out."""
    unit = Unit()
    for _ in range(15):
        unit.script.append(Play(at=Step.WRITE, hangs=True, deaf=True))
        reaper = Reaper()
        with anyio.move_on_after(60.0), outliving():
            async with living(
                {"panel-1": unit}, "2.0.0", path=tmp_path / "db", before_commit=reaper.before_commit
            ) as house:
                await house.until(
                    lambda ledger: any(each.phase is Phase.WRITING for each in ledger.running_attempts())
                )
                reaper.kill()
    assert unit.erases == 10
