"""The kinds of simulated products: who takes their updates, and what an update of each is."""

from __future__ import annotations

from enum import StrEnum, unique
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Entry, Firmware, Role, Service, seal
from firmwarden.simulate.dfu.image import Description, make_image
from firmwarden.simulate.dfu.parts import FLASH_BASE

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.segments import Segment
    from firmwarden.simulate.dfu.parts import Part

_LOADER_SPACE: Final = 16 << 10
"""A resident loader has at least so much, in whole pages."""


@unique
class Kind(StrEnum):
    """Who takes the updates."""

    ROM = "rom"
    """The ROM's DfuSe loader; the application makes room for it."""
    RESIDENT_LOADER = "resident-loader"
    """A DfuSe loader in the first pages, which starts the application behind it if that is sealed."""
    DFU = "dfu"
    """The same, but it speaks plain DFU 1.1."""


def application_start(part: Part, kind: Kind) -> int:
    """Return the first address that an update is for."""
    if kind is Kind.ROM:
        return FLASH_BASE
    ends = accumulate(part.page_sizes, initial=FLASH_BASE)
    return next(end for end in ends if end >= FLASH_BASE + _LOADER_SPACE)


def loader_of(part: Part, kind: Kind) -> Firmware | None:
    """Return the loader that is never replaced, if it is not the ROM's."""
    if kind is Kind.ROM:
        return None
    window = application_start(part, kind), FLASH_BASE + part.bank_size * part.banks
    service = Service.of_dfu(*window) if kind is Kind.DFU else Service.of_dfuse(*window)
    body = make_image(part, Description(version="1.0.0", name=service.name), size=_LOADER_SPACE // 2)
    return Firmware(name=service.name, segments=(body,), entry=FLASH_BASE, role=Role.LOADER, service=service)


def make_update(
    part: Part, kind: Kind, version: str, *, size: int, detaches_by: Entry = Entry.JUMP, seed: int = 0
) -> tuple[Segment, ...]:
    """Return an image of a version, behind a loader with the seal that it wants; the same arguments, the same bytes.

    Args:
        part: that it is for.
        kind: of product.
        version: that it tells.
        size: of the image.
        detaches_by: how it makes room for the ROM's loader; for another there is one way.
        seed: another one gives other bytes.

    Raises:
        ValueError: the version cannot be told, or the size is too small for that or too large for the part.
    """
    start = application_start(part, kind)
    if kind is Kind.ROM:
        what = Description(version=version, address=start, detaches_by=detaches_by)
        update: tuple[Segment, ...] = (make_image(part, what, size=size, seed=seed),)
    else:
        what = Description(version=version, address=start + SEAL_SPACE, detaches_by=Entry.LOADER)
        update = seal(make_image(part, what, size=size, seed=seed).data, start)
    if update[-1].end > FLASH_BASE + part.bank_size:
        raise ValueError(f"{size} bytes at 0x{what.address:08x} do not fit into a bank of {part.name}")
    return update
