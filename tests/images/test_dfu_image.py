import pytest

from firmwarden.errors import BadImage
from firmwarden.images.dfu_image import check_fits, check_target, raw_at
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment

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
