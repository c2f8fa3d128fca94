"""The table of silicon: that it is consistent, and what it says of parts that people have."""

from __future__ import annotations

import pytest

from firmwarden.drivers.boot.facts import Confidence, Family, Flash, Ram
from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.lookup import contradiction, family_of, second_bank
from firmwarden.protocol.dfu.memory_map import MemoryMap

L476 = "@Internal Flash  /0x08000000/0512*0002Kg"
F405 = "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("STM32L476RG", "stm32l47x"),
        ("stm32l486jg", "stm32l47x"),
        ("STM32L4P5", "stm32l4p5"),
        ("STM32L496ZG", "stm32l496"),
        ("STM32L4S5VI", "stm32l4r"),
        ("STM32L432KC", "stm32l4-small"),
        ("STM32L452RE", "stm32l4-small"),
        ("STM32G474RE", "stm32g47x"),
        ("STM32G431KB", "stm32g4-small"),
        ("STM32F042K6", "stm32f04x"),
        ("STM32F070F6", "stm32f04x"),
        ("STM32F070CB", "stm32f07x"),
        ("STM32F407VG", "stm32f4"),
        ("STM32F446RE", "stm32f4"),
        ("STM32F429ZI", "stm32f42x-2m"),
        ("STM32F429ZG", "stm32f42x-1m"),
        ("STM32F469NI", "stm32f42x-2m"),
        ("STM32F769NI", "stm32f76x"),
        ("STM32F746ZG", "stm32f72x"),
        ("STM32H743ZI", "stm32h7"),
        ("STM32L073RZ", "stm32l07x"),
        ("STM32WB55RG", "stm32wb"),
        ("STM32G0B1RE", "stm32g0"),
        ("STM32C071RB", "stm32u0-c0"),
        ("STM32U575ZI", "stm32-trustzone"),
    ],
)
def test_a_part_number_tells_the_family(part: str, name: str) -> None:
    family = family_of(part)
    assert family is not None
    assert family.name == name


@pytest.mark.parametrize(
    "part", ["", "STM32", "GD32F103", "STM32F429", "STM32F070", "AT32F403", "XSTM32L476"]
)
def test_what_tells_no_family_is_given_none(part: str) -> None:
    """The rows for STM32F429 and F070 hold for one size of the flash, which these numbers do not tell."""
    assert family_of(part) is None


def test_no_part_belongs_to_two_families() -> None:
    samples = [f"STM32{line}{pins}{size}" for line in _lines() for pins in "RVZ" for size in "68BCEGI"]
    for part in samples:
        assert len([family for family in FAMILIES if any(each.match(part) for each in family.parts)]) <= 1, (
            part
        )


def _lines() -> list[str]:
    letters = [
        f"{series}{digits:02d}"
        for series in ("F0", "F1", "F2", "F3", "F4", "F7", "L0", "L1", "L4", "G4", "H7")
        for digits in range(100)
    ]
    return [*letters, "L4P5", "L4Q5", "L4R5", "L4S9", "L4A6", "G4A1", "G0B1", "G0C1", "H7A3", "H7B0"]


def test_names_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
class TestEveryFamily:
    def test_what_is_proven_was_told_or_seen(self, family: Family) -> None:
        check = family.bank_check
        if check is not None:
            assert check.proven == (not check.doubt)
            if check.proven:
                assert check.source.confidence in {Confidence.VENDOR, Confidence.CODE, Confidence.FIELD}
        if family.empty_check is not None:
            assert family.empty_check.source.confidence is Confidence.VENDOR
            # Only all ones are empty.
            assert family.flash.erased == 0xFF

    def test_an_erased_word_is_no_stack_pointer(self, family: Family) -> None:
        stacks = family.stacks + (family.bank_check.stacks if family.bank_check else ())
        assert not any(ram.holds_stack(family.flash.erased_word) for ram in stacks)

    def test_a_loader_that_corrupts_odd_lengths_never_gets_one(self, family: Family) -> None:
        if family.length_bug is not None:
            assert family.flash.granule % family.length_bug.multiple == 0


def test_the_loader_of_l47x_is_known_to_corrupt_odd_lengths() -> None:
    family = family_of("STM32L476RG")
    assert family is not None
    assert family.length_bug is not None
    assert (family.length_bug.above, family.length_bug.multiple) == (256, 8)


def test_l47x_has_no_empty_check_and_l432_has_nothing_else() -> None:
    """ST lists the parts; users mixed them up often enough."""
    l47x, l432 = family_of("STM32L476RG"), family_of("STM32L432KC")
    assert l47x is not None
    assert l47x.empty_check is None
    assert l47x.bank_check is not None
    assert l432 is not None
    assert l432.empty_check is not None
    assert l432.bank_check is None


@pytest.mark.parametrize(
    ("part", "layout", "words"),
    [
        ("STM32L476RG", L476, None),
        ("STM32F405RG", F405, None),
        ("STM32L476RG", F405, "pages of 16384 bytes"),
        ("STM32F405RG", L476, "pages of 2048 bytes"),
        ("STM32L476RG", "@Internal Flash  /0x08000000/1024*0002Kg", "2048 KiB"),
        ("STM32L476RG", "@Internal Flash  /0x08004000/0256*0002Kg", "begins at 0x08004000"),
    ],
)
def test_what_a_device_shows_may_contradict_its_class(part: str, layout: str, words: str | None) -> None:
    family = family_of(part)
    assert family is not None
    strange = contradiction(family, MemoryMap.parse(layout))
    if words is None:
        assert strange is None
    else:
        assert strange is not None
        assert words in strange


@pytest.mark.parametrize(
    ("layout", "address"),
    [
        (L476, 0x0808_0000),
        ("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg,04*016Kg,01*064Kg,07*128Kg", 0x0810_0000),
        # STM32G474 of 256 KB: bank 2 stays where that of 512 KB is.
        ("@Internal Flash  /0x08000000/64*002Kg/0x08040000/64*002Kg", 0x0804_0000),
    ],
)
def test_the_second_bank_is_behind_the_gap_or_in_the_middle(layout: str, address: int) -> None:
    assert second_bank(MemoryMap.parse(layout)) == address


def test_the_table_cannot_be_filled_with_nonsense() -> None:
    with pytest.raises(ValueError, match="granules"):
        Flash(kilobytes=frozenset({64}), pages=frozenset({100}), granule=8)
    with pytest.raises(ValueError, match="memory from"):
        Ram(8, 8)


@pytest.mark.parametrize(
    ("part", "layout"),
    [
        ("STM32L476RG", "@Option Bytes  /0x1FFF7800/01*040 e"),
        ("STM32L4S5VI", "@Option Bytes  /0x1FF00000/01*040 e/0x1FF01000/01*040 e"),
        ("STM32G474RE", "@Option Bytes   /0x1FFF7800/01*048 e/0x1FFFF800/01*048 e"),
        ("STM32F429ZI", "@Option Bytes  /0x1FFFC000/01*016 e"),
    ],
)
def test_option_bits_are_where_loaders_say_that_they_have_them(part: str, layout: str) -> None:
    """The maps are those of real loaders, as dfu-util lists them."""
    family = family_of(part)
    assert family is not None
    assert family.bank_check is not None
    first = MemoryMap.parse(layout).regions[0]
    assert family.protection is not None
    for address in (family.protection, *(bit.address for bit in family.bank_check.bits)):
        assert first.address <= address < first.end
