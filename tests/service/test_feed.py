"""The stream of what happens: order, resuming, readers that lag behind, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.service.feed import RECENT, RING, Feed
from support.house import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.service.views import FeedItem

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def publish(feed: Feed, *numbers: int) -> None:
    for number in numbers:
        feed.publish("log", {"event": "job-created", "job": number})


async def take(reading: AsyncGenerator[FeedItem, None], count: int) -> list[int]:
    """Read so many items, and no longer than a second."""
    with anyio.fail_after(1.0):
        return [(await anext(reading))["id"] for _ in range(count)]


async def test_a_reader_gets_what_comes_from_now_on() -> None:
    feed = Feed()
    publish(feed, 1, 2)
    reading = feed.read()

    async with anyio.create_task_group() as tasks:

        async def later() -> None:
            await anyio.sleep(0.1)
            publish(feed, 3)
            await anyio.sleep(0.1)
            publish(feed, 4)

        tasks.start_soon(later)
        assert await take(reading, 2) == [3, 4]
    await reading.aclose()


@pytest.mark.parametrize(("after", "ids"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (99, [1, 2, 3])])
async def test_a_reader_goes_on_where_it_was(after: int, ids: list[int]) -> None:
    """An id that was never given out is one of an earlier run."""
    feed = Feed()
    publish(feed, 1, 2, 3)
    reading = feed.read(after)
    assert await take(reading, len(ids)) == ids
    with pytest.raises(TimeoutError):
        await take(reading, 1)
    await reading.aclose()


async def test_a_reader_that_lags_goes_on_with_the_oldest_that_is_left() -> None:
    feed = Feed()
    reading = feed.read(0)
    publish(feed, 1)
    assert await take(reading, 1) == [1]
    publish(feed, *range(2, RING + 100))
    assert await take(reading, 1) == [100]
    await reading.aclose()


async def test_what_comes_while_a_reader_is_busy_is_not_missed() -> None:
    feed = Feed()
    reading = feed.read(0)
    publish(feed, 1, 2)
    assert await take(reading, 1) == [1]
    publish(feed, 3)
    assert await take(reading, 2) == [2, 3]
    await reading.aclose()


async def test_every_reader_gets_everything() -> None:
    feed = Feed()
    one, other = feed.read(0), feed.read(0)
    publish(feed, 1, 2)
    assert await take(one, 2) == await take(other, 2) == [1, 2]
    await one.aclose()
    await other.aclose()


async def test_the_end_comes_after_what_is_left() -> None:
    feed = Feed()
    publish(feed, 1, 2)
    feed.close()
    assert [item["id"] async for item in feed.read(1)] == [2]
    assert [item["id"] async for item in feed.read()] == []


async def test_the_end_reaches_readers_that_wait() -> None:
    feed = Feed()
    seen: list[int] = []

    async def read() -> None:
        seen.extend([item["id"] async for item in feed.read(0)])

    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(1.0)
            publish(feed, 1)
            feed.close()
    assert seen == [1]


async def test_what_happened_is_not_pushed_out_by_progress() -> None:
    feed = Feed()
    publish(feed, 1, 2)
    for _ in range(RING):
        feed.publish("progress", {"device": "panel-1", "step": "write", "done": 1, "total": 2})
    assert [item["data"]["job"] for item in feed.recent()] == [2, 1]
    publish(feed, *range(3, RECENT + 3))
    assert [feed.recent()[place]["data"]["job"] for place in (0, -1)] == [RECENT + 2, 3]
