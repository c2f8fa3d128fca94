import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.images.dfu_suffix import (
    ANY,
    DfuSuffix,
    SuffixedImage,
    append,
    checksum,
    has_suffix,
    split,
)

# Made by hand and accepted by dfu-suffix.
EXAMPLE = bytes(range(16)) + bytes.fromhex("02 01 40 57 83 04 10 01 55 46 44 10 E6 AF DC 38")
EXAMPLE_SUFFIX = DfuSuffix(vendor=0x0483, product=0x5740, device=0x0102, dfu=0x0110)
EMPTY = bytes.fromhex("FF FF FF FF FF FF 00 01 55 46 44 10 E1 F1 7B 88")

_WORDS = st.integers(0, 0xFFFF)
_SUFFIXES = st.builds(DfuSuffix, vendor=_WORDS, product=_WORDS, device=_WORDS, dfu=_WORDS)


def _sealed(content: bytes) -> bytes:
    return content + checksum(content).to_bytes(4, "little")


def test_the_checksum() -> None:
    assert checksum(b"123456789") == 0x340B_C6D9
    assert checksum(EXAMPLE) == 0


@pytest.mark.parametrize(
    ("file", "content", "suffix"),
    [(EXAMPLE, bytes(range(16)), EXAMPLE_SUFFIX), (EMPTY, b"", DfuSuffix())],
)
def test_examples(file: bytes, content: bytes, suffix: DfuSuffix) -> None:
    assert split(file) == SuffixedImage(content, suffix)
    assert append(content, suffix) == file


@given(st.binary(max_size=80), _SUFFIXES)
def test_a_suffix_survives_the_way(content: bytes, suffix: DfuSuffix) -> None:
    assert split(append(content, suffix)) == SuffixedImage(content, suffix)


@given(st.binary(max_size=60), st.integers(0, 32))
def test_noise_raises_only_one_error(noise: bytes, at: int) -> None:
    for file in (noise, EXAMPLE + noise, EXAMPLE[:at] + noise, EXAMPLE[:at] + noise + EXAMPLE[at:]):
        with contextlib.suppress(BadImage):
            split(file)


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 7))
def test_a_single_bit_is_noticed(at: int, bit: int) -> None:
    file = bytearray(EXAMPLE)
    file[at] ^= 1 << bit
    with pytest.raises(BadImage):
        split(bytes(file))


@given(st.integers(0, len(EXAMPLE) - 1))
def test_inv8_a_file_that_was_cut_short_is_refused(size: int) -> None:
    with pytest.raises(BadImage):
        split(EXAMPLE[:size])


def test_a_suffix_of_the_future_is_longer() -> None:
    file = _sealed(b"image" + b"\x77\x77" + EXAMPLE[16:27] + b"\x12")

    assert split(file) == SuffixedImage(b"image", EXAMPLE_SUFFIX)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "0 byte\\(s\\) are too few"),
        (bytes(15), "15 byte\\(s\\) are too few"),
        (bytes(40), "offset 32: no DFU suffix"),
        (EXAMPLE[:-1] + b"\x39", "offset 28: the DFU suffix says CRC 0x39dcafe6, the file has 0x38dcafe6"),
        (_sealed(EXAMPLE[:27] + b"\x0f"), "offset 27: a DFU suffix of 15 bytes"),
        (_sealed(EXAMPLE[:27] + b"\x21"), "offset 27: a DFU suffix of 33 bytes in a file of 32"),
    ],
)
def test_inv8_bad_files_are_refused_with_the_offset(file: bytes, problem: str) -> None:
    with pytest.raises(BadImage, match=problem):
        split(file)


@pytest.mark.parametrize(
    ("vendor", "product", "suits"),
    [
        (0x0483, 0xDF11, True),
        (0x1234, 0x0001, True),
        (0x0483, 0x0001, False),
        (0x1234, 0xDF11, False),
        (ANY, 0xDF11, True),
        (0x1234, ANY, True),
        (0x5678, ANY, False),
        (ANY, ANY, True),
    ],
)
def test_for_which_device(vendor: int, product: int, suits: bool) -> None:
    either_mode = ((0x1234, 0x0001), (0x0483, 0xDF11))

    assert DfuSuffix(vendor=vendor, product=product).suits(either_mode) is suits


def test_nothing_suits_a_device_that_nobody_knows() -> None:
    assert not DfuSuffix().suits(())


def test_whether_there_is_one() -> None:
    assert has_suffix(EXAMPLE)
    assert has_suffix(EXAMPLE[:-1] + b"\0")
    assert not has_suffix(EXAMPLE[:-1])
    assert not has_suffix(b"")


def test_a_field_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="two bytes"):
        DfuSuffix(vendor=0x1_0000)


# --- dfu-util's own tool --------------------------------------------------------------------------------------


needs_dfu_util = pytest.mark.skipif(not shutil.which("dfu-suffix"), reason="dfu-util is not installed")


@needs_dfu_util
@pytest.mark.parametrize("content", [b"\x01", bytes(range(256)) * 3, EXAMPLE])
def test_dfu_suffix_accepts_ours(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "image.dfu"
    file.write_bytes(append(content, EXAMPLE_SUFFIX))

    said = subprocess.run(["dfu-suffix", "-c", file], check=True, capture_output=True, text=True).stdout

    assert [int(field, 16) for field in re.findall(r"0x(\w{4})\s*$", said, re.MULTILINE)] == [
        0x0102,
        0x5740,
        0x0483,
        0x0110,
    ]


@needs_dfu_util
def test_we_accept_dfu_suffix_s(tmp_path: Path) -> None:
    file = tmp_path / "image.dfu"
    file.write_bytes(b"some firmware")
    subprocess.run(
        ["dfu-suffix", "-v", "0483", "-p", "df11", "-d", "2200", "-a", file], check=True, capture_output=True
    )

    assert split(file.read_bytes()) == SuffixedImage(
        b"some firmware", DfuSuffix(vendor=0x0483, product=0xDF11, device=0x2200, dfu=0x0100)
    )


@needs_dfu_util
@pytest.mark.parametrize("file", [EXAMPLE[:-1], EXAMPLE[:-1] + b"\0", bytes(40)], ids=["cut", "crc", "none"])
def test_both_refuse_what_is_damaged(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.dfu"
    path.write_bytes(file)

    assert subprocess.run(["dfu-suffix", "-c", path], check=False, capture_output=True).returncode != 0
    with pytest.raises(BadImage):
        split(file)
