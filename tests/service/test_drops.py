"""Who dropped which release is in the history: once, with the owner of the file, also through restarts."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.errors import StoreError
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.images.formats import ImageRules
from firmwarden.model import Action, ClassName
from firmwarden.service.criteria import Criteria
from firmwarden.service.drops import SETTLED_S, Drops
from firmwarden.service.intake import Intake
from firmwarden.service.trust import Trust
from firmwarden.store.store import Store
from support.drop import Clock, Drop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PANEL: Final = ClassName("panel")
CONTENT: Final = b"firmware" * 500
OTHER: Final = b"another " * 500
ME: Final = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio"


@pytest.fixture
async def store() -> AsyncGenerator[Store]:
    store = await Store.open(None)
    yield store
    await store.aclose()


class Gateway:
    """A firmware directory that is looked at now and then, and what is on record of it."""

    def __init__(self, place: Path, store: Store) -> None:
        self.drop = Drop(place / "firmware")
        self.drop.directory.mkdir()
        self.clock = Clock.long_after()
        self._images = ImageStore(place / "images")
        self._images.open()
        self._store = store
        self.start()

    def start(self) -> None:
        """Start, or start anew."""
        criteria = Criteria({PANEL: ImageRules()}, Trust(unsigned=frozenset({PANEL})))
        self._intake = Intake(self.drop.directory, self._images, criteria, self.clock)
        self._drops = Drops(self.drop.directory, self._store, self.clock)

    async def look(self, later_s: float = 0.0) -> list[tuple[str, str, str, str]]:
        """Look at the directory and return what is new in the history, oldest first."""
        before = len(await self.acts())
        self.clock.now += later_s
        await self._drops.note(await self._intake.scan())
        return [(act.who, act.what, act.target, act.detail) for act in (await self.acts())[before:]]

    async def acts(self) -> list[Action]:
        return (await self._store.run(lambda ledger: ledger.actions(10_000)))[::-1]

    async def sent(self, who: str, what: str) -> None:
        """Record that somebody sent what is there next."""
        act = Action(at=self.clock.now, who=who, what="upload", target="a.toml", detail=what)
        await self._store.run(lambda ledger: ledger.record(act))


@pytest.fixture
def gateway(tmp_path: Path, store: Store) -> Gateway:
    return Gateway(tmp_path, store)


def told(content: bytes, version: str = "1.0.0") -> str:
    return f"panel {version}, image {hash_of(content)[:12]}"


async def test_what_comes_changes_and_goes_is_recorded_once(gateway: Gateway) -> None:
    assert await gateway.look() == []
    gateway.drop.release("a", CONTENT)
    assert await gateway.look() == [(ME, "drop", "a.toml", told(CONTENT))]
    assert (await gateway.acts())[-1].at == gateway.clock.now
    assert await gateway.look(60.0) == []
    gateway.start()
    assert await gateway.look(60.0) == [], "a start is no act"
    gateway.drop.release("a", OTHER, version="2.0.0")
    assert await gateway.look(60.0) == [(ME, "drop", "a.toml", told(OTHER, "2.0.0"))]
    (gateway.drop.directory / "a.toml").unlink()
    assert await gateway.look(60.0) == [("somebody", "withdraw", "a.toml", told(OTHER, "2.0.0"))]
    gateway.drop.release("a", OTHER, version="2.0.0")
    assert await gateway.look(60.0) == [(ME, "drop", "a.toml", told(OTHER, "2.0.0"))], "and that is another"


async def test_what_was_done_while_nobody_looked_is_recorded_at_the_next_start(gateway: Gateway) -> None:
    gateway.drop.release("a", CONTENT)
    await gateway.look()
    (gateway.drop.directory / "a.toml").unlink()
    gateway.drop.release("b", OTHER, version="2.0.0")
    gateway.start()
    assert await gateway.look(60.0) == [
        (ME, "drop", "b.toml", told(OTHER, "2.0.0")),
        ("somebody", "withdraw", "a.toml", told(CONTENT)),
    ]


async def test_a_refusal_is_recorded_when_it_stands(gateway: Gateway) -> None:
    gateway.drop.manifest("a", CONTENT)
    assert await gateway.look() == [], "the image may be under way"
    gateway.drop.file("a.img", CONTENT)
    assert await gateway.look(1.0) == [(ME, "drop", "a.toml", told(CONTENT))]
    gateway.drop.file("b.toml", b"nonsense")
    assert await gateway.look(1.0) == []
    ((who, what, target, detail),) = await gateway.look(SETTLED_S)
    assert (who, what, target) == (ME, "drop", "b.toml")
    assert detail.startswith("refused: b.toml:1")
    assert await gateway.look(SETTLED_S) == []
    gateway.start()
    assert await gateway.look() == await gateway.look(SETTLED_S) == []


async def test_of_a_long_reason_the_beginning_is_recorded(gateway: Gateway) -> None:
    gateway.drop.file("a.toml", b"".join(b"k%d = 1\n" % number for number in range(100)))
    await gateway.look()
    ((_, _, _, detail),) = await gateway.look(SETTLED_S)
    assert detail.startswith("refused: a.toml:1")
    assert detail.endswith("...")
    assert len(detail) < 500
    gateway.start()
    assert await gateway.look() == await gateway.look(SETTLED_S) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_the_owner_of_the_file_is_who_dropped_it(gateway: Gateway) -> None:
    gateway.drop.release("a", CONTENT)
    os.chown(gateway.drop.directory / "a.toml", 54_321, -1)
    assert await gateway.look() == [("uid 54321", "drop", "a.toml", told(CONTENT))]


async def test_what_was_sent_stays_the_act_of_who_sent_it(gateway: Gateway) -> None:
    await gateway.sent("ann", told(CONTENT))
    gateway.drop.release("a", CONTENT)
    assert await gateway.look() == []
    gateway.drop.release("a", OTHER)
    assert await gateway.look() == [(ME, "drop", "a.toml", told(OTHER))]


async def test_a_directory_that_cannot_be_read_takes_nothing_away(gateway: Gateway) -> None:
    gateway.drop.release("a", CONTENT)
    await gateway.look()
    directory = gateway.drop.directory
    directory.rename(directory.with_name("away"))
    assert await gateway.look(60.0) == []
    gateway.start()
    assert await gateway.look(60.0) == []


async def test_inv5_what_could_not_be_written_is_recorded_later(tmp_path: Path) -> None:
    full = False

    def before_commit() -> None:
        if full:
            raise OSError(28, "No space left on device")

    store = await Store.open(None, before_commit=before_commit)
    gateway = Gateway(tmp_path, store)
    gateway.drop.release("a", CONTENT)
    full = True
    with pytest.raises((StoreError, OSError)):
        await gateway.look()
    full = False
    assert await gateway.look() == [(ME, "drop", "a.toml", told(CONTENT))]
    await store.aclose()


async def test_thousands_of_files_are_one_transaction_and_then_none(tmp_path: Path) -> None:
    commits = 0

    def after_commit() -> None:
        nonlocal commits
        commits += 1

    store = await Store.open(None, after_commit=after_commit)
    gateway = Gateway(tmp_path, store)
    for number in range(2_000):
        gateway.drop.file(f"{number}.toml", b"nonsense")
    await gateway.look()
    before = commits
    assert len(await gateway.look(SETTLED_S)) == 2_000
    assert commits - before == 1
    before = commits
    assert await gateway.look(SETTLED_S) == []
    assert commits == before
    await store.aclose()
