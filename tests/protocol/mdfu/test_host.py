"""The MDFU host against scripts: what it sends, byte for byte, and what it makes of each answer.

Where a test is named after a defect of an existing host (pymdfu 2.9.0), that host fails it.
"""

import pytest

from firmwarden.errors import AttemptFailed, BadImage
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.machine import Milestone, Quiet, Receive, Send
from firmwarden.protocol.mdfu.client_info import ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.host import (
    ABORT_CODES,
    COMMANDS,
    CONFIRMATION,
    DISCOVERY,
    UPDATE,
    Discovered,
    Ended,
    ImageValid,
    MdfuConfirm,
    MdfuHost,
    MdfuInfo,
    Phase,
    ReadyToStart,
    Reply,
    Settings,
    Silent,
    Transitions,
)
from firmwarden.protocol.mdfu.packet import AbortCause, Command, CommandPacket, ResponsePacket, Status
from support import mdfu_vectors as vectors
from support.wire import Answer, Script, Wire

_INFO_WIRE = bytes.fromhex(vectors.INFO_WIRE)
_INFO = ClientInfo.decode(bytes.fromhex(vectors.INFO))
_IMAGE = vectors.IMAGE


def _ask(sequence: int, command: Command, payload: bytes = b"", *, sync: bool = False) -> bytes:
    packet = CommandPacket(sequence=sequence, command=command, payload=payload, sync=sync)
    return encode_frame(packet.encode())


def _answer(
    sequence: int, payload: bytes = b"", status: Status = Status.SUCCESS, *, resend: bool = False
) -> bytes:
    return encode_frame(
        ResponsePacket(sequence=sequence, status=status, payload=payload, resend=resend).encode()
    )


def _resend(sequence: int, payload: bytes = b"") -> bytes:
    return _answer(sequence, payload, Status.COMMAND_NOT_EXECUTED, resend=True)


def _abort(sequence: int, payload: bytes = b"") -> bytes:
    return _answer(sequence, payload, Status.ABORT_FILE_TRANSFER)


def _info(**changes: float | ProtocolVersion) -> bytes:
    fields = {"version": ProtocolVersion(1, 3), "buffer_size": 8, "default_timeout_s": 1.0, **changes}
    return _answer(0, ClientInfo(**fields).encode())  # type: ignore[arg-type]


def _damaged(frame: bytes) -> bytes:
    """Flip one bit of the packet's second byte, which none of our frames escapes."""
    return frame[:2] + bytes((frame[2] ^ 0x40,)) + frame[3:]


_HELLO = _ask(0, Command.GET_CLIENT_INFO, sync=True)
_START = _ask(1, Command.START_TRANSFER)
_FIRST = _ask(2, Command.WRITE_CHUNK, _IMAGE[:8])
_SECOND = _ask(3, Command.WRITE_CHUNK, _IMAGE[8:])
_STATE = _ask(4, Command.GET_IMAGE_STATE)
_END = _ask(5, Command.END_TRANSFER)

Step = tuple[bytes, *tuple[bytes | Answer, ...]]
_DISCOVERED: Step = (_HELLO, _INFO_WIRE)
_STARTED: tuple[Step, ...] = (_DISCOVERED, (_START, _answer(1)))
_FINISH: tuple[Step, ...] = (
    (_SECOND, _answer(3)),
    (_STATE, _answer(4, b"\x01")),
    (_END, _answer(5)),
)
_WRITTEN: tuple[Step, ...] = (*_STARTED, (_FIRST, _answer(2)), (_SECOND, _answer(3)))

_PATIENT = Settings(discovery_s=3.0)


def _update(
    *steps: Step, settings: Settings | None = None, image: bytes = _IMAGE
) -> tuple[Wire, list[Milestone]]:
    script = Script(*steps)
    wire = Wire(MdfuHost(image, settings), script)
    milestones = wire.run_through(Ended)
    assert script.finished
    return wire, milestones


def _failure(
    *steps: Step, settings: Settings | None = None, image: bytes = _IMAGE
) -> tuple[Cause, MdfuHost, Wire]:
    script = Script(*steps)
    host = MdfuHost(image, settings)
    wire = Wire(host, script)
    with pytest.raises(AttemptFailed) as failed:
        wire.run_through(Ended)
    assert script.finished
    return failed.value.cause, host, wire


def _stats(wire: Wire) -> dict[str, int]:
    assert isinstance(wire.machine, MdfuHost)
    stats = wire.machine.stats
    return {
        name: value
        for name in ("resends", "timeouts", "damaged", "strays")
        if (value := getattr(stats, name))
    }


# --- the normal case ---------------------------------------------------------------------------------


def test_an_update_is_what_pymdfu_sends() -> None:
    script = Script(
        (bytes.fromhex("56 80 01 7f fe 9e"), _INFO_WIRE),
        (bytes.fromhex("56 01 02 fe fd 9e"), bytes.fromhex("56 01 01 fe fe 9e")),
        (
            bytes.fromhex("56 02 03 cc a9 cc 61 cc 33 00 a9 61 33 ff ff fc 9e"),
            bytes.fromhex("56 02 01 fd fe 9e"),
        ),
        (bytes.fromhex("56 03 03 01 02 03 f8 fa 9e"), bytes.fromhex("56 03 01 fc fe 9e")),
        (bytes.fromhex("56 04 04 fb fb 9e"), bytes.fromhex("56 04 01 01 fa fe 9e")),
        (bytes.fromhex("56 05 05 fa fa 9e"), bytes.fromhex("56 05 01 fa fe 9e")),
    )
    host = MdfuHost(_IMAGE)
    wire = Wire(host, script)

    milestones = wire.run_through(Ended)

    assert milestones == [Discovered(_INFO), ReadyToStart(), ImageValid(), Ended(acknowledged=True)]
    assert script.finished
    assert wire.now == 0.0
    assert wire.quiets == []
    assert (host.bytes_accepted, host.chunks_accepted, host.info) == (11, 2, _INFO)
    assert host.stats.commands == 6
    assert host.stats.sent_bytes == sum(len(data) for _, data in wire.sent)
    assert host.stats.received_bytes == len(_INFO_WIRE) + 5 * 6 + 1
    assert _stats(wire) == {}


