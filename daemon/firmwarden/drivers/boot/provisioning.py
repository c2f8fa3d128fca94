"""Setting the one option bit that failsafe updates rely on: what changes, and every reason to leave it alone.

This is no part of an update.  It is worked out here, shown to a person who says yes to it, and then done once in the
life of a device, on a bench.  A loader takes the option bytes of a bank as one block and erases them before it programs
them; a power cut in between may lock the part for good (RM0444, 3.4; RM0440, 3.4).

So a block is rewritten only where every field of it is known and as it should be: what looks strange may be a
protection that cannot be taken back.  Known are the blocks of STM32L47x/L48x, L4+ and G47x/G48x.  Not known well enough
are those of F42x to F479, which users read otherwise than RM0090 has them, and of F76x, whose loader is not known to
show the bits.  L496 and L07x are left out because their bank check is not proven.

Only BFB2 is ever changed.  DUALBANK and DBANK must be right already: they decide where in the flash a byte lies, and a
change would shuffle what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.declared import fault_of_part
from firmwarden.drivers.boot.facts import FLASH_BASE, WORD
from firmwarden.drivers.boot.lookup import contradiction, family_of, second_bank
from firmwarden.drivers.boot.option_block import ENTRY, LAYOUTS, Change
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.reads import Read
from firmwarden.drivers.boot.vectors import VECTORS_SIZE, Vectors, could_be_stack
from firmwarden.errors import Refused
from firmwarden.protocol.dfu.memory_map import Access
from firmwarden.protocol.dfu.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.drivers.boot.contents import Contents
    from firmwarden.drivers.boot.facts import BankCheck, Family, OptionBit
    from firmwarden.drivers.boot.option_block import Layout
    from firmwarden.protocol.dfu.memory_map import MemoryMap

_BIT: Final = "BFB2"
_BY_HAND: Final = "set it with a debugger (SWD), which shows what it does"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The bit of a part, and all that is known of the option bytes around it."""

    family: Family
    check: BankCheck
    bit: OptionBit
    layout: Layout


def setting_of(part: str) -> Setting:
    """Find what makes a part stay in its loader while it has no image.

    Raises:
        Refused: there is no such bit, or it is not ours to set.
    """
    family = family_of(part)
    if family is None:
        raise Refused(f"{fault_of_part(part, Failsafe.BFB2)}")
    check = family.bank_check
    if check is None:
        raise Refused(f"the ROM of {family.title} does not look for a bank to start; {_instead(family)}")
    if not check.proven:
        raise Refused(
            f"on {family.title} the choice of a bank is not proven: {check.doubt}; {_instead(family)}"
        )
    layout = LAYOUTS.get(family.name)
    bit = next((bit for bit in check.bits if bit.name == _BIT), None)
    if layout is None or bit is None:
        raise Refused(
            f"the option bytes of {family.title}, as its loader shows them, are not known well enough to write "
            f"them; it needs {check.setting}: {_BY_HAND}"
        )
    return Setting(family=family, check=check, bit=bit, layout=layout)


