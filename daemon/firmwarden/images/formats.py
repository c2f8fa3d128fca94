"""The image formats that a device class can ask for, and what else it says of its images."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Intel HEX."""
    DFU = "dfu"
    """A file with a DFU suffix, for a device that has no addresses."""
    DFUSE = "dfuse"
    """A DfuSe file, which says where everything goes."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What the images of a device class must be."""

    format: ImageFormat = ImageFormat.RAW
    fill: int = 0xFF
    """What the gaps of an Intel HEX file become, where they cannot stay gaps."""
    address: int | None = None
    """Where a raw image goes."""
    device: bool = False
    """For a DFU device: it is asked for its memory before it is known what of the file is sent, so the whole file is
    kept."""
    ids: tuple[tuple[int, int], ...] = ()
    """Vendor and product by which the device may go, as application and in its loader."""
    alternate: int | None = None
    """The memory that is meant, where a DfuSe file is for several."""
    hardware: str | None = None
    """The revision of the hardware, where releases have to name it."""