def test_a_real_update_of_an_avr_client() -> None:
    # TV-17, with the chunks that the capture shows whole.
    image = bytes(527) + b"\x0f\x02"
    _update(
        (_HELLO, bytes.fromhex(f"56 00 01 {vectors.INFO_AVR} f6 81 9e")),
        (bytes.fromhex("56 01 02 fe fd 9e"), bytes.fromhex("56 01 01 fe fe 9e")),
        (_ask(2, Command.WRITE_CHUNK, image[:527]), (2.47, bytes.fromhex("56 02 01 fd fe 9e"))),
        (_ask(3, Command.WRITE_CHUNK, b"\x0f\x02"), (0.03, bytes.fromhex("56 03 01 fc fe 9e"))),
        (_ask(4, Command.GET_IMAGE_STATE), (0.85, bytes.fromhex("56 04 01 01 fa fe 9e"))),
        (_ask(5, Command.END_TRANSFER), bytes.fromhex("56 05 01 fa fe 9e")),
        image=image,
    )


def test_answers_may_come_byte_by_byte() -> None:
    def drip(frame: bytes) -> tuple[Answer, ...]:
        return tuple((0.01 * index, bytes((byte,))) for index, byte in enumerate(frame))

    wire, _ = _update(
        (_HELLO, *drip(_INFO_WIRE)),
        (_START, *drip(_answer(1))),
        (_FIRST, *drip(_answer(2))),
        (_SECOND, *drip(_answer(3))),
        (_STATE, *drip(_answer(4, b"\x01"))),
        (_END, *drip(_answer(5))),
    )
    assert _stats(wire) == {}


@pytest.mark.parametrize("size", [8, 16, 80])
def test_a_file_of_full_chunks_ends_with_a_full_chunk(size: int) -> None:
    image = bytes(range(size))
    chunks = [image[start : start + 8] for start in range(0, size, 8)]
    count = len(chunks)

    wire, _ = _update(
        *_STARTED,
        *(
            (_ask(2 + index, Command.WRITE_CHUNK, chunk), _answer(2 + index))
            for index, chunk in enumerate(chunks)
        ),
        (_ask(2 + count, Command.GET_IMAGE_STATE), _answer(2 + count, b"\x01")),
        (_ask(3 + count, Command.END_TRANSFER), _answer(3 + count)),
        image=image,
    )
    assert len(wire.sent) == count + 4


def test_numbers_wrap_from_31_to_0() -> None:
    # TV-12: chunks of one byte, so that chunk 29 has number 31.
    image = bytes(range(40))
    sequence = [(2 + index) % 32 for index in range(40)]

    wire, _ = _update(
        (_HELLO, _info(buffer_size=1)),
        (_START, _answer(1)),
        *(
            (_ask(number, Command.WRITE_CHUNK, image[index : index + 1]), _answer(number))
            for index, number in enumerate(sequence)
        ),
        (_ask(10, Command.GET_IMAGE_STATE), _answer(10, b"\x01")),
        (_ask(11, Command.END_TRANSFER), _answer(11)),
        image=image,
    )
    sent = [data for _, data in wire.sent]
    assert bytes.fromhex("56 1f 03 1d c3 fc 9e") in sent
    assert bytes.fromhex("56 00 03 1e e1 fc 9e") in sent
    assert bytes.fromhex("56 01 03 1f df fc 9e") in sent


def test_a_memoryview_is_not_copied_as_a_whole() -> None:
    script = Script(*_STARTED, (_FIRST, _answer(2)), *_FINISH)
    wire = Wire(MdfuHost(memoryview(_IMAGE)), script)

    assert wire.run_through(Ended)[-1] == Ended(acknowledged=True)


def test_progress_can_be_sampled() -> None:
    host = MdfuHost(_IMAGE)
    seen = []

    class Watcher:
        def __init__(self) -> None:
            self._script = Script(*_STARTED, (_FIRST, _answer(2)), *_FINISH)

        def hear(self, data: bytes) -> list[Answer]:
            seen.append((host.phase, host.chunks_accepted, host.bytes_accepted))
            return list(self._script.hear(data))

    Wire(host, Watcher()).run_through(Ended)

    assert seen == [
        (Phase.DISCOVERING, 0, 0),
        (Phase.STARTING, 0, 0),
        (Phase.WRITING, 0, 0),
        (Phase.WRITING, 1, 8),
        (Phase.CHECKING, 2, 11),
        (Phase.ENDING, 2, 11),
    ]


def test_the_client_sets_the_time_outs() -> None:
    host = MdfuHost(_IMAGE)
    timeouts = []

    class Recorder:
        def receive(self, data: bytes) -> None:
            host.receive(data)

        def timed_out(self) -> None:
            host.timed_out()

        def next_event(self) -> Send | Receive | Quiet | Milestone:
            event = host.next_event()
            if isinstance(event, Send):
                timeouts.append(event.timeout_s)
                assert event.delay_s == 0.0  # means nothing on a serial line
                assert event.answer_size >= 12
            return event

    Wire(Recorder(), Script(*_STARTED, (_FIRST, _answer(2)), *_FINISH)).run_through(Ended)

    assert timeouts == [1.0, 5.0, 1.0, 1.0, 3.0, 1.0]


def test_the_delay_between_transactions_is_kept_where_it_means_something() -> None:
    wire, _ = _update(*_STARTED, (_FIRST, _answer(2)), *_FINISH, settings=Settings(honour_delay=True))
    # 10 ms until the client has told that it needs 1.5 ms.
    assert [round(at, 6) for at, _ in wire.sent] == [0.01, 0.0115, 0.013, 0.0145, 0.016, 0.0175]


