import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.descriptors import (
    DFU_1_0,
    DFU_1_1,
    DFUSE,
    Alternate,
    Attribute,
    FunctionalDescriptor,
    MalformedDescriptor,
    decode_string,
    find_dfu,
)

ROM = bytes.fromhex("09 21 0b ff 00 00 08 1a 01")
_WORDS = st.integers(0, 0xFFFF)
_FUNCTIONAL = FunctionalDescriptor.decode(ROM)


def _interface(number: int, setting: int, kind: int = 0xFE01, protocol: int = 2, string: int = 0) -> bytes:
    return bytes((9, 4, number, setting, 0, kind >> 8, kind & 0xFF, protocol, string))


def _configuration(*parts: bytes, value: int = 1) -> bytes:
    body = b"".join(parts)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 1, value, 0, 0x80, 50) + body


@given(
    st.builds(
        FunctionalDescriptor,
        attributes=st.integers(0, 0xFF).map(lambda bits: Attribute(bits & 0x8F)),
        detach_timeout_ms=_WORDS,
        transfer_size=_WORDS,
        version=_WORDS,
    )
)
def test_a_functional_descriptor_survives_the_way(functional: FunctionalDescriptor) -> None:
    assert FunctionalDescriptor.decode(functional.encode()) == functional
    assert FunctionalDescriptor.decode(functional.encode() + b"\x07\x05") == functional


@given(st.binary(max_size=40), st.integers(0, 60))
def test_noise_raises_only_one_error(noise: bytes, at: int) -> None:
    good = _configuration(_interface(0, 0), ROM, _interface(1, 0, 0x0300), b"\x09\x21" + bytes(7))
    for raw in (noise, good + noise, good[:at] + noise + good[at:], good[:at] + noise):
        for decode in (FunctionalDescriptor.decode, find_dfu, decode_string):
            with contextlib.suppress(MalformedDescriptor):
                decode(raw)


def test_the_rom_of_an_stm32() -> None:
    assert (
        FunctionalDescriptor(
            attributes=Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD | Attribute.WILL_DETACH,
            detach_timeout_ms=255,
            transfer_size=2048,
            version=DFUSE,
        )
        == _FUNCTIONAL
    )
    assert _FUNCTIONAL.encode() == ROM


def test_seven_bytes_are_dfu_1_0() -> None:
    functional = FunctionalDescriptor.decode(bytes.fromhex("07 21 07 0a 00 40 00"))

    assert (functional.version, functional.transfer_size) == (DFU_1_0, 64)
    assert len(functional.encode()) == 7


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "09",
        "09 22 0b ff 00 00 08 1a 01",
        "09 21 0b ff 00 00 08 1a",
        "ff 21 0b ff 00 00 08 1a 01",
        "08 21 0b ff 00 00 08 1a 01",
        "06 21 0b ff 00 00 08 1a 01",
        "00 21 0b ff 00 00 08 1a 01",
    ],
)
def test_malformed_functional_descriptors(raw: str) -> None:
    with pytest.raises(MalformedDescriptor):
        FunctionalDescriptor.decode(bytes.fromhex(raw))


@pytest.mark.parametrize(("announced", "used"), [(0, 64), (0xFFFF, 1024), (8192, 4096), (2048, 2048), (1, 1)])
def test_the_size_of_a_block(announced: int, used: int) -> None:
    functional = FunctionalDescriptor(attributes=Attribute(0), detach_timeout_ms=0, transfer_size=announced)

    assert functional.block_size == used


def test_a_field_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="two bytes"):
        FunctionalDescriptor(attributes=Attribute(0), detach_timeout_ms=0, transfer_size=1 << 16)


def test_a_rom_with_several_memories() -> None:
    raw = _configuration(_interface(0, 0, string=4), _interface(0, 1, string=5), ROM)

    (found,) = find_dfu(raw)

    assert (found.configuration, found.number, found.alone) == (1, 0, True)
    assert found.alternates == (Alternate(0, 2, 4), Alternate(1, 2, 5))
    assert found.functional == _FUNCTIONAL


def test_an_application_with_other_interfaces() -> None:
    runtime = FunctionalDescriptor(
        attributes=Attribute.CAN_DOWNLOAD, detach_timeout_ms=1000, transfer_size=64, version=DFU_1_1
    )
    hid = bytes.fromhex("09 21 11 01 00 01 22 3f 00")
    raw = _configuration(
        _interface(0, 0, 0x0300),
        hid,
        _interface(2, 0, protocol=1),
        runtime.encode(),
        _interface(3, 0, 0x0A00),
        hid,
    )

    (found,) = find_dfu(raw)

    assert (found.number, found.alone, found.functional) == (2, False, runtime)
    assert found.alternates == (Alternate(0, 1, 0),)


def test_a_functional_descriptor_before_the_first_interface_is_for_all() -> None:
    (found,) = find_dfu(_configuration(ROM, _interface(0, 0)))

    assert found.functional == _FUNCTIONAL


def test_a_hid_descriptor_is_nobody_else_s() -> None:
    (found,) = find_dfu(_configuration(_interface(0, 0), _interface(1, 0, 0x0300), ROM))

    assert found.functional is None


def test_bytes_behind_the_configuration_do_not_count() -> None:
    assert find_dfu(_configuration(_interface(0, 0, 0x0300)) + _interface(1, 0)) == ()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "no configuration"),
        (bytes(9), "no configuration"),
        (_configuration(_interface(0, 0))[:-1], "cut short"),
        (_configuration(b"\x00\x04"), "offset 9: a descriptor of 0"),
        (_configuration(b"\x01\x04"), "offset 9: a descriptor of 1"),
        (_configuration(_interface(0, 0), b"\xff\x21"), "offset 18: a descriptor of 255"),
        (_configuration(b"\x04\x04\x00\x00"), "an interface descriptor of 4"),
        (_configuration(_interface(0, 0), b"\x08\x21" + bytes(6)), "7 or 9 bytes"),
    ],
)
def test_hostile_configurations(raw: bytes, problem: str) -> None:
    with pytest.raises(MalformedDescriptor, match=problem):
        find_dfu(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x06\x03a\0b\0", "ab"),
        (b"\x04\x03a\0b\0", "a"),
        (b"\xff\x03a\0b\0", "ab"),
        (b"\x02\x03", ""),
    ],
)
def test_strings(raw: bytes, text: str) -> None:
    assert decode_string(raw) == text


def test_a_string_in_another_encoding() -> None:
    assert decode_string(b"\x06\x033C4J", "utf-8") == "3C4J"


@pytest.mark.parametrize(
    "raw", [b"", b"\x02", b"\x01\x03", b"\x04\x04a\0", b"\x05\x03a\0b", b"\x04\x03\x00\xd8"]
)
def test_malformed_strings(raw: bytes) -> None:
    with pytest.raises(MalformedDescriptor):
        decode_string(raw)
