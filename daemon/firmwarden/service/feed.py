"""What happens, as one stream for everybody who watches: log events and samples of progress.

A ring of the latest items, each with a growing id, so that a reader who was cut off can go on where it was.
Readers pull at their own pace; one that falls behind the ring continues with the oldest item that is left.
Nothing here is durable: what must last is in the store.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.service.views import FeedItem

RING: Final = 2_000
"""Items kept: minutes of a busy rack, under 2 MB."""

RECENT: Final = 500
"""Log events kept for who looks later: samples of progress, which are many, do not push them out."""


class Feed:
    """The ring and those who wait for its next item."""

    def __init__(self) -> None:
        self._items: deque[FeedItem] = deque(maxlen=RING)
        self._events: deque[FeedItem] = deque(maxlen=RECENT)
        self._next_id = 1
        self._arrival = anyio.Event()
        self._closed = False

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

    async def read(self, after: int | None = None) -> AsyncGenerator[FeedItem, None]:
        """Yield items as they come.

        Args:
            after: the id that the reader saw last; None starts with the next item to come, and one that was never
                given out (by an earlier run) starts with the oldest item.
        """
        newest = self._next_id - 1
        last = newest if after is None else after if after <= newest else 0
        while True:
            arrival = self._arrival
            for item in [item for item in self._items if item["id"] > last]:
                yield item
                last = item["id"]
            if arrival.is_set():
                continue
            if self._closed:
                return
            await arrival.wait()

    def _wake(self) -> None:
        self._arrival.set()
        self._arrival = anyio.Event()
