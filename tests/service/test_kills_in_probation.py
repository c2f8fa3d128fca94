"""The service killed while a unit is on probation and while it goes back: the next start draws the same consequence."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.model import Cause, CauseCode, JobState
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.health import HealthRule
from firmwarden.service.shelf import Shelf
from support.house import PANEL, content, living, release, virtual_time
from support.reaper import Reaper, outliving
from support.scripted import PARTIAL, Unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from firmwarden.model import Address, Device, Release
    from support.house import House

pytestmark = pytest.mark.anyio

SOAK_S: Final = 600.0
WHOLE_S: Final = 3 * SOAK_S
"""To be given a release, to be found ill, to go back and to keep well again."""
GOOD: Final = release("1.0.0", sequence=1)
ILL: Final = release("2.0.0", sequence=2)
POLICY: Final = ClassPolicy(
    name=PANEL,
    health=HealthRule(soak_s=SOAK_S, return_within_s=60.0, asks=True),
    roll_back=True,
)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


class Examined:
    """Asks a unit, which is ill with one of the releases."""

    def __init__(self, unit: Unit, reaper: Reaper | None) -> None:
        self._unit = unit
        self._reaper = reaper
        """Who kills the service while that one is being asked."""

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        del device, address
        await anyio.sleep(1.0)
        if expected_version == ILL.version and self._reaper is not None:
            self._reaper.kill()
        return "it coughs" if self._unit.runs == content(ILL.version) else ""

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        raise AssertionError((device, address, expected_version))


@asynccontextmanager
async def life(
    unit: Unit,
    path: Path,
    releases: tuple[Release, ...],
    reaper: Reaper | None = None,
    *,
    asked: bool = False,
) -> AsyncGenerator[House]:
    """Let the service live for as long as it takes, or until it is killed."""

    def change(house: House) -> None:
        house.warden.aftercare.examine = Examined(unit, reaper if asked else None)

    async with living(
        {"panel-1": unit},
        policies=[POLICY],
        path=path,
        before_commit=None if reaper is None else reaper.before_commit,
        after_commit=None if reaper is None else reaper.after_commit,
        change=change,
    ) as house:
        house.shelf = Shelf(releases=releases)
        house.warden.shelve(releases)
        await anyio.sleep(WHOLE_S)
        yield house


async def run_until_killed(path: Path, reaper: Reaper, *, asked: bool = False) -> Unit:
    """Let a unit keep well with one release, and kill the service some time after the other was dropped."""
    unit = Unit()
    unit.tells = True
    async with life(unit, path, (GOOD,)):
        assert unit.runs == content(GOOD.version)
    with outliving():
        async with life(unit, path, (GOOD, ILL), reaper, asked=asked):
            pass
    return unit


async def check(house: House, unit: Unit, *, kills: int) -> None:
    """What must hold at the end, whatever happened on the way."""
    assert unit.runs == content(GOOD.version)
    assert PARTIAL not in unit.started
    device = await house.device("panel-1")
    assert device.good is not None
    assert (device.running_image, device.good.image, device.floor) == (GOOD.image, GOOD.image, GOOD.sequence)
    assert await house.store.run(lambda ledger: ledger.probations()) == []
    (latch,) = await house.latches()
    assert (latch.image, latch.cause) == (ILL.image, Cause(code=CauseCode.UNHEALTHY, detail="it coughs"))
    jobs = await house.jobs("panel-1")
    assert [(job.version, job.state) for job in jobs] == [
        (version, JobState.SUCCEEDED) for version in (GOOD.version, ILL.version, GOOD.version)
    ]
    assert unit.erases <= await house.wear("panel-1") <= unit.erases + kills


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_inv5_a_kill_at_any_commit_changes_nothing_of_what_follows(tmp_path: Path, after: bool) -> None:
    reaper = Reaper()
    unit = await run_until_killed(tmp_path / "whole", reaper)
    assert reaper.commits > 10
    async with life(unit, tmp_path / "whole", (GOOD, ILL)) as house:
        await check(house, unit, kills=0)
    for number in range(reaper.commits):
        path, killing = tmp_path / f"{number}", Reaper(number, after=after)
        unit = await run_until_killed(path, killing)
        assert killing.dead
        async with life(unit, path, (GOOD, ILL)) as house:
            await check(house, unit, kills=1)


async def test_inv5_a_kill_while_it_is_asked_has_it_asked_again(tmp_path: Path) -> None:
    unit = await run_until_killed(tmp_path / "db", reaper := Reaper(), asked=True)
    assert reaper.dead
    assert unit.runs == content(ILL.version)
    async with life(unit, tmp_path / "db", (GOOD, ILL)) as house:
        await check(house, unit, kills=1)


async def test_inv5_a_release_that_is_gone_after_the_kill_is_gone_back_to_all_the_same(
    tmp_path: Path,
) -> None:
    unit = await run_until_killed(tmp_path / "db", reaper := Reaper(), asked=True)
    assert reaper.dead
    async with life(unit, tmp_path / "db", (ILL,)) as house:
        await check(house, unit, kills=1)
