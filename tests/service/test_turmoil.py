"""Everything at once, in an order that chance chose: faults, plugs, releases, wishes, reloads, clocks, a full disk.

Whatever comes, the service stays alive, starts nothing partial and counts every erase; and once the trouble is over
every device comes to run the newest release.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.errors import Refused, StoreError
from firmwarden.model import CauseCode, JobState, LatchScope, Outcome
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.policy import Budgets
from support.house import PANEL, House, content, living, virtual_time
from support.scripted import PARTIAL, Play, Unit, fails, held

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import Any

pytestmark = pytest.mark.anyio

POLICY = ClassPolicy(
    name=PANEL, parallel=3, allow_downgrade=True, budgets=Budgets(erases_a_day=1_000, erases_a_life=10_000)
)
TROUBLE = [
    fails(CauseCode.NO_ANSWER, Step.PROBE),
    fails(CauseCode.LINK_LOST, offset=512),
    fails(CauseCode.LINK_LOST, Step.LEAVE),
    fails(CauseCode.INVALID_FILE, offset=0, chunk=0, sequence=2),
    fails(CauseCode.INVALID_FILE, offset=512, chunk=3, sequence=1),
    fails(CauseCode.CLIENT_ERROR, offset=512),
    fails(CauseCode.WRITE_ERROR, offset=512),
    fails(CauseCode.VERSION_MISMATCH, Step.LEAVE),
    Play(end="lost"),
    Play(end="answer-lost"),
    Play(seconds=3.0),
    Play(at=Step.WRITE, fails=ZeroDivisionError("a defect")),
    held(),
    Play(at=Step.WRITE, fails=held().fails),
]
DOUBTS = [
    Play(at=Step.CONFIRM, end="lost", seconds=2.0),
    fails(CauseCode.LINK_LOST, Step.CONFIRM),
    Play(at=Step.CONFIRM, fails=held().fails),
]


class Disk:
    """Full at times."""

    def __init__(self) -> None:
        self.full = False

    def before_commit(self) -> None:
        if self.full:
            raise StoreError("the disk is full")


EVERYTHING = {
    "fault": 6, "doubt": 1, "plug": 2, "drop": 4, "cancel": 3, "retry": 4, "hold": 1, "unhold": 3, "pin": 1, "unpin": 1,
    "clear": 4, "forget": 1, "reload": 1, "disk": 1, "clock": 1,
}  # fmt: skip
"""How often each comes."""


class Turmoil:
    """Chance, with a seed."""

    def __init__(self, house: House, disk: Disk, seed: int) -> None:
        self.house = house
        self._disk = disk
        self._chance = random.Random(seed)

    async def rage(self, deeds: Mapping[str, int], steps: int, pause_s: float) -> None:
        for _ in range(steps):
            with suppress(Refused, StoreError):
                (deed,) = self._chance.choices(list(deeds), list(deeds.values()))
                await getattr(self, deed)()
            await anyio.sleep(self._chance.uniform(0.0, pause_s))
            check(self.house)

    def _name(self) -> str:
        return self._chance.choice(sorted(self.house.units))

    async def _id(self) -> str:
        known = [view["id"] for view in await self.house.desk.devices()]
        return self._chance.choice([*known, "nobody"])

    async def fault(self) -> None:
        self.house.units[self._name()].script.append(self._chance.choice(TROUBLE))

    async def doubt(self) -> None:
        self.house.units[self._name()].answers.append(self._chance.choice(DOUBTS))

    async def plug(self) -> None:
        self.house.plugged ^= {self._name()}
        await self.house.scan()

    async def drop(self) -> None:
        versions = self._chance.sample(["1.0.0", "2.0.0", "3.0.0"], self._chance.randint(0, 3))
        self.house.drop(*versions)

    async def cancel(self) -> None:
        for job in await self.house.desk.jobs(1):
            await self.house.desk.cancel(job["id"], who="chance")

    async def retry(self) -> None:
        await self.house.desk.retry(await self._id(), who="chance")

    async def hold(self) -> None:
        await self.house.desk.hold(self._chance.choice([None, await self._id()]), reason="", who="chance")

    async def unhold(self) -> None:
        await self.house.desk.unhold(self._chance.choice([None, await self._id()]), who="chance")

    async def pin(self) -> None:
        await self.house.desk.pin(await self._id(), self._chance.choice(["1.0.0", "2.0.0"]), who="chance")

    async def unpin(self) -> None:
        await self.house.desk.pin(await self._id(), None, who="chance")

    async def clear(self) -> None:
        await self.house.desk.clear(await self._id(), who="chance")

    async def forget(self) -> None:
        await self.house.desk.forget(await self._id(), who="chance")

    async def reload(self) -> None:
        """Take the class away for a while."""
        self.house.warden.configure({}, 4, {})
        await anyio.sleep(self._chance.uniform(0.0, 10.0))
        self.house.warden.configure({PANEL: POLICY}, 4, {})

    async def disk(self) -> None:
        """Let it be full for a while."""
        self._disk.full = True
        await anyio.sleep(self._chance.uniform(0.0, 20.0))
        self._disk.full = False

    async def clock(self) -> None:
        # Not across days: what a day's budget of erases does then is another story.
        self.house.set_clock(self._chance.uniform(-3_600.0, 3_600.0))

    async def calm(self) -> None:
        """End all trouble, and do what a person would to get every device going."""
        house = self.house
        for unit in house.units.values():
            unit.script.clear()
            unit.answers.clear()
        await house.plug_only(*house.units)
        house.drop("1.0.0", "2.0.0", "3.0.0", "4.0.0")
        for hold in await house.store.run(lambda ledger: ledger.holds()):
            await house.desk.unhold(hold.device, who="ann")
        for latch in await house.latches():
            if latch.scope is LatchScope.DEVICE and latch.device is not None:
                await house.desk.clear(latch.device, who="ann")
        for name in house.units:
            await house.desk.pin((await house.device(name)).id, None, who="ann")


def check(house: House) -> None:
    """What holds at any moment."""
    for unit in house.units.values():
        assert PARTIAL not in unit.started
    assert len(house.warden.worker.runs) <= 4


async def check_at_the_end(house: House) -> None:
    for name, unit in house.units.items():
        assert unit.runs == content("4.0.0"), name
        device = await house.device(name)
        assert (device.running_version, device.complete) == ("4.0.0", True)
        assert await house.wear(name) >= unit.erases
        attempts = await house.attempts(name)
        assert Outcome.RUNNING not in [attempt.outcome for attempt in attempts]
        succeeded = [job for job in await house.jobs(name) if job.state is JobState.SUCCEEDED]
        assert len(succeeded) <= len(unit.started), "no false success"


def check_defects(logs: list[MutableMapping[str, Any]]) -> None:
    """No defect came to light but the one that the drivers play."""
    crashes = [entry["detail"] for entry in logs if entry["event"] == "worker-crashed"]
    assert set(crashes) <= {"ZeroDivisionError('a defect')"}


def units_of_turmoil() -> dict[str, Unit]:
    units = {f"panel-{number}": Unit() for number in range(4)}
    for unit in units.values():
        unit.tells = True
    return units


@pytest.mark.parametrize("anyio_backend", [virtual_time()], ids=["trio"])
@pytest.mark.parametrize("seed", range(8))
async def test_inv6_nothing_that_may_happen_stops_the_service(
    anyio_backend: object, seed: int, logs: list[MutableMapping[str, Any]]
) -> None:
    del anyio_backend
    disk = Disk()
    async with living(
        units_of_turmoil(), "1.0.0", policies=[POLICY], before_commit=disk.before_commit
    ) as house:
        turmoil = Turmoil(house, disk, seed)
        await turmoil.rage(EVERYTHING, 200, 8.0)
        await turmoil.calm()
        await house.quiet(3_600.0)
        await check_at_the_end(house)
    check_defects(logs)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_inv6_nor_when_the_store_works_in_its_thread(
    anyio_backend: object, logs: list[MutableMapping[str, Any]]
) -> None:
    """Here wishes really come between a planning and what it started."""
    del anyio_backend
    disk = Disk()
    async with living(units_of_turmoil(), "1.0.0", policies=[POLICY], inline=False) as house:
        turmoil = Turmoil(house, disk, seed=1)
        await turmoil.rage(
            {"drop": 2, "cancel": 2, "retry": 1, "plug": 1, "forget": 1, "hold": 1, "unhold": 2}, 300, 0.004
        )
        await turmoil.calm()
        await house.quiet(10.0)
        await check_at_the_end(house)
    check_defects(logs)
