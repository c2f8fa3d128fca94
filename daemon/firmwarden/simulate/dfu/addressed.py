"""DfuSe as a simulated loader understands it: an address pointer, commands, and data for where the pointer says.

The ROM reaches the whole flash, its own memory, the option bytes and the OTP memory, which it only reads here.  A
loader of the user's own reaches its window.  A protected page stays as it is, and nobody is told.

Source: ST AN3156 rev. 17, 3 to 8; AN2606 for misaligned and overlong writes; UM0424, 9.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu import dfuse
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap, Region, SectorRun
from firmwarden.protocol.dfu.requests import Status
from firmwarden.protocol.dfu.states import DFUSE
from firmwarden.simulate.dfu.chip import ErasePage
from firmwarden.simulate.dfu.engine import Job, Then
from firmwarden.simulate.dfu.parts import FLASH_BASE, ROM_SIZE
from firmwarden.simulate.dfu.traits import OnBadRead

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.descriptors import FunctionalDescriptor
    from firmwarden.simulate.dfu.chip import Chip, Operation
    from firmwarden.simulate.dfu.engine import Standing
    from firmwarden.simulate.dfu.traits import Traits

_WORD: Final = 4
_DOUBLE_WORD: Final = 8
_LONGEST_SOUND_WRITE: Final = 256
_LOADER_ID_AT: Final = 0x6FFE
_FEATURE: Final = (0xFFFF_0000, 4)
_RESERVED_BLOCK: Final = 1

_BAD_ADDRESS: Final = Job(status=Status.ERR_TARGET, poll_ms=0)


class Addressed:
    """A DfuSe loader.

    Args:
        chip: that it is on.
        traits: how it misbehaves.
        functional: what it announces.
        window: the addresses that it writes, from the first to before the second; None for the ROM.
    """

    table = DFUSE
    leaves = True

    def __init__(
        self,
        chip: Chip,
        traits: Traits,
        functional: FunctionalDescriptor,
        window: tuple[int, int] | None = None,
    ) -> None:
        self.functional = functional
        self._chip = chip
        self._traits = traits
        self._is_rom = window is None
        self._start, self._end = window or (FLASH_BASE, FLASH_BASE + chip.flash.size)

    def refuses(self, standing: Standing, block: int, data: bytes) -> Status | None:
        """Return why a download is stalled at once: read protection, or a number that has no meaning."""
        if block == _RESERVED_BLOCK:
            return Status.ERR_STALLEDPKT
        allowed = block == dfuse.COMMAND_BLOCK and data[:1] in {b"\x21", b"\x92"}
        if self._is_rom and self._chip.level and not allowed:
            return Status.ERR_VENDOR
        del standing
        return None

    def begin(self, standing: Standing, block: int, data: bytes) -> Job:
        """Carry a command out, or write a block."""
        if block != dfuse.COMMAND_BLOCK:
            address = dfuse.block_address(standing.pointer, block, self.functional.transfer_size)
            return self._write(standing, address, data)
        try:
            command = dfuse.decode(data)
        except dfuse.MalformedCommand:
            return Job(status=Status.ERR_STALLEDPKT, poll_ms=0)
        match command:
            case dfuse.SetAddress(address):
                if not self._reads(address, 1):
                    return _BAD_ADDRESS
                standing.pointer = address
                return Job(poll_ms=0)
            case dfuse.ErasePage(address):
                return self._erase(address)
            case dfuse.MassErase():
                pages = range(self._page(self._start), self._page(self._end - 1) + 1)
                return Job(tuple(map(ErasePage, pages)), poll_ms=self._traits.mass_erase_poll_ms)
            case dfuse.ReadUnprotect():
                if not (self._is_rom and self._traits.reads_unprotect):
                    return Job(status=Status.ERR_STALLEDPKT, poll_ms=0)
                return Job(tuple(self._chip.storing(self._chip.unprotected())), then=Then.LOAD_OPTIONS)

    def finish(self, standing: Standing) -> Job:
        """Leave."""
        del standing
        return Job(poll_ms=0, then=Then.LEAVE)

    def upload(self, standing: Standing, block: int, length: int) -> bytes | Status | None:
        """Return the commands that there are, or memory."""
        if block == dfuse.COMMAND_BLOCK:
            known = [
                code
                for code in dfuse.Code
                if self._traits.reads_unprotect or code != dfuse.Code.READ_UNPROTECT
            ]
            return bytes(known)[:length]
        if block == _RESERVED_BLOCK:
            return Status.ERR_STALLEDPKT
        if self._is_rom and self._chip.level:
            return Status.ERR_VENDOR
        address = dfuse.block_address(standing.pointer, block, self.functional.transfer_size)
        if not self._reads(address, length):
            return Status.ERR_TARGET
        return self._read(address, length)

    # --- inside --------------------------------------------------------------------------------------------

    def _erase(self, address: int) -> Job:
        if not self._writes(address, 1):
            return _BAD_ADDRESS
        sticks = self._traits.sticks_busy_from
        return Job(
            (ErasePage(self._page(address)),),
            poll_ms=self._traits.erase_poll_ms,
            sticks=sticks is not None and address >= sticks,
        )

    def _write(self, standing: Standing, address: int, data: bytes) -> Job:
        at = self._chip.part.options.place(address, len(data)) if self._is_rom else None
        if at is not None:
            stored = self._chip.stored
            stored = stored[:at] + data + stored[at + len(data) :]
            return Job(tuple(self._chip.storing(stored)), then=Then.LOAD_OPTIONS)
        if not self._writes(address, len(data)):
            return _BAD_ADDRESS
        if address % self._traits.alignment or len(data) % _WORD:
            standing.spoilt = True
        operations: tuple[Operation, ...] = ()
        status = Status.OK
        if not standing.spoilt:
            odd = len(data) % _DOUBLE_WORD
            if self._traits.corrupts_odd_lengths and len(data) > _LONGEST_SOUND_WRITE and odd:
                data = data[:-odd] + bytes(byte ^ 0xFF for byte in data[-odd:])
            operations = tuple(self._chip.programming(self._chip.offset(address), data))
        elif self._traits.reports_program_errors:
            status = Status.ERR_WRITE
        return Job(operations, status, self._traits.write_poll_ms)

    def _read(self, address: int, length: int) -> bytes | None:
        chip = self._chip
        if chip.holds(address, length):
            offset = chip.offset(address)
            if chip.flash.is_bad(offset, length) and self._traits.upload is OnBadRead.RESETS:
                return None
            return chip.flash.read(offset, length)
        place = chip.part.options.place(address, length)
        if place is not None:
            return chip.stored[place : place + length]
        if self._within(address, length, _FEATURE):
            return bytes(length)
        memory = bytearray(b"\xff" * length)
        at = chip.part.rom + _LOADER_ID_AT - address
        if 0 <= at < length:
            memory[at] = chip.part.loader_id
        return bytes(memory)

    def _page(self, address: int) -> int:
        return self._chip.flash.page_at(self._chip.offset(address))

    def _writes(self, address: int, size: int) -> bool:
        return self._start <= address and address + size <= self._end

    def _reads(self, address: int, size: int) -> bool:
        if self._chip.holds(address, size):
            return True
        part = self._chip.part
        others = [(part.rom, ROM_SIZE), part.otp or (0, 0), _FEATURE]
        return self._is_rom and (
            part.options.place(address, size) is not None
            or any(self._within(address, size, other) for other in others)
        )

    @staticmethod
    def _within(address: int, size: int, memory: tuple[int, int]) -> bool:
        start, length = memory
        return start <= address and address + size <= start + length


def map_of(chip: Chip, start: int, end: int) -> MemoryMap:
    """Return the map of a stretch of flash, for a loader of the user's own."""
    sizes = chip.part.page_sizes
    first, last = chip.flash.page_at(start - FLASH_BASE), chip.flash.page_at(end - 1 - FLASH_BASE)
    every = Access.READ | Access.ERASE | Access.WRITE
    runs = tuple(SectorRun(len(list(pages)), size, every) for size, pages in groupby(sizes[first : last + 1]))
    return MemoryMap("Application", (Region(start, runs),))
