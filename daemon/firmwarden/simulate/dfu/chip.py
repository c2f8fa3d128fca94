"""One simulated chip: flash, option bytes and the decision what runs, whether the power is on or off.

Work on the flash is a row of *operations*, each one physical act: a page erased, a granule programmed, the option bytes
erased or a word of them programmed.  An operation is applied when its time has passed, or torn when the power went
before.  `Chip.boot` is the decision: what runs after this kind of reset, and is it all there?

What is in here outlives a loss of power, except what `boot` latches anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Role, is_sealed
from firmwarden.simulate.dfu.flash import Flash
from firmwarden.simulate.dfu.image import find_image
from firmwarden.simulate.dfu.options import ENTRY, UNPROTECTED, level
from firmwarden.simulate.dfu.parts import FLASH_BASE
from firmwarden.simulate.dfu.patterns import BankState, Start, decide
from firmwarden.simulate.dfu.traits import OnBadRead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firmwarden.protocol.dfu.segments import Segment
    from firmwarden.simulate.dfu.firmware import Firmware
    from firmwarden.simulate.dfu.flash import SavedFlash, Tear
    from firmwarden.simulate.dfu.parts import Part
    from firmwarden.simulate.dfu.traits import Traits

_LOCKED: Final = 2

_OPTION_ERASE_S: Final = 0.022
_OPTION_PROGRAM_S: Final = 82e-6


@dataclass(frozen=True, slots=True)
class ErasePage:
    """Erase a page of the flash."""

    page: int


@dataclass(frozen=True, slots=True)
class Program:
    """Program a granule of the flash."""

    offset: int
    """From the beginning of bank 1."""
    data: bytes


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """Erase the option bytes."""


@dataclass(frozen=True, slots=True)
class ProgramOption:
    """Program one word of the option bytes and its complement."""

    word: int
    data: bytes


Operation = ErasePage | Program | EraseOptions | ProgramOption


@unique
class Reset(Enum):
    """Why the processor begins anew."""

    PLAIN = "reset pin, software or watchdog: what was latched stays"
    POWER_ON = "power on"
    OPTIONS_LOADED = "option bytes loaded"


@unique
class Landing(Enum):
    """What became of a boot."""

    ROM = "the ROM's loader waits"
    LOADER = "the resident loader waits"
    APPLICATION = "an application runs, whole"
    GOLDEN = "the golden image runs, whole"
    PARTIAL = "something runs that is not whole"
    LOCKED_UP = "the processor is locked up"
    RESETTING = "the ROM resets itself for ever"
    BLOCKED = "read protection keeps the ROM's loader from running"

    @property
    def dead(self) -> bool:
        """True when nothing but a hand can help."""
        return self in _DEAD


_DEAD: Final = frozenset({Landing.PARTIAL, Landing.LOCKED_UP, Landing.RESETTING, Landing.BLOCKED})


@dataclass(frozen=True, slots=True)
class Boot:
    """What runs, and where."""

    landing: Landing
    firmware: Firmware | None = None
    bank: int = 0
    """That the processor was sent into; 0 for none."""
    why: str = ""

    @property
    def dead(self) -> bool:
        """True when nothing but a hand can help."""
        return self.landing.dead

    def __str__(self) -> str:
        name = f" {self.firmware.name}" if self.firmware else ""
        return f"{self.landing.name}{name}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True, slots=True)
class SavedChip:
    """Everything that a chip remembers."""

    flash: SavedFlash
    stored: bytes
    loaded: tuple[tuple[str, int], ...]
    empty: bool
    swapped: bool


class Chip:
    """A part with contents.

    Attributes:
        flash: its pages.
        stored: the option bytes, as they stand in their page.
        options: the fields in force: those of `stored` when they were last loaded.
        empty: the flag of the empty check.
        swapped: bank 2 is where bank 1 was.
        boot0: the level of the pin.

    Args:
        part: which.
        known: the images that it would run, besides those that are marked.
        factory: option bytes that are not as delivered by the vendor.
        traits: of its ROM, where they differ from the part's.
    """

    def __init__(
        self,
        part: Part,
        known: Iterable[Firmware] = (),
        factory: Mapping[str, int] | None = None,
        traits: Traits | None = None,
    ) -> None:
        self.part = part
        self.traits = traits or part.traits
        self.known = tuple(known)
        self.flash = Flash(part.cells, part.page_sizes)
        self.stored = part.options.factory(factory or {})
        self.options = part.options.load(self.stored)
        self.empty = True
        self.swapped = False
        self.boot0 = 0
        self._protected = self._protected_pages()

    # --- contents ------------------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """Of the read protection."""
        return level(self.options["RDP"])

    def holds(self, address: int, size: int = 1) -> bool:
        """Tell whether these bytes are in the flash."""
        return address >= FLASH_BASE and address + size <= FLASH_BASE + self.flash.size

    def offset(self, address: int) -> int:
        """Return where the byte at an address is, from the beginning of bank 1."""
        offset = address - FLASH_BASE
        if self.swapped:
            offset = (offset + self.part.bank_size) % self.flash.size
        return offset

    def read(self, address: int, size: int) -> bytes | None:
        """Read bytes within a bank as the processor does; None when the flash reports an error."""
        offset = self.offset(address)
        return None if self.flash.is_bad(offset, size) else self.flash.read(offset, size)

    def install(self, segments: Iterable[Segment], *, bank: int = 1) -> None:
        """Put an image into a bank as a factory does: by a programmer, onto erased flash, without wear."""
        shift = (bank - 1) * self.part.bank_size - FLASH_BASE
        granule = self.part.cells.granule
        for segment in segments:
            if segment.address % granule:
                raise ValueError(f"an image at 0x{segment.address:x}, which is no whole granule")
            for operation in self.programming(segment.address + shift, segment.data):
                self.flash.program(operation.offset, operation.data)

    def programming(self, offset: int, data: bytes) -> list[Program]:
        """Split bytes into granules; what is missing of the first and the last one is as if erased."""
        granule, erased = self.part.cells.granule, bytes((self.part.cells.erased,))
        data = erased * (offset % granule) + data
        offset -= offset % granule
        return [
            Program(offset + at, data[at : at + granule].ljust(granule, erased))
            for at in range(0, len(data), granule)
        ]

    def contains(self, firmware: Firmware) -> bool:
        """Tell whether an image is there whole, where it would run now."""
        return all(
            self.holds(segment.address, len(segment.data))
            and self.read(segment.address, len(segment.data)) == segment.data
            for segment in firmware.segments
        )

    # --- work ----------------------------------------------------------------------------------------------

    def protected(self, page: int) -> bool:
        """Tell whether a page is kept from being erased and programmed."""
        return page in self._protected

    def duration_s(self, operation: Operation) -> float:
        """Return how long an operation takes."""
        match operation:
            case ErasePage():
                return self.part.cells.erase_s
            case Program():
                return self.part.cells.program_s
            case EraseOptions():
                return _OPTION_ERASE_S
            case ProgramOption():
                return _OPTION_PROGRAM_S

    def apply(self, operation: Operation) -> bool:
        """Carry an operation out; tell whether the flash took it.  A protected page stays as it is, silently."""
        match operation:
            case ErasePage(page):
                if not self.protected(page):
                    self.flash.erase(page)
            case Program(offset, data):
                if not self.protected(self.flash.page_at(offset)):
                    return self.flash.program(offset, data)
            case EraseOptions():
                self.stored = b"\xff" * len(self.stored)
            case ProgramOption(word, data):
                self._store(word, data)
        return True

    def tear(self, operation: Operation, tear: Tear) -> None:
        """Lose power in the middle of an operation."""
        match operation:
            case ErasePage(page):
                if not self.protected(page):
                    self.flash.tear_erase(page, tear)
            case Program(offset, data):
                if not self.protected(self.flash.page_at(offset)):
                    self.flash.tear_program(offset, data, tear)
            case EraseOptions():
                if tear.share > 0:
                    self.apply(operation)
            case ProgramOption(word, data):
                # A word without its complement, or nothing: neither fits.
                self._store(word, data[: ENTRY // 2] if tear.share >= 0.5 else b"")  # noqa: PLR2004

    def _store(self, word: int, data: bytes) -> None:
        at = word * ENTRY
        self.stored = self.stored[:at] + data.ljust(ENTRY, b"\xff") + self.stored[at + ENTRY :]

    # --- boot ----------------------------------------------------------------------------------------------

    def boot(self, reset: Reset) -> Boot:
        """Begin anew, and return what runs then."""
        self.swapped = False
        if reset is not Reset.PLAIN:
            self._load_options()
            self.empty = self.flash.read(0, 4) == b"\xff" * 4
        signals = self.options | {"BOOT0": self.boot0, "BOOT1": 0, "EMPTY": int(self.empty)}
        start = decide(self.part.pattern, signals, self._bank_state, locked=self.level == _LOCKED)
        match start:
            case Start.ROM:
                return self.enter_rom()
            case Start.BANK_1 | Start.BANK_2:
                bank = 1 if start is Start.BANK_1 else 2
                self.swapped = bank == 2  # noqa: PLR2004
                return self.run(FLASH_BASE, by_rom=self.part.pattern.chooses_bank(signals))
            case Start.RAM:
                return Boot(Landing.LOCKED_UP, why="told to start RAM, which holds nothing")
            case Start.BLOCKED:
                return Boot(Landing.BLOCKED)
            case Start.FAULT:
                return Boot(Landing.RESETTING, why="the first word of a bank cannot be read")

    def enter_rom(self) -> Boot:
        """Run the ROM's loader."""
        if self.traits.clears_empty:
            self.empty = False
        return Boot(Landing.ROM)

    def run(self, address: int, *, by_rom: bool = False, stay: bool = False) -> Boot:
        """Send the processor to a vector table.

        Args:
            address: of the table, where the banks are now.
            by_rom: the ROM did it, which stays at address 0.
            stay: a note in RAM tells a resident loader not to start an application.
        """
        bank = 1 + self.offset(address) // self.part.bank_size if self.holds(address) else 0
        firmware = self._standing_at(address)
        if firmware is not None:
            if by_rom and not firmware.sets_vtor:
                return Boot(Landing.LOCKED_UP, firmware, bank, "its vectors are the ROM's")
            return self._started(firmware, bank, stay=stay)
        vectors = self.read(address, 8) if bank else None
        if vectors is None:
            return Boot(Landing.LOCKED_UP, bank=bank, why="the vectors cannot be read")
        stack, start = int.from_bytes(vectors[:4], "little"), int.from_bytes(vectors[4:], "little")
        if not self.looks_like_stack(stack) or not start & 1 or not self.holds(start - 1):
            return Boot(Landing.LOCKED_UP, bank=bank, why=f"no vectors: {vectors.hex(' ', 4)}")
        return Boot(Landing.PARTIAL, bank=bank, why="no image that is known stands there whole")

    def looks_like_stack(self, word: int) -> bool:
        """Tell whether the ROM takes a word for an initial stack pointer."""
        return any(first <= word <= last for first, last in self.part.stacks)

    def _standing_at(self, address: int) -> Firmware | None:
        """Return the image whose vector table is at an address, if it is there whole."""
        for firmware in self.known:
            if firmware.entry == address and self.contains(firmware):
                return firmware
        return find_image(self._read_held, address)

    def _read_held(self, address: int, size: int) -> bytes | None:
        return self.read(address, size) if self.holds(address, size) else None

    def _started(self, firmware: Firmware, bank: int, *, stay: bool) -> Boot:
        if firmware.clears_empty:
            self.empty = False
        service = firmware.service
        if firmware.role is not Role.LOADER or service is None:
            golden = firmware.role is Role.GOLDEN
            return Boot(Landing.GOLDEN if golden else Landing.APPLICATION, firmware, bank)
        if stay or not is_sealed(self.read, service.start, service.end):
            return Boot(Landing.LOADER, firmware, bank)
        installed = self._standing_at(service.start + SEAL_SPACE)
        if installed is not None:
            return self._started(installed, bank, stay=False)
        return Boot(Landing.PARTIAL, firmware, bank, "the loader started an image that nobody knows")

    def _bank_state(self, bank: int) -> BankState:
        needs = self.part.bank_check_needs or {}
        signals = self.options | {"BOOT0": self.boot0}
        if bank == 1 and any(signals[name] != value for name, value in needs.items()):
            return BankState.VALID
        offset = (bank - 1) * self.part.bank_size
        if self.flash.is_bad(offset, 4) and self.traits.bank_check is OnBadRead.RESETS:
            return BankState.FAULT
        word = int.from_bytes(self.flash.read(offset, 4), "little")
        return BankState.VALID if self.looks_like_stack(word) else BankState.INVALID

    # --- option bytes ----------------------------------------------------------------------------------------

    def unprotected(self) -> bytes:
        """Return option bytes as they are in force, but without read and code protection."""
        layout = self.part.options
        off = {area.first: layout.fields[area.first].mask for area in layout.protected}
        off |= {area.last: 0 for area in layout.protected}
        return layout.changed(self.stored, self.options | off | {"RDP": UNPROTECTED})

    def storing(self, stored: bytes) -> list[Operation]:
        """Return the work of writing all option bytes."""
        words = range(len(stored) // ENTRY)
        return [EraseOptions(), *(ProgramOption(word, stored[word * ENTRY :][:ENTRY]) for word in words)]

    def _load_options(self) -> None:
        before = self.level
        self.options = self.part.options.load(self.stored)
        self._protected = self._protected_pages()
        if before == 1 and self.level == 0:
            # Whoever lowers the protection gets an empty flash.
            for page in range(self.flash.pages):
                self.flash.erase(page)

    def _protected_pages(self) -> frozenset[int]:
        pages = self.flash.pages // self.part.banks
        return frozenset(
            (area.bank - 1) * pages + page
            for area in self.part.options.protected
            for page in range(self.options[area.first], min(self.options[area.last] + 1, pages))
        )

    # --- snapshots -------------------------------------------------------------------------------------------

    def save(self) -> SavedChip:
        """Return everything."""
        return SavedChip(
            self.flash.save(), self.stored, tuple(self.options.items()), self.empty, self.swapped
        )

    def load(self, saved: SavedChip) -> None:
        """Take over what `save` returned."""
        self.flash.load(saved.flash)
        self.stored, self.empty, self.swapped = saved.stored, saved.empty, saved.swapped
        self.options = dict(saved.loaded)
        self._protected = self._protected_pages()
