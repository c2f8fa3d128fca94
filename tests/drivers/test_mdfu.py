"""Whole updates of simulated devices, on a fake clock."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
import trio
import trio.testing

from firmwarden.drivers.base import Driver, Progress, Step
from firmwarden.drivers.entry import EnterSend
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings, VersionQuery
from firmwarden.errors import AttemptFailed, OpenFailed, PortHeld, StoreError
from firmwarden.model import CauseCode
from firmwarden.protocol.mdfu.client_info import ProtocolVersion
from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.host import Settings as HostSettings
from firmwarden.protocol.mdfu.packet import Command, ResponsePacket, Status
from firmwarden.simulate.client import Mode
from firmwarden.simulate.faults import parse_fault
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES
from firmwarden.simulate.settings import DeviceSettings
from support.memory_link import MemoryLink, MemoryPeer, memory_pair
from support.simulated import ADDRESS, RecordingJournal, SimulatedPort

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from firmwarden.drivers.base import Landing
    from firmwarden.model import Address, StreamAddress
    from firmwarden.simulate.profile import Profile

pytestmark = pytest.mark.anyio

GENERIC = PROFILES["generic"]
SMALL = replace(GENERIC, name="small", info=replace(GENERIC.info, buffer_size=64))
IMAGE = make_update_file(SMALL, "2.0.0", size=400)
OLD_IMAGE = make_update_file(SMALL, "1.0.0", size=300)
QUERY = VersionQuery(send=b"VERSION?\n", expect=re.compile(rb"VERSION (\S+)"))
ASKED = MdfuSettings(version_query=QUERY)
PLAIN = MdfuSettings()
EMPTY = DeviceSettings(profile=SMALL)
"""Holds nothing, so it is in its loader."""
FIRST_END = 10
"""The frame that carries END_TRANSFER, when nothing was sent twice."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Bench:
    """A device, and drivers for it one after the other."""

    def __init__(self, port: SimulatedPort) -> None:
        self.port = port
        self.device = port.client
        self.journal = RecordingJournal(port)

    def driver(self, settings: MdfuSettings = PLAIN, expected_version: str = "2.0.0") -> MdfuDriver:
        return MdfuDriver(
            settings, ADDRESS, self.journal, open_link=self.port.open, expected_version=expected_version
        )

    def runs(self, version: str) -> bool:
        return self.device.running is not None and self.device.running.version == version


@asynccontextmanager
async def bench(*faults: str, settings: DeviceSettings = EMPTY) -> AsyncGenerator[Bench]:
    """A device that has had time to boot; at the end, what no device may ever have seen."""
    port = SimulatedPort(replace(settings, faults=tuple(parse_fault(text) for text in faults)))
    async with anyio.create_task_group() as tasks:
        await tasks.start(port.run)
        await anyio.sleep(1)
        yield Bench(port)
        tasks.cancel_scope.cancel()
    assert all(link.closed for link in port.links)
    assert port.client.started_partial == 0
    assert port.client.ended_partial == 0


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
async def test_every_family_is_updated(profile: Profile) -> None:
    async with bench(settings=DeviceSettings(profile=profile)) as at:
        landing = await at.driver(ASKED).update(make_update_file(profile, "2.0.0", size=4000))
        assert landing.confirmed
        assert landing.version == "2.0.0"
        assert at.runs("2.0.0")


async def test_an_acknowledged_end_is_success() -> None:
    async with bench() as at:
        driver = at.driver()
        landing = await driver.update(IMAGE)
        assert landing.confirmed
        assert landing.evidence == "the device called the image valid and acknowledged END_TRANSFER"
        assert landing.version is None
        assert driver.stats.commands == 1 + 1 + 7 + 1 + 1
        await anyio.sleep(1)
        assert at.runs("2.0.0")


async def test_inv5_each_intent_is_durable_before_the_device_is_touched() -> None:
    async with bench() as at:
        await at.driver().update(IMAGE)
        (first, before_erase), (second, before_end) = at.journal.entries
        assert (first, second) == ("erase-starting", "ending")
        assert before_erase[Command.START_TRANSFER] == 0
        assert before_end[Command.GET_IMAGE_STATE] == 1
        assert before_end[Command.END_TRANSFER] == 0


