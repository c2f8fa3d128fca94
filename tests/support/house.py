"""The whole service around scripted units: store, registry, warden and desk, on a clock that a test can jump."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import trio.testing

from firmwarden.errors import BadImage
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.model import ClassName, JobState, Release, Sighting, TcpAddress
from firmwarden.service.clock import SystemClock
from firmwarden.service.criteria import Criteria
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.desk import Desk
from firmwarden.service.feed import Feed
from firmwarden.service.identity import ClassRule
from firmwarden.service.incoming import Incoming
from firmwarden.service.intake import Intake
from firmwarden.service.pulse import Pulse
from firmwarden.service.recovery import log_recovered, recover
from firmwarden.service.registry import Registry
from firmwarden.service.shelf import Shelf
from firmwarden.service.trust import Trust
from firmwarden.service.warden import Warden
from firmwarden.store.store import Store
from support.scripted import ScriptedDriver, Unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from datetime import tzinfo

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.model import Address, Attempt, Device, ImageHash, Job, Latch
    from firmwarden.programs import Heard
    from firmwarden.service.clock import Clock
    from firmwarden.service.conclude import Conclusion
    from firmwarden.service.hooks import Hook
    from firmwarden.store.ledger import Ledger

PANEL: Final = ClassName("panel")
NOWHERE: Final = Path("/nonexistent")
"""The firmware directory of a house; what lies there is said with ``drop``."""
NOON: Final = 20_000.5 * 86_400.0
"""Midday in UTC, 2024-10-04."""


def virtual_time() -> tuple[str, dict[str, object]]:
    """An anyio backend on which every wait is over at once, and in order."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class VirtualClock:
    """Follows the event loop's clock; the wall clock can be set to another time, as NTP does."""

    def __init__(self, wall: float = NOON) -> None:
        self._offset = wall - anyio.current_time()
        self._suspended_s = 0.0

    def wall(self) -> float:
        return self.boot() + self._offset

    def boot(self) -> float:
        return anyio.current_time() + self._suspended_s

    def suspend(self, seconds: float) -> None:
        """Let so much time pass in suspend, which the loop's clock does not count: clock_gettime(2)."""
        self._suspended_s += seconds

    def set(self, seconds: float) -> None:
        """Move the wall clock by so much."""
        self._offset += seconds


def content(version: str, device_class: str = PANEL) -> bytes:
    """The image of a version."""
    return f"{device_class} {version}".encode()


def release(version: str, *, sequence: int | None = None, device_class: ClassName = PANEL) -> Release:
    image = content(version, device_class)
    return Release(
        device_class=device_class,
        version=version,
        sequence=sequence,
        image=hash_of(image),
        size=len(image),
        manifest=f"{device_class}-{version}.toml",
    )


class MemoryImages:
    """Every image that ``content`` can make."""

    def __init__(self) -> None:
        self.damaged: set[ImageHash] = set()
        self._known = {
            release(version, device_class=device_class).image: content(version, device_class)
            for device_class in (PANEL, ClassName("motor"))
            for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0")
        }

    async def load(self, image: ImageHash) -> bytes:
        await anyio.lowlevel.checkpoint()
        if image in self.damaged:
            raise BadImage("the stored image has another hash")
        return self._known[image]


