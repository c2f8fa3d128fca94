"""The DfuSe host: what it refuses to begin, what it makes of deviations, and that it leaves only what it knows."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import AttemptFailed, BadImage
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu import dfuse, dfuse_host, host, steps
from firmwarden.protocol.dfu.conversation import Control, Conversation, Event, Progress, Reply, Writing
from firmwarden.protocol.dfu.descriptors import Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.dfuse import Code
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.host import OutOfTurn
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.quirks import STANDARD, Quirks
from firmwarden.protocol.dfu.requests import Request
from firmwarden.protocol.dfu.segments import Segment, joined
from firmwarden.protocol.dfu.steps import Unit
from support.dfu_model import ModelDevice
from support.dfu_script import Script, run

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = 0x0800_0000
LAYOUT = MemoryMap.parse(f"@Internal Flash/0x{BASE:08X}/08*064 g")
ROM = FunctionalDescriptor(
    attributes=Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD,
    detach_timeout_ms=255,
    transfer_size=48,
    version=0x011A,
)
STATUS = "A1 03 00 00 00 00 06 00"


def _host(quirks: Quirks = STANDARD, layout: MemoryMap = LAYOUT) -> DfuseHost:
    return DfuseHost(Unit(interface=0, functional=ROM, quirks=quirks), layout)


def _code(raised: pytest.ExceptionInfo[AttemptFailed]) -> CauseCode:
    return raised.value.cause.code


_IMAGES = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 30), st.binary(min_size=1, max_size=34)),
    min_size=1,
    max_size=5,
    unique_by=lambda part: part[0],
).map(lambda parts: joined(Segment(BASE + 64 * page + offset, data) for page, offset, data in parts))


@given(_IMAGES, st.binary(min_size=512, max_size=512))
def test_an_image_is_written_verified_and_started(image: tuple[Segment, ...], before: bytes) -> None:
    device = ModelDevice(ROM, LAYOUT)
    device.memory[:] = before
    expected = bytearray(before)
    visit = _host()
    sectors = LAYOUT.touched((segment.address, segment.end) for segment in image)
    for sector in sectors:
        expected[sector.address - BASE : sector.end - BASE] = b"\xff" * sector.size
    for segment in image:
        expected[segment.address - BASE : segment.end - BASE] = segment.data

    run(visit.make_idle(), device.answer)
    run(visit.erase(sectors), device.answer)
    run(visit.write(image), device.answer)
    run(visit.verify(image), device.answer)
    assert run(visit.leave(image, BASE), device.answer)

    assert device.started == [bytes(expected)]


@given(st.integers(0, 511), st.integers(1, 200))
def test_any_stretch_can_be_read(offset: int, size: int) -> None:
    device = ModelDevice(ROM, LAYOUT)
    device.memory[:] = bytes(range(256)) * 2
    size = min(size, 512 - offset)

    assert run(_host().read(BASE + offset, size), device.answer) == device.memory[offset : offset + size]


def test_numbers_of_blocks_do_not_wrap_in_a_long_read() -> None:
    blocks: list[int] = []
    layout = MemoryMap.parse("@RAM/0x08000000/2*64Kg")
    small = Unit(interface=0, functional=FunctionalDescriptor.decode(ROM.encode()[:5] + b"\1\0\x1a\1"))
    device = ModelDevice(small.functional, layout)
    device.memory[:] = bytes(range(256)) * 512

    def answer(event: Event) -> Reply:
        if isinstance(event, Control) and event.setup.dfu_request is Request.UPLOAD:
            blocks.append(event.setup.value)
        return device.answer(event)

    data = run(DfuseHost(small, layout).read(BASE, 65_540), answer)

    assert data == device.memory[:65_540]
    assert blocks == [*range(2, 65_536), *range(2, 8)]


# --- what is refused before anything is sent ------------------------------------------------------------------


def test_what_does_not_lie_in_memory_is_not_begun() -> None:
    layout = MemoryMap.parse("@Flash/0x08000000/1*64 g,1*64 a,1*64 e")
    visit = _host(layout=layout)
    outside = [Segment(BASE + 200, b"1234")]
    protected = [Segment(BASE + 60, b"12345678")]
    for image in (outside, protected):
        with pytest.raises(AttemptFailed) as raised:
            Script("").play(visit.write(image))
        assert _code(raised) is CauseCode.IMAGE_UNFIT
    with pytest.raises(AttemptFailed) as raised:
        Script("").play(visit.erase(layout.sectors(BASE + 128)))
    assert _code(raised) is CauseCode.IMAGE_UNFIT
    with pytest.raises(AttemptFailed) as raised:
        Script("").play(visit.write_options(Segment(BASE + 64, b"a")))
    assert _code(raised) is CauseCode.IMAGE_UNFIT
    with pytest.raises(BadImage):
        Script("").play(visit.write([*outside, *outside]))


# --- what devices do ------------------------------------------------------------------------------------------

_SET = "21 01 00 00 00 00 05 00  21 00 00 00 08"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"{_SET} -> stall\n{STATUS} -> 0b 00 00 00 0a 00", CauseCode.READ_PROTECTED),
        (f"{_SET} -> timeout", CauseCode.NO_ANSWER),
        (f"{_SET} -> ok\n{STATUS} -> 00 00 00 00 05 00", CauseCode.OUT_OF_STEP),
        (f"{_SET} -> ok\n{STATUS} -> 00 00 00 00 03 00", CauseCode.OUT_OF_STEP),
        (f"{_SET} -> ok\n{STATUS} -> 01 00 00 00 0a 00", CauseCode.WRONG_TARGET),
        (f"{_SET} -> ok\n{STATUS} -> stall", CauseCode.OUT_OF_STEP),
        (
            f"{_SET} -> ok\n{STATUS} -> 00 00 00 00 04 00\npause 0.005\n{STATUS} -> 00 00 00 00 02 00",
            CauseCode.CLIENT_REBOOTED,
        ),
        (
            f"{_SET} -> ok\n{STATUS} -> 00 00 00 00 04 00\npause 0.005\n{STATUS} -> 0b 00 00 00 0a 00",
            CauseCode.READ_PROTECTED,
        ),
    ],
)
def test_a_command_that_is_not_carried_out(script: str, code: CauseCode) -> None:
    player = Script(script)

    with pytest.raises(AttemptFailed) as raised:
        player.play(_host().set_address(BASE))

    player.finish()
    assert _code(raised) is code


def test_a_block_that_is_written_at_once_is_none_the_worse() -> None:
    """Some clones do not tell that they are busy; a command that nobody was busy with was not carried out, though."""
    player = Script(f"""
        {_SET} -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 00 00 00 00 05 00
        21 01 02 00 00 00 10 00  2a*16 -> ok
        {STATUS} -> 00 00 00 00 05 00
    """)

    player.play(_host().write([Segment(BASE, b"*" * 16)]))

    player.finish()


def test_blocks_can_be_written_from_the_last_to_the_first() -> None:
    device = ModelDevice(ROM, LAYOUT)
    pointers: list[bytes] = []

    def answer(event: Event) -> Reply:
        if isinstance(event, Control) and event.data[:1] == bytes((Code.SET_ADDRESS,)):
            pointers.append(event.data[1:2])
        return device.answer(event)

    run(_host().write([Segment(BASE, b"*" * 120)], descending=True), answer)

    assert pointers == [b"\x60", b"\x30", b"\x00"]


def test_a_short_answer_is_no_memory() -> None:
    device = ModelDevice(ROM, LAYOUT)

    def answer(event: Event) -> Reply:
        reply = device.answer(event)
        upload = isinstance(event, Control) and event.setup.dfu_request is Request.UPLOAD
        return reply[:-1] if upload and isinstance(reply, bytes) else reply

    with pytest.raises(AttemptFailed) as raised:
        run(_host().read(BASE, 4), answer)
    assert _code(raised) is CauseCode.OUT_OF_STEP


def test_an_erase_that_is_stuck_on_a_chip_without_that_quirk_is_a_failure() -> None:
    busy = f"{STATUS} -> 00 60 ea 00 04 00\n"
    player = Script(
        f"21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok\n{busy} pause 60\n{busy} pause 60\n{busy}"
    )

    with pytest.raises(AttemptFailed) as raised:
        player.play(_host().erase(LAYOUT.sectors(BASE, BASE + 1)))

    player.finish()
    assert _code(raised) is CauseCode.STUCK_BUSY


def test_a_stuck_erase_that_cannot_be_freed() -> None:
    player = Script(f"""
        21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok
        {STATUS} -> 00 60 ea 00 04 00
        21 04 00 00 00 00 00 00 -> stall
        {STATUS} -> 0e 00 00 00 0a 00
        21 04 00 00 00 00 00 00 -> ok
        {STATUS} -> 0e 00 00 00 0a 00
    """)

    with pytest.raises(AttemptFailed) as raised:
        player.play(_host(Quirks(erase_sticks_busy=True)).erase(LAYOUT.sectors(BASE, BASE + 1)))

    player.finish()
    assert _code(raised) is CauseCode.STUCK_BUSY


def test_an_erase_that_fails_is_no_stuck_one() -> None:
    player = Script(f"21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok\n{STATUS} -> 04 00 00 00 0a 00")

    with pytest.raises(AttemptFailed) as raised:
        player.play(_host(Quirks(erase_sticks_busy=True)).erase(LAYOUT.sectors(BASE, BASE + 1)))

    assert _code(raised) is CauseCode.ERASE_ERROR


def test_a_device_that_refuses_option_bytes() -> None:
    done = f"{STATUS} -> 00 00 00 00 04 00\npause 0.005\n"
    address = f"{_SET} -> ok\n{done} {STATUS} -> 00 00 00 00 05 00\n"
    for last in (
        f"21 01 02 00 00 00 01 00  61 -> stall\n{STATUS} -> 03 00 00 00 0a 00",
        f"21 01 02 00 00 00 01 00  61 -> ok\n{STATUS} -> 03 00 00 00 0a 00",
        f"21 01 02 00 00 00 01 00  61 -> ok\n{done} {STATUS} -> 03 00 00 00 0a 00",
    ):
        player = Script(address + last)
        with pytest.raises(AttemptFailed) as raised:
            player.play(_host().write_options(Segment(BASE, b"a")))
        player.finish()
        assert _code(raised) is CauseCode.WRITE_ERROR


def test_option_bytes_that_take_the_device_away_at_once() -> None:
    player = Script(f"""
        {_SET} -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 00 00 00 00 05 00
        21 01 02 00 00 00 01 00  61 -> ok
        {STATUS} -> gone
    """)

    assert player.play(_host().write_options(Segment(BASE, b"a"))) is False
    player.finish()


def test_an_abort_that_does_not_abort() -> None:
    done = f"{STATUS} -> 00 00 00 00 04 00\npause 0.005\n{STATUS} -> 00 00 00 00 05 00\n"
    player = Script(f"{_SET} -> ok\n{done} 21 06 00 00 00 00 00 00 -> ok\n{STATUS} -> 00 00 00 00 05 00")

    with pytest.raises(AttemptFailed) as raised:
        player.play(_host().read(BASE, 4))

    player.finish()
    assert _code(raised) is CauseCode.OUT_OF_STEP


# --- verify and leave -----------------------------------------------------------------------------------------

IMAGE = (Segment(BASE, bytes(range(100))),)


def _written() -> tuple[DfuseHost, ModelDevice]:
    device, visit = ModelDevice(ROM, LAYOUT), _host()
    run(visit.write(IMAGE), device.answer)
    return visit, device


def test_silent_write_protection_is_found() -> None:
    visit, device = _written()
    device.memory[64:80] = b"\xff" * 16

    with pytest.raises(AttemptFailed) as raised:
        run(visit.verify(IMAGE), device.answer)

    cause = raised.value.cause
    assert (cause.code, cause.offset, cause.raw) == (CauseCode.READ_BACK_DIFFERS, 64, b"\xff" * 16)
    assert "0x08000040 should hold 40414243" in cause.detail
    with pytest.raises(OutOfTurn):
        run(visit.leave(IMAGE, BASE), device.answer)


def test_what_differs_once_is_read_again() -> None:
    visit, device = _written()
    reads = 0

    def answer(event: Event) -> Reply:
        nonlocal reads
        reply = device.answer(event)
        if (
            isinstance(event, Control)
            and event.setup.dfu_request is Request.UPLOAD
            and isinstance(reply, bytes)
        ):
            reads += 1
            if reads <= 2:  # the first two blocks come with an error in them
                return bytes((reply[0], reply[1] ^ 1)) + reply[2:]
        return reply

    run(visit.verify(IMAGE), answer)

    assert reads == 5
    assert run(visit.leave(IMAGE, BASE), device.answer)


def test_inv1_what_was_not_verified_is_not_left_to() -> None:
    visit, device = _written()
    with pytest.raises(OutOfTurn):
        run(visit.leave(IMAGE, BASE), device.answer)

    run(visit.verify([Segment(BASE, IMAGE[0].data[:99])]), device.answer)
    with pytest.raises(OutOfTurn):
        run(visit.leave(IMAGE, BASE), device.answer)
    with pytest.raises(OutOfTurn):
        run(visit.leave([], BASE), device.answer)
    assert device.started == []


def _changes(event: Control) -> bool:
    if event.setup.dfu_request is not Request.DNLOAD:
        return False
    return event.setup.value >= dfuse.FIRST_DATA_BLOCK or event.data[:1] != bytes((Code.SET_ADDRESS,))


@pytest.mark.parametrize("what", ["erase", "mass erase", "write", "options", "leave"])
def test_inv1_what_was_touched_since_it_was_verified_is_not_left_to(what: str) -> None:
    visit, device = _written()
    run(visit.verify(IMAGE), device.answer)
    touches: dict[str, Callable[[], Conversation[object]]] = {
        "erase": lambda: visit.erase(LAYOUT.sectors(BASE + 64, BASE + 65)),
        "mass erase": visit.mass_erase,
        "write": lambda: visit.write([Segment(BASE + 96, b"\0")]),
        "options": lambda: visit.write_options(Segment(BASE + 500, b"\0")),
        "leave": lambda: visit.leave(IMAGE, BASE),
    }
    touching = touches[what]()
    event = next(touching)
    while not (isinstance(event, Control) and _changes(event)):
        event = touching.send(device.answer(event))
    # Nobody knows whether that reached the device.
    touching.close()

    with pytest.raises(OutOfTurn):
        run(visit.leave(IMAGE, BASE), device.answer)


def test_a_device_that_leaves_without_being_asked_twice() -> None:
    device, visit = ModelDevice(ROM, LAYOUT), _host(Quirks(leaves_unasked=True))
    device.memory[:100] = IMAGE[0].data
    run(visit.verify(IMAGE), device.answer)
    before = device.transfers

    assert run(visit.leave(IMAGE, BASE), device.answer) is False
    assert device.transfers == before + 4


def test_a_device_that_refuses_to_leave() -> None:
    visit, device = _written()
    run(visit.verify(IMAGE), device.answer)
    leaving = visit.leave(IMAGE, BASE)
    player = Script(f"""
        {_SET} -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 00 00 00 00 05 00
        21 01 00 00 00 00 00 00 -> ok
        {STATUS} -> 0b 00 00 00 0a 00
    """)

    with pytest.raises(AttemptFailed) as raised:
        player.play(leaving)

    assert _code(raised) is CauseCode.READ_PROTECTED


def test_a_device_in_which_nothing_was_changed_may_go_back() -> None:
    device, visit = ModelDevice(ROM, LAYOUT), _host()
    run(visit.read(IMAGE[0].address, 16), device.answer)

    assert run(visit.return_untouched(BASE), device.answer)

    assert not visit.touched


@pytest.mark.parametrize("step", ["erase", "mass erase", "write", "options"])
def test_inv1_once_anything_may_have_changed_nothing_goes_back(step: str) -> None:
    """Also when the step was begun and not ended."""
    visit = _host()
    conversations: dict[str, Conversation[object]] = {
        "erase": visit.erase(LAYOUT.sectors()[:1]),
        "mass erase": visit.mass_erase(),
        "write": visit.write(IMAGE),
        "options": visit.write_options(IMAGE[0]),
    }
    conversation = conversations[step]
    while not isinstance(event := next(conversation), Control):
        assert event == Writing()
    conversation.close()

    with pytest.raises(OutOfTurn):
        Script("").play(visit.return_untouched(BASE))

    assert visit.touched


def test_inv1_only_two_places_can_send_the_empty_download() -> None:
    """Whatever else is built on the hosts: a DNLOAD without data is asked for in two places, and no other."""
    empty = "ask(Request.DNLOAD, value="
    leave = DfuseHost._leave  # noqa: SLF001
    assert inspect.getsource(dfuse_host).count("self._leave(") == 2
    for method in (DfuseHost.leave, DfuseHost.return_untouched):
        source = inspect.getsource(method)
        assert 0 < source.index("raise OutOfTurn") < source.index("self._leave(")
    for module, owner in ((host, host.DfuHost.manifest), (dfuse_host, leave)):
        places = [
            line for line in inspect.getsource(module).splitlines() if empty in line and "data=" not in line
        ]
        assert len(places) == 1
        assert places[0] in inspect.getsource(owner)
    assert empty not in inspect.getsource(steps)


def test_progress_tells_bytes() -> None:
    device, visit = ModelDevice(ROM, LAYOUT), _host()
    events: list[Event] = []

    def answer(event: Event) -> Reply:
        events.append(event)
        return device.answer(event)

    run(visit.write(IMAGE), answer)

    done = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert done == [(48, 112), (96, 112), (112, 112)]
