import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymdfu.mdfu import ClientInfo as PymdfuClientInfo

from firmwarden.protocol.mdfu.client_info import (
    DISCOVERY_TIMEOUT_S,
    SHORTEST_TIMEOUT_S,
    ClientInfo,
    MalformedClientInfo,
    ProtocolVersion,
)
from firmwarden.protocol.mdfu.packet import Command
from support import mdfu_vectors as vectors

_VERSION = bytes.fromhex("01 03 01 02 00")
_BUFFERS = bytes.fromhex("02 03 47 00 01")
_TIMEOUTS = bytes.fromhex("03 03 00 64 00")
_COMPLETE = _VERSION + _BUFFERS + _TIMEOUTS

_BYTE = st.integers(0, 255)
_TENTHS = st.integers(0, 0xFFFF).map(lambda units: units / 10)
_INFOS = st.builds(
    ClientInfo,
    version=st.builds(ProtocolVersion, st.integers(1, 255), _BYTE, _BYTE, st.none() | _BYTE),
    buffer_size=st.integers(1, 0xFFFF),
    default_timeout_s=_TENTHS,
    timeouts_s=st.dictionaries(st.sampled_from(Command), _TENTHS).map(lambda times: tuple(times.items())),
    inter_transaction_delay_s=st.none() | st.integers(0, 0xFFFF_FFFF).map(lambda units: units / 1e9),
)


@given(_INFOS)
def test_client_info_survives_the_way(info: ClientInfo) -> None:
    assert ClientInfo.decode(info.encode()) == info


@given(st.binary(max_size=60))
def test_noise_raises_only_one_error(noise: bytes) -> None:
    with contextlib.suppress(MalformedClientInfo):
        ClientInfo.decode(noise)


@given(st.binary(max_size=20), st.integers(0, len(_COMPLETE)))
def test_noise_in_good_parameters_raises_only_one_error(noise: bytes, position: int) -> None:
    with contextlib.suppress(MalformedClientInfo):
        ClientInfo.decode(_COMPLETE[:position] + noise + _COMPLETE[position:])


@pytest.mark.parametrize(("raw", "expected"), vectors.CLIENT_INFOS)
def test_parameters_of_real_clients(raw: str, expected: ClientInfo) -> None:
    assert ClientInfo.decode(bytes.fromhex(raw)) == expected


@pytest.mark.parametrize(("raw", "expected"), vectors.CLIENT_INFOS)
def test_pymdfu_reads_what_we_encode(raw: str, expected: ClientInfo) -> None:
    theirs = PymdfuClientInfo.from_bytes(expected.encode())

    assert theirs.buffer_size == expected.buffer_size
    assert theirs.default_timeout == expected.default_timeout_s
    assert PymdfuClientInfo.from_bytes(bytes.fromhex(raw)).to_bytes() == theirs.to_bytes()


@pytest.mark.parametrize(
    "parameters",
    [
        [_VERSION, _BUFFERS, _TIMEOUTS],
        [_TIMEOUTS, _VERSION, _BUFFERS],
        [_BUFFERS, _TIMEOUTS, _VERSION],
    ],
)
def test_the_order_is_free(parameters: list[bytes]) -> None:
    assert ClientInfo.decode(b"".join(parameters)) == ClientInfo.decode(_COMPLETE)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "protocol version is missing"),
        (_BUFFERS + _TIMEOUTS, "protocol version is missing"),
        (_VERSION + _TIMEOUTS, "buffer info is missing"),
        (_VERSION + _BUFFERS, "command timeouts is missing"),
        (_COMPLETE + b"\x01", "parameter 1 at byte 15 has no length"),
        (_COMPLETE + b"\x09\x05ab", r"parameter 9 should have 5 byte\(s\), 2 left"),
        (b"\x01", "parameter 1 at byte 0 has no length"),  # TV-18: client info cut to one byte
        (bytes.fromhex("01 02 01 02") + _BUFFERS + _TIMEOUTS, r"protocol version of 2 byte\(s\): 01 02"),
        (bytes.fromhex("01 05 01 02 03 04 05") + _BUFFERS + _TIMEOUTS, "protocol version of 5"),
        (_VERSION + bytes.fromhex("02 02 47 00") + _TIMEOUTS, "buffer info of 2"),
        (_VERSION + bytes.fromhex("02 03 00 00 01") + _TIMEOUTS, "buffer size 0"),
        (_VERSION + _BUFFERS + bytes.fromhex("03 00"), "time-outs of 0"),
        (_VERSION + _BUFFERS + bytes.fromhex("03 04 00 64 00 01"), "time-outs of 4"),
        (_VERSION + _BUFFERS + bytes.fromhex("03 03 02 64 00"), "without the default"),
    ],
)
def test_what_a_host_cannot_do_without_is_checked(raw: bytes, problem: str) -> None:
    with pytest.raises(MalformedClientInfo, match=problem):
        ClientInfo.decode(raw)


