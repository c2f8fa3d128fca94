"""The bytes of USB/IP, against a client of the tests' own."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.simulate.dfu.description import DescribedDevice
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.usbip import (
    COMMAND_SIZE,
    BadMessage,
    Submit,
    Unlink,
    decode_command,
    decode_operation,
    encode_done,
    encode_import,
    encode_list,
    encode_unlinked,
)
from support.usbip_client import Listed, parse_device, parse_list, submit, unlink

NUMBERS = st.integers(0, 0xFFFF_FFFF)


@given(number=NUMBERS, setup=st.binary(min_size=8, max_size=8), endpoint=st.integers(0, 15), data=st.binary())
def test_a_submit_is_read_as_it_was_written(number: int, setup: bytes, endpoint: int, data: bytes) -> None:
    inward = setup[0] >= 0x80
    raw = submit(number, setup, data, endpoint=endpoint)
    assert decode_command(raw[:COMMAND_SIZE]) == Submit(
        number=number,
        inward=inward,
        endpoint=endpoint,
        length=int.from_bytes(setup[6:], "little") if inward else len(data),
        setup=setup,
    )


@given(number=NUMBERS, victim=NUMBERS)
def test_an_unlink_is_read_as_it_was_written(number: int, victim: int) -> None:
    assert decode_command(unlink(number, victim)) == Unlink(number=number, victim=victim)


@given(st.binary(min_size=COMMAND_SIZE, max_size=COMMAND_SIZE), st.sampled_from([b"", b"\0\0\0\1"]))
def test_noise_is_refused_or_a_command(raw: bytes, start: bytes) -> None:
    with contextlib.suppress(BadMessage):
        decode_command(start + raw[len(start) :])
    with contextlib.suppress(BadMessage):
        decode_operation(raw[:8])


@pytest.mark.parametrize("length", [-1, 1 << 20])
def test_a_transfer_that_usb_does_not_have_is_refused(length: int) -> None:
    raw = bytearray(submit(1, bytes(8)))
    raw[24:28] = struct.pack(">i", length)
    with pytest.raises(BadMessage, match=f"a transfer of {length} bytes"):
        decode_command(bytes(raw))


@pytest.mark.parametrize("raw", ["0111 8004 00000000", "0110 8003 00000000"])
def test_another_protocol_is_refused(raw: str) -> None:
    with pytest.raises(BadMessage):
        decode_operation(bytes.fromhex(raw))


@given(data=st.binary(max_size=100), length=st.integers(0, 50), status=st.integers(-100, 0))
def test_an_answer_says_how_much_came(data: bytes, length: int, status: int) -> None:
    what = Submit(number=7, inward=True, endpoint=0, length=length, setup=bytes(8))
    raw = encode_done(what, status, b"" if status else data)
    assert struct.unpack_from(">IIIIIii", raw) == (
        3, 7, 0, 0, 0, status, 0 if status else min(len(data), length),
    )  # fmt: skip
    assert raw[48:] == (b"" if status else data[:length])


def test_what_went_to_the_device_was_taken_whole() -> None:
    what = Submit(number=7, inward=False, endpoint=0, length=50, setup=bytes(8))
    assert struct.unpack_from(">ii", encode_done(what), 20) == (0, 50)
    assert len(encode_done(what)) == 48
    gone = encode_unlinked(Unlink(number=8, victim=7), -104)
    assert struct.unpack(">IIIIIi24x", gone) == (4, 8, 0, 0, 0, -104)


def test_devices_are_told_with_their_interfaces() -> None:
    device = SimDfu(DescribedDevice(name="x", port=(1,), version="2.1.3").settings())
    device.plug(0)
    device.poll(1)
    assert device.identity is not None
    rom = SimDfu(DescribedDevice(name="y", port=(2,), options={"BFB2": 1}).settings())
    rom.plug(0)
    rom.poll(1)
    assert rom.identity is not None
    assert parse_list(encode_list([("1-1", 5, device.identity), ("1-2", 6, rom.identity)])) == [
        Listed("1-1", 2, (0x1209, 0x0001, 0x0213), ((0xFF, 0, 0), (0xFE, 1, 1))),
        Listed("1-2", 2, (0x0483, 0xDF11, 0x2200), ((0xFE, 1, 2),)),
    ]
    assert parse_list(encode_list([])) == []
    raw = encode_import(("1-1", 5, device.identity))
    assert raw[:8] == bytes.fromhex("0111 0003 00000000")
    assert parse_device(raw[8:]) == (Listed("1-1", 2, (0x1209, 0x0001, 0x0213)), 2)
    assert encode_import(None) == bytes.fromhex("0111 0003 00000001")