# --- what a client wants to have again (R_SEQUENCE of a RESEND; the host is at number 2) ---------------


@pytest.mark.parametrize("cause", [b"", b"\x00", b"\x01", b"\x02", b"\x03", b"\x63"])
def test_resend_wanting_the_same_number_is_obeyed(cause: bytes) -> None:
    wire, _ = _update(*_STARTED, (_FIRST, _resend(2, cause)), (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1}
    assert wire.quiets == [0.0, 0.05]


@pytest.mark.parametrize("cause", [b"", b"\x00", b"\x01", b"\x02"])
def test_resend_wanting_the_next_number_after_a_lost_answer_gets_the_same_again(cause: bytes) -> None:
    # Executed, the answer lost, and the repeat damaged: the client will replay the stored answer.
    wire, _ = _update(*_STARTED, (_FIRST,), (_FIRST, _resend(3, cause)), (_FIRST, _answer(2)), *_FINISH)
    assert _stats(wire) == {"resends": 2, "timeouts": 1}


def test_an_answer_that_the_client_cannot_replay_is_no_success() -> None:
    # What the simulator of pymdfu does after each lost answer.  The lost one can have been an abort.
    cause, host, _ = _failure(
        *_STARTED,
        (_FIRST,),
        *[(_FIRST, _resend(3, b"\x03"))] * 5,
    )
    assert cause.code is CauseCode.RETRIES_EXHAUSTED
    assert "cannot repeat" in cause.detail
    assert host.bytes_accepted == 0


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_client_that_wants_its_first_number_has_rebooted(wanted: int) -> None:
    cause, _, wire = _failure(*_STARTED, (_FIRST, _resend(wanted, b"\x03")))

    assert cause == Cause(
        code=CauseCode.CLIENT_REBOOTED,
        detail="WRITE_CHUNK number 2: the client expects another command",
        raw=bytes((0x40 | wanted, 4, 3)),
        offset=0,
        chunk=0,
        sequence=2,
    )
    assert wire.quiets == []


@pytest.mark.parametrize("wanted", [4, 17, 31])
def test_a_client_that_wants_any_other_number_has_lost_the_session(wanted: int) -> None:
    cause, _, _ = _failure(*_STARTED, (_FIRST, _resend(wanted)))

    assert cause.code is CauseCode.CLIENT_REBOOTED


# --- what can be seen while an answer is awaited ------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.COMMAND_NOT_SUPPORTED, CauseCode.NOT_SUPPORTED),
        (Status.NOT_AUTHORIZED, CauseCode.NOT_AUTHORIZED),
    ],
)
def test_a_refusal_is_final(status: Status, code: CauseCode) -> None:
    cause, _, _ = _failure(_DISCOVERED, (_START, _answer(1, b"", status)))

    assert cause == Cause(
        code=code,
        detail=f"the client refused START_TRANSFER: {status.name}",
        raw=bytes((1, status)),
        offset=0,
        sequence=1,
    )


@pytest.mark.parametrize("abort", AbortCause)
def test_an_abort_is_final_and_tells_where(abort: AbortCause) -> None:
    cause, host, _ = _failure(*_STARTED, (_FIRST, _answer(2)), (_SECOND, _abort(3, bytes((abort,)))))

    assert cause == Cause(
        code=ABORT_CODES[abort],
        detail=f"the client aborted at WRITE_CHUNK: {abort.name}",
        raw=bytes((3, 5, abort)),
        offset=8,
        chunk=1,
        sequence=3,
    )
    assert (host.bytes_accepted, host.chunks_accepted) == (8, 1)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", CauseCode.ABORT_WITHOUT_CAUSE), (b"\x2a", CauseCode.ABORT_UNKNOWN)]
)
def test_an_abort_without_a_known_cause_is_as_final(payload: bytes, code: CauseCode) -> None:
    cause, _, _ = _failure(*_STARTED, (_FIRST, _abort(2, payload)))

    assert cause.code is code
    assert cause.raw == b"\x02\x05" + payload


@pytest.mark.parametrize(
    "steps",
    [
        (_DISCOVERED, (_START, _abort(1, b"\x04"))),
        (*_STARTED, (_FIRST, _abort(2, b"\x04"))),
        (*_WRITTEN, (_STATE, _abort(4, b"\x04"))),
        (*_WRITTEN, (_STATE, _answer(4, b"\x01")), (_END, _abort(5, b"\x04"))),
    ],
)
def test_any_command_can_be_aborted(steps: tuple[Step, ...]) -> None:
    cause, _, _ = _failure(*steps)

    assert cause.code is CauseCode.ERASE_ERROR


def test_an_abort_without_a_cause_is_no_image_state_that_lacks_its_byte() -> None:
    cause, _, _ = _failure(*_WRITTEN, (_STATE, _abort(4)))

    assert cause.code is CauseCode.ABORT_WITHOUT_CAUSE


def test_each_known_abort_has_its_own_code() -> None:
    assert set(ABORT_CODES) == set(AbortCause)
    assert len(set(ABORT_CODES.values())) == len(AbortCause)


def test_resend_wins_over_the_status() -> None:
    # Even over "success" and "abort": the flag says that nothing was executed.
    wire, _ = _update(
        *_STARTED,
        (_FIRST, _answer(2, resend=True)),
        (_FIRST, _answer(2, b"\x05", Status.ABORT_FILE_TRANSFER, resend=True)),
        (_FIRST, _answer(2)),
        *_FINISH,
    )
    assert _stats(wire) == {"resends": 2}


