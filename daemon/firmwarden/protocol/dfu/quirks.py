"""What real devices do instead of what they should: one table, looked up by identity.

A quirk is a fact about a product.  The hosts ask for the fact, never for the product.  What every careful host
does anyway is no quirk and is not here: to verify all that was written, to trust no poll time-out beyond a limit, to
set the address before each block, to take it as normal that a device vanishes when it leaves.

VID:PID 0483:DF11 is the ROM of nearly every STM32 and of clones, so a row for it has to hold for all of them, or to
narrow it down by the string of the memory.

Sources: dfu-util 0.11 (quirks.c, dfuse.c), fwupd (plugins/dfu/dfu.quirk), betaflight-configurator #1861 and #5348.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum, unique
from typing import Final

from firmwarden.protocol.dfu.descriptors import DFU_1_1, DFUSE
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap, Region, SectorRun


@unique
class Mode(Enum):
    """Which of its two personalities a device shows."""

    RUN_TIME = "run-time"
    """Its application runs."""
    DFU = "dfu"


@unique
class Tongue(Enum):
    """Protocols that hide behind a DFU interface."""

    DFU = "dfu"
    FLIP = "flip"
    """Atmel's: DFU requests with other contents.  Not spoken here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a device differs.  The defaults are the standard."""

    version: int | None = None
    """bcdDFUVersion, where the device announces a wrong one."""
    mode: Mode | None = None
    """The personality, where the device announces the wrong one."""
    tongue: Tongue = Tongue.DFU
    poll_timeouts_are_garbage: bool = False
    polls_without_time: bool = False
    """The device says "busy, ask again in 0 ms" for as long as it likes, and means it."""
    upload_is_broken: bool = False
    mass_erase_lies: bool = False
    """The first poll time-out of a mass erase is far too short."""
    erase_sticks_busy: bool = False
    """After an erase the device stays busy for ever, until its status is cleared twice; the erase succeeded."""
    leaves_unasked: bool = False
    """The device leaves when it is told to, without a GETSTATUS."""
    detach_leaves: bool = False
    """In DFU mode the device goes back to its application by DETACH instead of a bus reset."""
    map_from_serial: bool = False
    """The memory map is wrong, the serial number tells the size (GD32VF103)."""
    string_encoding: str = "utf-16-le"
    reappears_within_s: float = 15.0
    """How long the device may need to come back under its other identity."""


STANDARD: Final = Quirks()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    vendor: int
    products: range
    revision: int | None = None
    """bcdDevice; None is any."""
    memory: str = ""
    """What the name of the memory contains."""
    quirks: Quirks

    def fits(self, vendor: int, product: int, revision: int, memory: str) -> bool:
        return (
            self.vendor == vendor
            and product in self.products
            and self.revision in {None, revision}
            and self.memory in memory
        )


def _just(product: int) -> range:
    return range(product, product + 1)


_GARBAGE: Final = Quirks(poll_timeouts_are_garbage=True)
_JABRA: Final = Quirks(upload_is_broken=True)
_CAMERA: Final = Quirks(detach_leaves=True, upload_is_broken=True)