async def test_inv5_nothing_is_erased_when_the_intent_cannot_be_written() -> None:
    async with bench() as at:
        at.journal.fails_at = "erase-starting"
        with pytest.raises(StoreError):
            await at.driver().update(IMAGE)
        await anyio.sleep(5)
        assert at.device.commands[Command.START_TRANSFER] == 0


# --- refusals ----------------------------------------------------------------------------------------


async def test_inv3_an_abort_comes_out_with_its_place() -> None:
    async with bench("abort@chunk=3,cause=write-error") as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE)
        cause = caught.value.cause
        assert (cause.code, cause.chunk, cause.offset) == (CauseCode.WRITE_ERROR, 3, 192)
        assert at.journal.names == ["erase-starting"]
        assert at.device.commands[Command.END_TRANSFER] == 0


async def test_inv1_an_invalid_image_is_not_started() -> None:
    async with bench() as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE[:-1] + b"!")
        assert caught.value.cause.code is CauseCode.IMAGE_INVALID
        await anyio.sleep(30)
        assert at.device.commands[Command.END_TRANSFER] == 0
        assert at.device.mode is Mode.LOADER


async def test_inv8_an_empty_image_never_reaches_the_port() -> None:
    async with bench() as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(b"")
        assert caught.value.cause.code is CauseCode.IMAGE_UNFIT
        assert not at.port.links


async def test_inv8_an_image_for_another_buffer_size_is_refused_before_anything_is_erased() -> None:
    async with bench(settings=DeviceSettings(profile=PROFILES["pic32"])) as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(make_update_file(PROFILES["pic8"], "2.0.0", size=1000))
        assert caught.value.cause.code is CauseCode.IMAGE_UNFIT
        assert at.device.commands == {Command.GET_CLIENT_INFO: 1}
        assert at.journal.names == []


# --- the port ----------------------------------------------------------------------------------------


async def test_inv4_a_held_port_is_nobodys_failure() -> None:
    async with bench() as at:
        at.port.holder = "ModemManager (pid 812)"
        for story in (at.driver().update(IMAGE), at.driver().confirm(), at.driver().info()):
            with pytest.raises(PortHeld, match="ModemManager"):
                await story
        assert at.journal.names == []


async def test_a_port_that_is_not_there_is_told() -> None:
    async with bench("cut@rx=1") as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE)
        assert caught.value.cause.code is CauseCode.LINK_LOST
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE)
        assert caught.value.cause.code is CauseCode.OPEN_FAILED
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().info()
        assert caught.value.cause.code is CauseCode.OPEN_FAILED


async def test_a_link_that_breaks_is_told_with_its_place() -> None:
    async with bench("cut@chunk=2,back=0.5") as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE)
        cause = caught.value.cause
        assert (cause.code, cause.chunk, cause.offset) == (CauseCode.LINK_LOST, 2, 128)
        assert (await at.driver().update(IMAGE)).confirmed


async def test_a_device_that_never_answers_is_told() -> None:
    async with bench("mute") as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(IMAGE)
        assert caught.value.cause.code is CauseCode.NO_ANSWER
        assert at.journal.names == []


class OwnUsb:
    """An application with a USB of its own: it leaves the bus a while after it was asked, and is back as its loader."""

    def __init__(self, loader: SimulatedPort, *, replies: bool) -> None:
        self._loader = loader
        self._replies = replies
        self._peers: list[MemoryPeer] = []
        self._asked = anyio.Event()
        self._left = anyio.Event()
        self._back = anyio.Event()

    async def run(self) -> None:
        await self._asked.wait()
        await anyio.sleep(0.3)
        self._left.set()
        for peer in self._peers:
            await peer.hang_up()
        await anyio.sleep(4.0)
        self._back.set()

    async def open(self, address: StreamAddress, *, patience_s: float = 2.0) -> MemoryLink:
        if not self._left.is_set():
            link, peer = memory_pair()
            self._peers.append(peer)
            return link
        with anyio.move_on_after(patience_s):
            await self._back.wait()
            return await self._loader.open(address)
        raise OpenFailed("No such file or directory")

    async def hear(self) -> None:
        while not self._peers:  # noqa: ASYNC110  (an opening has no event)
            await anyio.sleep(0.01)
        await self._peers[0].receive()
        if self._replies:
            await self._peers[0].send(b"OK\r\n")
        self._asked.set()


