"""Memories as loaders tell of them, and which of them an image is for."""

from __future__ import annotations

import pytest

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.target import Target
from firmwarden.drivers.dfuse_visit import Memory, choose, read_memories, told_apart
from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.descriptors import Alternate, DfuInterface
from firmwarden.protocol.dfu.dfuse_host import ReadsBackWrong
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.quirks import STANDARD, quirks_of
from firmwarden.protocol.dfu.segments import Segment
from support.dfu_script import Script

FLASH = "@Internal Flash  /0x08000000/0512*0002Kg"
OPTIONS = "@Option Bytes  /0x1FFF7800/01*040 e"
IMAGE = (Segment(0x0800_0000, b"\x01" * 16),)


def interface(*strings: int) -> DfuInterface:
    return DfuInterface(
        configuration=1,
        number=0,
        alternates=tuple(Alternate(setting, 2, index) for setting, index in enumerate(strings)),
        functional=None,
        alone=True,
    )


def asked(index: int, text: str) -> str:
    raw = bytes((2 + 2 * len(text), 3)) + text.encode("utf-16-le")
    return f"80 06 {index:02x} 03 09 04 FF 00 -> {raw.hex(' ')}\n"


def memory(setting: int, text: str) -> Memory:
    return Memory(setting, text, MemoryMap.parse(text))


def test_a_memory_that_is_described_in_no_known_way_is_left_out() -> None:
    script = Script(asked(4, FLASH) + asked(5, "Nothing of the kind") + asked(6, OPTIONS))
    assert script.play(read_memories(interface(4, 5, 6), STANDARD)) == (memory(0, FLASH), memory(2, OPTIONS))


@pytest.mark.parametrize(
    ("script", "strings"),
    [(asked(4, "@Flash/08000000"), (4,)), ("", (0,)), ("", ())],
)
def test_inv8_a_loader_that_tells_no_memory_is_refused(script: str, strings: tuple[int, ...]) -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script(script).play(read_memories(interface(*strings), STANDARD))
    assert raised.value.cause.code is CauseCode.CLIENT_INFO_MALFORMED


GD32 = quirks_of(0x28E9, 0x0189, 0x0100)
_DEVICE = "80 06 00 01 00 00 12 00 -> 12 01 00 02 00 00 00 40 e9 28 89 01 00 10 01 02 03 01\n"


def _serial(text: str) -> str:
    return (
        _DEVICE + f"80 06 03 03 09 04 FF 00 -> {bytes((2 + len(text), 3)).hex(' ')} {text.encode().hex(' ')}"
    )


def test_a_gd32vf103_tells_its_size_by_its_serial_number() -> None:
    (told,) = Script(_serial("3CBJ")).play(read_memories(interface(4), GD32))
    assert (told.map.regions[0].end - told.map.regions[0].address) == 128 << 10


@pytest.mark.parametrize("script", [_serial("3CXJ"), _serial("3C"), "80 06 00 01 00 00 12 00 -> 12 01\n" * 3])
def test_inv8_a_serial_number_that_tells_no_size_is_refused(script: str) -> None:
    with pytest.raises(AttemptFailed) as raised:
        Script(script).play(read_memories(interface(4), GD32))
    assert raised.value.cause.code is CauseCode.CLIENT_INFO_MALFORMED


def test_the_memory_is_that_in_which_the_image_begins_or_the_one_that_was_named() -> None:
    """An STM32G0C1 names the flash three times; the first will do."""
    memories = (memory(0, OPTIONS), memory(1, FLASH), memory(2, FLASH))
    assert choose(memories, IMAGE, None).setting == 1
    assert choose(memories, IMAGE, 2).setting == 2
    for image, setting, words in (
        (IMAGE, 3, "no memory 3"),
        ((Segment(0x2000_0000, b"*"),), None, "Internal Flash"),
    ):
        with pytest.raises(AttemptFailed, match=words) as raised:
            choose(memories, image, setting)
        assert raised.value.cause.code is CauseCode.IMAGE_UNFIT


@pytest.mark.parametrize(
    ("before", "found", "told"),
    [
        (
            b"old!",
            b"old!",
            "the page at 0x08000800 did not change when it was erased; it may be write-protected",
        ),
        (b"old!", b"\xff\xff\xff\xff", "0x08000ff0 should hold 6e657721 and holds ffffffff"),
        # Blank before and after: the erase may well have worked, and the write did not.
        (b"\xff\xff\xff\xff", b"\xff\xff\xff\xff", "0x08000ff0 should hold 6e657721 and holds ffffffff"),
    ],
)
def test_inv3_a_page_that_reads_as_before_its_erase_may_be_write_protected_unless_it_is_blank(
    before: bytes, found: bytes, told: str
) -> None:
    address = 0x0800_0FF0
    wrong = ReadsBackWrong(Segment(address, b"new!"), 0, found)
    target = Target(memory=MemoryMap.parse(FLASH))
    failed = told_apart(wrong, Contents((Segment(address, before),)), target)
    assert (failed.cause.code, failed.cause.detail) == (CauseCode.READ_BACK_DIFFERS, told)
