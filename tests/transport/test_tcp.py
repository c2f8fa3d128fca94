"""What is peculiar to TCP: names, refusals, small frames at once."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import LinkError, LinkLost, OpenFailed
from firmwarden.model import TcpAddress
from firmwarden.protocol.machine import Send
from firmwarden.transport import tcp
from firmwarden.transport.opening import open_link
from support.asking import Asking
from support.peers import open_descriptors, tcp_listener

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.anyio


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_host_is_found_by_name() -> None:
    with tcp_listener() as listener:
        link = await open_link(TcpAddress(host="localhost", port=listener.address.port))
        await link.aclose()


async def test_nobody_listening_is_told_after_the_patience() -> None:
    began = time.monotonic()
    with pytest.raises(OpenFailed, match="refused"):
        await open_link(TcpAddress(host="127.0.0.1", port=unused_port()), patience_s=0.2)
    assert 0.2 <= time.monotonic() - began < 1.5


async def test_a_peer_that_restarts_is_waited_for() -> None:
    port = unused_port()

    async def restart() -> None:
        await anyio.sleep(0.2)
        with socket.create_server(("127.0.0.1", port)):
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(restart)
        link = await open_link(TcpAddress(host="127.0.0.1", port=port))
        await link.aclose()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "rack..example", "a" * 70])
async def test_a_name_that_leads_nowhere_is_told(host: str) -> None:
    with pytest.raises(OpenFailed, match=f"^{re.escape(host)}:4000: "):
        await open_link(TcpAddress(host=host, port=4000), patience_s=0)


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Generator[TcpAddress]:
    """Where connections are neither made nor refused; and little patience with it."""
    monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_S", 0.4)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Linux keeps one connection more than asked for; the next one hears nothing.
        with socket.create_connection(full.getsockname()):
            yield TcpAddress(host="127.0.0.1", port=full.getsockname()[1])


async def test_inv6_a_host_that_does_not_answer_is_given_up(black_hole: TcpAddress) -> None:
    before = open_descriptors()
    with pytest.raises(OpenFailed, match="no connection within"):
        await open_link(black_hole, patience_s=0)
    assert open_descriptors() <= before


async def test_an_address_that_leads_nowhere_leaves_time_for_the_next(
    black_hole: TcpAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name often has an IPv6 address where the network has none."""
    with tcp_listener() as listener:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", (place.host, place.port))
            for place in (black_hole, listener.address)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
        link = await open_link(TcpAddress(host="rack", port=4000), patience_s=0)
        await link.aclose()


async def test_inv6_a_silent_peer_is_probed() -> None:
    """One that lost its power would else be waited for as long as its device may take: hours, if it says so."""
    with tcp_listener() as listener:
        link = await open_link(listener.address)
        peer = await listener.accept()
        peers_end = f":{listener.address.port:04X}"
        timers = [
            (fields[5].partition(":")[0], int(fields[5].partition(":")[2], 16))
            for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines())
            # Established: one of before, to the same port, may linger in TIME_WAIT.
            if fields[2].endswith(peers_end) and fields[3] == "01"
        ]
        await link.aclose()
        await peer.hang_up()
    ((kind, in_jiffies),) = timers
    assert kind == "02"  # proc(5): the keepalive timer
    assert in_jiffies <= 30 * os.sysconf("SC_CLK_TCK")


async def test_a_reset_is_a_lost_link() -> None:
    with tcp_listener() as listener:
        link = await open_link(listener.address)
        peer = await listener.accept()
        async with anyio.create_task_group() as tasks:

            async def reset() -> None:
                assert await peer.receive() == b"1"
                peer.reset_on_close()
                await peer.hang_up()

            tasks.start_soon(reset)
            with pytest.raises(LinkLost, match="reset"):
                await link.converse(Asking([Send(b"1", 5.0, 8)]))
        await link.aclose()


async def test_small_frames_do_not_wait_for_acknowledgements() -> None:
    with tcp_listener() as listener:
        link = await open_link(listener.address)
        peer = await listener.accept()
        async with anyio.create_task_group() as tasks:

            async def answer() -> None:
                for _ in range(20):
                    heard = b""
                    while len(heard) < len(b"half"):
                        heard += await peer.receive()
                    await peer.send(b"whole\n")

            tasks.start_soon(answer)
            began = time.monotonic()
            for _ in range(20):
                # The second of two small writes is what Nagle's algorithm holds back.
                await link.send(b"ha")
                await link.converse(Asking([Send(b"lf", 5.0, 8)]))
            # A delayed acknowledgement takes 40 ms.
            assert time.monotonic() - began < 20 * 0.04 / 2
        await link.aclose()
        await peer.hang_up()


async def test_a_socket_has_no_control_lines() -> None:
    with tcp_listener() as listener:
        link = await open_link(listener.address)
        with pytest.raises(LinkError, match="no control lines"):
            await link.set_lines(rts=True)
        await link.aclose()
