"""The sign of life of the store: bounded in time, and one look however many ask."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from firmwarden.errors import StoreError, Unavailable
from firmwarden.service import pulse as module
from firmwarden.service.clock import SystemClock
from firmwarden.service.pulse import Pulse
from firmwarden.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from firmwarden.store.ledger import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    opened = await Store.open(tmp_path / "firmwarden.db")
    yield opened
    await opened.aclose()


async def test_a_store_that_answers_is_alive(store: Store) -> None:
    pulse = Pulse(store, SystemClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.run)
        for _ in range(3):
            assert 0.0 <= await pulse.feel() < module.ANSWER_S
        tasks.cancel_scope.cancel()


async def test_the_store_has_peace_unless_somebody_asks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, run = 0, store.run

    async def counted(work: Callable[[Ledger], object]) -> object:
        nonlocal looks
        looks += 1
        return await run(work)

    monkeypatch.setattr(store, "run", counted)
    pulse = Pulse(store, SystemClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.run)
        for asked in (0, 1, 2):
            if asked:
                await pulse.feel()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert looks == asked
        tasks.cancel_scope.cancel()


async def test_inv6_questions_do_not_pile_up_behind_a_stuck_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.1)
    pulse = Pulse(store, SystemClock())
    stuck, release = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        stuck.set()
        release.wait()

    refused = []

    async def ask() -> None:
        try:
            await pulse.feel()
        except Unavailable as exc:
            refused.append(str(exc))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.run)
        async with anyio.create_task_group() as work:
            work.start_soon(store.run, hang)
            try:
                await anyio.to_thread.run_sync(stuck.wait)
                threads = threading.active_count()
                async with anyio.create_task_group() as asking:
                    for _ in range(50):
                        asking.start_soon(ask)
                assert len(refused) == 50
                # Threads of an event loop that has ended may still be going.
                assert threading.active_count() <= threads
            finally:
                release.set()
        assert await pulse.feel() >= 0.0
        tasks.cancel_scope.cancel()


async def test_a_store_that_fails_says_why(store: Store) -> None:
    pulse = Pulse(store, SystemClock())
    await store.aclose()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.run)
        with pytest.raises(StoreError):
            await pulse.feel()
        tasks.cancel_scope.cancel()
