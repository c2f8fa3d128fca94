"""The event stream: order, resuming, readers that do not read, and the end."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from firmwarden.control import connection, stream
from firmwarden.service.feed import RING, Feed
from support.memory_desk import MemoryDesk
from support.served import Served, served
from support.wire_http import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Message


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "control.sock", tcp=True) as running:
        yield running


class Reader:
    """Reads messages; unlike ``HTTPResponse.readline`` it tells a broken stream from one that ended."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.kind = response.headers.get_content_type()
        self._response = response
        self._rest = b""

    def message(self) -> dict[str, str] | None:
        while b"\n\n" not in self._rest:
            piece = self._response.read1(65_536)
            if not piece:
                assert self._rest == b""
                return None
            self._rest += piece
        head, _, self._rest = self._rest.partition(b"\n\n")
        pairs = (line.partition(":") for line in head.decode().split("\n"))
        return {name: value.removeprefix(" ") for name, _, value in pairs}

    def id(self) -> int:
        found = self.message()
        assert found is not None
        return int(found["id"])


@contextmanager
def reading(api: Served, path: str = "/v1/events", *, tcp: bool = False, **headers: str) -> Iterator[Reader]:
    connection = http.client.HTTPConnection("localhost")
    with connect(api, tcp=tcp) as sock:
        connection.sock = sock
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        yield Reader(connection.getresponse())


def publish(api: Served, desk: MemoryDesk, count: int, **data: Any) -> None:  # noqa: ANN401 - any JSON
    for _ in range(count):
        api.call(partial(desk.publish, "log", **data))


def wait_for_readers(api: Served, desk: MemoryDesk, count: int) -> None:
    while api.call(lambda: desk.readers) != count:
        pass


def test_events_come_as_they_happen_with_their_ids(api: Served, desk: MemoryDesk) -> None:
    publish(api, desk, 1, event="before")
    with reading(api) as response:
        assert response.kind == "text/event-stream"
        wait_for_readers(api, desk, 1)
        publish(api, desk, 1, event="attempt-failed", detail="zwei\nZeilen")
        first = response.message()
        assert first is not None
        assert (first["id"], first["event"]) == ("2", "log")
        assert json.loads(first["data"]) == {"event": "attempt-failed", "detail": "zwei\nZeilen"}
        api.call(partial(desk.publish, "progress", step="write", done=1, total=2))
        assert response.message() == {
            "id": "3",
            "event": "progress",
            "data": '{"step":"write","done":1,"total":2}',
        }


def test_a_reader_resumes_after_the_last_id_it_saw(api: Served, desk: MemoryDesk) -> None:
    publish(api, desk, 5, event="x")
    with reading(api, Last_Event_ID="3") as response:
        assert [response.id(), response.id()] == [4, 5]
    with reading(api, "/v1/events?after=4") as response:
        assert response.id() == 5
    # A browser repeats its first query when it reconnects.
    with reading(api, "/v1/events?after=0", Last_Event_ID="4") as response:
        assert response.id() == 5


def test_a_reader_that_was_away_too_long_sees_the_gap(api: Served, desk: MemoryDesk) -> None:
    publish(api, desk, RING + 20, event="x")
    with reading(api, Last_Event_ID="3") as response:
        assert response.message() == {
            "id": "20",
            "event": "gap",
            "data": '{"missed":17,"restarted":false}',
        }
        assert response.id() == 21


def test_a_reader_may_follow_one_device(api: Served, desk: MemoryDesk) -> None:
    publish(api, desk, 1, event="x", device="lamp-2")
    publish(api, desk, 1, event="x", device="panel-1")
    with reading(api, "/v1/events?after=0&device=panel") as response:
        assert response.id() == 2
    with reading(api, "/v1/events?device=nobody") as response:
        assert response.kind == "application/problem+json"


def test_a_silent_stream_shows_that_it_lives(
    api: Served, desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.01)
    with reading(api) as response:
        assert response.message() == {"": "still here"}
        publish(api, desk, 1, event="x")
        while (found := response.message()) == {"": "still here"}:
            pass
        assert found is not None
        assert found["id"] == "1"


def test_a_reader_that_leaves_is_forgotten(api: Served, desk: MemoryDesk) -> None:
    with reading(api):
        wait_for_readers(api, desk, 1)
    wait_for_readers(api, desk, 0)


def last_before_the_break(reader: Reader) -> int:
    last = 0
    try:
        while True:
            last = reader.id()
    except (http.client.IncompleteRead, ConnectionResetError):
        return last


def flood(api: Served, desk: MemoryDesk) -> None:
    """Publish more than the buffers between the server and a reader hold, in pieces that the ring holds."""
    for _ in range(20):
        publish(api, desk, 10, event="x" * 10_000)


@pytest.mark.parametrize("tcp", [False, True])
def test_inv6_a_reader_that_does_not_read_is_cut_and_can_resume(
    api: Served, desk: MemoryDesk, tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALL_S", 0.1)
    with reading(api, tcp=tcp) as stalled, reading(api, tcp=tcp) as lively:
        wait_for_readers(api, desk, 2)
        seen = 0
        while api.call(lambda: desk.readers) == 2:
            publish(api, desk, 10, event="x" * 10_000)
            for _ in range(10):
                seen += 1
                assert lively.id() == seen
        # What was on the way still comes; then the connection is gone, not cleanly ended.
        last = last_before_the_break(stalled)
    assert 0 < last < seen
    with reading(api, tcp=tcp, Last_Event_ID=str(last)) as response:
        assert response.id() == max(last + 1, seen - RING)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_stop_ends_open_streams_within_a_second(api: Served, desk: MemoryDesk, stalled: bool) -> None:
    with reading(api) as response:
        wait_for_readers(api, desk, 1)
        if stalled:
            flood(api, desk)
        started = time.monotonic()
        api.stop()
        assert time.monotonic() - started < 1
        if not stalled:
            assert response.message() is None  # a clean end, not IncompleteRead
    assert desk.readers == 0


@pytest.mark.anyio
async def test_inv6_who_catches_up_lets_others_go_on() -> None:
    feed = Feed()
    for _ in range(RING):
        feed.publish("log", {"event": "job-created"})
    sent: list[Message] = []

    async def take_at_once(message: Message) -> None:
        sent.append(message)

    async def stay() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    events = stream.EventStream(feed.read(0), stopping=anyio.Event(), abort=lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(events, {}, stay, take_at_once)
        rounds = 50
        for _ in range(rounds):
            await anyio.lowlevel.checkpoint()
        assert 0 < len(sent) <= rounds
        tasks.cancel_scope.cancel()
