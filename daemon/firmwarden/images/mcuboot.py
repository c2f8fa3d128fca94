"""The images that MCUboot starts: a header, the firmware, and a trailer of entries with type, length and value.

=======  ====  ==================================================================
 offset  size  in the header, little-endian
=======  ====  ==================================================================
 0        4    magic
 4        4    where it is loaded, for images that run from RAM
 8        2    size of the header, padding included
 10       2    size of the protected part of the trailer; 0: there is none
 12       4    size of the firmware
 16       4    flags
 20       8    version: major 1, minor 1, revision 2, build number 4
 28       4    padding
=======  ====  ==================================================================

Each part of the trailer begins with a magic and its size, these four bytes included.  The hash is of all that precedes
the part that is not protected; images with a signature of the whole may have none.  What is behind the trailer belongs
to the slot that the image was padded for.  Whether a signature in the trailer holds is for MCUboot, which has the key.

Source: MCUboot's documentation, "Bootloader" (docs/design.md), sections "Image format", "Protected TLVs" and "Security
counter"; for the compressed and encrypted forms boot/bootutil/include/bootutil/image.h.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = 0x96F3B83D.to_bytes(4, "little")

_HEADER: Final = Struct("<4sIHHIIBBHII")
_INFO: Final = Struct("<HH")
_ENTRY: Final = Struct("<HH")

_UNPROTECTED: Final = 0x6907
_PROTECTED: Final = 0x6908

_ENCRYPTED: Final = 0x04 | 0x08
"""Flags: AES-128, AES-256.  The hash is then of what comes out of it."""

_HASHES: Final = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
_SECURITY_COUNTER: Final = 0x50
_COUNTER_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class McubootVersion:
    """As ``imgtool --version`` takes it."""

    major: int
    minor: int
    revision: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}+{self.build}"


@dataclass(frozen=True, slots=True)
class McubootImage:
    """What an image says of itself."""

    version: McubootVersion
    security_counter: int | None
    """By which MCUboot itself keeps from going back; None where it has none."""


def parse(data: bytes) -> McubootImage:
    """Read an image, and check it against its own hash.

    Raises:
        BadImage: it does not follow the format, or is damaged; the message tells the offset.
    """
    if len(data) < _HEADER.size:
        raise BadImage(f"{len(data)} byte(s) are too few for its header")
    magic, _, header_size, protected_size, size, flags, *version, _ = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadImage("offset 0: no magic")
    if header_size < _HEADER.size:
        raise BadImage(f"offset 8: a header of {header_size} bytes, fewer than its fields need")
    trailer = header_size + size
    hashed = trailer + protected_size
    protected = list(_part(data, trailer, _PROTECTED)) if protected_size else []
    if protected_size and _total(data, trailer) != protected_size:
        raise BadImage(f"offset {trailer}: a protected part of another size than the header says")
    _check_hash(data[:hashed], list(_part(data, hashed, _UNPROTECTED)), encrypted=bool(flags & _ENCRYPTED))
    counters = [value for kind, value in protected if kind == _SECURITY_COUNTER]
    if len(counters) > 1 or any(len(value) != _COUNTER_SIZE for value in counters):
        raise BadImage(f"offset {trailer}: a security counter has {_COUNTER_SIZE} bytes and is there once")
    return McubootImage(McubootVersion(*version), int.from_bytes(counters[0], "little") if counters else None)


def _total(data: bytes, offset: int) -> int:
    if len(data) < offset + _INFO.size:
        raise BadImage(f"offset {len(data)}: it ends before its trailer")
    total: int = _INFO.unpack_from(data, offset)[1]
    return total


def _part(data: bytes, offset: int, magic: int) -> Iterator[tuple[int, bytes]]:
    """Walk through the entries of a part of the trailer."""
    end = offset + _total(data, offset)
    if _INFO.unpack_from(data, offset)[0] != magic:
        raise BadImage(f"offset {offset}: no trailer where the header says")
    if not offset + _INFO.size <= end <= len(data):
        raise BadImage(f"offset {offset}: its trailer does not end within the image")
    at = offset + _INFO.size
    while at < end:
        if end - at < _ENTRY.size:
            raise BadImage(f"offset {at}: {end - at} byte(s) left, too few for an entry")
        kind, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if at + length > end:
            raise BadImage(f"offset {at}: an entry of {length} bytes, with {end - at} left")
        yield kind, data[at : at + length]
        at += length


def _check_hash(hashed: bytes, trailer: list[tuple[int, bytes]], *, encrypted: bool) -> None:
    own = [(kind, value) for kind, value in trailer if kind in _HASHES]
    if len(own) > 1:
        raise BadImage(f"its trailer has {len(own)} hashes of it in place of one")
    for kind, value in own:
        if not encrypted and hashlib.new(_HASHES[kind], hashed).digest() != value:
            raise BadImage(f"its {_HASHES[kind]} is not the one in its trailer")
