import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.dfuse import (
    Command,
    ErasePage,
    MalformedCommand,
    MassErase,
    ReadUnprotect,
    SetAddress,
    block_address,
    decode,
)

_ADDRESSES = st.integers(0, 0xFFFF_FFFF)


@given(
    st.builds(SetAddress, _ADDRESSES)
    | st.builds(ErasePage, _ADDRESSES)
    | st.sampled_from([MassErase(), ReadUnprotect()])
)
def test_a_command_survives_the_way(command: Command) -> None:
    assert decode(command.encode()) == command


@given(st.binary(max_size=8))
def test_noise_raises_only_one_error(noise: bytes) -> None:
    for data in (noise, b"\x21" + noise, b"\x41" + noise, b"\x92" + noise):
        with contextlib.suppress(MalformedCommand):
            assert decode(data).encode() == data


@pytest.mark.parametrize(
    ("raw", "command"),
    [
        ("21 00 08 00 08", SetAddress(0x0800_0800)),
        ("41 00 00 00 08", ErasePage(0x0800_0000)),
        ("41", MassErase()),
        ("92", ReadUnprotect()),
    ],
)
def test_commands(raw: str, command: Command) -> None:
    assert decode(bytes.fromhex(raw)) == command


@pytest.mark.parametrize("raw", ["", "00", "21", "21 00 00 00", "41 00 00 00 08 00", "92 00", "42"])
def test_what_is_no_command(raw: str) -> None:
    with pytest.raises(MalformedCommand):
        decode(bytes.fromhex(raw))


@pytest.mark.parametrize("address", [-1, 1 << 32])
def test_an_address_that_does_not_fit_is_refused(address: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        ErasePage(address).encode()


def test_where_a_block_belongs() -> None:
    assert block_address(0x0800_0800, 2, 2048) == 0x0800_0800
    assert block_address(0x0800_0800, 3, 2048) == 0x0800_1000
