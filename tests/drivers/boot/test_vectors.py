"""Vectors: what could start, and what a ROM might take for an image."""

from __future__ import annotations

import pytest

from firmwarden.drivers.boot.facts import Ram
from firmwarden.drivers.boot.vectors import Vectors, could_be_stack
from firmwarden.protocol.dfu.segments import Segment

SRAM = Ram(0x2000_0000, 0x2001_8000)
IMAGE = (Segment(0x0800_0000, bytes(0x1000)),)


@pytest.mark.parametrize(
    ("stack", "reset", "words"),
    [
        (0x2001_8000, 0x0800_0101, None),
        (0x2000_0008, 0x0800_0FFF, None),
        (0x2000_0000, 0x0800_0101, "stack pointer 0x20000000"),
        (0x2001_8008, 0x0800_0101, "stack pointer 0x20018008"),
        (0x2001_7FFC, 0x0800_0101, "stack pointer"),
        (0xFFFF_FFFF, 0xFFFF_FFFF, "stack pointer"),
        (0x2001_8000, 0x0800_0100, "even"),
        (0x2001_8000, 0x0800_1001, "not in the image"),
        (0x2001_8000, 0x1FFF_0101, "not in the image"),
    ],
)
def test_an_image_that_could_not_start_is_told_apart(stack: int, reset: int, words: str | None) -> None:
    fault = Vectors(stack, reset).fault([SRAM], IMAGE)
    assert (fault is None) == (words is None)
    assert words is None or words in str(fault)


def test_without_known_memory_any_stack_will_do() -> None:
    assert Vectors(0x1234_5678, 0x0800_0101).fault([], IMAGE) is None


def test_vectors_are_the_first_two_words() -> None:
    assert Vectors.decode(bytes.fromhex("0080012009010008ff")) == Vectors(0x2001_8000, 0x0800_0109)
    with pytest.raises(ValueError, match="7 byte"):
        Vectors.decode(bytes(7))


@pytest.mark.parametrize(
    ("word", "could"),
    [
        (0xFFFF_FFFF, False),
        (0x0000_0000, False),
        (0x0800_0101, False),
        (0x4BF0_2000, False),
        (0x2001_8000, True),
        (0x1000_8000, True),
        # A mask may leave out the upper bits.
        (0xE001_8000, True),
    ],
)
def test_a_word_that_a_rom_might_take_for_a_stack_pointer(word: int, could: bool) -> None:
    assert could_be_stack(word) is could
