"""What is peculiar to serial ports: who has them, what they are set to, how they are closed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest
import serial

from firmwarden.errors import LinkError, LinkLost, OpenFailed, PortHeld
from firmwarden.model import SerialAddress
from firmwarden.protocol.machine import Quiet, Send
from firmwarden.transport import serial as serial_links
from firmwarden.transport.opening import open_link
from support.asking import Asking, Heard
from support.peers import PtyPeer, open_descriptors, settle_descriptors

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.anyio

TIOCGEXCL = 0x80045440


@pytest.fixture
def peer() -> Generator[PtyPeer]:
    peer = PtyPeer()
    yield peer
    peer.close()


async def test_a_port_is_ours_alone_while_it_is_open(peer: PtyPeer) -> None:
    link = await open_link(peer.address)
    try:
        with pytest.raises(serial.SerialException, match="lock"):
            serial.Serial(peer.path, exclusive=True)
        with os.fdopen(os.open(peer.path, os.O_RDWR | os.O_NOCTTY), "rb") as other:
            # Root may open it all the same; everybody else is refused.
            assert struct.unpack("i", fcntl.ioctl(other, TIOCGEXCL, bytes(4))) == (1,)
    finally:
        await link.aclose()

    with os.fdopen(os.open(peer.path, os.O_RDWR | os.O_NOCTTY), "rb") as other:
        assert struct.unpack("i", fcntl.ioctl(other, TIOCGEXCL, bytes(4))) == (0,)
    serial.Serial(peer.path, exclusive=True).close()


HOLDER = """
import fcntl, os, sys, termios
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
if sys.argv[2] == "flock":
    fcntl.flock(fd, fcntl.LOCK_EX)
else:
    fcntl.ioctl(fd, termios.TIOCEXCL)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["flock", "exclusive mode"])
