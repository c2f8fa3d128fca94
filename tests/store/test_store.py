"""The store's two rules: what returned is on disk, what raised is not; and the caller always knows which."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
import trio.testing

from firmwarden.errors import StoreError
from firmwarden.store.store import Store, configure
from support.stored import NOON, enroll

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.store.ledger import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def count(ledger: Ledger) -> int:
    return len(ledger.devices())


def pragma(name: str) -> Callable[[Ledger], object]:
    def work(ledger: Ledger) -> object:
        (row,) = ledger._all(f"PRAGMA {name}")  # noqa: SLF001  what the connection does is under test
        return row[0]

    return work


async def test_inv5_what_returned_is_there_after_reopening(path: Path) -> None:
    store = await Store.open(path)
    id_ = await store.run(lambda ledger: enroll(ledger, 1))
    await store.aclose()
    store = await Store.open(path)
    device = await store.run(lambda ledger: ledger.device(id_))
    await store.aclose()
    assert device is not None
    assert (device.key, device.label, device.port) == ("serial:1", "panel 1", "/dev/ttyACM1")
    assert device.first_seen == device.last_seen == NOON


async def test_inv5_what_raised_left_nothing(path: Path) -> None:
    def half(ledger: Ledger) -> None:
        enroll(ledger, 1)
        raise RuntimeError("a defect in the middle")

    store = await Store.open(path)
    with pytest.raises(RuntimeError, match="a defect in the middle"):
        await store.run(half)
    assert await store.run(count) == 0
    await store.run(lambda ledger: enroll(ledger, 2))
    assert await store.run(count) == 1
    await store.aclose()


async def test_inv5_each_commit_survives_a_power_cut(path: Path) -> None:
    store = await Store.open(path)
    assert await store.run(pragma("journal_mode")) == "wal"
    assert await store.run(pragma("synchronous")) == 2  # FULL
    assert await store.run(pragma("foreign_keys")) == 1
    await store.aclose()


def test_a_file_system_without_write_ahead_log_is_refused(path: Path) -> None:
    # SQLite's own locking by files that exist or not: it has no shared memory, as some network file systems.
    connection = sqlite3.connect(f"file:{path}?vfs=unix-dotfile", uri=True, isolation_level=None)
    with pytest.raises(
        StoreError, match="cannot hold a write-ahead log; put state_dir on a local file system"
    ):
        configure(connection, str(path))
    connection.close()


async def test_inv5_a_transaction_under_way_is_carried_through_when_cancelled(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(ledger: Ledger) -> str:
        started.set()
        assert go_on.wait(20)
        return enroll(ledger, 1)

    store = await Store.open(path)
    answer = ""

    async def ask() -> None:
        nonlocal answer
        answer = await store.run(slow)
        await anyio.lowlevel.checkpoint()
        pytest.fail("a cancelled task went on")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert tasks.cancel_scope.cancelled_caught
    devices = await store.run(lambda ledger: ledger.devices())
    assert [device.id for device in devices] == [answer]
    await store.aclose()


async def test_inv5_a_transaction_that_waits_its_turn_is_cancelled_whole(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(ledger: Ledger) -> None:
        started.set()
        assert go_on.wait(20)
        enroll(ledger, 1)

    store = await Store.open(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run, slow)
        await anyio.to_thread.run_sync(started.wait)
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(store.run, lambda ledger: enroll(ledger, 2))
            await anyio.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        # It ended while the first still has the turn.
        assert not go_on.is_set()
        go_on.set()
    assert [device.key for device in await store.run(lambda ledger: ledger.devices())] == ["serial:1"]
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancellation_does_not_let_a_second_transaction_into_the_first(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(ledger: Ledger) -> None:
        enroll(ledger, 1)
        started.set()
        assert go_on.wait(20)
        raise RuntimeError("roll this back, and only this")

    store = await Store.open(path)
    task = asyncio.create_task(store.run(slow))
    await anyio.to_thread.run_sync(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run, lambda ledger: enroll(ledger, 2))
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert [device.key for device in await store.run(lambda ledger: ledger.devices())] == ["serial:2"]
    await store.aclose()


async def test_inv6_waiters_take_no_thread_from_anybody(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(_: Ledger) -> None:
        started.set()
        assert go_on.wait(20)

    store = await Store.open(path)
    free = anyio.to_thread.current_default_thread_limiter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run, slow)
        await anyio.to_thread.run_sync(started.wait)
        for _ in range(50):
            tasks.start_soon(store.run, count)
        await anyio.wait_all_tasks_blocked()
        assert free.borrowed_tokens == 0
        go_on.set()
    await store.aclose()


async def test_failpoints_stand_on_both_sides_of_a_commit_that_changed_something(path: Path) -> None:
    calls: list[str] = []
    store = await Store.open(
        path, before_commit=lambda: calls.append("before"), after_commit=lambda: calls.append("after")
    )
    await store.run(count)
    assert calls == []
    await store.run(lambda ledger: enroll(ledger, 1))
    assert calls == ["before", "after"]
    await store.aclose()


async def test_what_a_failpoint_raises_before_a_commit_rolls_back_and_after_it_does_not(path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("cut")

    store = await Store.open(path, before_commit=fail)
    with pytest.raises(RuntimeError, match="cut"):
        await store.run(lambda ledger: enroll(ledger, 1))
    assert await store.run(count) == 0
    await store.aclose()
    store = await Store.open(path, after_commit=fail)
    with pytest.raises(RuntimeError, match="cut"):
        await store.run(lambda ledger: enroll(ledger, 1))
    assert await store.run(count) == 1
    await store.aclose()


@pytest.mark.parametrize("inline", [False, True])
async def test_in_memory_nothing_is_left_behind(
    inline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await Store.open(None, inline=inline)
    await store.run(lambda ledger: enroll(ledger, 1))
    assert await store.run(count) == 1
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})])
async def test_inline_a_virtual_clock_does_not_run_away() -> None:
    store = await Store.open(None, inline=True)
    before = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 3600)
        for number in range(20):
            await store.run(lambda ledger, number=number: enroll(ledger, number))  # type: ignore[misc]
        assert anyio.current_time() == before
        tasks.cancel_scope.cancel()
    await store.aclose()


async def test_inline_a_cancelled_transaction_has_not_begun() -> None:
    store = await Store.open(None, inline=True)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.run(lambda ledger: enroll(ledger, 1))
    assert scope.cancelled_caught
    assert await store.run(count) == 0
    await store.aclose()


async def test_closing_waits_for_what_is_under_way_also_when_cancelled(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(ledger: Ledger) -> None:
        started.set()
        assert go_on.wait(20)
        enroll(ledger, 1)

    store = await Store.open(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run, slow)
        await anyio.to_thread.run_sync(started.wait)
        tasks.start_soon(store.aclose)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        go_on.set()
    store = await Store.open(path)
    assert await store.run(count) == 1
    await store.aclose()


async def test_a_closed_store_says_so_and_closes_again(path: Path) -> None:
    store = await Store.open(path)
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        await store.run(count)