def test_not_executed_without_the_flag_counts_as_resend() -> None:
    wire, _ = _update(
        *_STARTED,
        (_FIRST, _answer(2, b"\x00", Status.COMMAND_NOT_EXECUTED)),
        (_FIRST, _answer(2)),
        *_FINISH,
    )
    assert _stats(wire) == {"resends": 1}


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(_damaged(_answer(2)), id="wrong checksum"),
        pytest.param(bytes.fromhex("56 02 01 cc 57 fe 9e"), id="bad escape"),
        pytest.param(bytes.fromhex("56 02 fd ff 9e"), id="too short for a packet"),
        pytest.param(bytes.fromhex("56 9e"), id="empty"),
        pytest.param(encode_frame(b"\x02\x00"), id="undefined status 0"),
        pytest.param(encode_frame(b"\x02\x06"), id="undefined status 6"),
        pytest.param(encode_frame(b"\x42\xff\x01"), id="undefined status with the flag"),
        pytest.param(encode_frame(bytes(2000)), id="too long"),
    ],
)
def test_garbage_is_answered_by_a_resend_once_the_line_is_quiet(garbage: bytes) -> None:
    wire, _ = _update(*_STARTED, (_FIRST, (0.2, garbage)), (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1, "damaged": 1}
    # Before the resend, and before the next command: two answers may come.
    assert wire.quiets == pytest.approx([0.2, 0.25])
    assert wire.sent[3] == pytest.approx((0.25, _FIRST))


def test_an_answer_to_another_command_is_dropped_and_the_deadline_stays() -> None:
    # The stranger comes at 0.9 s; were it to move the deadline, the resend would be sent at 1.9 s.
    wire, _ = _update(*_STARTED, (_FIRST, (0.9, _answer(1))), (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1, "timeouts": 1, "strays": 1}
    assert wire.sent[3][0] == pytest.approx(1.05)


def test_a_duplicate_answer_is_dropped() -> None:
    wire, _ = _update(*_STARTED, (_FIRST, _answer(2) + _answer(2)), *_FINISH)
    assert _stats(wire) == {"strays": 1}

    wire, _ = _update(*_STARTED, (_FIRST, _answer(2), _answer(2)), *_FINISH)
    assert _stats(wire) == {"strays": 1}


def test_silence_is_answered_by_the_same_frame_again() -> None:
    wire, _ = _update(*_STARTED, (_FIRST,), (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1, "timeouts": 1}
    assert [data for _, data in wire.sent[2:4]] == [_FIRST, _FIRST]


def test_a_client_that_stays_silent() -> None:
    cause, _, wire = _failure(*_STARTED, *[(_FIRST,)] * 6)

    assert cause == Cause(
        code=CauseCode.NO_ANSWER,
        detail="WRITE_CHUNK number 2: sent 6 time(s): no answer in time",
        offset=0,
        chunk=0,
        sequence=2,
    )
    assert _stats(wire) == {"resends": 5, "timeouts": 6}


def test_a_client_that_answers_but_never_well() -> None:
    cause, _, _ = _failure(*_STARTED, *[(_FIRST, _damaged(_answer(2)))] * 3, *[(_FIRST,)] * 3)

    assert cause.code is CauseCode.RETRIES_EXHAUSTED
    assert cause.raw == _damaged(_answer(2))[1:-1]


def test_retries_can_be_set_and_start_anew_with_each_command() -> None:
    settings = Settings(retries=1)

    wire, _ = _update(
        *_STARTED,
        (_FIRST,),
        (_FIRST, _answer(2)),
        (_SECOND,),
        (_SECOND, _answer(3)),
        *_FINISH[1:],
        settings=settings,
    )
    assert _stats(wire) == {"resends": 2, "timeouts": 2}

    cause, _, _ = _failure(*_STARTED, (_FIRST,), (_FIRST,), settings=settings)
    assert cause.code is CauseCode.NO_ANSWER


def test_no_retry_at_all_is_possible() -> None:
    cause, _, _ = _failure(*_STARTED, (_FIRST,), settings=Settings(retries=0))

    assert cause.code is CauseCode.NO_ANSWER


def test_the_update_has_a_budget_of_resends_too() -> None:
    cause, _, _ = _failure(
        *_STARTED,
        (_FIRST,),
        (_FIRST,),
        (_FIRST, _answer(2)),
        (_SECOND, _resend(3)),
        (_SECOND, _resend(3)),
        settings=Settings(update_resends=3),
    )
    assert cause.code is CauseCode.RETRIES_EXHAUSTED
    assert "no resends left for this update" in cause.detail
    assert (cause.offset, cause.chunk, cause.sequence) == (8, 1, 3)


def test_asking_patiently_at_first_contact_costs_nothing_of_that_budget() -> None:
    wire, _ = _update(
        *[(_HELLO,)] * 2,
        *_STARTED,
        (_FIRST,),
        (_FIRST, _answer(2)),
        *_FINISH,
        settings=Settings(update_resends=1),
    )
    assert _stats(wire) == {"resends": 3, "timeouts": 3}


def test_after_a_resend_the_second_answer_is_drained_before_the_next_command() -> None:
    # The first answer was slow, not lost: both come.
    wire, _ = _update(
        *_STARTED,
        (_FIRST, (1.06, _answer(2))),
        (_FIRST, (0.03, _answer(2))),
        *_FINISH,
    )
    assert _stats(wire) == {"resends": 1, "timeouts": 1}
    assert wire.quiets == pytest.approx([1.0, 1.06])
    assert wire.sent[4] == pytest.approx((1.13, _SECOND))  # 50 ms after the second answer


def test_two_requests_for_one_damaged_command_cost_one_resend() -> None:
    # TV-18: the dsPIC client complains in the middle of the frame and again at its end.
    wire, _ = _update(
        *_STARTED,
        (_FIRST, bytes.fromhex("56 42 04 bd fb 9e"), (0.01, bytes.fromhex("56 42 04 02 bb fb 9e"))),
        (_FIRST, _answer(2)),
        *_FINISH,
    )
    assert _stats(wire) == {"resends": 1}


def test_line_noise_before_an_answer_does_no_harm() -> None:
    wire, _ = _update(*_STARTED, (_FIRST, b"\x00\xff\x9e\xcc" + _answer(2) + b"\xff\x00"), *_FINISH)

    assert _stats(wire) == {}


def test_a_frame_that_began_before_the_line_fell_quiet_is_forgotten() -> None:
    # Else the first end byte after it would make a damaged frame of the two, and cost another resend.
    wire, _ = _update(
        *_STARTED, (_FIRST, b"\x56\x02\x01"), (_FIRST, b"\xfd\x9e", (0.1, _answer(2))), *_FINISH
    )
    assert _stats(wire) == {"resends": 1, "timeouts": 1}


def test_bytes_that_come_before_anything_was_sent_are_nobodys_answer() -> None:
    host = MdfuHost(_IMAGE)
    host.receive(_answer(0) + _damaged(_answer(0)) + b"\x56\x00")
    host.timed_out()

    wire = Wire(host, Script(*_STARTED, (_FIRST, _answer(2)), *_FINISH))

    assert wire.run_through(Ended)[-1] == Ended(acknowledged=True)
    # The frame that had begun is cut off by the first real one.
    assert _stats(wire) == {"strays": 1, "damaged": 2}


# --- first contact ------------------------------------------------------------------------------------


def test_discovery_is_patient() -> None:
    # A client that erases for an earlier host is deaf for seconds.
    wire, _ = _update(*[(_HELLO,)] * 9, *_STARTED, (_FIRST, _answer(2)), *_FINISH)

    assert wire.sent[9][0] >= 9.0
    assert _stats(wire) == {"resends": 9, "timeouts": 9}


def test_discovery_ends() -> None:
    cause, _, wire = _failure(*[(_HELLO,)] * 10)

    assert cause == Cause(
        code=CauseCode.NO_ANSWER,
        detail="GET_CLIENT_INFO number 0: sent 10 time(s): no answer in time",
        offset=0,
        sequence=0,
    )
    assert wire.now >= 10.0


def test_discovery_does_not_hurry_for_an_application_that_prints() -> None:
    chatter = b"Version 1\x9e Voltage 5\x9e"

    wire, _ = _update((_HELLO, (0.1, chatter)), *_STARTED, (_FIRST, _answer(2)), *_FINISH)

    assert wire.sent[1][0] >= 1.0
    assert _stats(wire) == {"resends": 1, "timeouts": 1, "damaged": 2}


@pytest.mark.parametrize("wanted", [0, 1, 17])
def test_a_first_question_that_arrives_damaged_is_asked_again(wanted: int) -> None:
    # The client wants whatever its last session left it with; that is no reboot.
    wire, _ = _update((_HELLO, _resend(wanted, b"\x00")), *_STARTED, (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1}


def test_an_old_answer_that_happens_to_have_number_0_is_dropped_once() -> None:
    wire, _ = _update(
        (_HELLO, _answer(0), (0.5, _INFO_WIRE)), (_START, _answer(1)), (_FIRST, _answer(2)), *_FINISH
    )
    assert _stats(wire) == {}


def test_an_old_abort_with_number_0_is_not_taken_for_an_answer_to_the_first_question() -> None:
    wire, _ = _update((_HELLO, _abort(0, b"\x01")), *_STARTED, (_FIRST, _answer(2)), *_FINISH)

    assert _stats(wire) == {"resends": 1, "timeouts": 1}


def test_client_info_cut_short_is_asked_for_again() -> None:
    # TV-18: after an error one family replays its client info cut to one byte; asked with SYNC it executes anew.
    wire, milestones = _update(
        (_HELLO, bytes.fromhex("56 00 01 01 fe fe 9e")),
        *_STARTED,
        (_FIRST, _answer(2)),
        *_FINISH,
    )
    assert milestones[0] == Discovered(_INFO)
    assert wire.sent[1] == pytest.approx((1.05, _HELLO))


def test_client_info_malformed_twice_is_final() -> None:
    cut = bytes.fromhex("56 00 01 01 fe fe 9e")

    cause, host, _ = _failure((_HELLO, cut, cut), (_HELLO, cut))

    assert cause == Cause(
        code=CauseCode.CLIENT_INFO_MALFORMED,
        detail="parameter 1 at byte 0 has no length",
        raw=b"\x00\x01\x01",
        offset=0,
        sequence=0,
    )
    assert host.info is None


def test_an_echo_of_the_first_question_is_no_answer() -> None:
    """A shell that echoes is an application, not a client whose parameters are malformed."""
    cause, _, wire = _failure(*[(_HELLO, _HELLO)] * 3, settings=_PATIENT)

    assert cause.code is CauseCode.NO_ANSWER
    assert _stats(wire) == {"resends": 2, "timeouts": 3, "strays": 3}


def test_an_echo_while_the_loader_starts_does_no_harm() -> None:
    _update((_HELLO, _HELLO), *_STARTED, (_FIRST, _answer(2)), *_FINISH)


def test_nothing_is_started_over_a_line_that_echoes() -> None:
    """When START_TRANSFER comes back it reads as COMMAND_NOT_SUPPORTED, a chunk as NOT_AUTHORIZED: both would latch."""
    for answers in ((_HELLO, _INFO_WIRE), (_HELLO + _INFO_WIRE,)):
        cause, _, _ = _failure((_HELLO, *answers))

        assert cause.code is CauseCode.RETRIES_EXHAUSTED
        assert "sends back" in cause.detail


def test_confirmation_takes_an_echo_for_an_application() -> None:
    wire = Wire(MdfuConfirm(_PATIENT), Script(*[(_HELLO, _HELLO)] * 3))

    assert wire.run() == Silent()


def test_something_malformed_now_and_then_is_not_malformed_twice() -> None:
    wire, _ = _update(
        (_HELLO, _answer(0)), (_HELLO,), (_HELLO, _answer(0)), *_STARTED, (_FIRST, _answer(2)), *_FINISH
    )

    assert _stats(wire) == {"resends": 3, "timeouts": 3}


def test_a_client_that_refuses_the_first_question_twice_is_taken_at_its_word() -> None:
    refused = _answer(0, b"", Status.NOT_AUTHORIZED)

    cause, _, _ = _failure((_HELLO, refused), (_HELLO, refused))

    assert cause.code is CauseCode.NOT_AUTHORIZED


def test_something_malformed_and_then_silence_is_not_silence() -> None:
    cause, _, _ = _failure((_HELLO, _answer(0)), *[(_HELLO,)] * 2, settings=_PATIENT)

    assert cause.code is CauseCode.RETRIES_EXHAUSTED


@pytest.mark.parametrize("version", [ProtocolVersion(1, 4), ProtocolVersion(2, 0)], ids=str)
def test_a_newer_protocol_is_not_spoken(version: ProtocolVersion) -> None:
    cause, _, _ = _failure((_HELLO, _info(version=version)))

    assert cause.code is CauseCode.PROTOCOL_TOO_NEW
    assert str(version) in cause.detail


def test_a_newer_protocol_can_be_accepted() -> None:
    _update(
        (_HELLO, _info(version=ProtocolVersion(2, 0))),
        (_START, _answer(1)),
        (_FIRST, _answer(2)),
        *_FINISH,
        settings=Settings(accept_newer=True),
    )


@pytest.mark.parametrize("version", [ProtocolVersion(0, 1, 0), ProtocolVersion(1, 3, 9)], ids=str)
def test_older_versions_and_other_patch_levels_are_fine(version: ProtocolVersion) -> None:
    _update((_HELLO, _info(version=version)), (_START, _answer(1)), (_FIRST, _answer(2)), *_FINISH)


def test_more_buffers_do_not_mean_more_commands_at_once() -> None:
    _update((_HELLO, _info(buffer_count=3)), (_START, _answer(1)), (_FIRST, _answer(2)), *_FINISH)


def test_a_time_out_of_0_is_not_taken_literally() -> None:
    _update(
        (_HELLO, _info(default_timeout_s=0.0)),
        (_START, (0.09, _answer(1))),
        (_FIRST, _answer(2)),
        *_FINISH,
    )


# --- the last steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [0, 2, 3, 255])
def test_inv1_an_image_that_is_not_valid_is_not_ended(state: int) -> None:
    cause, _, wire = _failure(*_WRITTEN, (_STATE, _answer(4, bytes((state,)))))

    assert cause == Cause(
        code=CauseCode.IMAGE_INVALID,
        detail=f"the client calls the image invalid (state {state})",
        raw=bytes((4, 1, state)),
        offset=11,
        sequence=4,
    )
    assert _END not in [data for _, data in wire.sent]


def test_inv1_only_the_clients_word_leads_to_the_end() -> None:
    ways_in = {
        source
        for table in (UPDATE, CONFIRMATION, DISCOVERY)
        for (source, _), target in table.items()
        if COMMANDS.get(target) is Command.END_TRANSFER
    }
    ways_to_valid = {
        (source, reply)
        for table in (UPDATE, CONFIRMATION, DISCOVERY)
        for (source, reply), target in table.items()
        if target is Phase.VALID
    }

    assert ways_in == {Phase.VALID}
    assert ways_to_valid == {(Phase.CHECKING, Reply.DONE)}


@pytest.mark.parametrize("table", [UPDATE, CONFIRMATION, DISCOVERY])
def test_each_phase_of_a_table_can_be_reached_and_left(table: Transitions) -> None:
    last = {Phase.DISCOVERED, Phase.ENDED, Phase.UNACKNOWLEDGED, Phase.SILENT}
    reached = {Phase.BEGINNING, *table.values()}

    assert {source for source, _ in table} <= reached
    assert reached - {source for source, _ in table} <= last


def test_an_image_state_without_a_state_is_asked_for_again() -> None:
    wire, _ = _update(*_WRITTEN, (_STATE, _answer(4)), (_STATE, _answer(4, b"\x01")), (_END, _answer(5)))
    assert _stats(wire) == {"resends": 1}


def test_inv2_an_end_that_nobody_acknowledged_is_said_to_be_so() -> None:
    script = Script(*_WRITTEN, (_STATE, _answer(4, b"\x01")), *[(_END,)] * 3)
    host = MdfuHost(_IMAGE)

    milestones = Wire(host, script).run_through(Ended)

    assert milestones[-1] == Ended(acknowledged=False)
    assert script.finished
    assert host.phase is Phase.UNACKNOWLEDGED


@pytest.mark.parametrize(
    "last_words",
    [
        pytest.param([(_END, _damaged(_answer(5))), (_END,), (_END,)], id="garbled while it resets"),
        pytest.param([(_END, b"boot\x56\x00"), (_END, b"hello"), (_END, _answer(3))], id="application talks"),
        pytest.param([(_END,), (_END, _resend(0, b"\x03"))], id="back in its loader"),
        pytest.param([(_END, _resend(6, b"\x03"))] * 3, id="executed, cannot replay"),
    ],
)
def test_inv2_no_last_words_of_a_client_that_resets_are_taken_for_success(last_words: list[Step]) -> None:
    script = Script(*_WRITTEN, (_STATE, _answer(4, b"\x01")), *last_words)

    milestones = Wire(MdfuHost(_IMAGE), script).run_through(Ended)

    assert milestones[-1] == Ended(acknowledged=False)
    assert script.finished


def test_a_second_try_at_the_end_can_be_acknowledged() -> None:
    wire, milestones = _update(*_WRITTEN, (_STATE, _answer(4, b"\x01")), (_END,), (_END, _answer(5)))
    assert milestones[-1] == Ended(acknowledged=True)
    assert _stats(wire) == {"resends": 1, "timeouts": 1}


def test_stale_bytes_after_a_success_are_ignored() -> None:
    # TV-18: one family answers with one byte too many after an error.
    _update(
        *_STARTED,
        (_FIRST, _resend(2, b"\x00")),
        (_FIRST, bytes.fromhex("56 02 01 01 fc fe 9e")),
        (_SECOND, _answer(3, b"\x03")),
        (_STATE, _answer(4, b"\x01\x00\x00")),
        (_END, _answer(5, b"\x01")),
    )


# --- stopping -----------------------------------------------------------------------------------------


class _StopsAt:
    """A script that asks the host to stop when it hears a certain command."""

    def __init__(self, host: MdfuHost, command: bytes, *steps: Step) -> None:
        self.host = host
        self._command = command
        self._script = Script(*steps)

    def hear(self, data: bytes) -> list[Answer]:
        if data == self._command:
            self.host.request_stop()
        return list(self._script.hear(data))

    @property
    def finished(self) -> bool:
        return self._script.finished


@pytest.mark.parametrize(
    ("command", "steps", "accepted"),
    [
        (_HELLO, [_DISCOVERED], 0),
        (_HELLO, [(_HELLO,)], 0),
        (_START, _STARTED, 0),
        (_FIRST, [*_STARTED, (_FIRST, _answer(2))], 8),
        (_SECOND, _WRITTEN, 11),
        # A command that has begun is seen through.
        (_FIRST, [*_STARTED, (_FIRST,), (_FIRST, _resend(2)), (_FIRST, _answer(2))], 8),
    ],
)
def test_a_stop_takes_effect_between_commands(command: bytes, steps: list[Step], accepted: int) -> None:
    host = MdfuHost(_IMAGE)
    peer = _StopsAt(host, command, *steps)

    with pytest.raises(AttemptFailed) as stopped:
        Wire(host, peer).run_through(Ended)

    assert stopped.value.cause.code is CauseCode.CANCELLED
    assert stopped.value.cause.offset == accepted
    assert peer.finished


def test_a_stop_before_the_erase_is_journalled_spares_the_erase() -> None:
    host = MdfuHost(_IMAGE)
    wire = Wire(host, Script(_DISCOVERED))
    assert wire.run() == Discovered(_INFO)

    host.request_stop()

    with pytest.raises(AttemptFailed, match="cancelled: stopped before READY_TO_START"):
        wire.run()


def test_a_stop_that_comes_before_the_first_question_sends_nothing() -> None:
    host = MdfuHost(_IMAGE)
    host.request_stop()

    with pytest.raises(AttemptFailed, match="cancelled"):
        Wire(host, Script()).run()


@pytest.mark.parametrize("command", [_STATE, _END])
def test_a_stop_comes_too_late_for_an_image_that_is_valid(command: bytes) -> None:
    host = MdfuHost(_IMAGE)
    peer = _StopsAt(host, command, *_WRITTEN, *_FINISH[1:])

    assert Wire(host, peer).run_through(Ended)[-1] == Ended(acknowledged=True)


# --- confirmation and information ----------------------------------------------------------------------


_CONFIRM_STATE = _ask(1, Command.GET_IMAGE_STATE)
_CONFIRM_END = _ask(2, Command.END_TRANSFER)


def test_confirmation_of_a_client_that_has_left() -> None:
    script = Script(*[(_HELLO,)] * 3)

    assert Wire(MdfuConfirm(_PATIENT), script).run() == Silent()
    assert script.finished


def test_confirmation_of_a_client_that_still_waits() -> None:
    script = Script(_DISCOVERED, (_CONFIRM_STATE, _answer(1, b"\x01")), (_CONFIRM_END, _answer(2)))
    milestones = Wire(MdfuConfirm(_PATIENT), script).run_through(Ended)

    assert milestones == [ImageValid(), Ended(acknowledged=True)]
    assert script.finished


def test_confirmation_may_end_as_unsure_as_before() -> None:
    script = Script(_DISCOVERED, (_CONFIRM_STATE, _answer(1, b"\x01")), *[(_CONFIRM_END,)] * 3)

    assert Wire(MdfuConfirm(_PATIENT), script).run_through(Ended)[-1] == Ended(acknowledged=False)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([(_CONFIRM_STATE, _answer(1, b"\x02"))], CauseCode.IMAGE_INVALID),
        ([(_CONFIRM_STATE,)] * 6, CauseCode.NO_ANSWER),
        ([(_CONFIRM_STATE, _resend(0))], CauseCode.CLIENT_REBOOTED),
    ],
)
def test_inv1_confirmation_does_not_end_what_is_not_valid(steps: list[Step], code: CauseCode) -> None:
    script = Script(_DISCOVERED, *steps)

    with pytest.raises(AttemptFailed) as failed:
        Wire(MdfuConfirm(_PATIENT), script).run_through(Ended)

    assert failed.value.cause.code is code
    assert failed.value.cause.offset is None
    assert script.finished


def test_confirmation_does_not_take_a_client_that_cannot_make_itself_understood_for_one_that_left() -> None:
    script = Script(*[(_HELLO, _resend(0))] * 3)

    with pytest.raises(AttemptFailed, match="retries-exhausted"):
        Wire(MdfuConfirm(_PATIENT), script).run()


def test_information_changes_nothing() -> None:
    script = Script((_HELLO, _info(version=ProtocolVersion(9, 9))))
    machine = MdfuInfo(_PATIENT)

    milestone = Wire(machine, script).run()

    assert isinstance(milestone, Discovered)
    assert milestone.info.version == ProtocolVersion(9, 9)
    assert machine.info == milestone.info
    assert script.finished


def test_information_of_nobody() -> None:
    with pytest.raises(AttemptFailed, match="no-answer"):
        Wire(MdfuInfo(_PATIENT), Script(*[(_HELLO,)] * 3)).run()


# --- what goes wrong with pymdfu 2.9.0 ------------------------------------------------------------------


def test_p1_a_success_with_another_number_is_not_ours() -> None:
    cause, host, _ = _failure(_DISCOVERED, *[(_START, _answer(17))] * 6)

    assert cause.code is CauseCode.NO_ANSWER
    assert host.stats.strays == 6


def test_p2_one_late_answer_does_not_leave_the_host_one_behind() -> None:
    # The first chunk's answer is late by more than the host waits and drains, so that its duplicate arrives
    # while the second chunk is under way.
    wire, _ = _update(
        *_STARTED,
        (_FIRST, (1.3, _answer(2))),
        (_FIRST, (0.6, _answer(2))),
        (_SECOND, (0.4, _answer(3))),
        *_FINISH[1:],
    )
    sent = [data for _, data in wire.sent]
    assert sent == [_HELLO, _START, _FIRST, _FIRST, _SECOND, _STATE, _END]
    assert _stats(wire) == {"resends": 1, "timeouts": 1, "strays": 1}


def test_p3_a_refusal_is_data() -> None:
    cause, _, _ = _failure(*_STARTED, (_FIRST, _abort(2, b"\x03")))

    assert (cause.code, cause.offset, cause.chunk, cause.sequence) == (CauseCode.ADDRESS_ERROR, 0, 0, 2)
    assert cause.detail
    assert cause.raw == bytes.fromhex("02 05 03")


@pytest.mark.parametrize("packet", [b"", b"\x02", b"\x02\x77"])
def test_p4_a_packet_that_is_none_is_damage(packet: bytes) -> None:
    _update(*_STARTED, (_FIRST, encode_frame(packet)), (_FIRST, _answer(2)), *_FINISH)


def test_p5_a_fragment_does_not_swallow_the_frame_after_it() -> None:
    fragment = bytes.fromhex("56 00 01 02 03 08 00 01 01 03")

    wire, _ = _update(
        (_HELLO, fragment, (0.1, _INFO_WIRE)), (_START, _answer(1)), (_FIRST, _answer(2)), *_FINISH
    )
    assert _stats(wire) == {"damaged": 1}


def test_p6_an_answer_that_is_complete_at_the_deadline_counts() -> None:
    frame = _answer(2)

    wire, _ = _update(*_STARTED, (_FIRST, (0.9, frame[:-1]), (1.0, frame[-1:])), *_FINISH)

    assert _stats(wire) == {}


def test_p6_bytes_that_trickle_in_do_not_move_the_deadline() -> None:
    trickle: tuple[Answer, ...] = tuple((0.3 * index, b"\x00") for index in range(20))

    wire, _ = _update(*_STARTED, (_FIRST, *trickle), (_FIRST, _answer(2)), *_FINISH)

    # One time-out, and then at most the longest quiet: the peer never falls silent for long enough.
    assert wire.sent[3][0] <= 2.0


def test_p7_the_time_out_is_of_execution_and_the_answers_length_is_told() -> None:
    # Whoever drives the machine can add what both frames take on the wire.
    host = MdfuHost(_IMAGE)

    event = host.next_event()

    assert isinstance(event, Send)
    assert event.timeout_s == 1.0
    assert event.answer_size > len(_INFO_WIRE)


def test_p8_there_is_one_type_of_error() -> None:
    # Whatever arrives: see test_any_bytes_at_all below.  Here, that a time-out too many is harmless.
    host = MdfuHost(_IMAGE)
    host.next_event()
    host.receive(_INFO_WIRE)

    host.timed_out()

    assert host.next_event() == Discovered(_INFO)


def test_p11_the_patch_level_does_not_matter() -> None:
    _update(
        (_HELLO, _info(version=ProtocolVersion(1, 3, 1))),
        (_START, _answer(1)),
        (_FIRST, _answer(2)),
        *_FINISH,
    )


def test_p12_unknown_parameters_are_skipped() -> None:
    extended = bytes.fromhex(vectors.INFO) + bytes.fromhex("2a 02 01 02")

    _, milestones = _update((_HELLO, _answer(0, extended)), *_STARTED[1:], (_FIRST, _answer(2)), *_FINISH)

    assert isinstance(milestones[0], Discovered)
    assert milestones[0].info.remarks == ("unknown parameter 42 skipped",)


@pytest.mark.parametrize("image", [b"", memoryview(b"")])
def test_p13_an_empty_image_is_refused_before_a_byte_is_sent(image: bytes | memoryview) -> None:
    with pytest.raises(BadImage, match="empty"):
        MdfuHost(image)


def test_p13_a_buffer_of_no_bytes_is_a_clear_error() -> None:
    none = _answer(0, bytes.fromhex("01 03 01 02 00 02 03 00 00 01 03 03 00 64 00"))

    cause, _, _ = _failure((_HELLO, none), (_HELLO, none))

    assert cause.code is CauseCode.CLIENT_INFO_MALFORMED
    assert "buffer size 0" in cause.detail


def test_p14_how_far_it_got_is_known_after_a_failure() -> None:
    cause, host, _ = _failure(*_STARTED, (_FIRST, _answer(2)), *[(_SECOND,)] * 6)

    assert (cause.offset, cause.chunk) == (8, 1)
    assert (host.bytes_accepted, host.chunks_accepted) == (8, 1)


def test_p15_a_client_that_erases_for_ten_seconds_is_not_given_up() -> None:
    _update(*[(_HELLO,)] * 11, *_STARTED, (_FIRST, _answer(2)), *_FINISH, settings=Settings(discovery_s=12))


def test_p16_a_time_out_of_0_is_a_small_one_and_not_the_longest() -> None:
    _, _, wire = _failure((_HELLO, _info(default_timeout_s=0.0)), *[(_START,)] * 6)
    assert 0.6 <= wire.now <= 1.5
