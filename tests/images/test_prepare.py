"""What becomes of an image file in each format."""

import pytest

from firmwarden.errors import BadImage
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.prepare import prepare
from firmwarden.protocol.dfu.segments import Segment

HEX = b":0100000011EE\n:0100020022DB\n:00000001FF\n"

DFUSE = DfuseFile(
    targets=(DfuseTarget(alternate=0, elements=(Segment(0x0800_0000, b"vectors"),)),),
    suffix=DfuSuffix(dfu=0x011A),
)


def block_image(overhead: int) -> bytes:
    size = (32 + overhead).to_bytes(2, "little")
    first = size + bytes((1, 0, 3, 0)) + bytes(4) + (32).to_bytes(2, "little") + bytes(4)
    data = size + bytes((2,)) + bytes(overhead - 3) + bytes(32)
    return first.ljust(32 + overhead, b"\0") + data


@pytest.mark.parametrize("content", [b"\0", HEX, block_image(15), block_image(7)])
def test_a_raw_image_is_sent_as_it_is(content: bytes) -> None:
    assert prepare(content, ImageRules()) == content


@pytest.mark.parametrize(
    ("image_format", "overhead"), [(ImageFormat.MDFU_8BIT, 15), (ImageFormat.MDFU_32BIT, 7)]
)
def test_a_block_image_is_checked_and_sent_as_it_is(image_format: ImageFormat, overhead: int) -> None:
    image = block_image(overhead)
    assert prepare(image, ImageRules(format=image_format)) == image
    for bad in (image[:-1], b"\0" + image, block_image(22 - overhead), HEX, b"\0"):
        with pytest.raises(BadImage):
            prepare(bad, ImageRules(format=image_format))


@pytest.mark.parametrize("image_format", [ImageFormat.DFU, ImageFormat.DFUSE])
def test_inv8_a_file_for_a_dfu_device_is_none_for_another(image_format: ImageFormat) -> None:
    with pytest.raises(BadImage, match=f'a "{image_format}" file is for a DFU device'):
        prepare(append(b"image", DfuSuffix()), ImageRules(format=image_format))


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (ImageRules(device=True), b"\0", b""),
        (ImageRules(address=0x0800_0000, device=True), b"\0", append(b"\0", DfuSuffix())),
        (ImageRules(format=ImageFormat.INTEL_HEX, device=True), HEX, HEX[:-12]),
        (ImageRules(format=ImageFormat.DFU, device=True), append(b"image", DfuSuffix()), b"image"),
        (ImageRules(format=ImageFormat.DFUSE, device=True), DFUSE.encode(), DFUSE.encode()[:-1]),
    ],
)
def test_a_file_for_a_dfu_device_is_checked_and_kept_as_it_is(
    rules: ImageRules, good: bytes, bad: bytes
) -> None:
    assert prepare(good, rules) == good
    with pytest.raises(BadImage):
        prepare(bad, rules)


def test_intel_hex_becomes_the_memory_that_it_describes() -> None:
    assert prepare(HEX, ImageRules(format=ImageFormat.INTEL_HEX)) == b"\x11\xff\x22"
    assert prepare(HEX, ImageRules(format=ImageFormat.INTEL_HEX, fill=0)) == b"\x11\x00\x22"
    with pytest.raises(BadImage):
        prepare(HEX[:-12], ImageRules(format=ImageFormat.INTEL_HEX))
