"""The images that a simulated chip knows, and what each does when it runs.

Nothing is executed.  What runs is recognised by its bytes: an image that stands in the flash whole, each byte readable,
runs and does what its `Firmware` says, or what a mark inside it says (see ``image``).  Anything else that the processor
is sent into is an accident.  So the model knows not only that something started, but whether it was all there.

Behind a resident loader an image has a seal in front: 16 bytes that tell its length and CRC-32, which the loader checks
before it starts the image.  It stands `SEAL_SPACE` bytes before the vector table.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.descriptors import DFU_1_1, DFUSE, Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

SEAL_SPACE: Final = 512
"""VTOR wants a vector table aligned to 512 bytes on a Cortex-M4 with its usual number of interrupts."""

_SEAL_SIZE: Final = 16
_SEAL_USED: Final = 12
_MAGIC: Final = b"SEAL"


@unique
class Entry(Enum):
    """What an application does when it is asked, by DFU_DETACH, to make room for an update."""

    LOADER = "leaves a note in RAM and resets: the resident loader stays"
    INVALIDATE = "programs the first granule of its bank to zero and resets: the ROM finds no valid bank"
    JUMP = "jumps into the ROM"
    SERVES = "speaks DFU itself until the next reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """DFU as a program of the user's speaks it, with the memory that it lets a host write."""

    start: int
    end: int
    functional: FunctionalDescriptor
    vendor: int = 0x1209
    product: int = 0xDF02
    name: str = "Simulated loader"

    @property
    def dfuse(self) -> bool:
        """True when it speaks DfuSe; else it takes one image from the first byte on."""
        return self.functional.version == DFUSE

    @classmethod
    def of_dfuse(cls, start: int, end: int, transfer_size: int = 1024) -> Service:
        """Return one with addresses."""
        attributes = Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD | Attribute.WILL_DETACH
        functional = FunctionalDescriptor(
            attributes=attributes, detach_timeout_ms=255, transfer_size=transfer_size, version=DFUSE
        )
        return cls(start=start, end=end, functional=functional)

    @classmethod
    def of_dfu(cls, start: int, end: int, *, tolerant: bool = True, transfer_size: int = 256) -> Service:
        """Return one that takes a stream, as DFU 1.1 has it."""
        attributes = Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD
        if tolerant:
            attributes |= Attribute.MANIFESTATION_TOLERANT
        functional = FunctionalDescriptor(
            attributes=attributes, detach_timeout_ms=1000, transfer_size=transfer_size, version=DFU_1_1
        )
        return cls(start=start, end=end, functional=functional)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """What an application is on the bus."""

    vendor: int = 0x1209
    product: int = 0x0001
    name: str = "Simulated application"
    revision: int = 0x0100
    """bcdDevice: where it tells its version."""
    dfu_interface: int | None = 1
    """Number of its DFU interface; None if it cannot be asked to detach."""
    will_detach: bool = True
    """It detaches by itself; else it waits for a bus reset."""
    detach_timeout_ms: int = 1000


@unique
class Role(Enum):
    """What an image is for."""

    APPLICATION = "application"
    GOLDEN = "golden"
    """An application that is never replaced."""
    LOADER = "loader"
    """It starts a sealed application, or speaks DFU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """An image."""

    name: str
    version: str = ""
    segments: tuple[Segment, ...]
    entry: int
    """Address of its vector table."""
    role: Role = Role.APPLICATION
    run_time: RunTime = RunTime()
    detaches_by: Entry = Entry.JUMP
    service: Service | None = None
    """Of a loader, and of an application that `SERVES`."""
    sets_vtor: bool = True
    """Else it dies where the ROM started it, because the ROM stays at address 0."""
    clears_empty: bool = True
    """Clears the flag of the empty check when it starts."""


def seal(body: bytes, address: int) -> tuple[Segment, ...]:
    """Put a seal in front of an image, at `address`; it runs at `SEAL_SPACE` behind it."""
    head = _MAGIC + len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little")
    return Segment(address, head.ljust(_SEAL_SIZE, b"\x00")), Segment(address + SEAL_SPACE, body)


def is_sealed(read: Callable[[int, int], bytes | None], start: int, end: int) -> bool:
    """Tell whether a whole image with its seal stands at `start`.

    Args:
        read: returns bytes from an address on, None when the flash reports an error.
        start: address of the seal.
        end: the image must end before it.
    """
    head = read(start, _SEAL_SIZE)
    if head is None or head[:4] != _MAGIC or any(head[_SEAL_USED:]):
        return False
    length = int.from_bytes(head[4:8], "little")
    if not 0 < length <= end - start - SEAL_SPACE:
        return False
    body = read(start + SEAL_SPACE, length)
    return body is not None and zlib.crc32(body).to_bytes(4, "little") == head[8:12]
