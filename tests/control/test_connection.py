"""Peers that take too long, too much or too many places: they are cut, and the others notice nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.control import connection
from firmwarden.control.access import Rules, Standing
from firmwarden.model import UnixGroup
from support.memory_desk import MemoryDesk, a_job
from support.served import MINE, Served, served
from support.wire_http import Somebody, ask, ask_as, connect, rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import DeviceView

TOKEN = "a-token-of-some-length"
BIG = 1000
"""Jobs, whose list is more than the kernel buffers for a peer that does not read."""


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def api(desk: MemoryDesk, tmp_path: Path) -> Iterator[Served]:
    with served(desk, tmp_path / "s", rules=Rules(act_group=MINE, token=TOKEN), tcp=True) as running:
        yield running


over_both = pytest.mark.parametrize("tcp", [False, True])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tenths of seconds be what are tens of seconds in earnest."""
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    monkeypatch.setattr(connection, "STALL_S", 0.2)


def trickle(sock: socket.socket, piece: bytes, *, within_s: float = 5) -> float:
    """Send a piece again and again until the other end has had enough; return how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        try:
            sock.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            return time.monotonic() - began
        time.sleep(0.02)
    pytest.fail(f"still connected after {within_s} s")


# --- what is sent too slowly


@over_both
@pytest.mark.usefixtures("impatient")
def test_inv6_a_head_that_does_not_end_is_cut(api: Served, tcp: bool) -> None:
    with connect(api, tcp=tcp) as sock:
        sock.sendall(b"GET /v1/status HTTP/1.1\r\n")
        assert trickle(sock, b"X: y\r\n") < 2
        assert rest(sock) == b""
    assert ask(api, "GET", "/v1/status", tcp=tcp).status == 200


@over_both
@pytest.mark.usefixtures("impatient")
def test_inv6_a_peer_that_says_nothing_is_cut(api: Served, tcp: bool) -> None:
    with connect(api, tcp=tcp) as sock:
        assert rest(sock) == b""


@pytest.mark.usefixtures("impatient")
def test_inv6_the_next_head_of_a_connection_has_its_time_too(api: Served) -> None:
    with connect(api) as sock:
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/status HTT")
        began = time.monotonic()
        assert trickle(sock, b"x") < 2
        assert time.monotonic() - began >= 0.15
        assert rest(sock).count(b"HTTP/1.1 200 ") == 1


def test_a_head_without_bounds_is_refused(api: Served) -> None:
    with connect(api, tcp=True) as sock:
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(3):
            sock.sendall(b"x" * (connection.LARGEST_HEAD // 2))
        head, _, body = rest(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert str(connection.LARGEST_HEAD) in json.loads(body)["detail"]


def order(length: int) -> bytes:
    return (
        f"POST /v1/hold HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@over_both
@pytest.mark.usefixtures("impatient")
def test_inv6_a_body_that_comes_too_slowly_is_cut(
    api: Served, desk: MemoryDesk, tcp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(api, tcp=tcp) as sock:
        sock.sendall(order(10_000))
        assert trickle(sock, b" ") < 2
        assert rest(sock) == b""
    assert ask(api, "GET", "/v1/status", tcp=tcp).status == 200
    assert desk.actions == []
    assert caplog.text == "", "a slow peer is no defect"


@pytest.mark.usefixtures("impatient")
def test_a_body_may_take_long_as_long_as_it_comes(
    api: Served, desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAST", 100)
    body = b'{"reason": "fair week"' + b" " * 50_000 + b"}"
    with connect(api) as sock:
        sock.sendall(order(len(body)))
        for start in range(0, len(body), 2000):  # five times as long as anybody may be silent
            sock.sendall(body[start : start + 2000])
            time.sleep(0.04)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert [action["what"] for action in desk.actions] == ["hold"]


@pytest.mark.usefixtures("impatient")
def test_inv6_a_body_that_nobody_reads_any_more_is_not_swallowed_for_ever(api: Served) -> None:
    piece = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    with connect(api) as sock:
        sock.sendall(b"POST /v1/hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + 20 * piece)
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert trickle(sock, piece) < 2


@pytest.mark.usefixtures("impatient")
def test_a_peer_that_waits_to_be_asked_for_its_body_is_not_to_blame(api: Served) -> None:
    with connect(api) as sock:
        sock.sendall(order(2).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert sock.recv(4096).startswith(b"HTTP/1.1 100 ")


@over_both
def test_inv6_noise_in_the_middle_of_an_answer_is_no_defect(
    api: Served, tcp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(api, tcp=tcp) as sock:
        sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"no chunk\r\n")
        rest(sock)
    assert ask(api, "GET", "/v1/status", tcp=tcp).status == 200
    assert caplog.text == ""


# --- what is not read


def ask_for_much(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.sendall(f"GET /v1/jobs?limit={BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


@pytest.fixture
def much(desk: MemoryDesk) -> int:
    """Have so many jobs that their list jams; return its length."""
    desk.log = [a_job(id=number, version="2" * 10_000) for number in range(BIG, 0, -1)]
    return len(json.dumps({"jobs": desk.log}, separators=(",", ":")))


@over_both
@pytest.mark.usefixtures("impatient")
def test_inv6_a_peer_that_does_not_read_its_answer_is_cut(
    api: Served, much: int, tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PLACES", dict.fromkeys(Standing, 1))
    with connect(api, tcp=tcp) as sock:
        ask_for_much(sock)
        statuses = [ask(api, "GET", "/v1/status", tcp=tcp).status]
        while statuses[-1] == 503:
            statuses.append(ask(api, "GET", "/v1/status", tcp=tcp).status)
        assert statuses[0] == 503
        assert statuses[-1] == 200, "its place is free again"
        assert 0 < len(rest(sock)) < much


@pytest.mark.slow
@over_both
def test_a_peer_that_reads_slowly_gets_all_of_it(
    api: Served, much: int, tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine a reader may get no processor for some tenths of a second.
    monkeypatch.setattr(connection, "STALL_S", 1.0)
    with connect(api, tcp=tcp) as sock:
        ask_for_much(sock)
        began, taken = time.monotonic(), 0
        while taken < much:
            piece = sock.recv(100_000)
            assert piece, f"cut after {taken} bytes"
            taken += len(piece)
            time.sleep(0.02)
        assert time.monotonic() - began > 2.0, "longer than anybody may let us wait"


@over_both
def test_a_stop_does_not_wait_for_a_peer_that_does_not_read(api: Served, much: int, tcp: bool) -> None:
    with connect(api, tcp=tcp) as sock:
        ask_for_much(sock)
        assert sock.recv(10)
        began = time.monotonic()
        api.stop()
        assert time.monotonic() - began < 1.5
        assert len(rest(sock)) < much


class StuckDesk(MemoryDesk):
    """One whose store does not answer before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer = anyio.Event()

    async def devices(self) -> list[DeviceView]:
        self.asked += 1
        await self.answer.wait()
        return await super().devices()


