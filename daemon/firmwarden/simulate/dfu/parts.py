"""Parts to simulate: one for each row of families that boot alike, as facts.

Sizes, pages, granules and RAM are those of one member of the family.  `Part.small` makes a part of a few pages with
everything else as it is, for campaigns that walk every instant of an update.

Source: ST AN2606 (activation pattern, loader id, RAM that a stack pointer may point to), the reference manuals' flash
chapters; typical times from the data sheets.  What the bank check of a family accepts is told for STM32L47x and L496
only; for the others it is their RAM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.memory_map import Access, MemoryMap, Region, SectorRun
from firmwarden.simulate.dfu import options, patterns
from firmwarden.simulate.dfu.flash import Cells, Rewrite
from firmwarden.simulate.dfu.traits import Traits, WhileBusy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.simulate.dfu.options import OptionLayout
    from firmwarden.simulate.dfu.patterns import Pattern

FLASH_BASE: Final = 0x0800_0000

_EVERY: Final = Access.READ | Access.ERASE | Access.WRITE

ROM_SIZE: Final = 0x7000


_STANDARD: Final = Traits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of chip."""

    name: str
    pattern: Pattern
    cells: Cells
    bank: tuple[tuple[int, int], ...]
    """The pages of a bank, in order: how many, of which size."""
    banks: int = 1
    stacks: tuple[tuple[int, int], ...] = ((0x2000_0000, 0x2000_5000),)
    """RAM, from first to last, that the bank check takes for a stack's; the last may be the word behind it."""
    options: OptionLayout
    bank_check_needs: Mapping[str, int] | None = None
    """Signals without which the bank check goes wrong and finds bank 1 valid, whatever is there."""
    rom: int = 0x1FFF_0000
    """Where the ROM is."""
    loader_id: int = 0x92
    """At 0x6FFE from there."""
    otp: tuple[int, int] | None = None
    """Address and size of the memory that is written once."""
    traits: Traits = _STANDARD
    needs_crystal: bool = False
    """Without one the loader has no clock for USB."""
    jump_needs_empty: bool = False
    """A jump into the ROM comes back unless the first word of the flash is erased (STM32F04x)."""
    jump_checks_banks: bool = False
    """A jump into the ROM is a look for a bank to start (STM32L0)."""

    @property
    def page_sizes(self) -> list[int]:
        """The size of each page, in order."""
        return [size for count, size in self.bank for _ in range(count)] * self.banks

    @property
    def bank_size(self) -> int:
        """Bytes of a bank."""
        return sum(count * size for count, size in self.bank)

    @property
    def flash_map(self) -> MemoryMap:
        """The map of the flash, as its loader should show it."""
        runs = tuple(SectorRun(count, size, _EVERY) for count, size in self.bank)
        if len(runs) == 1:
            runs = (replace(runs[0], count=runs[0].count * self.banks),)
        else:
            runs *= self.banks
        return MemoryMap("Internal Flash", (Region(FLASH_BASE, runs),))

    @property
    def maps(self) -> tuple[str, ...]:
        """The strings of the alternate settings: flash, then option bytes and OTP where there are any."""
        if self.traits.maps is not None:
            return self.traits.maps
        strings = ["@Internal Flash  " + self.flash_map.encode().removeprefix("@Internal Flash")]
        if self.options.shown:
            blocks = (f"/0x{each.address:08X}/01*{each.size:03d} e" for each in self.options.shown)
            strings.append(f"@Option Bytes  {''.join(blocks)}")
        if self.otp is not None:
            address, size = self.otp
            strings.append(f"@OTP Memory /0x{address:08X}/01*{size:04d} e")
        return tuple(strings)

    def small(self, pages: int = 8, page_size: int | None = None) -> Part:
        """Return this part with so many pages in all, all of one size: by default that of the first."""
        if pages % self.banks:
            raise ValueError(f"{pages} pages do not fill {self.banks} banks")
        return replace(self, bank=((pages // self.banks, page_size or self.bank[0][1]),))


_L4: Final = Cells(granule=8)
_WIDE: Final = Cells(granule=16, erase_s=0.0015, program_s=118e-6)
_H7: Final = Cells(granule=32, erase_s=1.0, program_s=100e-6)
_F0: Final = Cells(granule=2, corrects_errors=False, erase_s=0.03, program_s=53e-6)
_F4: Final = Cells(granule=4, corrects_errors=False, rewrite=Rewrite.BITS, erase_s=0.4, program_s=16e-6)
_L0: Final = Cells(
    granule=4, erased=0x00, corrects_errors=False, rewrite=Rewrite.BITS, erase_s=0.0033, program_s=0.0033
)

_F4_BANK: Final = ((4, 16 << 10), (1, 64 << 10), (7, 128 << 10))

_LOCK: Final = {"BOOT_LOCK": 0}
_SELECT: Final = {"nBOOT_SEL": 1, "nBOOT0": 1, "nBOOT1": 1}
_SWITCHES: Final = {"nSWBOOT0": 1, "nBOOT0": 1, "nBOOT1": 1}

_BUSY_F4: Final = Traits(alignment=4, while_busy=WhileBusy.WITHHOLDS)


_PARTS: Final = (
    Part(
        name="stm32l476",
        pattern=patterns.PATTERN_7,
        cells=_L4,
        bank=((256, 2048),),
        banks=2,
        # V10.1 and V10.2 take SRAM1 only; the end itself was seen to be taken.
        stacks=((0x2000_0000, 0x2001_8000),),
        options=options.L47X,
        otp=(0x1FFF_7000, 1024),
        traits=Traits(corrupts_odd_lengths=True),
        needs_crystal=True,
    ),
    Part(
        name="stm32l4p5",
        pattern=patterns.PATTERN_7,
        cells=_L4,
        bank=((128, 4096),),
        banks=2,
        stacks=((0x2000_0000, 0x2002_0000),),
        options=options.L4_PLUS,
        otp=(0x1FFF_7000, 1024),
    ),
    Part(
        name="stm32l496",
        pattern=patterns.PATTERN_6_BANKS,
        cells=_L4,
        bank=((256, 2048),),
        banks=2,
        stacks=((0x2000_0000, 0x2003_FFFF), (0x1000_0000, 0x1000_FFFF)),
        options=options.L49X,
        # ES0335, 2.2.8: wrong when the pin decides.
        bank_check_needs=MappingProxyType({"nSWBOOT0": 0, "nBOOT0": 1}),
        otp=(0x1FFF_7000, 1024),
    ),
    Part(
        name="stm32l4s5",
        pattern=patterns.PATTERN_6_BANKS,
        cells=_L4,
        bank=((256, 4096),),
        banks=2,
        stacks=((0x2000_0000, 0x200A_0000),),
        options=options.L4_PLUS,
        otp=(0x1FFF_7000, 1024),
        loader_id=0x95,
    ),
    Part(
        name="stm32l432",
        pattern=patterns.PATTERN_6,
        cells=_L4,
        bank=((128, 2048),),
        stacks=((0x2000_0000, 0x2001_0000),),
        options=options.L4_SINGLE,
        otp=(0x1FFF_7000, 1024),
    ),
    Part(
        name="stm32g474",
        pattern=patterns.PATTERN_14,
        cells=_L4,
        bank=((128, 2048),),
        banks=2,
        stacks=((0x2000_0000, 0x2002_0000),),
        options=options.G4_DUAL,
        otp=(0x1FFF_7000, 1024),
        loader_id=0xD5,
        traits=Traits(transfer_size=1024),
    ),
    Part(
        name="stm32g474-d3",
        pattern=patterns.PATTERN_14,
        cells=_L4,
        bank=((128, 2048),),
        banks=2,
        stacks=((0x2000_0000, 0x2002_0000),),
        options=options.G4_DUAL,
        # Loaders before V13.4 go wrong with nBOOT1 set.
        bank_check_needs=MappingProxyType({"nBOOT1": 0}),
        otp=(0x1FFF_7000, 1024),
        loader_id=0xD3,
        traits=Traits(transfer_size=1024),
    ),
    Part(
        name="stm32g431",
        pattern=patterns.PATTERN_15,
        cells=_L4,
        bank=((64, 2048),),
        options=options.G4_SINGLE,
        otp=(0x1FFF_7000, 1024),
        traits=Traits(transfer_size=1024),
    ),
    Part(
        name="stm32g0b1",
        pattern=patterns.PATTERN_11,
        cells=_L4,
        bank=((256, 2048),),
        stacks=((0x2000_0000, 0x2002_4000),),
        options=options.hidden(_SELECT | _LOCK, banks=1),
    ),
    Part(
        name="stm32f042",
        pattern=patterns.PATTERN_16_PIN,
        cells=_F0,
        bank=((32, 1024),),
        stacks=((0x2000_0000, 0x2000_1800),),
        options=options.hidden({"nBOOT1": 1}, banks=1),
        traits=Traits(alignment=4),
        jump_needs_empty=True,
    ),
    Part(
        name="stm32f072",
        pattern=patterns.PATTERN_2,
        cells=_F0,
        bank=((64, 2048),),
        stacks=((0x2000_0000, 0x2000_4000),),
        options=options.hidden({"nBOOT1": 1}, banks=1),
        traits=Traits(alignment=4),
    ),
    Part(
        name="stm32f405",
        pattern=patterns.PATTERN_1,
        cells=_F4,
        bank=_F4_BANK,
        stacks=((0x2000_0000, 0x2002_0000),),
        options=options.hidden({}, banks=1),
        traits=replace(_BUSY_F4, mass_erase_poll_ms=100),
    ),
    Part(
        name="stm32l151",
        pattern=patterns.PATTERN_1,
        cells=_L0,
        bank=((512, 256),),
        stacks=((0x2000_0000, 0x2000_4000),),
        options=options.hidden({}, banks=1),
    ),
    Part(
        name="stm32f429",
        pattern=patterns.PATTERN_5,
        cells=_F4,
        bank=_F4_BANK,
        banks=2,
        stacks=((0x2000_0000, 0x2003_0000),),
        options=options.hidden({"BFB2": 0}, banks=2),
        traits=replace(_BUSY_F4, overlong_strings=True),
    ),
    Part(
        name="stm32f769",
        pattern=patterns.PATTERN_9,
        cells=replace(_F4, granule=8),
        bank=_F4_BANK,
        banks=2,
        stacks=((0x2000_0000, 0x2008_0000),),
        options=options.hidden(
            {"nDBANK": 1, "nDBOOT": 1}, banks=2, addresses={"BOOT_ADD0": 0x0080, "BOOT_ADD1": patterns.F7_ROM}
        ),
        traits=Traits(works_in_transfer=True),
    ),
    Part(
        name="stm32f746",
        pattern=patterns.PATTERN_8,
        cells=replace(_F4, granule=8),
        bank=((4, 32 << 10), (1, 128 << 10), (3, 256 << 10)),
        stacks=((0x2000_0000, 0x2005_0000),),
        options=options.hidden({}, banks=1, addresses={"BOOT_ADD0": 0x0080, "BOOT_ADD1": patterns.F7_ROM}),
        traits=Traits(works_in_transfer=True),
    ),
    Part(
        name="stm32h743",
        pattern=patterns.PATTERN_10,
        cells=_H7,
        bank=((16, 128 << 10),),
        stacks=((0x2000_0000, 0x2002_0000), (0x2400_0000, 0x2408_0000)),
        options=options.hidden({}, banks=1, addresses={"BOOT_ADD0": 0x0800, "BOOT_ADD1": patterns.H7_ROM}),
        traits=Traits(sticks_busy_from=FLASH_BASE + (1 << 20)),
    ),
    Part(
        name="stm32l073",
        pattern=patterns.PATTERN_5,
        cells=_L0,
        bank=((768, 128),),
        banks=2,
        options=options.hidden({"BFB2": 0}, banks=2),
        traits=Traits(alignment=8),
        jump_checks_banks=True,
    ),
    Part(
        name="stm32wb55",
        pattern=patterns.PATTERN_16,
        cells=_L4,
        bank=((128, 4096),),
        stacks=((0x2000_0000, 0x2003_0000),),
        options=options.hidden(_SWITCHES, banks=1),
    ),
    Part(
        name="stm32c071",
        pattern=patterns.PATTERN_11,
        cells=_L4,
        bank=((64, 2048),),
        stacks=((0x2000_0000, 0x2000_6000),),
        options=options.hidden(_SELECT | _LOCK, banks=1),
    ),
    Part(
        name="stm32u073",
        pattern=patterns.PATTERN_11,
        cells=_L4,
        bank=((128, 2048),),
        stacks=((0x2000_0000, 0x2000_A000),),
        options=options.hidden(_SELECT | _LOCK, banks=1),
    ),
    Part(
        name="stm32l552",
        pattern=patterns.PATTERN_12,
        cells=Cells(granule=8),
        bank=((256, 2048),),
        stacks=((0x2000_0000, 0x2004_0000),),
        options=options.hidden(
            {"nSWBOOT0": 1, "nBOOT0": 1},
            banks=1,
            addresses={"NSBOOTADD0": 0x1000, "NSBOOTADD1": patterns.L5_ROM},
        ),
        traits=Traits(alignment=16),
    ),
    Part(
        name="stm32u575",
        pattern=patterns.PATTERN_12,
        cells=_WIDE,
        bank=((256, 8192),),
        stacks=((0x2000_0000, 0x200C_0000),),
        options=options.hidden(
            {"nSWBOOT0": 1, "nBOOT0": 1},
            banks=1,
            addresses={"NSBOOTADD0": 0x1000, "NSBOOTADD1": patterns.L5_ROM},
        ),
        traits=Traits(alignment=16),
    ),
    Part(
        name="stm32h563",
        pattern=patterns.PATTERN_17,
        cells=_WIDE,
        bank=((256, 8192),),
        stacks=((0x2000_0000, 0x200A_0000),),
        options=options.hidden({"PRODUCT_OPEN": 1, "PRODUCT_PROVISIONING": 0}, banks=1),
        traits=Traits(alignment=16, reads_unprotect=False),
    ),
    Part(
        name="stm32c551",
        pattern=patterns.PATTERN_19,
        cells=_WIDE,
        bank=((32, 8192),),
        stacks=((0x2000_0000, 0x2001_0000),),
        options=options.hidden({"BOOT_SEL": 0, "BOOT0_BIT": 0}, banks=1),
        traits=Traits(transfer_size=1024, alignment=16, clears_anywhere=False, answers_functional=False),
    ),
)

PARTS: Final[Mapping[str, Part]] = MappingProxyType({part.name: part for part in _PARTS})
"""By name."""