@pytest.mark.parametrize("settle_s", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("baud", [None, 9600])
@pytest.mark.parametrize(
    ("expect", "replies"),
    [(None, False), (rb"OK", True), (rb"OK", False)],
    ids=["mute", "reply", "reply-lost"],
)
async def test_an_application_may_take_its_port_with_it_into_the_loader(
    expect: bytes | None, replies: bool, baud: int | None, settle_s: float
) -> None:
    way = EnterSend(data=b"boot\r\n", expect=None if expect is None else re.compile(expect), baud=baud)
    async with bench() as at, anyio.create_task_group() as tasks:
        unit = OwnUsb(at.port, replies=replies)
        tasks.start_soon(unit.run)
        tasks.start_soon(unit.hear)
        driver = MdfuDriver(
            MdfuSettings(enter=way, settle_s=settle_s),
            ADDRESS,
            at.journal,
            open_link=unit.open,
            expected_version="2.0.0",
        )
        assert (await driver.update(IMAGE)).confirmed
        assert at.journal.names == ["erase-starting", "ending"]


async def test_a_port_that_an_application_took_with_it_for_good_is_told() -> None:
    way = EnterSend(data=b"BOOTLOADER!\n", expect=re.compile(b"OK"))
    async with bench("cut@rx=1", settings=replace(EMPTY, installed=OLD_IMAGE)) as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver(MdfuSettings(enter=way)).update(IMAGE)
        assert caught.value.cause.code is CauseCode.OPEN_FAILED


# --- the end -----------------------------------------------------------------------------------------


async def test_inv2_an_end_without_an_answer_is_unknown() -> None:
    async with bench("lose@step=end-transfer") as at:
        landing = await at.driver().update(IMAGE)
        assert not landing.confirmed
        assert landing.evidence == "image valid, loader left, nothing answers since"
        assert landing.cause is not None
        assert landing.cause.code is CauseCode.END_UNANSWERED
        assert at.journal.names == ["erase-starting", "ending"]


async def test_an_application_is_given_its_time_to_start_before_it_is_asked() -> None:
    """Bytes that come while it boots can keep a device in its loader."""
    slow = MdfuSettings(boot_delay_s=30.0, host=HostSettings(discovery_s=1.0))
    for faults in ([], ["lose@step=end-transfer"]):
        for settings in (slow, replace(slow, version_query=QUERY)):
            async with bench(*faults) as at:
                began = anyio.current_time()
                landing = await at.driver(settings).update(IMAGE)
                asked = len(at.port.links) > 1
                assert (anyio.current_time() - began >= 30.0) is asked
                assert landing.confirmed is (settings.version_query is not None or not faults)


async def test_inv2_an_end_without_an_answer_is_settled_by_the_version() -> None:
    async with bench("lose@step=end-transfer") as at:
        landing = await at.driver(ASKED).update(IMAGE)
        assert landing.confirmed
        assert landing.evidence == "the application says that it is 2.0.0"


async def test_an_end_that_never_arrived_is_sent_again() -> None:
    async with bench(f"drop@frame={FIRST_END},dir=rx,times=3") as at:
        landing = await at.driver().update(IMAGE)
        assert landing.confirmed
        assert at.journal.names == ["erase-starting", "ending", "ending"]
        await anyio.sleep(1)
        assert at.runs("2.0.0")


@pytest.mark.parametrize("settings", [PLAIN, ASKED], ids=["plain", "asked"])
async def test_a_port_that_goes_with_the_loader_is_opened_again(settings: MdfuSettings) -> None:
    async with bench("cut@step=end-transfer,back=1.5,power=lost") as at:
        landing = await at.driver(settings).update(IMAGE)
        # The device lost its power: it starts the image by itself, and its loader is silent.
        assert at.runs("2.0.0")
        assert landing.confirmed is (settings is ASKED)


async def test_inv2_a_port_that_stays_away_leaves_the_outcome_unknown() -> None:
    async with bench("cut@step=end-transfer") as at:
        landing = await at.driver(ASKED).update(IMAGE)
        assert not landing.confirmed
        assert "cannot be asked now" in landing.evidence


async def test_inv2_the_version_must_be_the_expected_one() -> None:
    async with bench() as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver(ASKED, expected_version="2.0.1").update(IMAGE)
        assert caught.value.cause.code is CauseCode.VERSION_MISMATCH
        assert caught.value.cause.raw == b"2.0.0"


async def test_inv2_an_application_that_does_not_tell_its_version_leaves_the_outcome_unknown() -> None:
    mute = MdfuSettings(version_query=replace(QUERY, send=b"what?\n"))
    async with bench() as at:
        landing = await at.driver(mute).update(IMAGE)
        assert not landing.confirmed
        assert "does not tell its version" in landing.evidence


Reply: TypeAlias = "Sequence[tuple[float, bytes]]"
"""What an application says, each piece after a pause."""


async def ask(
    *replies: Reply, expected: str = "2.0.0", query: VersionQuery = QUERY, before: bytes = b""
) -> Landing:
    """Ask an application that gives these replies to as many questions, and then says nothing more."""
    link, peer = memory_pair()
    await peer.send(before)

    async def open_link(address: Address, *, patience_s: float = 0.0) -> MemoryLink:
        assert address == ADDRESS
        assert patience_s > 0
        return link

    async def answer() -> None:
        for reply in replies:
            await peer.receive()
            for pause_s, piece in reply:
                await anyio.sleep(pause_s)
                await peer.send(piece)

    outcome: Landing | AttemptFailed
    async with bench() as at, anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        settings = MdfuSettings(version_query=query)
        driver = MdfuDriver(settings, ADDRESS, at.journal, open_link=open_link, expected_version=expected)
        try:
            outcome = await driver.confirm()
        except AttemptFailed as exc:
            outcome = exc
        tasks.cancel_scope.cancel()
    if isinstance(outcome, AttemptFailed):
        raise outcome
    return outcome


async def test_inv2_a_version_that_comes_in_pieces_is_read_whole() -> None:
    """2.0.1 may be the beginning of 2.0.10."""
    landing = await ask([(0.0, b"VERSION 2.0.1"), (0.05, b"0\n")], expected="2.0.10")
    assert landing.version == "2.0.10"


@pytest.mark.parametrize(
    "first",
    [[], [(0.0, b"VERSION 2.4.0\n")], [(0.0, b"VER\xff\n")]],
    ids=["lost", "wrong", "damaged"],
)
async def test_inv3_one_bad_reply_is_no_verdict(first: Reply) -> None:
    """A reply has no checksum: a bit that turned over must not latch the release."""
    landing = await ask(first, [(0.0, b"VERSION 2.0.0\n")])
    assert landing.version == "2.0.0"


async def test_inv2_another_version_told_twice_is_believed() -> None:
    with pytest.raises(AttemptFailed) as caught:
        await ask([(0.0, b"VERSION 1.0.0\n")], [], [(0.0, b"VERSION 1.0.0\n")])
    assert caught.value.cause.code is CauseCode.VERSION_MISMATCH


async def test_inv2_what_was_said_before_the_question_is_no_reply() -> None:
    with pytest.raises(AttemptFailed) as caught:
        await ask(*[[(0.0, b"VERSION 1.0.0\n")]] * 2, before=b"VERSION 2.0.0\n")
    assert caught.value.cause.code is CauseCode.VERSION_MISMATCH


async def test_inv2_versions_that_contradict_each_other_are_none() -> None:
    landing = await ask(*([(0.0, b"VERSION 1.0.%d\n" % number)] for number in range(3)))
    assert not landing.confirmed
    assert landing.version is None


async def test_inv2_a_reply_without_a_version_is_none() -> None:
    optional = replace(QUERY, expect=re.compile(rb"VERSION(?: (\S+))?"))
    assert not (await ask(*[[(0.0, b"VERSION\n")]] * 3, query=optional)).confirmed


async def test_inv6_an_application_that_goes_on_with_its_log_is_not_listened_to_for_ever() -> None:
    began = anyio.current_time()
    log = [(0.05, b"temperature 21\n")] * 100
    landing = await ask([(0.0, b"VERSION 2.0.0\n"), *log])
    assert landing.version == "2.0.0"
    assert anyio.current_time() - began < 1 + 0.2  # the bench takes 1 s


async def test_inv6_a_version_that_never_ends_is_not_listened_to_for_ever() -> None:
    began = anyio.current_time()
    assert not (await ask(*[[(0.0, b"VERSION 2"), *[(0.05, b"2")] * 1000]] * 3)).confirmed
    assert anyio.current_time() - began < 1 + 3 * (QUERY.timeout_s + 0.2)


async def test_inv6_an_application_that_only_babbles_is_heard_out_to_a_limit() -> None:
    began = anyio.current_time()
    await ask(*[[(0.0, b"." * 20_000)]] * 3)
    assert anyio.current_time() - began < 1 + QUERY.timeout_s


async def test_the_version_may_be_asked_at_another_rate() -> None:
    settings = MdfuSettings(version_query=replace(QUERY, baud=9600))
    async with bench() as at:
        await at.driver(settings).update(IMAGE)
        assert at.port.bauds == [115_200, 9600]


async def test_inv2_a_port_that_is_held_after_the_end_leaves_the_outcome_unknown() -> None:
    for faults in ([], ["lose@step=end-transfer"]):
        async with bench(*faults) as at:
            async with anyio.create_task_group() as tasks:

                async def snatch(at: Bench = at) -> None:
                    while "ending" not in at.journal.names:  # noqa: ASYNC110  (the journal has no event)
                        await anyio.sleep(0.01)
                    at.port.holder = "a console"

                tasks.start_soon(snatch)
                landing = await at.driver(ASKED).update(IMAGE)
            assert not landing.confirmed
            assert "a console" in landing.evidence


# --- asked later -------------------------------------------------------------------------------------


async def killed_before_the_end(at: Bench) -> None:
    """Leave a device with a valid image in its loader, as a kill at the worst moment does."""
    at.journal.fails_at = "ending"
    with pytest.raises(StoreError):
        await at.driver().update(IMAGE)
    at.journal.fails_at = None


async def test_a_device_still_in_its_loader_is_started_when_it_is_asked() -> None:
    async with bench() as at:
        await killed_before_the_end(at)
        landing = await at.driver(ASKED).confirm()
        assert landing.confirmed
        assert at.runs("2.0.0")
        assert at.journal.names == ["erase-starting", "ending"]


async def test_inv1_a_device_with_a_partial_image_is_not_started_when_it_is_asked() -> None:
    async with bench("cut@chunk=3,back=0.1") as at:
        with pytest.raises(AttemptFailed):
            await at.driver().update(IMAGE)
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().confirm()
        assert caught.value.cause.code is CauseCode.IMAGE_INVALID
        assert at.device.commands[Command.END_TRANSFER] == 0


async def test_inv4_asking_does_not_go_the_way_into_the_loader() -> None:
    settings = MdfuSettings(enter=EnterSend(data=b"BOOTLOADER!\n"))
    async with bench(settings=replace(EMPTY, installed=IMAGE)) as at:
        landing = await at.driver(settings).confirm()
        assert not landing.confirmed
        assert landing.evidence == "image valid, loader left, nothing answers since"
        assert at.device.mode is Mode.APPLICATION
        assert at.device.boots == 1


async def test_asking_an_absent_device_leaves_the_outcome_unknown() -> None:
    async with bench("cut@command=0") as at:
        with pytest.raises(AttemptFailed):
            await at.driver().update(IMAGE)
        assert not (await at.driver(ASKED).confirm()).confirmed


# --- stop and cancel ---------------------------------------------------------------------------------


async def stop_when(at: Bench, driver: MdfuDriver, name: str) -> None:
    while name not in at.journal.names:  # noqa: ASYNC110  (the journal has no event)
        await anyio.sleep(0.001)
    driver.request_stop()


async def test_a_stop_takes_effect_between_commands() -> None:
    async with bench() as at:
        driver = at.driver()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when, at, driver, "erase-starting")
            with pytest.raises(AttemptFailed) as caught:
                await driver.update(IMAGE)
        assert caught.value.cause.code is CauseCode.STOPPING
        assert at.journal.names == ["erase-starting"]
        assert (await at.driver().update(IMAGE)).confirmed


