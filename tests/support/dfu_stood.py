"""Parts of a few pages as `power_cuts` puts them on a stand, as devices on the USB with a class of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.simulate.dfu.appearance import Mode
from firmwarden.simulate.dfu.chip import ErasePage, Program
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_bench import CLASS, OWN_LOADER, usb_bench
from support.dfu_simulated import settings as simulated

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from firmwarden.drivers.boot.facts import Family
    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.simulate.dfu.chip import Operation, SavedChip
    from firmwarden.simulate.dfu.parts import Part
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated
    from support.dfu_bench import UsbBench
    from support.power_cuts import Stand

ST_ROM: Final = (0x0483, 0xDF11)


@dataclass(frozen=True, slots=True)
class Stood:
    """What a bench is made of, and the image that is to come."""

    settings: Simulated
    device_class: DfuSettings
    data: bytes
    """As its file has it."""
    chip: SavedChip | None = None

    def bench(self, **changes: object) -> AbstractAsyncContextManager[UsbBench]:
        """Put it on the bus; `changes` are to the settings of the device."""
        return usb_bench(replace(self.settings, **changes), self.device_class, self.chip)  # type: ignore[arg-type]


def stood(stand: Stand, **changes: object) -> Stood:
    """Put a part with its old image on the bus; `changes` are to the settings of the class."""
    part, target = stand.chip.part, stand.target
    first, last = stand.image[0], stand.image[-1]
    data = bytearray(bytes((target.erased,)) * (last.end - first.address))
    for piece in stand.image:
        data[piece.address - first.address : piece.end - first.address] = piece.data
    device_class = replace(
        CLASS,
        loader=frozenset({ST_ROM, OWN_LOADER}),
        image=ImageRules(format=ImageFormat.RAW, address=first.address, device=True),
        failsafe=target.failsafe,
        family=None if target.family is None else _with_pages_of(target.family, part),
        application_at=target.application,
    )
    return Stood(
        settings=simulated(part, known=stand.chip.known),
        device_class=replace(device_class, **changes),  # type: ignore[arg-type]
        data=bytes(data),
        chip=stand.chip.save(),
    )


def _with_pages_of(family: Family, part: Part) -> Family:
    """Return a family whose pages are as few and as small as a part's on a stand."""
    sizes = frozenset(part.page_sizes)
    check = family.bank_check
    if check is not None and check.pages:
        check = replace(check, pages=sizes)
    return replace(family, flash=replace(family.flash, pages=sizes), bank_check=check)


async def press_boot0(at: UsbBench) -> None:
    """Bring a device that runs into a loader by BOOT0; where the pin means nothing, it is left to be asked."""
    if at.device.mode is Mode.RUN_TIME:
        at.device.chip.boot0 = 1
        at.device.reset(anyio.current_time())
        at.device.chip.boot0 = 0
        await anyio.sleep(1)


def decides(stand: Stand, operation: Operation | None) -> bool:
    """Tell whether an operation is one that no order of writing makes safe: on what the device starts its image by."""
    if stand.target.failsafe is Failsafe.RESIDENT_LOADER:
        return False
    commit = stand.target.commit(stand.target.place(stand.image))
    first = commit.address - FLASH_BASE
    match operation:
        case ErasePage(page):
            return page == stand.chip.flash.page_at(first)
        case Program(offset, _):
            return first <= offset < first + len(commit.data)
        case _:
            return False


def inside_the_commit(stand: Stand, operation: Operation | None) -> bool:
    """Tell whether part of the commit has been written before an operation."""
    return (
        isinstance(operation, Program)
        and decides(stand, operation)
        and operation.offset > stand.target.start - FLASH_BASE
    )
