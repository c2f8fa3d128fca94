"""What happens, as one stream for everybody who watches: log events and samples of progress.

A ring of the latest items, each with a growing id, so that a reader who was cut off can go on where it was.
Readers pull at their own pace; one that falls behind the ring is told how many it missed, and continues with the
oldest item that is left.  So does one that comes back with an id of an earlier run of the daemon: ids begin with the
number of the run, since no clock can be trusted to say which run was first.
Nothing here is durable: what must last is in the store.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.service.views import FeedItem

RING: Final = 2_000
"""Items kept: minutes of a busy rack, under 2 MB."""

RECENT: Final = 500
"""Log events kept for who looks later: samples of progress, which are many, do not push them out."""


RUNS: Final = 1 << 21
_ROOM: Final = 1 << 32
"""Ids of one run: a year of a hundred items a second.  Times ``RUNS`` that is what a script's number holds exactly."""


class Feed:
    """The ring and those who wait for its next item."""

    def __init__(self, run: int = 0) -> None:
        """Begin a run; another number, below ``RUNS``, tells its ids from those of other runs."""
        self._items: deque[FeedItem] = deque(maxlen=RING)
        self._events: deque[FeedItem] = deque(maxlen=RECENT)
        self._start = run * _ROOM
        """The id before the first one."""
        self._next_id = self._start + 1
        self._arrival = anyio.Event()
        self._closed = False

    @property
    def last_id(self) -> int:
        """The id of the latest item; before the first, one that nothing has and that may be read on after."""
        return self._next_id - 1

    def publish(self, kind: Literal["log", "progress"], data: dict[str, object]) -> None:
        """Append an item and wake the readers.  Call from the event loop's thread."""
        item: FeedItem = {"id": self._next_id, "kind": kind, "data": data}
        self._items.append(item)
        if kind == "log":
            self._events.append(item)
        self._next_id += 1
        self._wake()

    def close(self) -> None:
        """End every reader's iteration after what is left."""
        self._closed = True
        self._wake()

    def recent(self) -> list[FeedItem]:
        """List the latest log events, newest first."""
        return list(reversed(self._events))

    async def read(
        self, after: int | None = None, device: str | None = None
    ) -> AsyncGenerator[FeedItem, None]:
        """Yield items as they come, and a ``gap`` in the place of those that are no longer there.

        Args:
            after: the id that the reader saw last; None starts with the next item to come, 0 with the oldest.
            device: only what concerns this one.
        """
        last = self.last_id if after is None else after or self._start
        while True:
            arrival = self._arrival
            gap = self._gap(last)
            if gap is not None:
                yield gap
                last = gap["id"]
            for item in self._newest(self.last_id - last):
                if device is None or item["data"].get("device") == device:
                    yield item
                last = item["id"]
            if arrival.is_set():
                continue
            if self._closed:
                return
            await arrival.wait()

    def _newest(self, count: int) -> list[FeedItem]:
        # From the end: there are many readers, and mostly one item that is new to them.
        return list(islice(reversed(self._items), count))[::-1]

    def _gap(self, last: int) -> FeedItem | None:
        """Say what a reader misses that saw ``last`` before; the id is that of the last item it misses."""
        restarted = not self._start <= last < self._next_id
        before = (self._items[0]["id"] if self._items else self._next_id) - 1
        missed = before - (self._start if restarted else last)
        if missed <= 0 and not restarted:
            return None
        return {"id": before, "kind": "gap", "data": {"missed": missed, "restarted": restarted}}

    def _wake(self) -> None:
        self._arrival.set()
        self._arrival = anyio.Event()
