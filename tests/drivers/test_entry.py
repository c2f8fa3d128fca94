"""The ways into a loader, against simulated devices on a fake clock; programs need a real one."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from firmwarden.drivers.entry import (
    Enter,
    EnterCommand,
    EnterNone,
    EnterPulse,
    EnterSend,
    EnterTouch,
    Pause,
    SetLine,
    describe,
    enter,
)
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings
from firmwarden.errors import AttemptFailed, OpenFailed, PortHeld
from firmwarden.model import CauseCode, CommitMark, SerialAddress, StreamAddress, TcpAddress
from firmwarden.simulate.client import Mode
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES
from firmwarden.simulate.settings import DeviceSettings
from support.memory_link import MemoryLink, MemoryPeer, memory_pair
from support.simulated import ADDRESS, SimulatedPort

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.drivers.base import Journal

pytestmark = pytest.mark.anyio

PROFILE = PROFILES["generic"]
RUNNING = DeviceSettings(profile=PROFILE, installed=make_update_file(PROFILE, "1.0.0", size=600))
REQUEST = EnterSend(data=b"BOOTLOADER!\n", expect=re.compile(rb"OK"))
TCP = TcpAddress(host="rack", port=4000)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Desk:
    """Hands out links in memory and keeps the other ends."""

    openings: list[tuple[StreamAddress, float]] = field(default_factory=list)
    links: list[MemoryLink] = field(default_factory=list)
    peers: list[MemoryPeer] = field(default_factory=list)
    fails_at: int | None = None
    holder: str | None = None
    has_lines: bool = True

    async def open(self, address: StreamAddress, *, patience_s: float = 2.0) -> MemoryLink:
        await anyio.lowlevel.checkpoint()
        if self.fails_at == len(self.openings):
            raise OpenFailed("gone")
        if self.holder is not None:
            raise PortHeld(str(address), self.holder)
        link, peer = memory_pair()
        link.has_lines = self.has_lines
        self.openings.append((address, patience_s))
        self.links.append(link)
        self.peers.append(peer)
        return link


async def test_a_loader_that_listens_by_itself_is_just_opened() -> None:
    desk = Desk()
    entered = await enter(EnterNone(), ADDRESS, desk.open)
    assert entered.link is desk.links[0]
    assert not entered.doubt
    assert not desk.links[0].closed


async def test_a_pulse_moves_the_lines_in_order_on_the_link_that_stays_open() -> None:
    desk = Desk()
    way = EnterPulse(
        steps=(SetLine("dtr", False), SetLine("rts", True), Pause(0.1), SetLine("dtr", True), Pause(0.4))
    )
    began = anyio.current_time()
    entered = await enter(way, ADDRESS, desk.open)
    assert entered.link is desk.links[0]
    assert desk.links[0].lines == [(False, None), (None, True), (True, None)]
    assert anyio.current_time() - began == pytest.approx(0.5)
    assert not desk.links[0].closed


async def test_a_pulse_without_lines_is_told_and_closes_the_link() -> None:
    desk = Desk(has_lines=False)
    with pytest.raises(AttemptFailed, match="no control lines") as caught:
        await enter(EnterPulse(steps=(SetLine("rts", True),)), ADDRESS, desk.open)
    assert caught.value.cause.code is CauseCode.ENTRY_FAILED
    assert desk.links[0].closed


async def test_a_touch_opens_at_1200_baud_and_again_when_the_port_is_back(tmp_path: Path) -> None:
    desk = Desk()
    port = tmp_path / "ttyACM0"
    port.touch()
    address = SerialAddress(path=str(port))
    began = anyio.current_time()

    async def vanish() -> None:
        await anyio.sleep(0.3)
        assert len(desk.openings) == 1
        port.unlink()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(vanish)
        entered = await enter(EnterTouch(wait_s=7.0), address, desk.open)
    assert desk.openings == [(replace(address, baud=1200), 2.0), (address, 7.0)]
    assert desk.links[0].lines == [(False, None)]
    assert desk.links[0].closed
    assert entered.link is desk.links[1]
    assert 0.3 <= anyio.current_time() - began < 0.5


async def test_a_touched_device_that_stays_is_taken_as_it_is(tmp_path: Path) -> None:
    desk = Desk()
    port = tmp_path / "ttyACM0"
    port.touch()
    began = anyio.current_time()
    await enter(EnterTouch(), SerialAddress(path=str(port)), desk.open)
    assert anyio.current_time() - began == pytest.approx(2.0, abs=0.1)


async def test_a_port_without_lines_can_be_touched_all_the_same(tmp_path: Path) -> None:
    desk = Desk(has_lines=False)
    entered = await enter(EnterTouch(), SerialAddress(path=str(tmp_path / "ttyACM0")), desk.open)
    assert desk.links[0].closed
    assert entered.link is desk.links[1]


async def test_a_touch_brings_a_simulated_device_into_its_loader() -> None:
    port = SimulatedPort(RUNNING)
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        await anyio.sleep(1)
        assert port.client.mode is Mode.APPLICATION
        entered = await enter(EnterTouch(), ADDRESS, port.open)
        await anyio.sleep(1)
        await entered.link.aclose()
        tasks.cancel_scope.cancel()
    assert port.client.mode is Mode.LOADER


async def test_a_socket_cannot_be_touched() -> None:
    desk = Desk()
    with pytest.raises(AttemptFailed, match="no serial port") as caught:
        await enter(EnterTouch(), TCP, desk.open)
    assert caught.value.cause.code is CauseCode.ENTRY_FAILED
    assert not desk.openings


async def test_a_request_brings_a_simulated_device_into_its_loader() -> None:
    port = SimulatedPort(RUNNING)
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        await anyio.sleep(1)
        entered = await enter(REQUEST, ADDRESS, port.open)
        assert not entered.doubt
        await anyio.sleep(1)
        await entered.link.aclose()
        tasks.cancel_scope.cancel()
    assert port.client.mode is Mode.LOADER


async def test_a_reply_may_come_in_pieces() -> None:
    desk = Desk()
    async with anyio.create_task_group() as tasks:

        async def reply() -> None:
            await anyio.sleep(0.1)
            await desk.peers[0].receive()
            await desk.peers[0].send(b"rebooting: O")
            await anyio.sleep(0.1)
            await desk.peers[0].send(b"K\r\n")

        tasks.start_soon(reply)
        assert not (await enter(REQUEST, ADDRESS, desk.open)).doubt


@pytest.mark.parametrize("rate", [None, 115_200, 9600])
async def test_a_request_goes_out_at_the_applications_rate(rate: int | None) -> None:
    desk = Desk()
    way = replace(REQUEST, expect=None, baud=rate)
    began = anyio.current_time()
    entered = await enter(way, ADDRESS, desk.open)
    assert await desk.peers[0].receive() == way.data
    if rate == 9600:
        # Closing drops what has not left.
        assert anyio.current_time() - began >= len(way.data) * 10 / 9600
        assert desk.openings == [(replace(ADDRESS, baud=9600), 2.0), (ADDRESS, 10.0)]
        assert desk.links[0].closed
        assert entered.link is desk.links[1]
    else:
        assert entered.link is desk.links[0]


async def test_a_rate_means_nothing_to_a_socket() -> None:
    desk = Desk()
    await enter(replace(REQUEST, expect=None, baud=9600), TCP, desk.open)
    assert [address for address, _patience in desk.openings] == [TCP]


@pytest.mark.parametrize("way", [REQUEST, replace(REQUEST, baud=9600)], ids=["same-rate", "another-rate"])
@pytest.mark.parametrize(("reply", "doubt"), [(b"", "did not reply"), (b"?SYNTAX\r\n", r"\?SYNTAX")])
async def test_what_is_wrong_with_a_reply_is_told_but_decides_nothing(
    reply: bytes, doubt: str, way: EnterSend
) -> None:
    desk = Desk()
    async with anyio.create_task_group() as tasks:

        async def answer() -> None:
            await anyio.sleep(0.1)
            if reply:
                await desk.peers[0].send(reply)

        tasks.start_soon(answer)
        entered = await enter(way, ADDRESS, desk.open)
    assert re.search(doubt, entered.doubt)
    assert entered.link is desk.links[-1]
    assert not desk.links[-1].closed


async def test_a_port_that_goes_instead_of_a_reply_is_no_failure_yet() -> None:
    desk = Desk()
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            await anyio.sleep(0.1)
            await desk.peers[0].hang_up()

        tasks.start_soon(leave)
        entered = await enter(REQUEST, ADDRESS, desk.open)
    assert "did not reply" in entered.doubt


async def test_inv6_an_application_that_logs_without_end_is_not_heard_out() -> None:
    desk = Desk()
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:

        async def log() -> None:
            await anyio.sleep(0.1)
            await desk.peers[0].send(b"." * 20_000)

        tasks.start_soon(log)
        entered = await enter(REQUEST, ADDRESS, desk.open)
    assert "reply" in entered.doubt
    assert len(entered.doubt) < 300
    assert anyio.current_time() - began < REQUEST.timeout_s


async def test_a_device_that_is_already_in_its_loader_is_updated(no_journal: Journal) -> None:
    port = SimulatedPort(replace(RUNNING, stay_in_loader=True))
    image = make_update_file(PROFILE, "2.0.0", size=600)
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        await anyio.sleep(1)
        drivers = [
            MdfuDriver(MdfuSettings(enter=way), ADDRESS, no_journal, open_link=port.open, expected_version="")
            for way in (EnterNone(), EnterTouch(), REQUEST)
        ]
        for driver in drivers:
            assert (await driver.info())["buffer-size"] == 512
        assert (await drivers[-1].update(image)).confirmed
        tasks.cancel_scope.cancel()


async def test_a_failed_way_is_told_when_no_loader_answers(no_journal: Journal) -> None:
    port = SimulatedPort(RUNNING)
    way = EnterSend(data=b"wrong\n", expect=re.compile(b"OK"))
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        await anyio.sleep(1)
        driver = MdfuDriver(
            MdfuSettings(enter=way), ADDRESS, no_journal, open_link=port.open, expected_version=""
        )
        with pytest.raises(AttemptFailed) as caught:
            await driver.info()
        assert port.client.mode is Mode.APPLICATION
        tasks.cancel_scope.cancel()
    assert caught.value.cause.code is CauseCode.ENTRY_FAILED
    assert "did not reply" in caught.value.cause.detail


PULSE = EnterPulse(steps=(Pause(5.0),))


@pytest.mark.parametrize(
    "way",
    [PULSE, REQUEST, replace(REQUEST, baud=9600), replace(REQUEST, expect=None, baud=60)],
    ids=["pulse", "reply", "reply-at-another-rate", "bytes-on-their-way-out"],
)
async def test_a_cancelled_way_leaves_nothing_open(way: Enter) -> None:
    for delay_s in (0.0, 0.5, 1.9):
        desk = Desk()
        with anyio.move_on_after(delay_s) as scope:
            await enter(way, ADDRESS, desk.open)
        assert scope.cancelled_caught
        assert all(link.closed for link in desk.links)


async def test_a_port_that_does_not_come_back_is_told() -> None:
    desk = Desk(fails_at=1)
    for way in (EnterTouch(), replace(REQUEST, expect=None, baud=9600)):
        desk.openings.clear()
        with pytest.raises(OpenFailed):
            await enter(way, ADDRESS, desk.open)
    assert all(link.closed for link in desk.links)


@pytest.mark.parametrize(
    "way",
    [EnterNone(), PULSE, EnterTouch(), REQUEST, replace(REQUEST, expect=None), EnterCommand(argv=("reset",))],
)
def test_every_way_can_be_described(way: Enter) -> None:
    assert describe(way).endswith(".")


@pytest.fixture
def no_journal() -> Journal:
    class Nothing:
        unfinished = None
        entered = False

        async def entering(self) -> None: ...

        async def erase_starting(self, mark: CommitMark | None = None) -> None: ...

        async def ending(self, mark: CommitMark | None = None) -> None: ...

    return Nothing()


class TestCommand:
    """On a real clock."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_command_is_told_the_port(self, tmp_path: Path) -> None:
        desk = Desk()
        told = tmp_path / "told"
        program = f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ['FIRMWARDEN_PORT'])"
        entered = await enter(EnterCommand(argv=(sys.executable, "-c", program)), ADDRESS, desk.open)
        assert told.read_text() == ADDRESS.path
        assert desk.links[0].closed  # opened to see that it is free
        assert entered.link is desk.links[1]

    async def test_inv4_no_command_is_run_while_somebody_has_the_port(self, tmp_path: Path) -> None:
        """It would press the button of a unit that its owner is using, again with each try."""
        desk = Desk(holder="a console")
        pressed = tmp_path / "pressed"
        with pytest.raises(PortHeld, match="a console"):
            await enter(EnterCommand(argv=("touch", str(pressed))), ADDRESS, desk.open)
        assert not pressed.exists()

    async def test_a_command_may_bring_the_port(self, tmp_path: Path) -> None:
        desk = Desk()
        switched_on = tmp_path / "on"

        async def open_link(address: StreamAddress, *, patience_s: float = 2.0) -> MemoryLink:
            if not switched_on.exists():
                raise OpenFailed("No such file or directory")
            return await desk.open(address, patience_s=patience_s)

        entered = await enter(EnterCommand(argv=("touch", str(switched_on))), ADDRESS, open_link)
        assert entered.link is desk.links[0]

    async def test_a_serial_server_is_dialled_after_the_command_only(self) -> None:
        """Many take one connection at a time, and need a while to see that it is gone."""
        desk = Desk()
        await enter(EnterCommand(argv=("true",)), TCP, desk.open)
        assert len(desk.openings) == 1

    @pytest.mark.parametrize(
        ("argv", "timeout_s", "told"),
        [
            (
                (sys.executable, "-c", "import sys; sys.exit('no relay board')"),
                20.0,
                "exit status 1: no relay board",
            ),
            (
                (sys.executable, "-c", "print('out of reach'); raise SystemExit(3)"),
                20.0,
                "exit status 3: out of reach",
            ),
            ((sys.executable, "-c", "import time; time.sleep(60)"), 0.2, "took longer than 0.2 s"),
            (("/nowhere/relay",), 20.0, "cannot be run: No such file"),
        ],
        ids=["fails", "fails-on-stdout", "hangs", "missing"],
    )
    async def test_a_command_that_fails_is_told_with_its_words(
        self, argv: tuple[str, ...], timeout_s: float, told: str
    ) -> None:
        desk = Desk()
        with pytest.raises(AttemptFailed, match=told) as caught:
            await enter(EnterCommand(argv=argv, timeout_s=timeout_s), ADDRESS, desk.open)
        assert caught.value.cause.code is CauseCode.ENTRY_FAILED
        assert all(link.closed for link in desk.links)
