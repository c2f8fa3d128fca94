"""Asking an application how it is, against simulated devices and scripted replies, on a fake clock."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
import trio
import trio.testing

from firmwarden.drivers.question import TRIES, Question, ask_how_it_is
from firmwarden.errors import LinkLost, OpenFailed, PortHeld
from firmwarden.model import SerialAddress, TcpAddress
from firmwarden.simulate.application import Dialogue
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES
from firmwarden.simulate.settings import DeviceSettings
from support.memory_link import MemoryLink, memory_pair
from support.simulated import ADDRESS, SimulatedPort

if TYPE_CHECKING:
    from firmwarden.model import StreamAddress

pytestmark = pytest.mark.anyio

PROFILE: Final = PROFILES["generic"]
RUNNING: Final = DeviceSettings(
    profile=PROFILE,
    installed=make_update_file(PROFILE, "2.0.0", size=600),
    dialogue=Dialogue(ill_with="3.0.0"),
)
HOW: Final = Question(send=b"STATUS?\n", expect=re.compile(rb"WELL"))
WHICH: Final = Question(send=b"VERSION?\n", expect=re.compile(rb"VERSION (\S+)\s"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def ask(
    settings: DeviceSettings,
    question: Question,
    expected: str,
    address: StreamAddress = ADDRESS,
    holder: str | None = None,
) -> tuple[str, SimulatedPort]:
    """Ask a simulated device; return what is wrong with it, and the device."""
    port = SimulatedPort(settings)
    port.holder = holder
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        try:
            await anyio.sleep(5.0)
            wrong = await ask_how_it_is(question, address, expected, port.open)
        finally:
            tasks.cancel_scope.cancel()
    return wrong, port


async def test_an_application_that_is_well_is_asked_once_and_let_go() -> None:
    wrong, port = await ask(RUNNING, HOW, "2.0.0")
    assert wrong == ""
    assert [link.closed for link in port.links] == [True]


async def test_what_it_says_instead_is_told() -> None:
    wrong, _ = await ask(replace(RUNNING, dialogue=Dialogue(ill_with="2.0.0")), HOW, "2.0.0")
    assert wrong == r"it was asked 3 times, and the last reply was b'ILL\n'"


@pytest.mark.parametrize(
    ("expected", "wrong"), [("2.0.0", ""), ("2.1.0", "it says that it is 2.0.0, not 2.1.0")]
)
async def test_a_group_in_the_pattern_is_the_version(expected: str, wrong: str) -> None:
    assert (await ask(RUNNING, WHICH, expected))[0] == wrong


async def test_an_application_that_says_nothing_is_not_well() -> None:
    assert (await ask(RUNNING, replace(HOW, send=b"?\n"), "2.0.0"))[
        0
    ] == "it was asked 3 times, and gave no reply"


async def test_it_is_asked_at_the_application_s_rate() -> None:
    _, port = await ask(RUNNING, replace(HOW, baud=9600), "2.0.0", SerialAddress(path="/dev/x", baud=115_200))
    assert port.bauds == [9600]


async def test_a_port_that_is_held_is_no_answer() -> None:
    # A failure in the group of the device's task comes out as a group.
    with pytest.raises(ExceptionGroup) as caught:
        await ask(RUNNING, HOW, "2.0.0", holder="minicom")
    assert caught.group_contains(PortHeld)


class Scripted:
    """Opens links to a peer that gives these replies, one to each question."""

    def __init__(self, *replies: bytes | None) -> None:
        self._replies = list(replies)
        self.link, self._peer = memory_pair()

    async def open(self, address: StreamAddress, *, patience_s: float = 2.0) -> MemoryLink:
        del address, patience_s
        await anyio.lowlevel.checkpoint()
        return self.link

    async def answer(self) -> None:
        while await self._peer.receive():
            reply = self._replies.pop(0)
            if reply is None:
                await self._peer.hang_up()
                return
            await self._peer.send(reply)


async def scripted(*replies: bytes | None) -> str:
    port = Scripted(*replies)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.answer)
        try:
            wrong = await ask_how_it_is(HOW, TcpAddress(host="rack", port=4000), "2.0.0", port.open)
        finally:
            assert port.link.closed
    return wrong


async def test_one_damaged_reply_is_no_verdict() -> None:
    assert await scripted(b"\xffELL", b"W\x00LL", b"WELL\n") == ""


async def test_no_more_of_a_reply_is_told_than_one_reads() -> None:
    assert len(await scripted(*[b"x" * 4_000] * TRIES)) < 200


async def test_a_link_that_breaks_is_no_answer() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await scripted(b"hm", None)
    assert caught.group_contains(LinkLost)


async def test_a_link_that_does_not_open_is_no_answer() -> None:
    async def refuse(address: StreamAddress, *, patience_s: float = 2.0) -> MemoryLink:
        raise OpenFailed(f"{address} for {patience_s:g} s: refused")

    with pytest.raises(OpenFailed):
        await ask_how_it_is(HOW, ADDRESS, "2.0.0", refuse)
