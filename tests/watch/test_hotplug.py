"""Events become hints, also when they are lost or cannot be read; without events the daemon is told why."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from firmwarden.watch.hotplug import Hint, HotplugUnavailable, HotplugWatch, Source, UdevEvents

pytestmark = pytest.mark.anyio

_NETLINK_USERSOCK = 2
"""For what user space likes: behaves like the socket of uevents, and anybody may send."""
_GROUP = 1


class NetlinkEvents:
    """A source on a real netlink socket, whose errors on the way are the kernel's."""

    def __init__(self, reader: socket.socket, writer: socket.socket) -> None:
        self._reader, self._writer = reader, writer
        self.trouble: list[Exception] = []
        """Raised by the next calls of ``receive``."""

    def send(self, event: str) -> None:
        # Delivered to the group; then refused by the kernel, to which a copy is addressed too.
        with suppress(ConnectionRefusedError):
            self._writer.sendto(event.encode(), (0, _GROUP))

    def fileno(self) -> int:
        return self._reader.fileno()

    def receive(self) -> str | None:
        if self.trouble:
            raise self.trouble.pop(0)
        try:
            return self._reader.recv(4096).decode()
        except BlockingIOError:
            return None

    def lose_some(self) -> int:
        """Send more than the socket can hold; say how many there were."""
        sent = 4 * self._reader.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 512
        for number in range(sent):
            self.send(f"add ttyUSB{number}")
        return sent


@contextmanager
def netlink_events(kind_of_source: type[NetlinkEvents] = NetlinkEvents) -> Iterator[NetlinkEvents]:
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    with (
        socket.socket(socket.AF_NETLINK, kind, _NETLINK_USERSOCK) as reader,
        socket.socket(socket.AF_NETLINK, kind, _NETLINK_USERSOCK) as writer,
    ):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        reader.bind((0, _GROUP))
        yield kind_of_source(reader, writer)


@pytest.fixture
def events() -> Iterator[NetlinkEvents]:
    with netlink_events() as made:
        yield made


async def test_what_came_together_is_one_hint(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    for name in ("add 1-1.4", "add ttyACM0", "add ttyACM1"):
        events.send(name)

    hint = await watch.next_hint()

    assert hint.events == ("add 1-1.4", "add ttyACM0", "add ttyACM1")
    assert not hint.missed


async def test_a_hint_is_waited_for(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    async with anyio.create_task_group() as tasks:

        async def plug_in_later() -> None:
            await anyio.wait_all_tasks_blocked()
            events.send("remove ttyUSB3")

        tasks.start_soon(plug_in_later)
        assert (await watch.next_hint()).events == ("remove ttyUSB3",)


class EndlessEvents(NetlinkEvents):
    """A hub gone mad."""

    def receive(self) -> str | None:
        return "change ttyUSB0"


async def test_inv6_a_storm_does_not_keep_the_loop() -> None:
    others_ran = 0

    async def other() -> None:
        nonlocal others_ran
        while True:
            others_ran += 1
            await anyio.lowlevel.checkpoint()

    with netlink_events(EndlessEvents) as events:
        events.send("change ttyUSB0")
        watch = HotplugWatch(events)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for turn in range(1, 10):
                assert (await watch.next_hint()).events
                assert others_ran >= turn
            tasks.cancel_scope.cancel()


async def test_inv7_lost_events_are_one_hint_and_the_watch_goes_on(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    sent = events.lose_some()

    hint = await watch.next_hint()

    assert hint.missed
    assert len(hint.events) < sent
    events.send("add ttyUSB0")
    assert await watch.next_hint() == Hint(events=("add ttyUSB0",))


@pytest.mark.parametrize(
    "trouble",
    [
        OSError("Error while polling fd: 7"),  # what pyudev says of an overrun
        OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
        ValueError("Invalid argument"),
        OverflowError("Value too large"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
async def test_inv7_an_event_that_cannot_be_read_is_a_hint_too(
    events: NetlinkEvents, trouble: Exception
) -> None:
    watch = HotplugWatch(events)
    events.trouble = [trouble]
    events.send("add ttyUSB0")

    hint = await watch.next_hint()

    assert (hint.missed, hint.events) == (True, ())
    assert (await watch.next_hint()).events == ("add ttyUSB0",)


async def test_a_source_that_only_fails_is_given_up(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    events.trouble = [OSError(errno.EIO, "no more")] * 16
    events.send("add ttyUSB0")
    for _ in range(15):
        assert (await watch.next_hint()).missed

    with pytest.raises(HotplugUnavailable, match="no more"):
        await watch.next_hint()


async def test_failures_now_and_then_are_no_reason_to_give_up(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    for _ in range(100):
        events.trouble = [OSError(errno.EIO, "now and then")]
        events.send("add ttyUSB0")
        assert (await watch.next_hint()).missed
        assert (await watch.next_hint()).events == ("add ttyUSB0",)


async def test_waiting_can_be_cancelled_and_taken_up_again(events: NetlinkEvents) -> None:
    watch = HotplugWatch(events)
    with anyio.move_on_after(0.01) as scope:
        await watch.next_hint()
    assert scope.cancelled_caught

    events.send("add ttyUSB0")

    assert (await watch.next_hint()).events == ("add ttyUSB0",)


@pytest.mark.parametrize(("udevd_runs", "source"), [(True, Source.UDEV), (False, Source.KERNEL)])
async def test_udevd_is_listened_to_where_it_runs(tmp_path: Path, udevd_runs: bool, source: Source) -> None:
    if udevd_runs:
        (tmp_path / "control").touch()

    events = UdevEvents(udev_run=tmp_path)

    assert events.source is source
    # A real netlink socket of libudev; without a plug there may be no event, and reading does not wait for one.
    assert events.fileno() >= 0
    events.receive()


async def test_without_libudev_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyudev._ctypeslib.utils.find_library", lambda _name: None)

    with pytest.raises(HotplugUnavailable, match="libudev1"):
        UdevEvents()