async def test_a_stop_before_anything_opens_nothing() -> None:
    async with bench() as at:
        driver = at.driver()
        driver.request_stop()
        with pytest.raises(AttemptFailed) as caught:
            await driver.update(IMAGE)
        assert caught.value.cause.code is CauseCode.STOPPING
        assert not at.port.links


async def test_a_stop_after_the_image_is_valid_lets_it_be_started() -> None:
    async with bench() as at:
        driver = at.driver()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when, at, driver, "ending")
            assert (await driver.update(IMAGE)).confirmed


async def test_a_stop_on_the_way_into_the_loader_sends_nothing() -> None:
    async with bench() as at:
        driver = at.driver(MdfuSettings(settle_s=5.0))
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await anyio.sleep(1)
                driver.request_stop()

            tasks.start_soon(stop)
            with pytest.raises(AttemptFailed) as caught:
                await driver.update(IMAGE)
        assert caught.value.cause.code is CauseCode.STOPPING
        assert not at.device.commands


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task is about to go on for the nth time."""

    def __init__(self, task: trio.lowlevel.Task, scope: anyio.CancelScope, step: int) -> None:
        self._task = task
        self._scope = scope
        self.left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.left -= 1
            if self.left == 0:
                self._scope.cancel()


async def test_inv1_an_update_may_be_cancelled_at_every_await() -> None:
    step = 0
    while True:
        step += 1
        async with bench() as at:
            finished = False
            with anyio.CancelScope() as scope:
                canceller = CancelAtStep(trio.lowlevel.current_task(), scope, step)
                trio.lowlevel.add_instrument(canceller)
                await at.driver(ASKED).update(IMAGE)
                finished = True
            trio.lowlevel.remove_instrument(canceller)
            assert all(link.closed for link in at.port.links)
            executed = at.device.commands.total()
            await anyio.sleep(60)
            assert at.device.commands.total() <= executed + 1  # what was on its way
            ended = at.device.commands[Command.END_TRANSFER]
            assert ended == 0 or "ending" in at.journal.names
            if at.device.commands[Command.START_TRANSFER]:
                assert "erase-starting" in at.journal.names
            # Whatever it was left as, it can be updated, unless it runs the image already.
            if not ended:
                assert (await at.driver(ASKED).update(IMAGE)).confirmed
            assert at.runs("2.0.0")
            if finished:
                break
    assert step > 30


@pytest.mark.timeout(120)  # thousands of updates
@pytest.mark.parametrize("power", ["kept", "lost"])
@pytest.mark.parametrize("direction", ["rx", "tx"])
async def test_inv2_a_link_may_be_cut_at_every_byte(direction: str, power: str) -> None:
    way = EnterSend(data=b"BOOTLOADER!\n", expect=re.compile(b"OK"), timeout_s=0.5)
    settings = MdfuSettings(enter=way)
    position = 0
    struck = True
    while struck:
        position += 1
        fault = f"cut@{direction}={position},back=1,power={power}"
        async with bench(fault, settings=replace(EMPTY, installed=OLD_IMAGE)) as at:
            code = None
            try:
                landing = await at.driver(settings).update(IMAGE)
            except AttemptFailed as exc:
                code = exc.cause.code
                await anyio.sleep(2)  # as long as the service waits at least
                landing = await at.driver(settings).update(IMAGE)
            await anyio.sleep(2)
            struck = any(at.device.faults_fired.values())
            # A device that lost its power, or half of the request, is in its application when it is back.
            assert code in {CauseCode.LINK_LOST, CauseCode.ENTRY_FAILED, CauseCode.NO_ANSWER, None}, position
            # An outcome may be unknown, but only at the very end.
            assert landing.confirmed or (at.journal.names[-1] == "ending" and code is None)
            assert at.runs("2.0.0")
    assert position > 60


# --- what it tells -----------------------------------------------------------------------------------


async def test_progress_goes_forward_only() -> None:
    seen: list[Progress] = []
    async with bench() as at:
        driver: Driver = at.driver(ASKED)
        assert driver.progress == Progress(Step.ENTER, 0, 0)
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while True:
                    seen.append(driver.progress)
                    await anyio.sleep(0.001)

            tasks.start_soon(watch)
            await driver.update(IMAGE)
            tasks.cancel_scope.cancel()
    order = [Step.ENTER, Step.PROBE, Step.WRITE, Step.VERIFY, Step.LEAVE, Step.CONFIRM]
    ranks = [order.index(progress.step) for progress in seen]
    assert ranks == sorted(ranks)
    assert {Step.PROBE, Step.WRITE, Step.VERIFY, Step.LEAVE, Step.CONFIRM} <= {
        progress.step for progress in seen
    }
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert done[-1] == len(IMAGE)
    assert {progress.total for progress in seen} <= {0, len(IMAGE)}


async def test_the_loader_is_asked_what_it_is() -> None:
    async with bench(settings=DeviceSettings(profile=PROFILES["pic8"])) as at:
        told = await at.driver().info()
        assert told == {
            "protocol-version": "1.2.0",
            "buffer-size": 271,
            "buffers": 1,
            "timeout": "10 s",
            "inter-transaction-delay": "1.5 ms",
        }
        assert at.device.commands == {Command.GET_CLIENT_INFO: 1}
        assert at.journal.names == []


async def test_a_plan_tells_each_step_and_touches_nothing() -> None:
    async with bench() as at:
        for settings in (PLAIN, ASKED):
            plan = await at.driver(settings).plan(IMAGE)
            assert [step.step for step in plan] == [
                Step.ENTER,
                Step.PROBE,
                Step.WRITE,
                Step.VERIFY,
                Step.LEAVE,
                Step.CONFIRM,
            ]
            assert all(step.does and step.if_interrupted for step in plan)
        assert not at.port.links


async def test_a_pause_before_the_first_command_is_kept() -> None:
    async with bench() as at:
        began = anyio.current_time()
        await at.driver(MdfuSettings(settle_s=5.0, host=HostSettings(discovery_s=1.0))).info()
        assert anyio.current_time() - began >= 5.0


async def test_what_came_before_the_first_command_is_nobodys_answer() -> None:
    """An application that shuts down, or a loader that answers a host of yesterday."""
    link, peer = memory_pair()

    async def open_link(address: Address, *, patience_s: float = 0.0) -> MemoryLink:
        assert (address, patience_s) == (ADDRESS, 0.0)
        return link

    def answer(buffer_size: int) -> bytes:
        info = replace(GENERIC.info, buffer_size=buffer_size).encode()
        return encode_frame(ResponsePacket(sequence=0, status=Status.SUCCESS, payload=info).encode())

    async def loader() -> None:
        await peer.send(answer(8))
        await peer.receive()
        await peer.send(answer(16))

    async with bench() as at, anyio.create_task_group() as tasks:
        tasks.start_soon(loader)
        driver = MdfuDriver(
            MdfuSettings(settle_s=1.0), ADDRESS, at.journal, open_link=open_link, expected_version=""
        )
        assert (await driver.info())["buffer-size"] == 16


async def test_what_the_loader_says_outweighs_a_doubtful_way_into_it() -> None:
    newer = replace(SMALL, info=replace(SMALL.info, version=ProtocolVersion(9, 0)))
    way = EnterSend(data=b"BOOTLOADER!\n", expect=re.compile(b"OK"))
    async with bench(settings=DeviceSettings(profile=newer)) as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver(MdfuSettings(enter=way)).update(IMAGE)
        assert caught.value.cause.code is CauseCode.PROTOCOL_TOO_NEW
