"""The stream of what happens: order, resuming, readers that lag behind, and its end."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.service.feed import RECENT, RING, RUNS, Feed
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


async def test_who_reads_on_after_the_last_id_misses_nothing_that_comes() -> None:
    feed = Feed(run=7)
    before = feed.last_id
    publish(feed, 1, 2)
    between = feed.last_id
    publish(feed, 3)
    async with aclosing(feed.read(before)) as reading:
        assert await take(reading, 3) == [before + 1, before + 2, before + 3]
    async with aclosing(feed.read(between)) as reading:
        assert await take(reading, 1) == [feed.last_id]


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


async def next_of(reading: AsyncGenerator[FeedItem, None]) -> FeedItem:
    with anyio.fail_after(1.0):
        return await anext(reading)


@pytest.mark.parametrize(("after", "ids"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3])])
async def test_a_reader_goes_on_where_it_was(after: int, ids: list[int]) -> None:
    feed = Feed()
    publish(feed, 1, 2, 3)
    reading = feed.read(after)
    assert await take(reading, len(ids)) == ids
    with pytest.raises(TimeoutError):
        await take(reading, 1)
    await reading.aclose()


async def test_zero_is_the_oldest_in_any_run() -> None:
    feed = Feed(run=3)
    publish(feed, 1)
    reading = feed.read(0)
    assert (await next_of(reading))["kind"] == "log"
    await reading.aclose()


async def test_a_reader_that_lags_is_told_so_and_goes_on_with_the_oldest_that_is_left() -> None:
    feed = Feed()
    reading = feed.read(0)
    publish(feed, 1)
    assert await take(reading, 1) == [1]
    publish(feed, *range(2, RING + 100))
    gap = await next_of(reading)
    assert gap == {"id": 99, "kind": "gap", "data": {"missed": 98, "restarted": False}}
    assert await take(reading, 1) == [100]
    await reading.aclose()


async def test_a_reader_that_was_away_for_too_long_is_told_so() -> None:
    feed = Feed(run=5)
    publish(feed, *range(RING + 10))
    first = feed.recent()[-1]["id"] - (RING - RECENT)
    reading = feed.read(first - 3)
    assert (await next_of(reading))["data"] == {"missed": 2, "restarted": False}
    assert await take(reading, 2) == [first, first + 1]
    await reading.aclose()


@pytest.mark.parametrize(("before", "now"), [(3, 4), (4, 3)])
async def test_a_reader_of_an_earlier_run_misses_nothing_of_this_one(before: int, now: int) -> None:
    """Ids that began anew would hide what is told now from a reader that has seen more of what was told then."""
    earlier, feed = Feed(run=before), Feed(run=now)
    publish(earlier, *range(800))
    publish(feed, *range(900))
    seen = earlier.recent()[0]["id"]
    reading = feed.read(seen)
    gap = await next_of(reading)
    assert gap["kind"] == "gap"
    assert gap["data"] == {"missed": 0, "restarted": True}
    assert [(await next_of(reading))["data"]["job"] for _ in range(900)] == [*range(900)]
    await reading.aclose()

    # and one that resumes after the gap is not told of it again
    reading = feed.read(gap["id"])
    assert (await next_of(reading))["kind"] == "log"
    await reading.aclose()


async def test_after_a_restart_without_news_the_gap_is_told_once() -> None:
    feed = Feed(run=7)
    reading = feed.read(3)
    gap = await next_of(reading)
    assert gap["data"] == {"missed": 0, "restarted": True}
    with pytest.raises(TimeoutError):
        await next_of(reading)
    publish(feed, 1)
    reading = feed.read(gap["id"])
    assert await take(reading, 1) == [gap["id"] + 1]
    await reading.aclose()


def test_every_id_is_a_number_that_any_script_holds_exactly() -> None:
    feed = Feed(run=RUNS - 1)
    publish(feed, 1)
    assert feed.recent()[0]["id"] + 1_000_000_000 < 2**53


async def test_a_reader_may_follow_one_device() -> None:
    feed = Feed()
    for device in ("a", "b", "a"):
        feed.publish("log", {"event": "job-created", "device": device})
    feed.publish("log", {"event": "daemon-ready"})
    feed.close()
    assert [item["id"] async for item in feed.read(0, "a")] == [1, 3]


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
