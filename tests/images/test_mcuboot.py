"""What an image of MCUboot says of itself, and what is none."""

from __future__ import annotations

import contextlib
import hashlib
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.images.mcuboot import McubootImage, McubootVersion, parse
from support.mcuboot import GOLDEN, entry, mcuboot, part
from support.mutation import mutated


def test_an_image_of_imgtool() -> None:
    image = parse(GOLDEN)
    assert image == McubootImage(McubootVersion(1, 2, 3, 4), 17)
    assert str(image.version) == "1.2.3+4"
    assert mcuboot() == GOLDEN


@given(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)),
    st.none() | st.integers(0, 2**32 - 1),
    st.binary(max_size=60),
    st.binary(max_size=20),
)
def test_it_says_what_was_put_in(
    version: tuple[int, int, int, int], counter: int | None, content: bytes, slot: bytes
) -> None:
    made = mcuboot(version=version, counter=counter, content=content)
    assert parse(made + slot) == McubootImage(McubootVersion(*version), counter)


def test_a_hash_is_no_duty_and_may_be_of_another_length() -> None:
    bare = mcuboot()[:84]
    assert parse(bare + part(0x6907)).security_counter == 17
    assert parse(bare + part(0x6907, entry(0x12, hashlib.sha512(bare).digest()))).security_counter == 17


def test_the_hash_of_an_encrypted_image_is_of_something_else() -> None:
    made = bytearray(mcuboot(flags=0x04))
    made[40] ^= 1
    assert parse(bytes(made)).security_counter == 17


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too few for its header"),
        (GOLDEN[:31], "too few for its header"),
        (b"\0" + GOLDEN[1:], "offset 0: no magic"),
        (GOLDEN[:8] + b"\x1f\0" + GOLDEN[10:], "a header of 31 bytes"),
        (GOLDEN[:60], "offset 60: it ends before its trailer"),
        (GOLDEN[:90], "offset 84: its trailer does not end within the image"),
        (GOLDEN[:12] + b"\x29" + GOLDEN[13:], "offset 73: "),
        (GOLDEN[:10] + b"\x0d" + GOLDEN[11:], "offset 72: a protected part of another size"),
        (GOLDEN[:40] + b"X" + GOLDEN[41:], "its sha256 is not the one in its trailer"),
        (GOLDEN[:20] + b"\x02" + GOLDEN[21:], "its sha256 is not the one in its trailer"),
        (GOLDEN[:84] + part(0x6907, *[entry(0x10, bytes(32))] * 2), "has 2 hashes"),
        (GOLDEN[:84] + part(0x6907, b"abc"), "3 byte(s) left, too few for an entry"),
        (GOLDEN[:84] + part(0x6907, b"\x10\0\xff\0"), "an entry of 255 bytes, with 0 left"),
        (GOLDEN[:84] + pack("<HH", 0x6907, 3), "does not end within the image"),
        (mcuboot(protected=part(0x6908, entry(0x50, b"abc"))), "a security counter has 4 bytes"),
        (mcuboot(protected=part(0x6908, *[entry(0x50, b"abcd")] * 2)), "and is there once"),
        (mcuboot(protected=part(0x6907, entry(0x50, b"abcd"))), "no trailer where the header says"),
    ],
)
def test_inv8_what_is_none_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        parse(data)
    assert reason in str(caught.value)


@given(mutated((GOLDEN, mcuboot(counter=None))))
def test_noise_raises_only_one_error(raw: bytes) -> None:
    with contextlib.suppress(BadImage):
        parse(raw)
