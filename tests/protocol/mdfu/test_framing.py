from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymdfu.transport.uart_transport import Frame as PymdfuFrame
from pymdfu.utils import calculate_checksum

from firmwarden.protocol.mdfu.framing import (
    Damage,
    DamagedFrame,
    Frame,
    FrameDecoder,
    checksum,
    encode_frame,
    longest_frame,
)
from firmwarden.protocol.mdfu.packet import CommandPacket, ResponsePacket
from support import mdfu_vectors as vectors

_CAP = 64

# Bytes that mean something to the framing are much likelier here than by chance.
_RESERVED = (0x56, 0x9E, 0xCC, 0xA9, 0x61, 0x33)
_BYTE = st.sampled_from(_RESERVED) | st.integers(0, 255)
_BYTES = st.lists(_BYTE, max_size=80).map(bytes)
_PACKETS = st.lists(_BYTE, min_size=2, max_size=_CAP).map(bytes)

Found = list[Frame | DamagedFrame]


def _decode(*pieces: bytes, cap: int = _CAP) -> Found:
    decoder = FrameDecoder(cap)
    return [found for piece in pieces for found in decoder.feed(piece)]


def _whole(wire: bytes) -> Found:
    return _decode(wire)


def _byte_by_byte(wire: bytes) -> Found:
    return _decode(*(bytes((byte,)) for byte in wire))


def _with_noise_around(wire: bytes) -> Found:
    return _decode(b"\x00\x9e\xccboot" + wire + b"\x9e\xcc\xff")


three_ways = pytest.mark.parametrize("decode", [_whole, _byte_by_byte, _with_noise_around])


@three_ways
@pytest.mark.parametrize("vector", vectors.COMMANDS, ids=lambda vector: vector.name)
def test_command_vectors(vector: vectors.CommandVector, decode: Callable[[bytes], Found]) -> None:
    (frame,) = decode(vector.wire)

    assert isinstance(frame, Frame)
    assert CommandPacket.decode(frame.packet) == vector.packet
    assert encode_frame(vector.packet.encode()) == vector.wire


@three_ways
@pytest.mark.parametrize("vector", vectors.RESPONSES, ids=lambda vector: vector.name)
def test_response_vectors(vector: vectors.ResponseVector, decode: Callable[[bytes], Found]) -> None:
    (frame,) = decode(vector.wire)

    assert isinstance(frame, Frame)
    assert ResponsePacket.decode(frame.packet) == vector.packet
    assert encode_frame(vector.packet.encode()) == vector.wire


@three_ways
@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        pytest.param(
            "56 02 03 cd a9 cc 61 cc 33 00 a9 61 33 ff ff fc 9e",
            [DamagedFrame(Damage.CHECKSUM, bytes.fromhex("02 03 cd a9 cc 61 cc 33 00 a9 61 33 ff ff fc"))],
            id="TV-7, one bit",
        ),
        pytest.param(
            "56 01 03 11 56 01 03 11 22 ed da 9e",
            [
                DamagedFrame(Damage.CUT_OFF, bytes.fromhex("01 03 11")),
                Frame(bytes.fromhex("01 03 11 22")),
            ],
            id="TV-18, a second start restarts the frame",
        ),
        pytest.param(
            "56 43 04 bc fb 9e 56 43 04 02 ba fb 9e",
            [Frame(bytes.fromhex("43 04")), Frame(bytes.fromhex("43 04 02"))],
            id="TV-18, two answers to one line error",
        ),
        pytest.param(
            "56 03 fc ff 9e",
            [DamagedFrame(Damage.TOO_SHORT, bytes.fromhex("03 fc ff"))],
            id="TV-18, a packet of one byte",
        ),
        pytest.param("56 ff ff 9e", [DamagedFrame(Damage.TOO_SHORT, b"\xff\xff")], id="a checksum alone"),
        pytest.param("56 9e", [DamagedFrame(Damage.TOO_SHORT, b"")], id="an empty frame"),
        pytest.param(
            "56 01 cc 57 02 fe fd 9e",
            [DamagedFrame(Damage.ESCAPE, bytes.fromhex("01 cc 57 02 fe fd"))],
            id="an escape that is none",
        ),
        pytest.param(
            "56 01 cc cc 33 fe fd 9e",
            [DamagedFrame(Damage.ESCAPE, bytes.fromhex("01 cc cc 33 fe fd"))],
            id="an escape after an escape",
        ),
        pytest.param(
            "56 01 02 fe fd cc 9e",
            [DamagedFrame(Damage.ESCAPE, bytes.fromhex("01 02 fe fd cc"))],
            id="an end after an escape ends",
        ),
        pytest.param(
            "56 01 cc 56 01 02 fe fd 9e",
            [DamagedFrame(Damage.CUT_OFF, b"\x01\xcc"), Frame(b"\x01\x02")],
            id="a start after an escape starts",
        ),
        pytest.param("56 56 56 01 02 fe fd 9e", [Frame(b"\x01\x02")], id="a start repeated is no damage"),
    ],
)
def test_damage(wire: str, expected: Found, decode: Callable[[bytes], Found]) -> None:
    assert decode(bytes.fromhex(wire)) == expected


