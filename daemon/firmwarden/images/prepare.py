"""How an image file is checked before it is kept, and what of it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from firmwarden.errors import BadImage
from firmwarden.images import intel_hex
from firmwarden.images.dfu_image import check_file
from firmwarden.images.formats import ImageFormat
from firmwarden.images.mdfu_image import BlockLayout, describe

if TYPE_CHECKING:
    from firmwarden.images.formats import ImageRules


def prepare(content: bytes, rules: ImageRules) -> bytes:
    """Check the content of an image file and return what is to be kept for the device.

    Raises:
        BadImage: it does not follow its format, or is for another device.
    """
    if rules.device:
        check_file(content, rules)
        return content
    match rules.format:
        case ImageFormat.RAW:
            return content
        case ImageFormat.MDFU_8BIT:
            describe(content, BlockLayout.MCU8)
            return content
        case ImageFormat.MDFU_32BIT:
            describe(content, BlockLayout.MCU32)
            return content
        case ImageFormat.INTEL_HEX:
            return intel_hex.parse(content, fill=rules.fill).data
        case ImageFormat.DFU | ImageFormat.DFUSE:
            raise BadImage(f'a "{rules.format}" file is for a DFU device')
        case unreachable:
            assert_never(unreachable)
