"""The image formats that a device class can ask for, by the names they have in the configuration."""

from __future__ import annotations

from enum import StrEnum, unique


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
