"""The host for plain DFU, and the steps that all hosts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import AttemptFailed, BadImage
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Control, Conversation, Event, Reply
from firmwarden.protocol.dfu.descriptors import (
    DFU_1_1,
    DFUSE,
    Alternate,
    Attribute,
    DfuInterface,
    FunctionalDescriptor,
)
from firmwarden.protocol.dfu.host import (
    NEEDS,
    DfuHost,
    Manifested,
    OutOfTurn,
    Stage,
    Step,
    announced_mode,
    detach,
    identify,
    reset_if_waiting,
)
from firmwarden.protocol.dfu.quirks import STANDARD, Mode, Quirks, Tongue
from firmwarden.protocol.dfu.requests import BLOCK_NUMBERS, Request, State, Status, StatusReport
from firmwarden.protocol.dfu.steps import LONGEST_WAIT_S, Unit, make_idle
from support.dfu_model import ModelDevice
from support.dfu_script import Script, run

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD
TOLERANT = BOTH | Attribute.MANIFESTATION_TOLERANT
STATUS = "A1 03 00 00 00 00 06 00"
STATE = "A1 05 00 00 00 00 01 00"
ABORT = "21 06 00 00 00 00 00 00"
IDLE = f"{STATUS} -> 00 00 00 00 02 00\n"
DOWNLOAD = "21 01 00 00 00 00 01 00  2a -> ok\n"
FOUND_IDLE = f"{STATE} -> 02\n{IDLE}"
IN_IDLE = f"{STATUS} -> 00 00 00 00 05 00\n"
THE_END = "21 01 01 00 00 00 00 00 -> ok\n"


def _unit(attributes: Attribute = TOLERANT, quirks: Quirks = STANDARD, transfer_size: int = 4) -> Unit:
    functional = FunctionalDescriptor(
        attributes=attributes, detach_timeout_ms=1000, transfer_size=transfer_size, version=DFU_1_1
    )
    return Unit(interface=0, functional=functional, quirks=quirks)


def _interface(*protocols: int, version: int = DFU_1_1, alone: bool = False) -> DfuInterface:
    functional = FunctionalDescriptor(attributes=BOTH, detach_timeout_ms=0, transfer_size=64, version=version)
    return DfuInterface(
        configuration=1,
        number=0,
        alternates=tuple(Alternate(setting, protocol, 0) for setting, protocol in enumerate(protocols)),
        functional=functional,
        alone=alone,
    )


def _code(raised: pytest.ExceptionInfo[AttemptFailed]) -> CauseCode:
    return raised.value.cause.code


# --- which mode -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "quirks", "mode"),
    [
        (_interface(2, 2), STANDARD, Mode.DFU),
        (_interface(1, alone=True), STANDARD, Mode.RUN_TIME),
        (_interface(0, version=DFUSE), STANDARD, Mode.DFU),
        (_interface(0, alone=True), STANDARD, Mode.DFU),
        (_interface(0), STANDARD, None),
        (_interface(1), Quirks(mode=Mode.DFU), Mode.DFU),
    ],
)
def test_the_mode_that_is_announced(interface: DfuInterface, quirks: Quirks, mode: Mode | None) -> None:
    assert announced_mode(interface, quirks) is mode


@pytest.mark.parametrize("announced", [Mode.DFU, Mode.RUN_TIME, None])
@pytest.mark.parametrize("state", State)
def test_the_state_decides_on_the_mode(state: State, announced: Mode | None) -> None:
    script = Script(f"{STATE} -> {state:02x}")

    mode = script.play(identify(_unit(), announced))

    assert mode is (Mode.RUN_TIME if state <= 1 else Mode.DFU)


@pytest.mark.parametrize(
    ("announced", "mode"), [(Mode.DFU, Mode.DFU), (Mode.RUN_TIME, Mode.RUN_TIME), (None, Mode.RUN_TIME)]
)
def test_a_stall_leaves_what_was_announced(announced: Mode | None, mode: Mode) -> None:
    assert Script(f"{STATE} -> stall").play(identify(_unit(), announced)) is mode


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("timeout", CauseCode.NO_ANSWER),
        ("gone", CauseCode.LINK_LOST),
        ("broken", CauseCode.LINK_LOST),
        ("0b", CauseCode.OUT_OF_STEP),
        ("00 00", CauseCode.OUT_OF_STEP),
        ("ok", CauseCode.OUT_OF_STEP),
    ],
)
def test_a_device_that_does_not_answer_has_no_mode(reply: str, code: CauseCode) -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script(f"{STATE} -> {reply}").play(identify(_unit(), Mode.DFU))

    assert _code(raised) is code


def test_what_no_unit_can_be_made_of() -> None:
    with pytest.raises(AttemptFailed) as raised:
        Unit.of(_interface(2), Quirks(tongue=Tongue.FLIP))
    assert _code(raised) is CauseCode.NOT_SUPPORTED

    bare = DfuInterface(configuration=1, number=0, alternates=(), functional=None, alone=True)
    with pytest.raises(AttemptFailed) as raised:
        Unit.of(bare, STANDARD)
    assert _code(raised) is CauseCode.CLIENT_INFO_MALFORMED


def test_a_version_can_be_corrected() -> None:
    assert not Unit.of(_interface(2), STANDARD).dfuse
    assert Unit.of(_interface(2), Quirks(version=DFUSE)).dfuse


# --- detach -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["stall", "timeout", "gone", "00 00 00 00 00 00"])
@pytest.mark.parametrize("acknowledged", ["ok", "stall", "gone", "broken"])
@pytest.mark.parametrize("will_detach", [False, True])
def test_detach_is_judged_by_what_comes_back_alone(told: str, acknowledged: str, will_detach: bool) -> None:
    attributes = BOTH | (Attribute.WILL_DETACH if will_detach else Attribute(0))
    script = Script(f"""
        {STATUS} -> {told}
        21 00 E8 03 00 00 00 00 -> {acknowledged}
        {"" if will_detach else "reset"}
    """)

    script.play(detach(_unit(attributes)))

    script.finish()


def test_a_device_that_is_detaching_is_reset() -> None:
    script = Script(f"{STATUS} -> 00 00 00 00 01 00\nreset")

    script.play(detach(_unit(BOTH)))

    script.finish()


@pytest.mark.parametrize("state", [state for state in State if not state.in_application])
def test_inv1_a_device_in_dfu_mode_is_not_detached(state: State) -> None:
    script = Script(f"{STATUS} -> {StatusReport(status=Status.OK, state=state).encode().hex()}")

    script.play(detach(_unit(BOTH)))

    script.finish()


# --- to idle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "script"),
    [
        ("02", IDLE),
        ("05", f"{IN_IDLE} {ABORT} -> ok\n{IDLE}"),
        ("09", f"{STATUS} -> 00 00 00 00 09 00\n{ABORT} -> ok\n{IDLE}"),
        ("0a", f"{STATUS} -> 0f 00 00 00 0a 00\n21 04 00 00 00 00 00 00 -> ok\n{IDLE}"),
        ("04", f"{STATUS} -> 00 64 00 00 04 00\npause 0.1\n{IN_IDLE} {ABORT} -> ok\n{IDLE}"),
        ("stall", f"{STATUS} -> 00 00 00 00 03 00\npause 0.01\n{IN_IDLE} {ABORT} -> ok\n{IDLE}"),
        (
            "07",
            f"{STATUS} -> 00 00 00 00 06 00\npause 0.01\n{STATUS} -> 00 00 00 00 07 00\npause 0.01\n{IDLE}",
        ),
        ("stall", f"{STATUS} -> stall\npause 0.05\n{STATUS} -> stall\npause 0.05\n{IDLE}"),
    ],
)
def test_every_way_to_idle(state: str, script: str) -> None:
    player = Script(f"{STATE} -> {state}\n{script}")

    player.play(make_idle(_unit()))

    player.finish()


@pytest.mark.parametrize("state", ["03", "06"])
@pytest.mark.parametrize(
    "way",
    [
        f"{ABORT} -> ok\n{IDLE}",
        f"{ABORT} -> stall\n{STATUS} -> 0f 00 00 00 0a 00\n21 04 00 00 00 00 00 00 -> ok\n{IDLE}",
    ],
)
def test_inv1_what_another_host_left_to_be_carried_out_is_not(state: str, way: str) -> None:
    """A GETSTATUS would erase a page for it, or start what it had written so far."""
    player = Script(f"{STATE} -> {state}\n{way}")

    player.play(make_idle(_unit()))

    player.finish()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"{STATE} -> 00\n{STATUS} -> 00 00 00 00 00 00", CauseCode.OUT_OF_STEP),
        (f"{STATE} -> 01\n{STATUS} -> 00 00 00 00 01 00", CauseCode.OUT_OF_STEP),
        (f"{STATE} -> 08\n{STATUS} -> 00 00 00 00 08 00", CauseCode.OUT_OF_STEP),
        (
            f"{STATE} -> 04\n"
            + f"{STATUS} -> 00 00 00 00 04 00\npause 0.01\n" * 6
            + f"{STATUS} -> 00 00 00 00 04 00",
            CauseCode.STUCK_BUSY,
        ),
        (
            f"{STATE} -> 0a\n"
            + f"{STATUS} -> 0a 00 00 00 0a 00\n21 04 00 00 00 00 00 00 -> ok\n" * 6
            + f"{STATUS} -> 0a 00 00 00 0a 00",
            CauseCode.OUT_OF_STEP,
        ),
        (
            f"{STATE} -> stall\n" + f"{STATUS} -> stall\npause 0.05\n" * 3 + f"{STATUS} -> stall",
            CauseCode.OUT_OF_STEP,
        ),
        (f"{STATE} -> timeout", CauseCode.NO_ANSWER),
        (f"{STATE} -> 0b", CauseCode.OUT_OF_STEP),
        (f"{STATE} -> 03\n{ABORT} -> gone", CauseCode.LINK_LOST),
        (f"{STATE} -> 02\n{STATUS} -> timeout", CauseCode.NO_ANSWER),
        (f"{STATE} -> 05\n{IN_IDLE} {ABORT} -> gone", CauseCode.LINK_LOST),
        (
            f"{STATE} -> 0a\n{STATUS} -> 0f 00 00 00 0a 00\n21 04 00 00 00 00 00 00 -> stall",
            CauseCode.OUT_OF_STEP,
        ),
    ],
)
def test_inv1_what_cannot_be_brought_to_idle_is_left_alone(script: str, code: CauseCode) -> None:
    player = Script(script)

    with pytest.raises(AttemptFailed) as raised:
        player.play(make_idle(_unit()))

    player.finish()
    assert _code(raised) is code


def test_inv1_a_device_goes_back_only_before_anything_was_downloaded() -> None:
    player = Script(f"{FOUND_IDLE} reset\n{FOUND_IDLE} {DOWNLOAD} {STATUS} -> gone")
    player.play(DfuHost(_unit()).return_untouched())
    host = DfuHost(_unit())

    with pytest.raises(AttemptFailed):
        player.play(host.download(b"*"))
    with pytest.raises(OutOfTurn):
        player.play(host.return_untouched())

    player.finish()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("state", ["08", "02", "05", "06", "07", "0a", "stall", "gone", "broken"])
def test_a_device_that_says_that_it_waits_for_its_reset_gets_it(state: str, *, told: bool) -> None:
    resets = state == "08"
    player = Script(f"{STATE} -> {state}" + ("\nreset" if resets else ""))

    assert player.play(reset_if_waiting(_unit(BOTH), told=told)) is resets

    player.finish()


_SILENCE = f"{STATE} -> timeout\npause 20\n"


@pytest.mark.parametrize(
    ("script", "told", "resets"),
    [
        (_SILENCE * 6 + f"{STATE} -> timeout\nreset", True, True),
        (_SILENCE * 6 + f"{STATE} -> 07", True, False),
        (_SILENCE + f"{STATE} -> 05", True, False),
        (_SILENCE + f"{STATE} -> 08\nreset", True, True),
        (f"{STATE} -> timeout", False, False),
    ],
)
def test_inv1_one_answer_that_was_lost_is_no_reason_for_a_reset(
    script: str, *, told: bool, resets: bool
) -> None:
    """It may have half an image, or be at work."""
    player = Script(script)

    assert player.play(reset_if_waiting(_unit(BOTH), told=told)) is resets

    player.finish()


# --- download ---------------------------------------------------------------------------------------------


def _download(text: str, quirks: Quirks = STANDARD, image: bytes = b"*") -> None:
    player = Script(FOUND_IDLE + text)
    try:
        player.play(DfuHost(_unit(quirks=quirks)).download(image))
    finally:
        player.finish()


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_inv3_an_error_of_the_device_ends_the_download(status: Status) -> None:
    with pytest.raises(AttemptFailed) as raised:
        _download(f"{DOWNLOAD} {STATUS} -> {status:02x} 00 00 00 0a 00")

    cause = raised.value.cause
    assert (cause.offset, cause.raw[0]) == (0, status)
    assert status.name in cause.detail


def test_a_stall_is_asked_for_its_reason() -> None:
    with pytest.raises(AttemptFailed) as raised:
        _download(f"21 01 00 00 00 00 01 00  2a -> stall\n{STATUS} -> 08 00 00 00 0a 00")

    assert _code(raised) is CauseCode.ADDRESS_ERROR


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"21 01 00 00 00 00 01 00  2a -> stall\n{IDLE}", CauseCode.OUT_OF_STEP),
        ("21 01 00 00 00 00 01 00  2a -> timeout", CauseCode.NO_ANSWER),
        ("21 01 00 00 00 00 01 00  2a -> gone", CauseCode.LINK_LOST),
        (f"{DOWNLOAD} {STATUS} -> gone", CauseCode.LINK_LOST),
        (f"{DOWNLOAD} {STATUS} -> 00 00 00 00 02 00", CauseCode.CLIENT_REBOOTED),
        (f"{DOWNLOAD} {STATUS} -> 00 00 00 00 00 00", CauseCode.CLIENT_REBOOTED),
        (f"{DOWNLOAD} {STATUS} -> 00 00 00 00 09 00", CauseCode.OUT_OF_STEP),
        (f"{DOWNLOAD} {STATUS} -> 00 00 00 00 0a 00", CauseCode.OUT_OF_STEP),
        (f"{DOWNLOAD} {STATUS} -> 77 00 00 00 0a 00", CauseCode.ABORT_UNKNOWN),
        (f"{DOWNLOAD} {STATUS} -> 00 10 27 00 04 00\npause 10\n{STATUS} -> timeout", CauseCode.NO_ANSWER),
    ],
)
def test_what_else_ends_a_download(text: str, code: CauseCode) -> None:
    with pytest.raises(AttemptFailed) as raised:
        _download(text)

    assert _code(raised) is code


def test_a_promise_of_an_hour_is_capped() -> None:
    with pytest.raises(AttemptFailed) as raised:
        _download(
            DOWNLOAD + f"{STATUS} -> 00 80 ee 36 04 00\npause 60\n" * 2 + f"{STATUS} -> 00 80 ee 36 04 00"
        )

    assert _code(raised) is CauseCode.STUCK_BUSY
    assert LONGEST_WAIT_S == 120


_ZERO = f"{STATUS} -> 00 00 00 00 04 00\n"


def test_a_hundred_times_busy_for_no_time_is_stuck() -> None:
    with pytest.raises(AttemptFailed) as raised:
        _download(DOWNLOAD + f"{_ZERO} pause 0.005\n" * 99 + _ZERO)

    assert _code(raised) is CauseCode.STUCK_BUSY


def test_some_devices_mean_it() -> None:
    _download(DOWNLOAD + f"{_ZERO} pause 0.005\n" * 300 + IN_IDLE, Quirks(polls_without_time=True))


def test_poll_timeouts_that_are_garbage() -> None:
    _download(
        f"{DOWNLOAD} {STATUS} -> 00 ff ff ff 04 00\npause 0.005\n{IN_IDLE}",
        Quirks(poll_timeouts_are_garbage=True),
    )


def test_block_numbers_wrap() -> None:
    blocks: list[int] = []

    def answer(event: Event) -> Reply:
        if not isinstance(event, Control):
            return b""
        if event.setup.dfu_request is Request.DNLOAD:
            blocks.append(event.setup.value)
            return b""
        state = State.DNLOAD_IDLE if blocks else State.DFU_IDLE
        if event.setup.dfu_request is Request.GETSTATE:
            return bytes((state,))
        return StatusReport(status=Status.OK, state=state).encode()

    run(DfuHost(_unit(transfer_size=1)).download(bytes(BLOCK_NUMBERS + 2)), answer)

    assert blocks == [*range(BLOCK_NUMBERS), 0, 1]


def test_nothing_is_not_sent() -> None:
    with pytest.raises(BadImage):
        Script("").play(DfuHost(_unit()).download(b""))


def test_what_the_device_cannot_is_not_tried() -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script("").play(DfuHost(_unit(Attribute.CAN_UPLOAD)).download(b"*"))
    assert _code(raised) is CauseCode.NOT_SUPPORTED

    assert not _unit(Attribute.CAN_DOWNLOAD).can_upload
    assert not _unit(BOTH, Quirks(upload_is_broken=True)).can_upload


# --- the end ----------------------------------------------------------------------------------------------


def _transferred(
    rest: str, attributes: Attribute = TOLERANT, quirks: Quirks = STANDARD
) -> tuple[DfuHost, Script]:
    host = DfuHost(_unit(attributes, quirks))
    script = Script(FOUND_IDLE + DOWNLOAD + IN_IDLE + rest)
    script.play(host.download(b"*"))
    return host, script


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"{STATUS} -> 00 00 00 00 02 00", Manifested.IDLE),
        (f"{STATUS} -> 00 00 00 00 06 00\npause 0.005\n{STATUS} -> 00 00 00 00 02 00", Manifested.IDLE),
        (f"{STATUS} -> 00 64 00 00 07 00\npause 0.1\n{STATUS} -> 00 00 00 00 08 00", Manifested.WAITS),
        (f"{STATUS} -> 00 64 00 00 07 00\npause 0.1\n{STATUS} -> gone", Manifested.SILENT),
        (f"{STATUS} -> timeout\npause 1\n{STATUS} -> 00 00 00 00 02 00", Manifested.IDLE),
        (f"{STATUS} -> 00 00 00 00 00 00", Manifested.SILENT),
    ],
)
def test_how_a_manifestation_ends(text: str, result: Manifested) -> None:
    host, script = _transferred(THE_END + text + "\nreset")

    assert script.play(host.manifest()) is result
    script.play(host.attach())

    script.finish()


MANIFESTS = f"{STATUS} -> 00 64 00 00 07 00\npause 0.1\n"
UNANSWERED = f"{STATUS} -> timeout\npause 1\n"


def test_inv1_a_tolerant_device_that_is_silent_at_its_work_is_waited_for() -> None:
    """It waits for no reset, and has to answer again."""
    host, script = _transferred(THE_END + MANIFESTS + UNANSWERED * 20 + IDLE)

    assert script.play(host.manifest()) is Manifested.IDLE

    script.finish()


@pytest.mark.parametrize(
    ("attributes", "answers", "result"),
    [
        (BOTH, MANIFESTS + UNANSWERED + f"{STATUS} -> timeout", Manifested.SILENT),
        (BOTH, UNANSWERED + f"{STATUS} -> timeout", Manifested.UNHEARD),
        # 6 s each: as long as anything may take.
        (TOLERANT, MANIFESTS + UNANSWERED * 20 + f"{STATUS} -> timeout", Manifested.SILENT),
        (TOLERANT, UNANSWERED * 20 + f"{STATUS} -> timeout", Manifested.UNHEARD),
        (TOLERANT, f"{STATUS} -> stall\npause 1\n" * 120 + f"{STATUS} -> stall", Manifested.UNHEARD),
    ],
)
def test_inv1_how_long_a_silence_has_to_last(attributes: Attribute, answers: str, result: Manifested) -> None:
    host, script = _transferred(THE_END + answers, attributes)

    assert script.play(host.manifest()) is result

    script.finish()


@pytest.mark.parametrize("attributes", [BOTH, TOLERANT])
def test_inv1_answers_that_were_lost_one_by_one_are_no_silence(attributes: Attribute) -> None:
    host, script = _transferred(THE_END + (UNANSWERED + MANIFESTS) * 3 + IDLE, attributes)

    assert script.play(host.manifest()) is Manifested.IDLE

    script.finish()


def test_silence_counts_in_what_a_manifestation_may_take() -> None:
    host, script = _transferred(THE_END + (UNANSWERED + MANIFESTS) * 20)

    with pytest.raises(AttemptFailed) as raised:
        script.play(host.manifest())

    script.finish()
    assert _code(raised) is CauseCode.STUCK_BUSY


@pytest.mark.parametrize("text", [f"{STATUS} -> gone", f"{STATUS} -> timeout\npause 1\n{STATUS} -> timeout"])
def test_inv1_a_device_that_was_not_heard_again_is_not_sent_back(text: str) -> None:
    """It may not have got that this was all."""
    host, script = _transferred(THE_END + text, BOTH)

    assert script.play(host.manifest()) is Manifested.UNHEARD

    script.finish()
    with pytest.raises(OutOfTurn):
        Script("").play(host.attach())


def test_some_devices_leave_by_detach() -> None:
    host, script = _transferred(
        f"{THE_END} {IDLE} 21 00 E8 03 00 00 00 00 -> gone", quirks=Quirks(detach_leaves=True)
    )

    script.play(host.manifest())
    script.play(host.attach())

    script.finish()


def _see_no_way_out(host: DfuHost) -> None:
    ways: tuple[Callable[[], Conversation[object]], ...] = (host.manifest, host.attach)
    for way in ways:
        with pytest.raises(OutOfTurn):
            Script("").play(way())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"{THE_END} {STATUS} -> 07 00 00 00 0a 00", CauseCode.VERIFY_ERROR),
        (f"{THE_END} {STATUS} -> 0a 00 00 00 0a 00", CauseCode.FIRMWARE_CORRUPT),
        (f"21 01 01 00 00 00 00 00 -> stall\n{STATUS} -> 09 00 00 00 0a 00", CauseCode.OUT_OF_STEP),
        ("21 01 01 00 00 00 00 00 -> gone", CauseCode.LINK_LOST),
        (f"{THE_END} {STATUS} -> 00 00 00 00 05 00", CauseCode.OUT_OF_STEP),
        (THE_END + f"{STATUS} -> 00 60 ea 00 07 00\npause 60\n" * 3, CauseCode.STUCK_BUSY),
    ],
)
def test_inv1_a_manifestation_that_failed_is_not_attached(text: str, code: CauseCode) -> None:
    host, script = _transferred(text)

    with pytest.raises(AttemptFailed) as raised:
        script.play(host.manifest())

    script.finish()
    assert _code(raised) is code
    _see_no_way_out(host)


def test_inv1_the_steps_that_can_start_an_image_need_the_ones_before() -> None:
    assert NEEDS[Step.MANIFEST] == {Stage.TRANSFERRED}
    assert NEEDS[Step.ATTACH] == {Stage.MANIFESTED}
    assert set(NEEDS) == set(Step)

    _see_no_way_out(DfuHost(_unit()))


def test_inv1_an_upload_would_end_a_download_that_is_not_over() -> None:
    host, script = _transferred("")
    with pytest.raises(OutOfTurn):
        script.play(host.holds(b"*"))


@given(st.binary(min_size=1, max_size=40), st.integers(0, 44))
def test_what_was_sent_can_be_known_again(image: bytes, held: int) -> None:
    unit = _unit()
    device = ModelDevice(unit.functional)
    device.memory += image[:held]

    assert run(DfuHost(unit).holds(image), device.answer) is (held >= len(image))
    assert device.state is State.DFU_IDLE


@given(st.binary(min_size=1, max_size=40), st.booleans())
def test_a_whole_download(image: bytes, tolerant: bool) -> None:
    unit = _unit(TOLERANT if tolerant else BOTH)
    device = ModelDevice(unit.functional)
    host = DfuHost(unit)

    run(host.download(image), device.answer)
    result = run(host.manifest(), device.answer)

    assert device.started == [image]
    # A device that waits for its reset answers no request any more.
    assert result is (Manifested.IDLE if tolerant else Manifested.SILENT)