async def test_inv4_a_port_of_another_process_is_left_alone_and_its_holder_named(
    peer: PtyPeer, how: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, peer.path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        began = time.monotonic()
        with pytest.raises(PortHeld) as caught:
            await open_link(peer.address)
        assert caught.value.path == peer.path
        assert f"(pid {holder.pid})" in caught.value.holder
        # It is not waited for.
        assert time.monotonic() - began < 1.9
        holder.communicate()
    await (await open_link(peer.address)).aclose()


@pytest.fixture
def slow_close(monkeypatch: pytest.MonkeyPatch) -> Generator[threading.Event]:
    """Let ports be closed only once this is set; no pty takes its time by itself, as stuck adapters do."""
    may_close = threading.Event()
    close = serial.Serial.close

    def close_later(port: serial.Serial) -> None:
        if port.is_open:  # what the garbage collector finds is closed already
            may_close.wait(5)
        close(port)

    monkeypatch.setattr(serial.Serial, "close", close_later)
    yield may_close
    may_close.set()


async def test_a_port_that_is_still_being_closed_is_waited_for(
    peer: PtyPeer, slow_close: threading.Event
) -> None:
    link = await open_link(peer.address)
    await link.aclose()  # gives up waiting; the port is closed later

    async with anyio.create_task_group() as tasks:

        async def unstick() -> None:
            await anyio.sleep(0.3)
            slow_close.set()

        tasks.start_soon(unstick)
        await (await open_link(peer.address)).aclose()


async def test_we_are_no_other_process_that_holds_the_port(peer: PtyPeer, tmp_path: Path) -> None:
    link = await open_link(peer.address)
    other_name = tmp_path / "usb-panel"
    other_name.symlink_to(peer.path)
    try:
        with pytest.raises(OpenFailed, match="still open in this process") as caught:
            await open_link(SerialAddress(path=str(other_name)), patience_s=0)
        assert type(caught.value) is OpenFailed
    finally:
        await link.aclose()
    await (await open_link(peer.address)).aclose()


async def test_a_port_that_could_not_be_opened_is_not_taken_for_ours(peer: PtyPeer) -> None:
    for _ in range(2):
        with serial.Serial(peer.path, exclusive=True), pytest.raises(PortHeld):
            await open_link(peer.address)
    await (await open_link(peer.address)).aclose()


async def test_a_port_that_appears_late_is_opened(peer: PtyPeer, tmp_path: Path) -> None:
    link_name = tmp_path / "usb-panel"

    async def plug() -> None:
        await anyio.sleep(0.2)
        link_name.symlink_to(peer.path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(plug)
        link = await open_link(SerialAddress(path=str(link_name)))
        await link.aclose()


async def test_a_port_that_does_not_appear_is_told_after_the_patience(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(OpenFailed, match="No such file") as caught:
        await open_link(SerialAddress(path=str(tmp_path / "none")), patience_s=0.2)
    assert type(caught.value) is OpenFailed
    assert 0.2 <= time.monotonic() - began < 1.5


async def test_what_is_no_port_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_bytes(b"")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = open_descriptors()
    for path in (plain, fifo, tmp_path):
        with pytest.raises(OpenFailed, match=re.escape(str(path))):
            await open_link(SerialAddress(path=str(path)), patience_s=0)
    assert open_descriptors() <= before


@pytest.mark.parametrize("baud", [50, 9600, 115_200, 250_000, 921_600, 1_234_567, 3_000_000, 12_000_000])
async def test_any_rate_that_the_driver_takes_is_set(peer: PtyPeer, baud: int) -> None:
    link = await open_link(SerialAddress(path=peer.path, baud=baud))
    try:
        with os.fdopen(os.open(peer.path, os.O_RDWR | os.O_NOCTTY), "rb") as other:
            speeds = struct.unpack("16i", fcntl.ioctl(other, 0x802C542A, bytes(64)))  # TCGETS2
        assert speeds[9:11] == (baud, baud)
    finally:
        await link.aclose()


async def test_a_rate_that_the_driver_replaces_is_refused(
    peer: PtyPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pty takes every rate, so here the driver's answer is put in its place.
    monkeypatch.setattr(serial_links, "_actual_baud", lambda _descriptor: 2_000_000)
    before = open_descriptors()
    with pytest.raises(OpenFailed, match=r"3000000 baud is refused.*2000000"):
        await open_link(peer.address, patience_s=0)
    assert open_descriptors() <= before


async def test_a_kernel_that_numbers_its_requests_otherwise_is_no_obstacle(
    peer: PtyPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_links, "_TIOCGEXCL", 0x40045440)  # as on MIPS and PowerPC
    await (await open_link(peer.address)).aclose()


async def test_inv4_closing_leaves_the_control_lines_alone(peer: PtyPeer) -> None:
    with os.fdopen(os.open(peer.path, os.O_RDWR | os.O_NOCTTY), "rb") as other:
        attributes = termios.tcgetattr(other)
        attributes[2] |= termios.HUPCL  # as every serial port has it at first, but no pty
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        link = await open_link(peer.address)
        await link.aclose()
        assert not termios.tcgetattr(other)[2] & termios.HUPCL


async def test_an_idle_port_does_not_read_as_one_that_hung_up(peer: PtyPeer) -> None:
    link = await open_link(peer.address)
    other = os.open(peer.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            os.read(other, 1)
    finally:
        os.close(other)
        await link.aclose()


async def test_lines_that_a_port_lacks_are_told(peer: PtyPeer) -> None:
    link = await open_link(peer.address)
    try:
        with pytest.raises(LinkError, match="control lines"):
            await link.set_lines(dtr=False)
    finally:
        await link.aclose()


async def test_inv6_a_peer_that_reads_nothing_holds_up_neither_close_nor_loop(peer: PtyPeer) -> None:
    stalls: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.001)
            stalls.append(time.perf_counter() - before)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        link = await open_link(peer.address)
        with anyio.move_on_after(0.1):
            await link.converse(Asking([Send(b"." * 100_000, 5.0, 8)]))
        began = time.perf_counter()
        await link.aclose()
        assert time.perf_counter() - began < 0.5
        tasks.cancel_scope.cancel()

    assert max(stalls) < 0.25


async def test_inv6_a_peer_that_reads_nothing_is_given_up_before_memory_fills(peer: PtyPeer) -> None:
    link = await open_link(peer.address)
    try:
        question = Send(b"." * 100_000, 0.01, 8)
        for _ in range(2):  # the first reason is the one that is told
            with pytest.raises(LinkLost, match="takes no more bytes"):
                await link.converse(Asking([question] * 9, patience=99))
            await anyio.sleep(0.05)
    finally:
        await link.aclose()


async def test_nothing_is_left_open(peer: PtyPeer) -> None:
    before = open_descriptors()
    for _ in range(3):
        link = await open_link(peer.address)
        await link.aclose()
    assert open_descriptors() <= before


async def test_a_port_is_free_once_it_is_closed_although_the_task_is_cancelled(peer: PtyPeer) -> None:
    before = open_descriptors()
    link = await open_link(peer.address)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await link.aclose()
    assert open_descriptors() <= before


async def test_an_opening_that_is_cancelled_leaves_nothing_open(peer: PtyPeer) -> None:
    before = open_descriptors()
    for delay_s in (0.0, 0.0002, 0.0005, 0.001, 0.002):
        with anyio.move_on_after(delay_s):
            link = await open_link(peer.address)
            with anyio.CancelScope(shield=True):
                await link.aclose()
        await settle_descriptors(before)


@pytest.fixture
def slow_open(monkeypatch: pytest.MonkeyPatch) -> Generator[threading.Event]:
    """Let ports be opened only once this is set."""
    may_open = threading.Event()
    open_port = serial.Serial.open

    def open_later(port: serial.Serial) -> None:
        may_open.wait(5)
        open_port(port)

    monkeypatch.setattr(serial.Serial, "open", open_later)
    yield may_open
    may_open.set()


async def test_a_port_that_opens_after_nobody_wants_it_any_more_is_closed(
    peer: PtyPeer, slow_open: threading.Event
) -> None:
    before = open_descriptors()
    with anyio.move_on_after(0.05):
        await open_link(peer.address)
    slow_open.set()
    await (await open_link(peer.address)).aclose()
    await settle_descriptors(before)


async def test_inv6_a_driver_that_hangs_keeps_nobody_for_ever(
    peer: PtyPeer, slow_open: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_links, "BLOCKED_S", 0.05)
    before = open_descriptors()
    with pytest.raises(OpenFailed, match="driver hangs"):
        await open_link(peer.address, patience_s=0)
    with pytest.raises(OpenFailed, match="still open in this process"):
        await open_link(peer.address, patience_s=0)
    slow_open.set()
    await (await open_link(peer.address)).aclose()
    await settle_descriptors(before)


async def test_inv6_control_lines_that_hang_keep_nobody_for_ever(
    peer: PtyPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_move = threading.Event()

    def move(_port: serial.Serial, _on: bool) -> None:
        may_move.wait(5)

    monkeypatch.setattr(serial_links, "BLOCKED_S", 0.05)
    monkeypatch.setattr(serial.Serial, "dtr", property(None, move))
    link = await open_link(peer.address)
    with pytest.raises(LinkError, match="driver hangs"):
        await link.set_lines(dtr=False)
    await link.aclose()
    # Closed under the hands of the driver, its descriptor could become another port's.
    with pytest.raises(OpenFailed, match="still open in this process"):
        await open_link(peer.address, patience_s=0)
    may_move.set()
    await (await open_link(peer.address)).aclose()


async def test_a_port_that_vanishes_while_something_is_unsent_is_closed(peer: PtyPeer) -> None:
    before = open_descriptors()
    link = await open_link(peer.address)
    async with anyio.create_task_group() as tasks:

        async def vanish() -> None:
            await anyio.sleep(0.05)
            await peer.hang_up()

        tasks.start_soon(vanish)
        with pytest.raises(LinkLost):
            await link.converse(Asking([Send(b"." * 100_000, 5.0, 8)]))
    await link.aclose()
    assert open_descriptors() <= before - Counter([peer.path])  # which the peer closed


async def test_a_port_that_is_found_gone_by_writing_is_closed_once(peer: PtyPeer) -> None:
    before = open_descriptors()
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    link = await open_link(peer.address)
    peer.close()
    with pytest.raises(LinkLost, match=r": Input/output error$"):
        await link.send(b"1")
    with pytest.raises(LinkLost):
        await link.set_lines(dtr=True)
    await link.aclose()
    await settle_descriptors(before - Counter([peer.path]))
    assert not complaints


async def test_a_line_is_not_quiet_while_our_own_frame_is_on_it(peer: PtyPeer) -> None:
    """A client that meets an error in a frame may complain at once, and again at the frame's end."""
    link = await open_link(SerialAddress(path=peer.path, baud=9600))
    try:
        async with anyio.create_task_group() as tasks:

            async def complain() -> None:
                await peer.receive()
                await peer.send(b"complaint\n")
                await anyio.sleep(0.15)
                await peer.send(b"again\n")
                while await peer.receive() != b"2":
                    pass
                await peer.send(b"two\n")

            tasks.start_soon(complain)
            began = time.monotonic()
            frame = b"." * 200
            heard = await link.converse(Asking([Send(frame, 5.0, 8), Quiet(0.05, 1.0), Send(b"2", 5.0, 8)]))
            assert time.monotonic() - began >= len(frame) * 10 / 9600 + 0.05
        assert heard == Heard((b"complaint", b"two"), 0)
    finally:
        await link.aclose()


async def test_a_slow_line_adds_its_time_to_the_deadline(peer: PtyPeer) -> None:
    link = await open_link(SerialAddress(path=peer.path, baud=9600))
    try:
        began = time.monotonic()
        await link.converse(Asking([Send(b"." * 200, 0.05, 40)]))
        # 240 bytes take 0.25 s at 9600 baud, and an adapter hands over what it has every 16 ms.
        assert 0.3 + 0.016 <= time.monotonic() - began < 0.9
    finally:
        await link.aclose()