def _instead(family: Family) -> str:
    if family.empty_check is not None:
        return 'failsafe = "empty-check" needs no option byte'
    return "it needs a resident loader, or a line to BOOT0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioning:
    """A setting, and a device that could be the part that it is for."""

    setting: Setting
    flash: MemoryMap
    options: MemoryMap

    @property
    def option_reads(self) -> tuple[Read, ...]:
        """What has to be read of the option bytes: all of them, first the block that the bit is in."""
        regions = sorted(self.options.regions, key=lambda each: each.address != self.setting.bit.address)
        return tuple(Read(each.address, each.end - each.address) for each in regions)

    @property
    def flash_reads(self) -> tuple[Read, ...]:
        """What has to be read of the flash and the ROM."""
        reads = (Read(FLASH_BASE, VECTORS_SIZE), Read(second_bank(self.flash), WORD))
        if self.setting.check.loader_at_least is None or self.setting.family.loader_id is None:
            return reads
        return (*reads, Read(self.setting.family.loader_id, 2))

    def change(self, contents: Contents) -> Change:
        """Work out what to write from what was read.

        Raises:
            Refused: something about the device is not as it should be, or not understood.
        """
        before, *beside = (Segment(read.address, _read(contents, read)) for read in self.option_reads)
        reason = next(self._doubts(contents, before, beside), None)
        if reason is not None:
            raise Refused(reason)
        return Change(bit=self.setting.bit, before=before, beside=tuple(beside))

    def _doubts(self, contents: Contents, before: Segment, beside: list[Segment]) -> Iterator[str]:
        yield from self.setting.layout.doubts(before.data, first=True)
        for each in beside:
            yield from self.setting.layout.doubts(each.data, first=False)
        yield from self._option_doubts(contents)
        yield from self._loader_doubts(contents)
        yield from self._bank_doubts(contents)

    def _option_doubts(self, contents: Contents) -> Iterator[str]:
        for bit in self.setting.check.bits:
            word = contents.word(bit.address)
            if bit is not self.setting.bit and (word is None or not bit.holds(word)):
                yield (
                    f"the device does not have {bit}, and a change of that would shuffle what is in its flash; "
                    f"{_BY_HAND}, before the first image"
                )

    def _loader_doubts(self, contents: Contents) -> Iterator[str]:
        oldest, address = self.setting.check.loader_at_least, self.setting.family.loader_id
        if oldest is None or address is None:
            return
        version = contents.byte(address)
        if version is None or version < oldest:
            told = "a version that could not be read" if version is None else f"version 0x{version:02x}"
            yield f"its loader has {told}, and those before 0x{oldest:02x} choose the bank wrongly"

    def _bank_doubts(self, contents: Contents) -> Iterator[str]:
        bit = self.setting.bit
        address = second_bank(self.flash)
        word = contents.word(address)
        if word is None or could_be_stack(word):
            told = "could not be read" if word is None else f"begins with 0x{word:08x}"
            yield (
                f"bank 2, at 0x{address:08x}, {told}: with {bit} the ROM may start it in place of bank 1. Erase its "
                "first page, or have the linker put 0 there"
            )
        vectors = contents.read(FLASH_BASE, FLASH_BASE + VECTORS_SIZE)
        if vectors is None:
            yield f"the image at 0x{FLASH_BASE:08x} could not be read"
            return
        stack = Vectors.decode(vectors).stack
        blank = stack == self.setting.family.flash.erased_word
        if not blank and not any(ram.holds_stack(stack) for ram in self.setting.check.stacks):
            yield (
                f"the image at 0x{FLASH_BASE:08x} has its stack at 0x{stack:08x}, which the ROM does not take for "
                f"one: with {bit} it would never start it. Link it with its stack in the first SRAM, and write that"
            )


def _read(contents: Contents, read: Read) -> bytes:
    data = contents.read(read.address, read.address + read.size)
    if data is None:
        raise ValueError(f"the option bytes at 0x{read.address:08x} were not read")
    return data


def provisioning(part: str, memories: Iterable[MemoryMap]) -> Provisioning:
    """Match a part with a device, by what it shows without being asked.

    Args:
        part: its part number, as a person says it.
        memories: the maps that its loader shows.

    Raises:
        Refused: its bit is not ours to set, the device is no such part, or its loader does not let us.
    """
    setting = setting_of(part)
    maps = tuple(memories)
    flash = next((each for each in maps if each.sectors(FLASH_BASE, FLASH_BASE + 1)), None)
    if flash is None:
        raise Refused(f"its loader shows no flash at 0x{FLASH_BASE:08x}")
    if strange := _contradiction(setting, flash):
        raise Refused(f"the device is no {part} that could be set up: {strange}")
    address = setting.bit.address
    options = next((each for each in maps if address in {region.address for region in each.regions}), None)
    if options is None:
        raise Refused(f"its loader shows no option bytes at 0x{address:08x}; {_BY_HAND}")
    for each in options.regions:
        size = each.end - each.address
        if size % ENTRY or size // ENTRY not in setting.layout.words:
            raise Refused(
                f"its loader shows {size} option bytes at 0x{each.address:08x}, not a block known here"
            )
        if not options.allows(each.address, each.end, Access.READ | Access.WRITE):
            raise Refused(f"its loader does not let its option bytes be read and written; {_BY_HAND}")
    return Provisioning(setting=setting, flash=flash, options=options)


def _contradiction(setting: Setting, flash: MemoryMap) -> str | None:
    strange = contradiction(setting.family, flash)
    wrong = sorted({sector.size for sector in flash.sectors()} - setting.check.pages)
    if strange is None and setting.check.pages and wrong:
        return f"its flash is one bank, as pages of {wrong[0]} bytes tell"
    return strange