class House:
    """One run of the service.  The units and the file of the store outlive it; make another to start again."""

    def __init__(
        self, store: Store, clock: Clock, units: Mapping[str, Unit], policies: Sequence[ClassPolicy]
    ) -> None:
        self.store = store
        self.units = units
        self.clock = clock
        self.images = MemoryImages()
        self.conclusions: list[tuple[Conclusion, Hook | None]] = []
        self.plugged = set(units)
        self.zone: tzinfo = UTC
        """Of the machine."""
        self.asked: list[Mapping[str, str]] = []
        """What conditions were asked about."""
        self.answer: Callable[[Mapping[str, str]], Awaitable[Heard]] | None = None
        """How conditions answer."""
        names = sorted({ClassName(policy.name) for policy in policies})
        self.rules = [self._rule(name) for name in names]
        self.registry = Registry(store=store, clock=self.clock, rules=self.rules)
        self.shelf = Shelf()
        self.warden = Warden(
            store=store,
            registry=self.registry,
            images=self.images,
            make_driver=self.make_driver,
            feed=Feed(),
            clock=self.clock,
            dice=lambda: 0.5,
            classes={ClassName(policy.name): policy for policy in policies},
            parallel=16,
            on_conclusion=lambda conclusion, hook: self.conclusions.append((conclusion, hook)),
            zone=lambda: self.zone,
            ask=self._ask,
        )
        self.pulse = Pulse(store, self.clock)
        self.desk = Desk(
            store=store,
            warden=self.warden,
            shelf=lambda: self.shelf,
            problems=lambda: (),
            pulse=self.pulse,
            incoming=Incoming(
                NOWHERE, Intake(NOWHERE, ImageStore(NOWHERE), Criteria({}, Trust()), clock), lambda: None
            ),
        )
        self.drivers: dict[str, Callable[[Job, Journal], Driver]] = {}
        """Instead of the scripted driver, by the unit's name."""

    async def _ask(self, argv: Sequence[str], *, timeout_s: float, extra_env: Mapping[str, str]) -> Heard:
        assert argv
        assert timeout_s > 0.0
        assert self.answer is not None
        self.asked.append(extra_env)
        return await self.answer(extra_env)

    def make_driver(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        del device
        name = self._at(address)
        if name in self.drivers:
            return self.drivers[name](job, journal)
        return ScriptedDriver(self.units[name], journal)

    # --- what happens around it

    def set_clock(self, seconds: float) -> None:
        """Move the wall clock by so much."""
        assert isinstance(self.clock, VirtualClock)
        self.clock.set(seconds)

    async def scan(self) -> None:
        """See which units are plugged in."""
        sightings = tuple(self._sighting(name) for name in sorted(self.plugged))
        came = await self.registry.take(sightings, under_way=self.warden.under_way)
        if came is not None:
            self.warden.plugged(came)

    async def plug(self, name: str) -> None:
        self.plugged.add(name)
        await self.scan()

    async def plug_only(self, *names: str) -> None:
        self.plugged = set(names)
        await self.scan()

    async def unplug(self, name: str) -> None:
        self.plugged.discard(name)
        await self.scan()

    def drop(self, *versions: str, device_class: ClassName = PANEL) -> None:
        """Let the firmware directory hold these versions of a class, and what it holds of others."""
        others = [each for each in self.shelf.releases if each.device_class != device_class]
        these = [release(version, device_class=device_class) for version in versions]
        self.shelf = Shelf(releases=(*others, *these))
        self.warden.shelve(self.shelf.releases)

    # --- what is known

    async def device(self, name: str) -> Device:
        """Of a unit, by the unit's name."""
        devices = await self.store.run(lambda ledger: ledger.devices())
        return next(each for each in devices if each.key == self._key(name))

    async def job(self, name: str) -> Job:
        """The newest job of a unit."""
        id_ = (await self.device(name)).id
        (job,) = await self.store.run(lambda ledger: ledger.jobs(limit=1, device=id_))
        return job

    async def jobs(self, name: str) -> list[Job]:
        """All jobs of a unit, oldest first."""
        id_ = (await self.device(name)).id
        return (await self.store.run(lambda ledger: ledger.jobs(limit=100, device=id_)))[::-1]

    async def attempts(self, name: str) -> list[Attempt]:
        """All attempts of a unit, oldest first."""
        id_ = (await self.device(name)).id
        return (await self.store.run(lambda ledger: ledger.attempts(id_, 100)))[::-1]

    async def latches(self) -> list[Latch]:
        return await self.store.run(lambda ledger: ledger.latches())

    async def wear(self, name: str) -> int:
        id_ = (await self.device(name)).id
        now = self.clock.wall()
        return (await self.store.run(lambda ledger: ledger.wear(id_, now))).life

    async def until(self, reached: Callable[[Ledger], bool], within_s: float = 60.0) -> None:
        """Wait until the store says so."""
        with anyio.fail_after(within_s):
            while not await self.store.run(reached):  # noqa: ASYNC110  the store tells nobody
                await anyio.sleep(max(0.02, within_s / 2_000))

    async def planned(self) -> None:
        """Wait until everything that is known by now was planned."""
        agenda = self.warden.agenda
        self.warden.poke()
        with anyio.fail_after(60.0):
            while self.warden.agenda is agenda:  # noqa: ASYNC110  the warden tells nobody either
                await anyio.sleep(0.01)

    async def quiet(self, within_s: float = 60.0) -> None:
        """Wait until everything was planned and no job is open."""
        await self.planned()
        await self.until(lambda ledger: not ledger.open_jobs(), within_s)
        await anyio.sleep(0.02)  # for what follows a conclusion

    async def quiet_but_absent(self, within_s: float = 60.0) -> None:
        """Wait until everything was planned and only devices that are not here have open jobs."""
        await self.planned()
        here = self.registry.plugged_at
        await self.until(lambda ledger: all(job.device not in here for job in ledger.open_jobs()), within_s)
        await anyio.sleep(0.02)

    async def until_running(self, name: str) -> None:
        """Wait until an attempt at a unit is under way."""
        id_ = (await self.device(name)).id
        with anyio.fail_after(60.0):
            while id_ not in self.warden.worker.runs:  # noqa: ASYNC110  nor does the worker
                await anyio.sleep(0.02)

    def _of(self, device_class: ClassName) -> list[str]:
        """Names begin with the class."""
        return [name for name in self.units if name.startswith(device_class)]

    # --- how units show themselves

    def _rule(self, device_class: ClassName) -> ClassRule:
        return ClassRule(name=device_class, tcp=tuple(map(self._address, self._of(device_class))))

    def _sighting(self, name: str) -> Sighting:
        return Sighting(address=self._address(name))

    def _key(self, name: str) -> str:
        return f"port:tcp-{self._address(name)}"

    def _at(self, address: Address) -> str:
        """The name of the unit that is there now."""
        assert isinstance(address, TcpAddress)
        return address.host

    @staticmethod
    def _address(name: str) -> TcpAddress:
        return TcpAddress(host=name, port=4000)


@asynccontextmanager
async def living(
    units: Mapping[str, Unit],
    *versions: str,
    policies: Sequence[ClassPolicy] = (ClassPolicy(name=PANEL),),
    path: Path | None = None,
    inline: bool = True,
    before_commit: Callable[[], None] | None = None,
    after_commit: Callable[[], None] | None = None,
    change: Callable[[House], None] | None = None,
    make: type[House] = House,
) -> AsyncGenerator[House]:
    """Start the service: recover, scan, plan and run, and take it down at the end.

    Args:
        units: by name, which begins with the name of the class.
        versions: in the firmware directory at the start.
        policies: of each class.
        path: of the store; None keeps it in memory.
        inline: whether the store works in the event loop, as virtual time needs it.
        before_commit: see ``Store.open``.
        after_commit: see ``Store.open``.
        change: done before anything runs.
        make: how the units show themselves.
    """
    store = await Store.open(path, inline=inline, before_commit=before_commit, after_commit=after_commit)
    try:
        # The event loop's clock cannot be read in the store's thread.
        house = make(store, VirtualClock() if inline else SystemClock(), units, policies)
        if change is not None:
            change(house)
        log_recovered(await store.run(lambda ledger: recover(ledger, house.clock.wall())))
        async with anyio.create_task_group() as tasks:
            house.drop(*versions)
            await house.scan()
            tasks.start_soon(house.warden.run)
            tasks.start_soon(house.pulse.run)
            yield house
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


def states(jobs: Sequence[Job]) -> list[JobState]:
    return [job.state for job in jobs]
