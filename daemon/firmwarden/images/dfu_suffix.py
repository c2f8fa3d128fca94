"""The DFU suffix: sixteen bytes behind an image that say for which device it is, and hold a checksum.

========  ====  ====================================================================
from end   size  field
========  ====  ====================================================================
 -16      2     bcdDevice, 0xFFFF for any
 -14      2     idProduct, 0xFFFF for any
 -12      2     idVendor, 0xFFFF for any
 -10      2     bcdDFU: 0x0100, or 0x011A for a DfuSe file
 -8       3     "UFD"
 -5       1     length of the suffix, 16 or, with fields to come, more
 -4       4     CRC-32 of all that precedes it, not inverted at the end
========  ====  ====================================================================

It belongs to the file and is never sent.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, appendix B; dfu-util 0.11 (dfu_file.c).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

from firmwarden.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY: Final = 0xFFFF
"""Of a vendor, product or device that does not matter."""

SIGNATURE: Final = b"UFD"

_FIELDS: Final = Struct("<HHHH3sB")
_CRC_SIZE: Final = 4
SUFFIX_SIZE: Final = _FIELDS.size + _CRC_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuSuffix:
    """For which device an image is."""

    vendor: int = ANY
    product: int = ANY
    device: int = ANY
    """bcdDevice."""
    dfu: int = 0x0100
    """bcdDFU of the file's format."""

    def __post_init__(self) -> None:
        fields = (self.vendor, self.product, self.device, self.dfu)
        if not all(0 <= field <= ANY for field in fields):
            raise ValueError(f"a field of a DFU suffix must fit two bytes: {fields}")

    def suits(self, identities: Iterable[tuple[int, int]]) -> bool:
        """Tell whether the image is for a device that goes by one of these vendors and products.

        A device can have two: one as an application, one in DFU mode.
        """
        return any(
            self.vendor in {ANY, vendor} and self.product in {ANY, product} for vendor, product in identities
        )


@dataclass(frozen=True, slots=True)
class SuffixedImage:
    """A file with a suffix, taken apart."""

    content: bytes
    suffix: DfuSuffix


def has_suffix(file: bytes) -> bool:
    """Tell whether a file ends as if it had a suffix, good or bad."""
    return len(file) >= SUFFIX_SIZE and file[-8:-5] == SIGNATURE


def append(content: bytes, suffix: DfuSuffix) -> bytes:
    """Return an image with its suffix."""
    fields = _FIELDS.pack(suffix.device, suffix.product, suffix.vendor, suffix.dfu, SIGNATURE, SUFFIX_SIZE)
    return content + fields + checksum(content + fields).to_bytes(_CRC_SIZE, "little")


def split(file: bytes) -> SuffixedImage:
    """Take a file apart.

    Raises:
        BadImage: it has no suffix, or was changed since it got it; the message tells the offset.
    """
    if len(file) < SUFFIX_SIZE:
        raise BadImage(f"{len(file)} byte(s) are too few for a DFU suffix")
    if not has_suffix(file):
        raise BadImage(f"offset {len(file) - 8}: no DFU suffix: the file is another one, or was cut short")
    told = int.from_bytes(file[-_CRC_SIZE:], "little")
    found = checksum(file[:-_CRC_SIZE])
    if told != found:
        raise BadImage(
            f"offset {len(file) - _CRC_SIZE}: the DFU suffix says CRC 0x{told:08x}, the file has 0x{found:08x}"
        )
    device, product, vendor, dfu, _, size = _FIELDS.unpack_from(file, len(file) - SUFFIX_SIZE)
    if not SUFFIX_SIZE <= size <= len(file):
        raise BadImage(
            f"offset {len(file) - 5}: a DFU suffix of {size} bytes in a file of {len(file)} byte(s)"
        )
    suffix = DfuSuffix(vendor=vendor, product=product, device=device, dfu=dfu)
    return SuffixedImage(file[:-size], suffix)


def checksum(content: bytes) -> int:
    """Return the CRC of the DFU suffix: CRC-32 without the inversion at its end."""
    return crc32(content) ^ 0xFFFF_FFFF
