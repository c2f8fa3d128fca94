"""Setting BFB2: one bit changes, every other is as it was, and whatever looks strange is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.facts import OptionBit
from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.option_block import LAYOUTS, Change, Result, entry, words_of
from firmwarden.drivers.boot.provisioning import Provisioning, provisioning, setting_of
from firmwarden.errors import Refused
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE: Final = 0x0800_0000
BFB2: Final = 1 << 20

L476: Final = (
    "STM32L476RG",
    "@Internal Flash  /0x08000000/0512*0002Kg",
    "@Option Bytes  /0x1FFF7800/01*040 e",
)
L4S5: Final = (
    "STM32L4S5VI",
    "@Internal Flash  /0x08000000/512*0004Kg",
    "@Option Bytes  /0x1FF00000/01*040 e/0x1FF01000/01*040 e",
)
G474: Final = (
    "STM32G474RE",
    "@Internal Flash   /0x08000000/256*02Kg",
    "@Option Bytes   /0x1FFF7800/01*048 e/0x1FFFF800/01*048 e",
)
DEVICES: Final = (L476, L4S5, G474)

FACTORY: Final = 0xFFEF_F8AA
"""FLASH_OPTR of all of them, as delivered."""
NO_CODE: Final = (0xFFFF_FFFF, 0)
NO_PAGES: Final = 0xFF00_FFFF
OPEN: Final = (*NO_CODE, NO_PAGES, NO_PAGES)
"""No area is protected."""

VALID: Final = 0x2000_4000
ERASED: Final = 0xFFFF_FFFF


def matched(device: tuple[str, str, str] = L476) -> Provisioning:
    part, *memories = device
    return provisioning(part, map(MemoryMap.parse, memories))


def word(address: int, value: int) -> Segment:
    return Segment(address, value.to_bytes(4, "little"))


def found(
    what: Provisioning,
    options: int = FACTORY,
    protection: Sequence[int] = OPEN,
    *,
    beside: Sequence[int] = OPEN,
    bank_2: int | None = ERASED,
    stack: int | None = VALID,
    loader: int = 0xD5,
) -> Contents:
    """Return what such a device shows."""
    pieces = []
    for read in what.option_reads:
        first = read.address == what.setting.bit.address
        words = (options, *protection) if first else (ERASED, *beside)
        rest = (0,) * (read.size // 8 - len(words))
        pieces.append(Segment(read.address, b"".join(map(entry, (*words, *rest)))))
    middle = BASE + (what.flash.regions[0].end - BASE) // 2
    pieces += [word(middle, bank_2)] if bank_2 is not None else []
    pieces += [Segment(BASE, stack.to_bytes(4, "little") + bytes(4))] if stack is not None else []
    pieces.append(Segment(0x1FFF_6FFE, bytes((loader, 0))))
    return Contents(tuple(pieces))


def changed(device: tuple[str, str, str] = L476, **shown: Any) -> Change:  # noqa: ANN401 - as `found` has them
    what = matched(device)
    return what.change(found(what, **shown))


# --- what is changed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device[0])
def test_bfb2_is_set_and_the_complement_with_it(device: tuple[str, str, str]) -> None:
    change = changed(device)
    assert not change.nothing_to_do
    assert change.after.data[:8] == entry(FACTORY | BFB2)
    assert change.after.data[8:] == change.before.data[8:]
    assert change.after.address == change.before.address == matched(device).setting.bit.address
    first, *others = change.words()
    assert (first.before, first.after) == (FACTORY, FACTORY | BFB2)
    assert all(each.before == each.after for each in others)


def test_a_device_that_has_it_needs_nothing() -> None:
    assert changed(options=FACTORY | BFB2).nothing_to_do


@given(
    options=st.integers(0, ERASED).map(lambda word: word & ~0xFF | 1 << 21 | 0xAA),
    code=st.integers(0, ERASED),
    areas=st.tuples(st.integers(0, ERASED), st.integers(0, ERASED)),
)
def test_whatever_is_written_differs_in_that_bit_alone(
    options: int, code: int, areas: tuple[int, int]
) -> None:
    what = matched()
    contents = found(what, options, (code, 0, *areas))
    try:
        change = what.change(contents)
    except Refused:
        # An area is protected: that the first page lies behind the last was left to chance.
        assert any(area & 0xFF <= area >> 16 & 0xFF for area in areas) or not code & 0xFFFF
        return
    old, new = words_of(change.before.data), words_of(change.after.data)
    assert [one ^ other for one, other in zip(old, new, strict=True)] == [~options & BFB2, 0, 0, 0, 0]
    assert change.after.data == b"".join(map(entry, new))
    assert change.after.data[0] == 0xAA

    again = what.change(found(what, new[0], new[1:]))
    assert again.nothing_to_do


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_the_read_protection_can_be_changed(bit: int) -> None:
    """RDP 0xCC locks a part for ever."""
    with pytest.raises(ValueError, match="RDP"):
        replace(changed(), bit=OptionBit(name="RDP", address=0x1FFF_7800, bit=bit, wanted=0))


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"options": FACTORY & ~0xFF | 0xBB}, "RDP is 0xbb"),
        ({"options": FACTORY & ~0xFF | 0xCC}, "RDP is 0xcc"),
        ({"options": FACTORY & ~(1 << 21)}, "does not have DUALBANK=1"),
        ({"protection": (0, 0xFFFF, NO_PAGES, NO_PAGES)}, "PCROP"),
        ({"protection": (0xFFFF_0040, 0x50, NO_PAGES, NO_PAGES)}, "PCROP"),
        ({"protection": (*NO_CODE, 0x0007_0000, NO_PAGES)}, "pages 0 to 7 of bank 1 are write-protected"),
        ({"protection": (*NO_CODE, NO_PAGES, 0xFF05_FF05)}, "pages 5 to 5"),
        ({"bank_2": VALID}, "begins with 0x20004000"),
        ({"bank_2": 0x1000_8000}, "in place of bank 1"),
        ({"bank_2": None}, "could not be read"),
        ({"stack": 0x1000_8000}, "would never start it"),
        ({"stack": None}, "could not be read"),
    ],
)
def test_what_looks_strange_is_left_alone(shown: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        changed(**shown)


@pytest.mark.parametrize("byte", range(40))
def test_words_that_do_not_fit_their_complements_are_left_alone(byte: int) -> None:
    what = matched()
    contents = found(what)
    block = bytearray(contents.read(0x1FFF_7800, 0x1FFF_7828) or b"")
    block[byte] ^= 0x10
    others = tuple(piece for piece in contents.pieces if piece.address != 0x1FFF_7800)
    with pytest.raises(Refused, match="complements"):
        what.change(Contents((*others, Segment(0x1FFF_7800, bytes(block)))))


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"options": FACTORY & ~(1 << 22)}, "does not have DBANK=1"),
        ({"options": FACTORY & ~(3 << 26)}, "at every reset"),
        ({"protection": (*OPEN, 0x0001_0000)}, "BOOT_LOCK"),
        ({"protection": (*OPEN, 0x0000_0010)}, "secure area"),
        ({"beside": (*OPEN, 0xFFFF_FF10)}, "secure area"),
        ({"beside": (0, 0x7FFF, NO_PAGES, NO_PAGES)}, "PCROP"),
        ({"beside": (*NO_CODE, 0x0007_0000, NO_PAGES)}, "of bank 2 are write-protected"),
        ({"loader": 0xD3}, "version 0xd3"),
    ],
)
def test_what_looks_strange_on_a_larger_part(shown: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        changed(G474, **shown)


def test_reserved_bits_of_the_secure_areas_mean_nothing() -> None:
    assert not changed(G474, protection=(*OPEN, 0xFFFE_FF00), beside=(*OPEN, 0xFFFF_FF00)).nothing_to_do


def test_a_blank_part_may_be_set_up() -> None:
    assert not changed(stack=ERASED).nothing_to_do


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("GD32F103", "no facts are known of GD32F103; known families: STM32L471"),
        ("STM32F429", "up to the letter of the flash size"),
        ("STM32L432KC", 'failsafe = "empty-check" needs no option byte'),
        ("STM32F405RG", "a resident loader, or a line to BOOT0"),
        ("STM32L496ZG", 'not proven: .*failsafe = "empty-check"'),
        ("STM32L073RZ", "not proven"),
        ("STM32F429ZI", "not known well enough .* BFB2=1: set it with a debugger"),
        ("STM32F769NI", "nDBANK=0, nDBOOT=0"),
    ],
)
def test_parts_that_are_not_ours_to_set(part: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        setting_of(part)


def test_every_family_is_known_whole_or_refused_with_a_reason() -> None:
    """What the documentation names."""
    samples = {"stm32l47x": "STM32L471QE", "stm32l4p5": "STM32L4Q5AG", "stm32l4r": "STM32L4R9AI"}
    samples |= {"stm32g47x": "STM32G483CE"}
    assert samples.keys() == LAYOUTS.keys() <= {family.name for family in FAMILIES}
    for name, part in samples.items():
        setting = setting_of(part)
        assert (setting.family.name, setting.bit.name) == (name, "BFB2")
        assert setting.bit.address == setting.family.protection


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ((L476[0], "@Internal Flash  /0x08000000/04*016Kg", L476[2]), "pages of 16384 bytes"),
        ((L4S5[0], "@Internal Flash  /0x08000000/256*0008Kg", L4S5[2]), "one bank, as pages of 8192"),
        ((*L476[:2], "@Option Bytes  /0x1FFFC000/01*040 e"), "no option bytes at 0x1fff7800"),
        ((*L476[:2], "@Option Bytes  /0x1FFF7800/01*048 e"), "48 option bytes"),
        ((*L476[:2], "@Option Bytes  /0x1FFF7800/01*036 e"), "36 option bytes"),
        ((*L476[:2], "@Option Bytes  /0x1FFF7800/01*040 a"), "does not let"),
    ],
)
def test_a_device_that_is_not_the_part(device: tuple[str, str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        matched(device)


def test_a_loader_that_shows_no_option_bytes() -> None:
    with pytest.raises(Refused, match="shows no option bytes"):
        provisioning(L476[0], [MemoryMap.parse(L476[1])])
    with pytest.raises(Refused, match="shows no flash"):
        provisioning(L476[0], [MemoryMap.parse(L476[2])])


# --- what is found afterwards ----------------------------------------------------------------------------


def test_what_is_read_afterwards_is_judged() -> None:
    what = matched(G474)
    change = what.change(found(what))

    def judged(options: int, **shown: Any) -> Result:  # noqa: ANN401 - as `found` has them
        return change.result(found(what, options, **shown))

    assert judged(FACTORY | BFB2) is Result.DONE
    assert judged(FACTORY) is Result.UNCHANGED
    assert judged((FACTORY | BFB2) & ~(1 << 29)) is Result.DIFFERENT
    assert judged(FACTORY | BFB2, protection=(0, 0, NO_PAGES, NO_PAGES)) is Result.DIFFERENT
    # The write reached the other bank, which it must not.
    assert judged(FACTORY | BFB2, beside=(*NO_CODE, NO_PAGES, 0)) is Result.DIFFERENT
    assert change.result(Contents()) is Result.DIFFERENT


def test_what_must_be_read_is_named() -> None:
    what = matched(G474)
    assert [(read.address, read.size) for read in what.option_reads] == [(0x1FFF_7800, 48), (0x1FFF_F800, 48)]
    assert [read.address for read in what.flash_reads] == [BASE, BASE + (256 << 10), 0x1FFF_6FFE]
    with pytest.raises(ValueError, match="were not read"):
        what.change(Contents())
