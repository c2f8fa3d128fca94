"""The image formats that a device class can ask for: how each is checked, and what of it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import assert_never

from firmwarden.images import intel_hex
from firmwarden.images.mdfu_image import BlockLayout, describe


@unique
class ImageFormat(StrEnum):
    """What the file of a release holds, and so how strictly it is checked before anything is sent."""

    RAW = "raw"
    """Opaque bytes, sent as they are: the protocol says nothing about the content of a file."""
    MDFU_8BIT = "mdfu-8bit"
    """Microchip's block format for 8-bit PIC and AVR."""
    MDFU_32BIT = "mdfu-32bit"
    """Microchip's block format for 32-bit Cortex-M0+."""
    INTEL_HEX = "intel-hex"
    """Intel HEX, converted to the binary that is sent."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What the images of a device class must be."""

    format: ImageFormat = ImageFormat.RAW
    fill: int = 0xFF
    """What the gaps of an Intel HEX file become."""


def prepare(content: bytes, rules: ImageRules) -> bytes:
    """Check the content of an image file and return what is to be sent.

    Raises:
        BadImage: it does not follow its format.
    """
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
        case unreachable:
            assert_never(unreachable)
