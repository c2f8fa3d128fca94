"""What every link must do, on every link that there is: the port, the socket, and the one in memory.

The one in memory runs on trio's fake clock too.  Bytes and deadlines of real links need a little real time; waits are
as short as the margins of the links allow.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from firmwarden.errors import AttemptFailed, LinkLost
from firmwarden.model import CauseCode
from firmwarden.protocol.machine import Quiet, Send
from firmwarden.transport.link import INBOX_LIMIT
from firmwarden.transport.opening import open_link
from support.asking import Asking, Heard
from support.memory_link import memory_pair
from support.peers import Peer, PtyPeer, TcpPeer, tcp_listener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from firmwarden.transport.link import Link

pytestmark = pytest.mark.anyio

MARGIN_S = 0.6
"""More than any link adds to a deadline, with room for a busy machine."""


@asynccontextmanager
async def _serial() -> AsyncGenerator[tuple[Link, Peer]]:
    peer = PtyPeer()
    link = await open_link(peer.address)
    try:
        yield link, peer
    finally:
        await link.aclose()
        peer.close()


@asynccontextmanager
async def _tcp() -> AsyncGenerator[tuple[Link, Peer]]:
    with tcp_listener() as listener:
        link = await open_link(listener.address)
        peer: TcpPeer = await listener.accept()
        try:
            yield link, peer
        finally:
            await link.aclose()
            await peer.hang_up()


@asynccontextmanager
async def _memory() -> AsyncGenerator[tuple[Link, Peer]]:
    link, peer = memory_pair()
    try:
        yield link, peer
    finally:
        await link.aclose()
        await peer.hang_up()


@dataclass(frozen=True)
class Kind:
    backend: str
    pair: Callable[[], AbstractAsyncContextManager[tuple[Link, Peer]]]


REAL = [
    pytest.param(Kind("asyncio", _serial), id="serial"),
    pytest.param(Kind("asyncio", _tcp), id="tcp"),
]


@pytest.fixture(
    params=[
        *REAL,
        pytest.param(Kind("asyncio", _memory), id="memory"),
        pytest.param(Kind("trio", _memory), id="memory-trio"),
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def anyio_backend(kind: Kind) -> tuple[str, dict[str, Any]]:
    if kind.backend == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {}


def ask(data: bytes, timeout_s: float = 5.0, delay_s: float = 0.0) -> Send:
    return Send(data, timeout_s, answer_size=8, delay_s=delay_s)


async def hear(peer: Peer, size: int) -> bytes:
    """Return exactly so many bytes from the host."""
    heard = b""
    while len(heard) < size:
        part = await peer.receive()
        assert part, f"the host hung up after {heard!r}"
        heard += part
    assert len(heard) == size
    return heard


async def test_a_conversation_sends_receives_and_returns_at_its_milestone(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            for number in range(200):
                assert await hear(peer, 4) == b"%03d\n" % number
                await peer.send(b"a%03d\n" % number)

        tasks.start_soon(answer)
        heard = await link.converse(Asking([ask(b"%03d\n" % number) for number in range(200)]))

    assert heard == Heard(tuple(b"a%03d" % number for number in range(200)), 0)


async def test_a_conversation_goes_on_after_a_milestone(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await hear(peer, 1)
            await peer.send(b"!one\n")
            await hear(peer, 1)
            await peer.send(b"two\n")

        tasks.start_soon(answer)
        machine = Asking([ask(b"1"), ask(b"2")])
        assert await link.converse(machine) == Heard((b"!one",), 0)
        assert await link.converse(machine) == Heard((b"!one", b"two"), 0)


async def test_an_answer_may_come_in_any_pieces(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await hear(peer, 1)
            for byte in b"answer\n":
                await peer.send(bytes((byte,)))
                await anyio.sleep(0.001)

        tasks.start_soon(answer)
        assert await link.converse(Asking([ask(b"1")])) == Heard((b"answer",), 0)


async def test_bytes_that_came_before_are_not_lost(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await peer.send(b"early\n")
        await anyio.sleep(0.05)
        assert await link.converse(Asking([ask(b"1")])) == Heard((b"early",), 0)


async def test_a_deadline_passes_once_for_each_send(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        began = anyio.current_time()
        heard = await link.converse(Asking([ask(b"1", 0.1), ask(b"2", 0.1)], patience=2))
        took = anyio.current_time() - began

        assert heard == Heard((), 2)
        assert 0.2 <= took < 0.2 + 2 * MARGIN_S
        assert await hear(peer, 2) == b"12"


async def test_a_shorter_deadline_after_a_longer_one_is_kept(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await hear(peer, 1)
            await peer.send(b"one\n")

        tasks.start_soon(answer)
        began = anyio.current_time()
        heard = await link.converse(Asking([ask(b"1", 20.0), ask(b"2", 0.1)]))

        assert heard == Heard((b"one",), 1)
        assert anyio.current_time() - began < 0.1 + MARGIN_S


async def test_a_longer_deadline_after_a_shorter_one_is_kept(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await hear(peer, 1)
            await peer.send(b"one\n")
            await hear(peer, 1)
            await anyio.sleep(0.1 + MARGIN_S)
            await peer.send(b"two\n")

        tasks.start_soon(answer)
        assert await link.converse(Asking([ask(b"1", 0.1), ask(b"2", 20.0)])) == Heard((b"one", b"two"), 0)


async def test_inv6_trickling_bytes_do_not_move_the_deadline(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def trickle() -> None:
            while True:
                await peer.send(b".")
                await anyio.sleep(0.01)

        tasks.start_soon(trickle)
        began = anyio.current_time()
        heard = await link.converse(Asking([ask(b"1", 0.1)]))
        tasks.cancel_scope.cancel()

        assert heard == Heard((), 1)
        assert anyio.current_time() - began < 0.1 + MARGIN_S


async def test_a_delay_is_kept_before_sending(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:
        began = anyio.current_time()
        arrived = 0.0

        async def answer() -> None:
            nonlocal arrived
            await hear(peer, 1)
            arrived = anyio.current_time()
            await peer.send(b"one\n")

        tasks.start_soon(answer)
        await peer.send(b"?noise\n")
        assert await link.converse(Asking([ask(b"1", delay_s=0.1)])) == Heard((b"one",), 0)

        assert arrived - began >= 0.1


async def test_an_answer_that_comes_too_early_does_not_take_the_place_of_the_command(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await anyio.sleep(0.05)
            await peer.send(b"early\n")
            assert await hear(peer, 2) == b"12"
            await peer.send(b"two\n")

        tasks.start_soon(answer)
        heard = await link.converse(Asking([ask(b"1", delay_s=0.2), ask(b"2")]))
        assert heard == Heard((b"early", b"two"), 0)


async def test_quiet_lasts_until_nothing_has_come_for_its_time(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def babble() -> None:
            for _ in range(10):
                await peer.send(b"x\n")
                await anyio.sleep(0.02)
            await hear(peer, 1)
            await peer.send(b"one\n")

        await peer.send(b"x\n")
        await anyio.sleep(0.02)
        tasks.start_soon(babble)
        began = anyio.current_time()
        heard = await link.converse(Asking([Quiet(0.15, 5.0), ask(b"1")]))

        assert heard == Heard((b"one",), 0)
        assert 0.2 + 0.1 <= anyio.current_time() - began < 2.0


async def test_inv6_quiet_ends_although_the_peer_goes_on(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def babble() -> None:
            while True:
                await peer.send(b"?\n")
                await anyio.sleep(0.01)

        tasks.start_soon(babble)
        began = anyio.current_time()
        heard = await link.converse(Asking([Quiet(0.2, 0.3), ask(b"1", 0.05)]))
        tasks.cancel_scope.cancel()

        assert heard == Heard((), 1)
        assert 0.3 <= anyio.current_time() - began < 0.35 + MARGIN_S


async def test_what_the_machine_raises_travels(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await peer.send(b"xno\n")
        with pytest.raises(AttemptFailed) as caught:
            await link.converse(Asking([ask(b"1")]))
        assert caught.value.cause.code is CauseCode.CLIENT_ERROR
        assert caught.value.cause.raw == b"xno"

        # The link itself is none the worse for it.
        await peer.send(b"one\n")
        assert await link.converse(Asking([ask(b"2")])) == Heard((b"one",), 0)


async def test_a_defect_of_the_machine_travels_too(kind: Kind) -> None:
    class Defective(Asking):
        def receive(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

    async with kind.pair() as (link, peer):
        await peer.send(b"1")
        with pytest.raises(ZeroDivisionError):
            await link.converse(Defective([ask(b"1")]))


async def test_a_hang_up_ends_a_conversation(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await hear(peer, 1)
            await peer.hang_up()

        tasks.start_soon(answer)
        with pytest.raises(LinkLost):
            await link.converse(Asking([ask(b"1")]))
        with pytest.raises(LinkLost):
            await link.converse(Asking([ask(b"1")]))


async def test_a_hang_up_between_conversations_is_told_by_the_next(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await peer.hang_up()
        await anyio.sleep(0.05)
        with pytest.raises(LinkLost):
            await link.converse(Asking([ask(b"1")]))
        with pytest.raises(LinkLost):
            await link.receive()


async def test_inv1_a_cancelled_conversation_sends_nothing_more(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        with anyio.move_on_after(0.1):
            await link.converse(Asking([ask(b"1", 0.5), ask(b"2", 0.5)], patience=9))
        await anyio.sleep(0.5 + MARGIN_S)
        assert await peer.receive() == b"1"
        assert await peer.receive() == b""

        with pytest.raises(LinkLost):
            await link.send(b"3")


async def test_inv1_a_conversation_cancelled_before_its_delay_sends_nothing(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await link.send(b"0")
        with anyio.move_on_after(0.05):
            await link.converse(Asking([ask(b"1", delay_s=0.2)]))
        await anyio.sleep(0.3)
        assert await peer.receive() == b"0"
        assert await peer.receive() == b""


async def test_a_cancelled_receive_loses_nothing(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        with anyio.move_on_after(0.02) as scope:
            await link.receive()
        assert scope.cancelled_caught
        await peer.send(b"here")
        heard = b""
        while len(heard) < 4:
            heard += await link.receive()
        assert heard == b"here"


async def test_receive_returns_what_came_before_the_hang_up(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await peer.send(b"last words")
        await anyio.sleep(0.05)
        await peer.hang_up()
        await anyio.sleep(0.05)
        heard = b""
        while len(heard) < len(b"last words"):
            heard += await link.receive()
        assert heard == b"last words"
        with pytest.raises(LinkLost):
            await link.receive()


async def test_a_hang_up_wakes_who_waits_for_bytes(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def hang_up() -> None:
            await anyio.sleep(0.05)
            await peer.hang_up()

        tasks.start_soon(hang_up)
        with pytest.raises(LinkLost):
            await link.receive()


async def test_bytes_keep_their_order_although_the_peer_reads_late(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        pieces = [b"%04d" % number * 256 for number in range(100)]
        for piece in pieces:
            await link.send(piece)
        assert await hear(peer, 100 * 1024) == b"".join(pieces)


async def test_discarded_input_is_gone(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        await peer.send(b"old\n")
        await anyio.sleep(0.05)
        link.discard_input()
        await peer.send(b"new\n")
        assert await link.converse(Asking([ask(b"1")])) == Heard((b"new",), 0)


@pytest.mark.parametrize("kind", REAL, indirect=True)
async def test_inv6_thousands_of_answers_at_once_hold_nobody_up(kind: Kind) -> None:
    strays = 20_000
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            await peer.send(b"?\n" * strays + b"one\n")

        stalls: list[float] = []

        async def tick() -> None:
            while True:
                before = time.perf_counter()
                await anyio.sleep(0.001)
                stalls.append(time.perf_counter() - before)

        machine = Asking([ask(b"1")])
        tasks.start_soon(answer)
        tasks.start_soon(tick)
        assert await link.converse(machine) == Heard((b"one",), 0)
        tasks.cancel_scope.cancel()

        assert machine.strays == strays
        assert max(stalls) < 0.25


async def test_a_frame_larger_than_any_buffer_arrives_whole(kind: Kind) -> None:
    frame = bytes(range(256)) * 512
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def answer() -> None:
            assert await hear(peer, len(frame)) == frame
            await peer.send(b"one\n")

        tasks.start_soon(answer)
        assert await link.converse(Asking([ask(frame)])) == Heard((b"one",), 0)


async def test_closing_twice_is_no_fault_and_a_closed_link_is_lost(kind: Kind) -> None:
    async with kind.pair() as (link, _peer):
        await link.aclose()
        await link.aclose()
        with pytest.raises(LinkLost):
            await link.converse(Asking([ask(b"1")]))
        with pytest.raises(LinkLost):
            await link.receive()
        with pytest.raises(LinkLost):
            await link.send(b"1")


async def test_closing_wakes_who_waits(kind: Kind) -> None:
    async with kind.pair() as (link, _peer), anyio.create_task_group() as tasks:
        ended: list[str] = []

        async def converse() -> None:
            with pytest.raises(LinkLost):
                await link.converse(Asking([ask(b"1")]))
            ended.append("conversation")

        tasks.start_soon(converse)
        await anyio.wait_all_tasks_blocked()
        await link.aclose()
    assert ended == ["conversation"]


async def test_a_link_is_closed_although_its_task_is_cancelled(kind: Kind) -> None:
    async with kind.pair() as (link, peer):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await link.aclose()
        await anyio.sleep(0.05)
        assert await peer.receive() == b""


@pytest.mark.parametrize("kind", REAL, indirect=True)
async def test_inv6_a_peer_that_babbles_to_nobody_fills_no_memory(kind: Kind) -> None:
    async with kind.pair() as (link, peer), anyio.create_task_group() as tasks:

        async def babble() -> None:
            while True:
                await peer.send(b"." * 4096)
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(babble)
        await anyio.sleep(0.3)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
            assert len(await link.receive()) <= INBOX_LIMIT + 4096
