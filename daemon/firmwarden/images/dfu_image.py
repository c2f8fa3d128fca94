"""What a file is to a DFU device: bytes for one that has no addresses, segments for one that has.

A file says for itself where it belongs, or the operator says it: no address and no device is ever guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage
from firmwarden.images.dfu_suffix import has_suffix
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap
from firmwarden.protocol.dfu.segments import ADDRESS_SPACE, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.images.dfu_suffix import DfuSuffix

_FULL: Final = Access.ERASE | Access.WRITE


def raw_at(content: bytes, address: int) -> tuple[Segment, ...]:
    """Return a raw image for the address that the operator gave.

    Raises:
        BadImage: it is empty, does not fit 32 bits, or is no raw image but has a DFU suffix.
    """
    if not content:
        raise BadImage("the image is empty")
    if has_suffix(content):
        raise BadImage(
            f"offset {len(content) - 8}: a DFU suffix, which a raw image does not have: it would be written, too"
        )
    if not 0 <= address <= ADDRESS_SPACE - len(content):
        raise BadImage(f"{len(content)} byte(s) at 0x{address:x} do not fit 32 bits")
    return (Segment(address, content),)


def check_target(suffix: DfuSuffix, identities: Iterable[tuple[int, int]]) -> None:
    """Refuse an image that says it is for another device; `identities` are vendor and product in either mode.

    Raises:
        BadImage: wrong device.
    """
    known = tuple(identities)
    if not suffix.suits(known):
        raise BadImage(
            f"the image is for {suffix.vendor:04x}:{suffix.product:04x}, the device is "
            + " and ".join(f"{vendor:04x}:{product:04x}" for vendor, product in known)
        )


def check_fits(image: Iterable[Segment], memory: MemoryMap) -> None:
    """Refuse an image that does not lie in memory that can be erased and written, to its last byte.

    Raises:
        BadImage: wrong image or wrong device; the message tells the address.
    """
    for segment in image:
        reached = segment.address
        for sector in memory.sectors(segment.address, segment.end):
            if sector.address > reached or _FULL not in sector.access:
                break
            reached = sector.end
        if reached < segment.end:
            raise BadImage(
                f"address 0x{reached:08x} is not in {memory.name!r}, or cannot be erased and written there"
            )
