"""Microchip's block formats for MDFU update files.

The protocol takes any file; these two are what Microchip's own clients understand.  Such a file is a row of
blocks of equal size, and the client has room for exactly one: a chunk must be a block.  The first block
describes the file, the others carry flash contents.  All numbers are little-endian.

========  ====  ==============================================================================
 offset   size  in the first block (type 1)
========  ====  ==============================================================================
 0        2     block size: W and what precedes the data in a flash block
 2        1     type
 3        3     version of the format: patch, minor, major
 6        4     device id
 10       2     W, the bytes of flash that a block writes
 12       4     where the application starts
 16             8-bit: four unlock keys of 2 bytes; then zeros
========  ====  ==============================================================================

A flash block (type 2; type 3 is EEPROM) is its size, its type and an address of 4 bytes; in the 8-bit format
the four keys; then W bytes of data, fewer in the last block.

Reading a file here finds a wrong or damaged one before anything is erased.  What only the client can judge
(device id, keys, alignment) is left to it.

Source: Microchip "8-bit Device Firmware Update Image Specification" 0.3.0; for the 32-bit format the tool
pyfwimagebuilder 1.3 and Microchip's client for PIC32CM.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from struct import Struct
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage

if TYPE_CHECKING:
    from firmwarden.protocol.mdfu.client_info import ClientInfo

_METADATA: Final = Struct("<HBBBBLHL")
_FLASH: Final = Struct("<HBL")

_TYPE_METADATA: Final = 0x01
_TYPE_FLASH: Final = 0x02
_TYPE_EEPROM: Final = 0x03


@unique
class BlockLayout(Enum):
    """The two formats, by the bytes of a flash block that are not data."""

    MCU8 = 15
    """8-bit PIC and AVR: size, type, address and four keys."""
    MCU32 = 7
    """32-bit Cortex-M0+: size, type and address."""


_SMALLEST_BLOCK: Final = {BlockLayout.MCU8: _METADATA.size + 8, BlockLayout.MCU32: _METADATA.size}
"""A block has room for the description, of which the keys are a part in the 8-bit format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MdfuImage:
    """What an update file says of itself."""

    layout: BlockLayout
    version: tuple[int, int, int]
    """Of the format: major, minor, patch."""
    device_id: int
    block_size: int
    write_size: int
    """Bytes of data in a full block."""
    start_address: int
    """Of the application, in the unit of the device: words on PIC16, bytes elsewhere."""
    blocks: int
    """Blocks that carry data."""
    data_size: int
    """Bytes that will be written."""


@dataclass(frozen=True, slots=True)
class _Metadata:
    block_size: int
    kind: int
    version: tuple[int, int, int]
    device_id: int
    write_size: int
    start_address: int

    @classmethod
    def read(cls, data: bytes) -> _Metadata | None:
        if len(data) < _METADATA.size:
            return None
        size, kind, patch, minor, major, device_id, write_size, start = _METADATA.unpack_from(data)
        return cls(size, kind, (major, minor, patch), device_id, write_size, start)

    def follows(self, layout: BlockLayout) -> bool:
        return (
            self.kind == _TYPE_METADATA
            and self.block_size == self.write_size + layout.value
            and self.block_size >= _SMALLEST_BLOCK[layout]
        )


def describe(data: bytes, layout: BlockLayout) -> MdfuImage:
    """Walk through an update file.

    Raises:
        BadImage: it does not follow the format; the message tells the offset.
    """
    metadata = _Metadata.read(data)
    if metadata is None:
        raise BadImage(f"{len(data)} byte(s) are too few for the first block of an MDFU image")
    if not metadata.follows(layout):
        raise BadImage(
            f"offset 0: no first block of the {layout.name} format: type {metadata.kind}, block size"
            f" {metadata.block_size}, write size {metadata.write_size}"
        )
    if len(data) <= metadata.block_size:
        raise BadImage(f"offset {len(data)}: the image ends before its first block of data")

    blocks = data_size = 0
    addresses: set[tuple[int, int]] = set()
    for offset in range(metadata.block_size, len(data), metadata.block_size):
        block = data[offset : offset + metadata.block_size]
        place = _check_block(block, offset, metadata, layout)
        if place in addresses:
            raise BadImage(f"offset {offset}: address 0x{place[1]:x} is written twice")
        addresses.add(place)
        blocks += 1
        data_size += len(block) - layout.value
    return MdfuImage(
        layout=layout,
        version=metadata.version,
        device_id=metadata.device_id,
        block_size=metadata.block_size,
        write_size=metadata.write_size,
        start_address=metadata.start_address,
        blocks=blocks,
        data_size=data_size,
    )


def _check_block(block: bytes, offset: int, metadata: _Metadata, layout: BlockLayout) -> tuple[int, int]:
    """Check one block of data and return its type and address."""
    if len(block) <= layout.value:
        raise BadImage(f"offset {offset}: {len(block)} byte(s) left, too few for a block with data")
    size, kind, address = _FLASH.unpack_from(block)
    if size != len(block):
        # Only the last block may be short, and then the file ends with it.
        raise BadImage(f"offset {offset}: a block of {size} bytes where {len(block)} belong")
    if kind not in {_TYPE_FLASH, _TYPE_EEPROM}:
        raise BadImage(f"offset {offset}: unknown block type {kind}")
    if kind == _TYPE_FLASH and address < metadata.start_address:
        raise BadImage(
            f"offset {offset}: address 0x{address:x} lies below the application at"
            f" 0x{metadata.start_address:x}"
        )
    return kind, address


def check_fits(data: bytes, info: ClientInfo) -> None:
    """Refuse an image in a block format that is damaged, or whose blocks are not what this client takes at a time.

    A file that begins like none of the formats is opaque, and passes.

    Raises:
        BadImage: wrong file or wrong device.
    """
    metadata = _Metadata.read(data)
    layout = next((each for each in BlockLayout if metadata is not None and metadata.follows(each)), None)
    if metadata is None or layout is None:
        return
    if metadata.block_size != info.buffer_size:
        raise BadImage(
            f"the image has blocks of {metadata.block_size} bytes, the client takes {info.buffer_size}"
        )
    # The client finds the damage too, but after it has erased.
    describe(data, layout)
