"""The whole service for one simulated device on virtual time: the product's own parts from the store to the channel.

A host can be killed at any commit of its store and started anew on the same database, as often as wanted; the
device goes on living meanwhile.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from firmwarden.drivers.entry import EnterSend
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings, VersionQuery
from firmwarden.errors import StoreError
from firmwarden.images.cas import hash_of
from firmwarden.model import ClassName, JobState, Outcome, Release, UsbAddress
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.feed import Feed
from firmwarden.service.identity import ClassRule
from firmwarden.service.policy import Budgets
from firmwarden.service.recovery import recover
from firmwarden.service.registry import Registry
from firmwarden.service.warden import Warden
from firmwarden.store.store import Store
from support.virtual_port import VirtualPort
from support.virtual_time import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.model import Address, Attempt, Device, ImageHash, Job, Wear
    from firmwarden.service.conclude import Conclusion
    from firmwarden.simulate.settings import DeviceSettings

CLASS = ClassName("panel")
NEW = "2.0.0"
VERSION_QUERY = VersionQuery(send=b"VERSION?\n", expect=re.compile(rb"VERSION (\S+)\s"))
BUDGETS = Budgets(attempts=8, erases_a_day=100)


class Killed(BaseException):
    """The host was killed at a commit."""


def storage_error(code: int) -> sqlite3.OperationalError:
    """Make what SQLite raises when the disk gives out."""
    error = sqlite3.OperationalError(f"the disk gives {code}")
    error.sqlite_errorcode = code
    return error


class FalseSuccess(AssertionError):
    """The service recorded a success that the device does not bear out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What one story ended with."""

    job: Job
    jobs: int
    attempts: list[Attempt]
    wear: Wear
    commits: int


@dataclass
class Story:
    """One device, one release, and a host that may die."""

    database: Path | None
    settings: DeviceSettings
    image: bytes
    asks_version: bool = True
    commits: int = 0
    """Commits so far, over all lives of the host."""
    kill_before: int | None = None
    kill_after: int | None = None
    refuse: Callable[[int], int | None] = field(default=lambda _number: None)
    """The SQLite result code with which the disk refuses the commit of this number, of all that were tried."""
    refused: int = 0
    port: VirtualPort = field(init=False)

    def __post_init__(self) -> None:
        self.port = VirtualPort(self.settings)
        self._dead = False
        self._tried = 0
        self._poke: Callable[[], None] = lambda: None

    async def live(self, limit_s: float = 4_000.0) -> End:
        """Run the host until its job has ended or, unknown, is no longer asked about.

        Raises:
            Killed: at the commit that was named.
            FalseSuccess: a success was recorded that is none.
        """
        self._dead = False
        store = await Store.open(
            self.database, inline=True, before_commit=self._before_commit, after_commit=self._after_commit
        )
        self.port.start()
        await anyio.sleep(1.0)  # the device has been there for long enough to hear us
        try:
            return await self._host(store, limit_s)
        except BaseExceptionGroup as group:
            killed, rest = group.split(Killed)
            if rest is None and killed is not None:
                raise Killed from None
            raise
        finally:
            self._dead = False  # a dead host writes nothing more, but its file has to be closed
            self.port.stop()
            await store.aclose()

    async def _host(self, store: Store, limit_s: float) -> End:
        clock = LoopClock()
        await store.run(lambda ledger: recover(ledger, clock.wall()))
        registry = Registry(store=store, clock=clock, rules=[self.rule()])
        ended = anyio.Event()

        def concluded(conclusion: Conclusion, _hook: object) -> None:
            self._check(conclusion)
            if conclusion.job.state.final:
                ended.set()

        warden = Warden(
            store=store,
            registry=registry,
            images=_Images(self.image),
            make_driver=self._driver,
            feed=Feed(),
            clock=clock,
            dice=lambda: 0.5,
            classes={CLASS: ClassPolicy(name=CLASS, budgets=BUDGETS)},
            parallel=1,
            on_conclusion=concluded,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, registry, warden)
            warden.shelve([self.release()])
            tasks.start_soon(warden.run)
            with anyio.move_on_after(limit_s):
                if not await self._has_ended(store):
                    await ended.wait()
            await anyio.sleep(
                5.0
            )  # without a version to ask for, the end comes before the device has started
            tasks.cancel_scope.cancel()
        return await store.run(
            lambda ledger: End(
                job=ledger.jobs(limit=1)[0],
                jobs=len(ledger.jobs(limit=100)),
                attempts=ledger.attempts(None, 100),
                wear=ledger.wear(ledger.devices()[0].id, clock.wall()),
                commits=self.commits,
            )
        )

    @staticmethod
    async def _has_ended(store: Store) -> bool:
        """Whether an earlier life of the host had come to the end already."""
        jobs = await store.run(lambda ledger: ledger.jobs(limit=1))
        return bool(jobs) and jobs[0].state.final

    async def _watch(self, registry: Registry, warden: Warden) -> None:
        while True:
            changed = anyio.Event()
            self.port.changed = changed.set
            with suppress(StoreError):  # the next scan tells it again
                came = await registry.take(self.port.sightings())
                if came is not None:
                    warden.plugged(came)
            with anyio.move_on_after(2.0):
                await changed.wait()

    def rule(self) -> ClassRule:
        return ClassRule(name=CLASS, path=self.port.address.path)

    def holds_it(self) -> bool:
        return self.port.client.complete

    def release(self) -> Release:
        return Release(
            device_class=CLASS,
            version=NEW,
            image=hash_of(self.image),
            size=len(self.image),
            manifest="panel.toml",
        )

    def _driver(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        del device
        settings = MdfuSettings(
            enter=EnterSend(data=b"BOOTLOADER!\n", expect=re.compile(rb"OK"), timeout_s=1.0),
            boot_delay_s=1.0,
            version_query=VERSION_QUERY if self.asks_version else None,
        )
        assert not isinstance(address, UsbAddress)
        return MdfuDriver(settings, address, journal, open_link=self.port.open, expected_version=job.version)

    def _check(self, conclusion: Conclusion) -> None:
        if conclusion.outcome is Outcome.SUCCEEDED and not self.holds_it():
            raise FalseSuccess(conclusion)

    def _before_commit(self) -> None:
        if self._dead or self.commits == self.kill_before:
            self._dead = True
            raise Killed
        number, self._tried = self._tried, self._tried + 1
        code = self.refuse(number)
        if code is not None:
            self.refused += 1
            raise storage_error(code)
        self.commits += 1

    def _after_commit(self) -> None:
        if self.commits - 1 == self.kill_after:
            self._dead = True
            raise Killed


class _Images:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def load(self, image: ImageHash) -> bytes:
        assert hash_of(self._content) == image
        return self._content


def assert_honest(story: Story, end: End) -> None:
    """What holds at the end of every story, whatever went wrong on the way."""
    client = story.port.client
    starts = sum(count for command, count in client.commands.items() if command == 2)
    assert client.started_partial == 0
    assert client.ended_partial == 0
    assert end.jobs == 1, "one release for one device is one job"
    assert end.wear.life >= starts, "wear is never counted short"
    assert end.job.state in {JobState.SUCCEEDED, JobState.UNKNOWN}
    assert client.running is not None
    assert client.running.version == NEW
