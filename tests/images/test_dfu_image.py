"""What a file is to a DFU device: a row of bytes, or pieces of memory; and which files are for no device."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.images.dfu_image import addressed, check_fits, check_target, raw_at, streamed
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment

BASE = 0x0800_0000
IDS = ((0x1209, 1), (0x0483, 0xDF11))
RAW = ImageRules(device=True)
AT_BASE = ImageRules(address=BASE, device=True)
SUFFIXED = ImageRules(format=ImageFormat.DFU, device=True, ids=IDS)
DFUSE = ImageRules(format=ImageFormat.DFUSE, device=True, ids=IDS)
HEX = ImageRules(format=ImageFormat.INTEL_HEX, device=True)
HEX_FILE = b":020000040800F2\n:0100000011EE\n:0100020022DB\n:00000001FF\n"


def dfuse(*targets: tuple[int, int], suffix: DfuSuffix | None = None) -> bytes:
    """Make a file with one element for each (alternate setting, address)."""
    return DfuseFile(
        targets=tuple(
            DfuseTarget(alternate=alternate, elements=(Segment(address, b"data"),))
            for alternate, address in targets
        ),
        suffix=suffix or DfuSuffix(dfu=0x011A),
    ).encode()


FLASH = MemoryMap.parse("@Flash/0x08000000/2*1Kg,1*1Ka/0x08001000/1*1Kg,1*1Ke")


def test_a_raw_image_goes_where_the_operator_says() -> None:
    assert raw_at(b"image", 0x0800_0000) == (Segment(0x0800_0000, b"image"),)
    assert raw_at(b"a", 0xFFFF_FFFF) == (Segment(0xFFFF_FFFF, b"a"),)


@pytest.mark.parametrize(
    ("content", "address", "problem"),
    [
        (b"", 0, "empty"),
        (b"ab", 0xFFFF_FFFF, "do not fit"),
        (b"ab", -1, "do not fit"),
        (append(b"image", DfuSuffix()), 0, "offset 13: a DFU suffix"),
    ],
)
def test_inv8_what_is_no_raw_image(content: bytes, address: int, problem: str) -> None:
    with pytest.raises(BadImage, match=problem):
        raw_at(content, address)


def test_inv8_an_image_for_another_device_is_refused() -> None:
    check_target(DfuSuffix(vendor=0x0483), [(0x1234, 1), (0x0483, 0xDF11)])
    with pytest.raises(BadImage, match="for 0483:5740, the device is 1234:0001 and 0483:df11"):
        check_target(DfuSuffix(vendor=0x0483, product=0x5740), [(0x1234, 1), (0x0483, 0xDF11)])


@pytest.mark.parametrize(
    ("start", "size", "wrong"),
    [
        (0x0800_0000, 2048, None),
        (0x0800_07FF, 1, None),
        (0x0800_1000, 1024, None),
        (0x0800_0000, 2049, 0x0800_0800),
        (0x0800_0900, 4, 0x0800_0900),
        (0x07FF_FFFF, 2, 0x07FF_FFFF),
        (0x0800_0FFF, 2, 0x0800_0FFF),
        (0x0800_1000, 1025, 0x0800_1400),
        (0x0800_1800, 1, 0x0800_1800),
        (0x2000_0000, 4, 0x2000_0000),
    ],
)
def test_inv8_an_image_that_does_not_fit_is_refused_with_the_address(
    start: int, size: int, wrong: int | None
) -> None:
    image = [Segment(0x0800_0400, b"fits"), Segment(start, bytes(size))]
    if wrong is None:
        check_fits(image, FLASH)
    else:
        with pytest.raises(BadImage, match=f"address 0x{wrong:08x} is not in 'Flash'"):
            check_fits(image, FLASH)


# --- by format and kind of device ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "file", "sent"),
    [
        (RAW, b"image", b"image"),
        (SUFFIXED, append(b"image", DfuSuffix(vendor=0x1209, product=1)), b"image"),
        (SUFFIXED, append(b"image", DfuSuffix()), b"image"),
        (HEX, HEX_FILE, b"\x11\xff\x22"),
    ],
)
def test_what_a_device_without_addresses_is_sent(rules: ImageRules, file: bytes, sent: bytes) -> None:
    assert streamed(file, rules) == sent


@pytest.mark.parametrize(
    ("rules", "file", "problem"),
    [
        (RAW, b"", "the image is empty"),
        (RAW, append(b"image", DfuSuffix()), "offset 13: a DFU suffix, which a raw image does not have"),
        (AT_BASE, b"image", "the device takes no addresses"),
        (DFUSE, dfuse((0, BASE)), "the device takes no addresses, which a DfuSe file has"),
        (SUFFIXED, b"image" * 9, "offset 37: no DFU suffix"),
        (SUFFIXED, append(b"", DfuSuffix()), "there is nothing before the suffix"),
        (SUFFIXED, dfuse((0, BASE)), "the suffix is that of a DfuSe file"),
        (
            SUFFIXED,
            append(b"image", DfuSuffix(vendor=0x1209, product=2)),
            "for 1209:0002, the device is 1209:0001 and 0483:df11",
        ),
        (HEX, HEX_FILE[:-12], "without its end record"),
        (ImageRules(format=ImageFormat.MDFU_8BIT, device=True), b"image", "is for MDFU"),
    ],
)
def test_inv8_what_a_device_without_addresses_is_not_sent(
    rules: ImageRules, file: bytes, problem: str
) -> None:
    with pytest.raises(BadImage, match=problem):
        streamed(file, rules)


@pytest.mark.parametrize(
    ("rules", "file", "written"),
    [
        (AT_BASE, b"image", [Segment(BASE, b"image")]),
        (DFUSE, dfuse((0, BASE), (0, BASE + 4)), [Segment(BASE, b"datadata")]),
        (DFUSE, dfuse((3, BASE)), [Segment(BASE, b"data")]),
        (HEX, HEX_FILE, [Segment(BASE, b"\x11"), Segment(BASE + 2, b"\x22")]),
    ],
)
def test_what_is_written_into_a_device_with_addresses(
    rules: ImageRules, file: bytes, written: list[Segment]
) -> None:
    assert addressed(file, rules) == tuple(written)


@pytest.mark.parametrize(
    ("rules", "file", "problem"),
    [
        (RAW, b"image", "nobody said where a raw image goes"),
        (
            RAW,
            dfuse((0, BASE))[:-1],
            "offset 312: cut short: it begins as a DfuSe file, and has no DFU suffix",
        ),
        (AT_BASE, dfuse((0, BASE))[:-1], "cut short"),
        (AT_BASE, b"", "the image is empty"),
        (ImageRules(address=0xFFFF_FFFE, device=True), b"image", "do not fit 32 bits"),
        (SUFFIXED, append(b"image", DfuSuffix()), "does not say where it goes"),
        (DFUSE, append(b"image", DfuSuffix(dfu=0x011A)), "offset 0: the prefix has 11 bytes"),
        (DFUSE, dfuse((0, BASE))[:-1], "offset"),
        (
            DFUSE,
            dfuse((0, BASE), suffix=DfuSuffix(vendor=0x1209, product=2, dfu=0x011A)),
            "for 1209:0002, the device is 1209:0001 and 0483:df11",
        ),
        (ImageRules(format=ImageFormat.MDFU_32BIT, device=True), b"image", "is for MDFU"),
    ],
)
def test_inv8_what_is_not_written_into_a_device_with_addresses(
    rules: ImageRules, file: bytes, problem: str
) -> None:
    with pytest.raises(BadImage, match=problem):
        addressed(file, rules)


def test_of_a_file_for_several_memories_one_is_written_and_a_person_says_which() -> None:
    """The rest would be left out, which nobody should find out in the field."""
    file = dfuse((0, BASE), (2, 0x9000_0000))
    with pytest.raises(BadImage, match="for the memories 0 and 2, and an update writes one"):
        addressed(file, DFUSE)
    second = ImageRules(format=ImageFormat.DFUSE, device=True, ids=IDS, alternate=2)
    assert addressed(file, second) == (Segment(0x9000_0000, b"data"),)
    with pytest.raises(BadImage, match="nothing for memory 2, only for 0"):
        addressed(dfuse((0, BASE)), second)


@pytest.mark.parametrize(
    ("address", "first"),
    [
        (0x1FFF_7800, 0x1FFF_7800),  # option bytes of L4, G0 and G4
        (0x1FFF_7000, 0x1FFF_7000),  # OTP
        (0x1FEF_FFFE, 0x1FF0_0000),  # half in it is in it
        (0x5200_201C, 0x5200_201C),  # option bytes of H7, which are registers
        (0x4002_2040, 0x4002_2040),  # of L5 and U5
    ],
)
def test_inv8_option_bytes_are_refused_with_the_reason(address: int, first: int) -> None:
    problem = f"address 0x{first:08x} is no flash: option bytes are never written by an update"
    for rules, file in (
        (DFUSE, dfuse((0, address))),
        (DFUSE, dfuse((0, BASE), (1, address))),
        (ImageRules(format=ImageFormat.DFUSE, device=True, alternate=0), dfuse((0, BASE), (1, address))),
        (ImageRules(address=address, device=True), b"data"),
    ):
        with pytest.raises(BadImage, match=problem):
            addressed(file, rules)


_RULES = st.builds(
    ImageRules,
    format=st.sampled_from(ImageFormat),
    fill=st.integers(0, 255),
    address=st.none() | st.integers(0, 0xFFFF_FFFF),
    device=st.just(True),
    ids=st.sampled_from([(), IDS]),
    alternate=st.none() | st.integers(0, 3),
)
_FILES = st.binary(max_size=60) | st.sampled_from(
    [HEX_FILE, append(b"image", DfuSuffix()), dfuse((0, BASE)), dfuse((0, BASE), (1, 0x1FFF_7800))]
)


@given(_FILES, _RULES, st.integers(0, 400), st.binary(max_size=3))
def test_inv8_any_file_is_taken_or_refused(file: bytes, rules: ImageRules, at: int, noise: bytes) -> None:
    file = file[:at] + noise + file[at:]
    with contextlib.suppress(BadImage):
        assert streamed(file, rules)
    with contextlib.suppress(BadImage):
        assert addressed(file, rules)


@pytest.mark.skipif(not shutil.which("dfu-suffix"), reason="dfu-util is not installed")
@pytest.mark.parametrize(("product", "ours"), [("0001", True), ("0002", False)])
def test_a_file_of_dfu_suffix_is_for_the_device_that_it_names(
    tmp_path: Path, product: str, ours: bool
) -> None:
    file = tmp_path / "image.dfu"
    file.write_bytes(b"image")
    options = ("-v", "1209", "-p", product, "-d", "ffff")
    subprocess.run(["dfu-suffix", *options, "-a", file], check=True, capture_output=True)
    if ours:
        assert streamed(file.read_bytes(), SUFFIXED) == b"image"
    else:
        with pytest.raises(BadImage, match="for 1209:0002"):
            streamed(file.read_bytes(), SUFFIXED)