@given(_PACKETS)
def test_a_packet_survives_the_way(packet: bytes) -> None:
    assert _decode(encode_frame(packet)) == [Frame(packet)]


@given(st.binary(max_size=4000))
def test_the_checksum_is_the_one_of_pymdfu(packet: bytes) -> None:
    assert checksum(packet) == calculate_checksum(packet)


@given(_PACKETS)
def test_frames_are_those_of_pymdfu(packet: bytes) -> None:
    wire = encode_frame(packet)

    assert wire == PymdfuFrame(packet).to_bytes()
    assert bytes(PymdfuFrame.from_bytes(wire).packet) == packet


@given(_BYTES)
def test_what_pymdfu_takes_for_a_frame_we_do_too_and_the_other_way_round(body: bytes) -> None:
    inside = body.replace(b"\x56", b"").replace(b"\x9e", b"")
    try:
        theirs = bytes(PymdfuFrame.from_bytes(b"\x56%b\x9e" % inside).packet)
    except ValueError:
        theirs = b""
    (ours,) = _decode(b"\x56%b\x9e" % inside, cap=200)

    # pymdfu does not know that a packet has a header.
    assert (ours.packet if isinstance(ours, Frame) else b"") == (theirs if len(theirs) > 1 else b"")


@given(st.lists(_BYTES, max_size=12))
def test_where_the_stream_is_cut_does_not_matter(pieces: list[bytes]) -> None:
    assert _decode(*pieces, cap=16) == _decode(b"".join(pieces), cap=16)


@given(st.lists(_BYTES | _PACKETS.map(encode_frame), max_size=6), _PACKETS)
def test_after_any_noise_the_next_frame_is_found(noise: list[bytes], packet: bytes) -> None:
    assert _decode(*noise, encode_frame(packet))[-1] == Frame(packet)


@pytest.mark.parametrize(
    "raw", [*vectors.BUS_COMMANDS, *vectors.BUS_RESPONSES, *vectors.BUS_LENGTHS], ids=bytes.hex
)
def test_checksums_on_a_bus(raw: bytes) -> None:
    assert checksum(raw[:-2]).to_bytes(2, "little") == raw[-2:]


@pytest.mark.parametrize(("packet", "expected"), vectors.CHECKSUMS, ids=lambda value: f"{value!r}")
def test_checksums_that_overflow(packet: bytes, expected: int) -> None:
    assert checksum(packet) == expected


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, 1025, 65535])
def test_sums_do_not_overflow_where_the_work_is_cut(size: int) -> None:
    assert checksum(b"\xff" * size) == calculate_checksum(b"\xff" * size)


@pytest.mark.parametrize("filling", [b"\x00", b"\x56", b"\xcc"])
def test_a_packet_as_long_as_the_cap_passes_and_one_byte_more_does_not(filling: bytes) -> None:
    assert _decode(encode_frame(filling * _CAP)) == [Frame(filling * _CAP)]

    (found,) = _decode(encode_frame(filling * (_CAP + 1)))
    assert isinstance(found, DamagedFrame)
    assert found.damage is Damage.TOO_LONG


def test_a_frame_that_is_too_long_is_told_before_its_end() -> None:
    # A client must answer then, and not wait for an end that may never come.
    decoder = FrameDecoder(4)

    assert decoder.feed(b"\x56abcdef") == []
    assert decoder.feed(b"g") == [DamagedFrame(Damage.TOO_LONG, b"abcdefg")]
    assert decoder.feed(b"hij\x9e") == []


def test_what_is_held_is_bounded() -> None:
    decoder = FrameDecoder(4)
    decoder.feed(b"\x56")

    found = [damaged for _ in range(1000) for damaged in decoder.feed(b"x" * 100)]

    assert found == [DamagedFrame(Damage.TOO_LONG, b"x" * 7)]


def test_a_frame_that_has_begun_can_be_forgotten() -> None:
    decoder = FrameDecoder(_CAP)
    decoder.feed(b"\x56\x01\x02")

    decoder.clear()

    assert decoder.feed(b"\xfe\xfd\x9e") == []


@pytest.mark.parametrize("size", [2, 273])
def test_the_longest_frame_is_one_of_escapes_only(size: int) -> None:
    # Sums of such packets need escapes as well or not; the bound may not be passed either way.
    frames = [encode_frame(bytes((byte,)) * size) for byte in range(256)]

    assert max(map(len, frames)) <= longest_frame(size)
    assert longest_frame(273) == 552  # what Microchip gives for chunks of 271 bytes
