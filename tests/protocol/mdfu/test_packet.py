import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.mdfu.packet import (
    AbortCause,
    Command,
    CommandPacket,
    MalformedPacket,
    NotExecutedCause,
    ResponsePacket,
    Status,
    next_sequence,
)
from support import mdfu_vectors as vectors

_SEQUENCES = st.integers(0, 31)


@given(
    st.builds(
        CommandPacket,
        sequence=_SEQUENCES,
        command=st.sampled_from(Command) | st.integers(6, 255),
        payload=st.binary(max_size=40),
        sync=st.booleans(),
    )
)
def test_a_command_survives_the_way(packet: CommandPacket) -> None:
    assert CommandPacket.decode(packet.encode()) == packet


@given(
    st.builds(
        ResponsePacket,
        sequence=_SEQUENCES,
        status=st.sampled_from(Status),
        payload=st.binary(max_size=40),
        resend=st.booleans(),
    )
)
def test_a_response_survives_the_way(packet: ResponsePacket) -> None:
    assert ResponsePacket.decode(packet.encode()) == packet


@given(st.binary(max_size=20))
def test_noise_raises_only_one_error(noise: bytes) -> None:
    for packet_type in (CommandPacket, ResponsePacket):
        with contextlib.suppress(MalformedPacket):
            packet_type.decode(noise)


@pytest.mark.parametrize("raw", [b"", b"\x01"])
def test_a_packet_shorter_than_its_header_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedPacket, match="at least 2"):
        CommandPacket.decode(raw)
    with pytest.raises(MalformedPacket, match="at least 2"):
        ResponsePacket.decode(raw)


@pytest.mark.parametrize("status", [0x00, 0x06, 0xFF])
def test_an_undefined_status_is_malformed(status: int) -> None:
    with pytest.raises(MalformedPacket, match="undefined status"):
        ResponsePacket.decode(bytes((0, status)))


def test_an_unknown_command_is_a_packet_that_a_client_can_answer() -> None:
    packet = CommandPacket.decode(bytes((3, 6)))

    assert (packet.sequence, packet.command) == (3, 6)


def test_reserved_bits_are_ignored() -> None:
    # Microchip's 8-bit and 32-bit clients answer the frame FF FF with number byte 3F.
    assert ResponsePacket.decode(bytes.fromhex("3f 02")) == ResponsePacket(
        sequence=31, status=Status.COMMAND_NOT_SUPPORTED
    )
    assert ResponsePacket.decode(bytes.fromhex("a5 01")) == ResponsePacket(sequence=5, status=Status.SUCCESS)


@pytest.mark.parametrize("sequence", [-1, 32])
def test_a_number_that_does_not_fit_is_refused(sequence: int) -> None:
    with pytest.raises(ValueError, match="5 bits"):
        CommandPacket(sequence=sequence, command=Command.END_TRANSFER)
    with pytest.raises(ValueError, match="5 bits"):
        ResponsePacket(sequence=sequence, status=Status.SUCCESS)


def test_a_command_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one byte"):
        CommandPacket(sequence=0, command=256)


def test_numbers_wrap() -> None:
    assert [next_sequence(number) for number in (0, 30, 31)] == [1, 31, 0]


@pytest.mark.parametrize(
    ("payload", "cause"),
    [(b"", None), (b"\x00", AbortCause.GENERIC_CLIENT_ERROR), (b"\x07\x99", AbortCause(7)), (b"\x2a", 42)],
)
def test_abort_cause(payload: bytes, cause: AbortCause | int | None) -> None:
    aborted = ResponsePacket(sequence=1, status=Status.ABORT_FILE_TRANSFER, payload=payload)

    assert aborted.abort_cause == cause
    assert aborted.not_executed_cause is None


@pytest.mark.parametrize(
    ("payload", "cause"), [(b"", None), (b"\x03", NotExecutedCause.SEQUENCE_NUMBER_INVALID), (b"\x09", 9)]
)
def test_not_executed_cause(payload: bytes, cause: NotExecutedCause | int | None) -> None:
    refused = ResponsePacket(sequence=1, status=Status.COMMAND_NOT_EXECUTED, payload=payload, resend=True)

    assert refused.not_executed_cause == cause
    assert refused.abort_cause is None


@pytest.mark.parametrize("raw", vectors.BUS_COMMANDS, ids=bytes.hex)
def test_commands_on_a_bus_round_trip(raw: bytes) -> None:
    assert CommandPacket.decode(raw[:-2]).encode() == raw[:-2]


@pytest.mark.parametrize("raw", vectors.BUS_RESPONSES, ids=bytes.hex)
def test_responses_on_a_bus_round_trip(raw: bytes) -> None:
    assert ResponsePacket.decode(raw[:-2]).encode() == raw[:-2]
