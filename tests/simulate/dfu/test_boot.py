"""What every family starts, by what is in its flash, its option bytes and on its pins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu import patterns
from firmwarden.simulate.dfu.chip import Chip, ErasePage, Landing, Reset
from firmwarden.simulate.dfu.firmware import Firmware, Role, RunTime, Service, seal
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS, Part
from firmwarden.simulate.dfu.patterns import BankState, Pattern, Start, decide
from firmwarden.simulate.dfu.traits import OnBadRead
from support.dfu_simulated import image

if TYPE_CHECKING:
    from collections.abc import Mapping

# Which mechanism brings a family back to its ROM without a hand (columns: none, empty check, bank check), and the
# option bytes that turn the bank check on.
RETURNS: dict[str, tuple[str, dict[str, int]]] = {
    "stm32l476": ("banks", {"BFB2": 1}),
    "stm32l4p5": ("banks", {"BFB2": 1}),
    "stm32l496": ("empty banks", {"BFB2": 1, "nSWBOOT0": 0, "nBOOT0": 1}),
    "stm32l4s5": ("empty banks", {"BFB2": 1}),
    "stm32l432": ("empty", {}),
    "stm32g474": ("banks", {"BFB2": 1}),
    "stm32g474-d3": ("banks", {"BFB2": 1, "nBOOT1": 0}),
    "stm32g431": ("", {}),
    "stm32g0b1": ("empty", {}),
    "stm32f042": ("empty", {}),
    "stm32f072": ("", {}),
    "stm32f405": ("", {}),
    "stm32l151": ("", {}),
    "stm32f429": ("banks", {"BFB2": 1}),
    "stm32f769": ("banks", {"nDBANK": 0, "nDBOOT": 0}),
    "stm32f746": ("", {}),
    "stm32h743": ("", {}),
    "stm32l073": ("banks", {"BFB2": 1}),
    "stm32wb55": ("empty", {}),
    "stm32c071": ("empty", {}),
    "stm32u073": ("empty", {}),
    "stm32l552": ("", {}),
    "stm32u575": ("", {}),
    "stm32h563": ("", {}),
    "stm32c551": ("empty", {}),
}

# How a host or a factory makes the ROM the thing that boots, without the pin.
ROM_BY_OPTIONS: dict[str, dict[str, int]] = {
    "stm32l496": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32l4p5": {},
    "stm32l432": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32g474": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32g431": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32g0b1": {"nBOOT_SEL": 1, "nBOOT0": 0},
    "stm32c071": {"nBOOT_SEL": 1, "nBOOT0": 0},
    "stm32wb55": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32f746": {"BOOT_ADD0": patterns.F7_ROM},
    "stm32f769": {"BOOT_ADD0": patterns.F7_ROM},
    "stm32h743": {"BOOT_ADD0": patterns.H7_ROM},
    "stm32l552": {"NSBOOTADD0": patterns.L5_ROM},
    "stm32u575": {"nSWBOOT0": 0, "nBOOT0": 0},
    "stm32h563": {"PRODUCT_PROVISIONING": 1},
    "stm32c551": {"BOOT_SEL": 1, "BOOT0_BIT": 1},
}


def small(name: str) -> Part:
    return PARTS[name].small(8, 1024)


def chip(part: Part, factory: Mapping[str, int] | None = None, **banks: Firmware) -> Chip:
    """Make a chip; images by the name of their bank."""
    made = Chip(part, banks.values(), factory)
    for bank, firmware in banks.items():
        made.install(firmware.segments, bank=int(bank.removeprefix("bank")))
    return made


def test_every_part_is_in_the_table() -> None:
    assert RETURNS.keys() == PARTS.keys()
    for name, part in PARTS.items():
        assert part.pattern.checks_empty == ("empty" in RETURNS[name][0])
        assert part.pattern.checks_banks == ("banks" in RETURNS[name][0])


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_every_signal_that_its_pattern_asks_for(name: str) -> None:
    part = PARTS[name]
    asked = {signal for way in (*part.pattern.rom, *part.pattern.banks, *part.pattern.ram) for signal in way}
    assert asked <= part.options.fields.keys() | {"BOOT0", "BOOT1", "EMPTY"}


@pytest.mark.parametrize("name", PARTS)
def test_a_whole_application_runs_as_delivered(name: str) -> None:
    part = small(name)
    made = chip(part, bank1=image("app", part, 3000))
    for reset in (Reset.POWER_ON, Reset.PLAIN, Reset.OPTIONS_LOADED):
        assert str(made.boot(reset)) == "APPLICATION app"


@pytest.mark.parametrize("name", PARTS)
def test_the_pin_leads_into_the_rom(name: str) -> None:
    part = small(name)
    made = chip(
        part, {"nBOOT_SEL": 0} if "nBOOT_SEL" in part.options.fields else {}, bank1=image("app", part, 3000)
    )
    made.boot0 = 1
    assert made.boot(Reset.POWER_ON).landing is Landing.ROM


@pytest.mark.parametrize("name", PARTS)
def test_an_erased_chip_returns_by_the_empty_check_or_not_at_all(name: str) -> None:
    part = small(name)
    boot = Chip(part).boot(Reset.POWER_ON)
    assert boot.landing is (Landing.ROM if "empty" in RETURNS[name][0] else Landing.LOCKED_UP)


@pytest.mark.parametrize("name", [name for name, (how, _) in RETURNS.items() if "banks" in how])
@pytest.mark.parametrize("reset", Reset)
def test_with_the_bank_check_no_valid_bank_means_rom(name: str, reset: Reset) -> None:
    part = small(name)
    factory = RETURNS[name][1]
    app = image("app", part, 3000)
    assert Chip(part, factory=factory).boot(reset).landing is Landing.ROM
    assert str(chip(part, factory, bank1=app).boot(reset)) == "APPLICATION app"
    second = chip(part, factory, bank2=app)
    boot = second.boot(reset)
    assert (boot.landing, boot.bank, second.swapped) == (Landing.APPLICATION, 2, True)
    # Only word 0 counts: the rest may be gone.
    half = chip(part, factory)
    half.install([Segment(FLASH_BASE, app.segments[0].data[:1024])])
    assert half.boot(reset).landing is Landing.PARTIAL
    # A first word of zeros is as good as none.
    zero = chip(part, factory)
    zero.install([Segment(FLASH_BASE, bytes(part.cells.granule))])
    assert zero.boot(reset).landing is Landing.ROM


@pytest.mark.parametrize("name", [name for name, (how, _) in RETURNS.items() if "banks" in how])
def test_the_order_of_banks(name: str) -> None:
    part = small(name)
    one, two = image("one", part, 3000), image("two", part, 3000)
    boot = chip(part, RETURNS[name][1], bank1=one, bank2=two).boot(Reset.POWER_ON)
    assert boot.firmware is (one if name == "stm32f769" else two)


@pytest.mark.parametrize("name", ROM_BY_OPTIONS)
def test_option_bits_lead_into_the_rom(name: str) -> None:
    part = small(name)
    factory = ROM_BY_OPTIONS[name]
    boot = chip(part, factory, bank1=image("app", part, 3000)).boot(Reset.POWER_ON)
    # STM32L4P5 has the software bits, but its pattern does not look at them.
    assert boot.landing is (Landing.ROM if factory else Landing.APPLICATION)


@pytest.mark.parametrize("name", [name for name, (how, _) in RETURNS.items() if "empty" in how])
def test_the_empty_check_is_made_when_power_comes_and_not_else(name: str) -> None:
    part = small(name)
    app = image("app", part, 3000, clears_empty=False)
    made = Chip(part, [app])
    assert made.boot(Reset.POWER_ON).landing is Landing.ROM
    made.install(app.segments)
    assert made.boot(Reset.PLAIN).landing is Landing.ROM, "the flag is still up"
    assert made.boot(Reset.POWER_ON).landing is Landing.APPLICATION
    made.apply(ErasePage(0))
    assert made.boot(Reset.PLAIN).landing is Landing.LOCKED_UP, "the flag is still down"
    assert made.boot(Reset.POWER_ON).landing is Landing.ROM


@pytest.mark.parametrize("name", [name for name, (how, _) in RETURNS.items() if "empty" in how])
def test_zeros_are_not_empty(name: str) -> None:
    part = small(name)
    made = Chip(part)
    made.install([Segment(FLASH_BASE, bytes(part.cells.granule))])
    assert made.boot(Reset.POWER_ON).landing is Landing.LOCKED_UP


def test_the_application_may_clear_the_flag() -> None:
    part = small("stm32l432")
    app = image("app", part, 3000)
    made = Chip(part, [app])
    made.boot(Reset.POWER_ON)
    made.install(app.segments)
    assert str(made.run(FLASH_BASE)) == "APPLICATION app"
    assert str(made.boot(Reset.PLAIN)) == "APPLICATION app"


def test_a_rom_that_clears_the_flag() -> None:
    part = small("stm32c071")
    made = Chip(part, traits=replace(part.traits, clears_empty=True))
    assert made.boot(Reset.POWER_ON).landing is Landing.ROM
    assert made.boot(Reset.PLAIN).landing is Landing.LOCKED_UP


@pytest.mark.parametrize(
    ("name", "factory"),
    [("stm32l496", {"BFB2": 1}), ("stm32g474-d3", {"BFB2": 1})],
)
def test_errata_of_the_bank_check(name: str, factory: dict[str, int]) -> None:
    """As delivered these find bank 1 valid, whatever is there."""
    part = small(name)
    assert Chip(part, factory=factory).boot(Reset.POWER_ON).landing is Landing.LOCKED_UP
    assert Chip(part, factory=RETURNS[name][1]).boot(Reset.POWER_ON).landing is Landing.ROM


@pytest.mark.parametrize("name", [name for name, (how, _) in RETURNS.items() if "banks" in how])
def test_a_first_word_that_cannot_be_read(name: str) -> None:
    part = small(name)
    app = image("app", part, 3000)
    made = chip(part, RETURNS[name][1], bank1=app)
    made.tear(ErasePage(0), Tear(0.5, check_bits=CheckBits.CLASH))
    boot = made.boot(Reset.POWER_ON)
    assert (boot.landing is Landing.RESETTING) is part.cells.corrects_errors
    lenient = Chip(part, [app], RETURNS[name][1], replace(part.traits, bank_check=OnBadRead.READS_ON))
    lenient.load(made.save())
    # The word passes for a stack pointer or not; either way nothing whole runs, and nothing resets for ever.
    assert lenient.boot(Reset.POWER_ON).landing in {Landing.ROM, Landing.LOCKED_UP, Landing.PARTIAL}


def test_read_protection_level_2_keeps_the_rom_out() -> None:
    part = small("stm32l476")
    app = image("app", part, 3000)
    assert Chip(part, factory={"BFB2": 1, "RDP": 0xCC}).boot(Reset.POWER_ON).landing is Landing.BLOCKED
    made = chip(part, {"RDP": 0xCC}, bank1=app)
    made.boot0 = 1
    assert str(made.boot(Reset.POWER_ON)) == "APPLICATION app"


def test_ram_has_nothing_to_run() -> None:
    part = small("stm32l476")
    made = chip(part, {"nBOOT1": 0}, bank1=image("app", part, 3000))
    made.boot0 = 1
    assert made.boot(Reset.POWER_ON).landing is Landing.LOCKED_UP


def test_an_application_that_leaves_the_vectors_where_they_are_dies_under_the_rom() -> None:
    part = small("stm32l476")
    app = image("app", part, 3000, sets_vtor=False)
    assert chip(part, bank1=app).boot(Reset.POWER_ON).landing is Landing.APPLICATION
    assert chip(part, {"BFB2": 1}, bank1=app).boot(Reset.POWER_ON).landing is Landing.LOCKED_UP


def test_the_golden_image_runs_while_the_other_is_not_valid() -> None:
    part = small("stm32l476")
    golden, new = image("golden", part, 3000, role=Role.GOLDEN), image("new", part, 3000)
    assert chip(part, {"BFB2": 1}, bank1=golden).boot(Reset.POWER_ON).landing is Landing.GOLDEN
    assert str(chip(part, {"BFB2": 1}, bank1=golden, bank2=new).boot(Reset.POWER_ON)) == "APPLICATION new"


@pytest.mark.parametrize("name", PARTS)
def test_a_resident_loader_starts_only_what_is_whole(name: str) -> None:
    part = PARTS[name].small(16, 1024)
    start = FLASH_BASE + 2048
    end = FLASH_BASE + part.bank_size
    loader = image("loader", part, 1500, role=Role.LOADER, service=Service.of_dfuse(start, end))
    body = image("app", part, 3000, base=start + 512).segments[0].data
    app = Firmware(name="app", segments=seal(body, start), entry=start + 512, run_time=RunTime())
    made = Chip(part, [loader, app])
    made.install(loader.segments)
    assert str(made.boot(Reset.POWER_ON)) == "LOADER loader"
    made.install(app.segments)
    assert str(made.boot(Reset.POWER_ON)) == "APPLICATION app"
    assert str(made.run(FLASH_BASE, stay=True)) == "LOADER loader"
    made.apply(ErasePage(4))
    assert str(made.boot(Reset.POWER_ON)) == "LOADER loader"
    # The way round the loader's check.
    assert made.run(start + 512).landing is Landing.PARTIAL


PATTERNS = {
    name: value
    for name, value in vars(patterns).items()
    if isinstance(value, Pattern) and name.startswith("PATTERN")
}


@pytest.mark.parametrize("name", PATTERNS)
def test_every_way_of_every_pattern_is_a_way(name: str) -> None:
    """A pattern's ways hold on their own: nothing before them in the table hides them."""
    pattern = PATTERNS[name]

    def start(way: Mapping[str, int], **banks: BankState) -> Start:
        return decide(pattern, way, lambda bank: banks.get(f"bank{bank}", BankState.INVALID), locked=False)

    assert {start(way) for way in pattern.rom} == {Start.ROM}
    assert {start(way) for way in pattern.ram} <= {Start.RAM}
    for way in pattern.banks:
        assert start(way) is Start.ROM
        assert start(way, bank1=BankState.FAULT) is Start.FAULT
        assert start(way, bank1=BankState.VALID) is Start.BANK_1
        assert start(way, bank2=BankState.VALID) is Start.BANK_2
    assert start({}) is Start.BANK_1
