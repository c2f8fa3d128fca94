"""Server-sent events (WHATWG HTML, 9.2) for readers of any speed.

A reader that takes nothing for a while is cut, as every peer is (``connection``); it comes back with ``Last-Event-ID``
and finds what the desk still remembers.  So nothing here queues: what one reader costs is what the kernel buffers.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel
from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from firmwarden.service.views import FeedItem

HEARTBEAT_S: Final = 15.0
"""What the HTML standard recommends against proxies that drop silent connections."""

_FAREWELL_S: Final = 0.2
"""The clean end of a stream may wait so long for a reader; the stop of the daemon waits for it."""


class EventStream(StreamingResponse):
    """One reader's stream; ends when the reader leaves or is cut, and when the daemon stops."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: AsyncGenerator[FeedItem, None], *, stopping: anyio.Event, abort: Callable[[], None]
    ) -> None:
        super().__init__((), headers={"cache-control": "no-store"})
        self._feed = feed
        self._stopping = stopping
        self._abort = abort

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run until one of the reasons to end comes true."""
        del scope

        async def until_the_feed_ends() -> None:
            async for item in self._feed:
                await _write(send, _encode(item))
                # To write what the kernel takes at once does not wait, and there may be thousands to catch up with.
                await anyio.lowlevel.checkpoint()

        async def show_life() -> None:
            while True:
                await anyio.sleep(HEARTBEAT_S)
                await _write(send, b": still here\n\n")

        async def until_the_reader_leaves() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with aclosing(self._feed), anyio.create_task_group() as group:

            async def first(reason: Callable[[], Awaitable[object]]) -> None:
                await reason()
                group.cancel_scope.cancel()

            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for reason in (
                until_the_feed_ends,
                show_life,
                until_the_reader_leaves,
                self._stopping.wait,
            ):
                group.start_soon(first, reason)
        with anyio.move_on_after(_FAREWELL_S) as limit:
            await _write(send, b"", last=True)
        if limit.cancelled_caught:
            self._abort()


async def _write(send: Send, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def _encode(item: FeedItem) -> bytes:
    data = json.dumps(item["data"], ensure_ascii=False, separators=(",", ":"))
    return f"id: {item['id']}\nevent: {item['kind']}\ndata: {data}\n\n".encode()