def ask_in_vain(desk: StuckDesk, sock: socket.socket) -> None:
    before = desk.asked
    sock.sendall(b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while desk.asked == before:
        pass


def test_a_stop_does_not_wait_for_what_is_stuck_and_tells_of_no_defect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = StuckDesk()
    with served(desk, tmp_path / "s") as api, connect(api) as sock:
        ask_in_vain(desk, sock)
        began = time.monotonic()
        api.stop()
        assert time.monotonic() - began < 2.5
        assert rest(sock) == b""
    assert caplog.text == ""


# --- places


def hold_open(api: Served, count: int, stack: ExitStack, *, tcp: bool) -> None:
    for _ in range(count):
        stack.enter_context(connect(api, tcp=tcp))


def test_inv6_what_is_taken_on_tcp_is_not_missing_on_the_socket(api: Served) -> None:
    places = connection.PLACES[Standing.REMOTE]
    with ExitStack() as stack:
        hold_open(api, places, stack, tcp=True)
        answer = ask(api, "GET", "/v1/status", tcp=True)
        assert (answer.status, answer.json["type"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        # What is beyond the spare ones is dropped without a word, so that nobody takes the descriptors either.
        hold_open(api, connection.SPARE, stack, tcp=True)
        with connect(api, tcp=True) as sock:
            assert rest(sock) == b""
        assert ask(api, "GET", "/v1/status").status == 200
    while ask(api, "GET", "/v1/status", tcp=True).status == 503:  # until the server has seen them go
        pass


def test_inv6_who_asks_and_goes_away_keeps_the_place_until_that_is_done(tmp_path: Path) -> None:
    desk = StuckDesk()
    with served(desk, tmp_path / "s", tcp=True) as api:
        for _ in range(connection.PLACES[Standing.REMOTE]):
            with connect(api, tcp=True) as sock:
                ask_in_vain(desk, sock)
        assert ask(api, "GET", "/v1/status", tcp=True).status == 503
        assert ask(api, "GET", "/v1/status").status == 200
        api.call(desk.answer.set)
        while ask(api, "GET", "/v1/status", tcp=True).status == 503:
            pass


_CROWD = """
import os, socket, sys
path, count, uid, gid = sys.argv[1], *map(int, sys.argv[2:])
os.setgroups([]), os.setgid(gid), os.setuid(uid)
crowd = []
for _ in range(count):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    crowd.append(sock)
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
@pytest.mark.parametrize("standing", [Standing.STRANGER, Standing.READS])
def test_inv6_neither_readers_nor_strangers_keep_out_who_gives_orders(standing: Standing) -> None:
    readers = UnixGroup(name="onlookers", gid=54_322)
    gid = readers.gid if standing is Standing.READS else 54_323
    count = connection.PLACES[standing]
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "s"
        with served(MemoryDesk(), path, rules=Rules(act_group=MINE, read_group=readers)) as api:
            crowd = subprocess.Popen(
                [sys.executable, "-c", _CROWD, *map(str, (path, count, 54_000, gid))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            with crowd:
                assert crowd.stdout is not None
                assert crowd.stdout.readline() == b"connected\n"
                [(status, _)] = ask_as(Somebody(54_000, gid), path, ("GET", "/v1/status"))
                assert status == 503
                assert ask(api, "POST", "/v1/unhold").status == 200
                crowd.communicate()