_ROWS: Final = (
    # ST's ROM.  Some announce DFU 1.1; an STM32F405 says 100 ms for a mass erase of half a minute.
    _Row(vendor=0x0483, products=_just(0xDF11), quirks=Quirks(version=DFUSE, mass_erase_lies=True)),
    # STM32H743 rev. V, known by its sectors: busy for ever after an erase beyond the first megabyte.
    _Row(
        vendor=0x0483,
        products=_just(0xDF11),
        memory="/16*128Kg",
        quirks=Quirks(erase_sticks_busy=True),
    ),
    # GigaDevice GD32VF103.
    _Row(
        vendor=0x28E9,
        products=_just(0x0189),
        quirks=Quirks(mode=Mode.DFU, leaves_unasked=True, map_from_serial=True, string_encoding="utf-8"),
    ),
    # Openmoko and what descends from it.
    _Row(vendor=0x1D50, products=range(0x5117, 0x5127), quirks=_GARBAGE),
    _Row(vendor=0x1457, products=range(0x5117, 0x5127), quirks=_GARBAGE),
    # SIMtrace, OpenPCD, OpenPICC.
    _Row(vendor=0x16C0, products=_just(0x0762), quirks=_GARBAGE),
    _Row(vendor=0x16C0, products=range(0x076B, 0x076D), quirks=_GARBAGE),
    # M-Audio Transit; Siemens PXM 40 and 50.
    _Row(vendor=0x0763, products=_just(0x2806), quirks=_GARBAGE),
    _Row(vendor=0x0908, products=range(0x02C4, 0x02C6), revision=0x0000, quirks=_GARBAGE),
    # LeafLabs Maple.
    _Row(vendor=0x1EAF, products=_just(0x0003), revision=0x0200, quirks=Quirks(version=DFU_1_1)),
    # NXP LPC.
    _Row(vendor=0x1FC9, products=_just(0x000C), quirks=Quirks(mode=Mode.DFU)),
    # Jabra 410, 510, 710, 810.
    _Row(vendor=0x0B0E, products=_just(0x0411), quirks=_JABRA),
    _Row(vendor=0x0B0E, products=_just(0x0421), quirks=_JABRA),
    _Row(vendor=0x0B0E, products=_just(0x0971), quirks=_JABRA),
    _Row(vendor=0x0B0E, products=_just(0x0982), quirks=_JABRA),
    # Atmel AVR and XMEGA.
    _Row(vendor=0x03EB, products=range(0x2FE2, 0x2FFC), quirks=Quirks(tongue=Tongue.FLIP)),
    # Poly; the slowest of them needs three minutes.
    _Row(
        vendor=0x095D,
        products=range(0x10000),
        quirks=Quirks(polls_without_time=True, reappears_within_s=180.0),
    ),
    # AVer, Sunplus and Sonix cameras.
    _Row(vendor=0x2574, products=_just(0x0A30), quirks=Quirks(detach_leaves=True, reappears_within_s=180.0)),
    _Row(vendor=0x34AD, products=_just(0x0006), quirks=Quirks(detach_leaves=True, reappears_within_s=60.0)),
    _Row(vendor=0x1BCF, products=range(0x0B1D, 0x0B1F), quirks=_CAMERA),
    _Row(vendor=0x1BCF, products=_just(0x0B1D), quirks=_GARBAGE),
    _Row(vendor=0x0C45, products=range(0x636C, 0x6370), quirks=_CAMERA),
    _Row(vendor=0x0C45, products=range(0x6373, 0x6375), quirks=_CAMERA),
)


_SHARED: Final = frozenset(
    {
        (0x0483, 0xDF11),  # ST: the ROM of nearly every STM32
        (0x28E9, 0x0189),  # GigaDevice: GD32
        (0x2E3C, 0xDF11),  # Artery: AT32
        (0x314B, 0x0106),  # Geehy: APM32
        (0x1FC9, 0x000C),  # NXP: the ROM of LPC18xx and LPC43xx
        (0x1EAF, 0x0003),  # LeafLabs' loader, put on boards of all kinds
        *((0x03EB, product) for product in range(0x2FE2, 0x2FFC)),  # Atmel: one for each part
    }
)


def is_shared(vendor: int, product: int) -> bool:
    """Tell whether many products have a loader with these ids, so that they say nothing of the product.

    Nor does the serial number say which unit it is: a ROM makes it of the chip's, by a rule of its own, and clones need
    not have different ones.  Most of the list is also what betaflight-configurator takes for loaders.
    """
    return (vendor, product) in _SHARED


def quirks_of(vendor: int, product: int, revision: int, memory: str = "") -> Quirks:
    """Collect what is known of a device; of two rows that say something the later one counts.

    Args:
        vendor: idVendor.
        product: idProduct.
        revision: bcdDevice.
        memory: the string of the memory that will be written, where it is known.
    """
    known: dict[str, object] = {}
    for row in _ROWS:
        if row.fits(vendor, product, revision, memory):
            for field in fields(Quirks):
                value = getattr(row.quirks, field.name)
                if value != getattr(STANDARD, field.name):
                    known[field.name] = value
    return Quirks(**known)  # type: ignore[arg-type]


_GD32VF103_KILOBYTES: Final = {"2": 8, "4": 16, "6": 32, "8": 64, "B": 128, "D": 256}
_GD32VF103_PAGE: Final = 1 << 10


def map_of_gd32vf103(serial: str) -> MemoryMap | None:
    """Return the flash of a GD32VF103; None when the serial number does not tell it.

    The third character is the size, the fourth is J on every chip of that family (dfu-util 0.11, dfuse.c).
    """
    kilobytes = _GD32VF103_KILOBYTES.get(serial[2:3])
    if kilobytes is None or serial[3:4] != "J":
        return None
    every = Access.READ | Access.ERASE | Access.WRITE
    run = SectorRun((kilobytes << 10) // _GD32VF103_PAGE, _GD32VF103_PAGE, every)
    return MemoryMap("Internal Flash", (Region(0x0800_0000, (run,)),))