@pytest.mark.parametrize(
    ("raw", "remark"),
    [
        (_COMPLETE + bytes.fromhex("07 02 12 34"), "unknown parameter 7 skipped"),
        (_COMPLETE + bytes.fromhex("00 00"), "unknown parameter 0 skipped"),
        (_COMPLETE + _VERSION, "parameter 1 given more than once, the last one counts"),
        (_COMPLETE + bytes.fromhex("04 02 12 34"), "inter-transaction delay of 2 byte(s) ignored"),
        (
            _VERSION + _BUFFERS + bytes.fromhex("03 06 00 64 00 09 01 00"),
            "time-out of unknown command 9 skipped",
        ),
        (
            _VERSION + bytes.fromhex("02 03 47 00 03") + _TIMEOUTS,
            "3 command buffers announced, one command at a time is sent all the same",
        ),
        (
            bytes.fromhex("01 03 00 01 00") + _BUFFERS + _TIMEOUTS,
            "protocol version 0.1.0 is older than the specification",
        ),
    ],
)
def test_what_can_be_tolerated_leaves_a_remark(raw: bytes, remark: str) -> None:
    info = ClientInfo.decode(raw)

    assert info.remarks == (remark,)
    assert (info.buffer_size, info.default_timeout_s) == (71, 10.0)


def test_the_last_of_two_counts() -> None:
    assert ClientInfo.decode(_COMPLETE + bytes.fromhex("02 03 80 00 01")).buffer_size == 128


def test_the_default_time_out_may_come_last() -> None:
    info = ClientInfo.decode(_VERSION + _BUFFERS + bytes.fromhex("03 06 02 32 00 00 0a 00"))

    assert info.timeout_s(Command.START_TRANSFER) == 5.0
    assert info.timeout_s(Command.WRITE_CHUNK) == 1.0


def test_time_outs_of_commands() -> None:
    info = ClientInfo(
        version=ProtocolVersion(1, 3),
        buffer_size=8,
        default_timeout_s=0.0,
        timeouts_s=((Command.GET_CLIENT_INFO, 7.0), (Command.WRITE_CHUNK, 2.5)),
    )

    assert info.timeout_s(Command.WRITE_CHUNK) == 2.5
    assert info.timeout_s(Command.END_TRANSFER) == SHORTEST_TIMEOUT_S
    # Fixed by the specification, whatever the client says.
    assert info.timeout_s(Command.GET_CLIENT_INFO) == DISCOVERY_TIMEOUT_S == 1.0


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        (ProtocolVersion(0, 1, 0), False),
        (ProtocolVersion(0, 9, 0), False),
        (ProtocolVersion(1, 0, 0), False),
        (ProtocolVersion(1, 3, 0), False),
        (ProtocolVersion(1, 3, 99), False),  # pymdfu stops here
        (ProtocolVersion(1, 3, 0, 7), False),
        (ProtocolVersion(1, 4, 0), True),
        (ProtocolVersion(2, 0, 0), True),
    ],
    ids=str,
)
def test_which_versions_are_newer_than_ours(version: ProtocolVersion, newer: bool) -> None:
    assert version.newer_than_ours is newer


def test_versions_as_text() -> None:
    assert str(ProtocolVersion(1, 2, 3)) == "1.2.3"
    assert str(ProtocolVersion(1, 2, 3, 4)) == "1.2.3-4"
