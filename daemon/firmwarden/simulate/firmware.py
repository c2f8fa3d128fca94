"""What a simulated device takes for a complete application, and how update files for it are made.

Real boot loaders keep a length and a CRC in a reserved place.  Ours keeps a header at the start of the application,
with a SHA-256 in place of the CRC, so that no torn or partial image ever passes by chance:

    ======  ====  =====================================================
    offset  size  field
    ======  ====  =====================================================
    0       8     ``FWSIMAPP``
    8       4     size of the application with this header
    12      4     device id
    16      32    version, ASCII, filled up with zeros
    48      32    SHA-256 of bytes 0 to 47 and of everything after this header
    ======  ====  =====================================================

Numbers are little-endian.  Microchip's block formats are those of the "8-bit Device Firmware Update Image
Specification" 0.3.0 and of its 32-bit sibling 1.0.0.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from firmwarden.images.formats import ImageFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.simulate.flash import Flash
    from firmwarden.simulate.profile import Profile

_HEADER: Final = struct.Struct("<8sII32s32s")
_MAGIC: Final = b"FWSIMAPP"
_DIGEST_AT: Final = 48

HEADER_SIZE: Final = _HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an application says of itself; nothing of it is checked yet."""

    size: int
    device_id: int
    version: str
    digest: bytes

    @classmethod
    def decode(cls, raw: bytes) -> Header | None:
        """Read the start of an application; None when there is no header."""
        if len(raw) < HEADER_SIZE:
            return None
        magic, size, device_id, version, digest = _HEADER.unpack_from(raw)
        if magic != _MAGIC or not version.rstrip(b"\0").isascii():
            return None
        return cls(
            size=size, device_id=device_id, version=version.rstrip(b"\0").decode("ascii"), digest=digest
        )


def find_application(flash: Flash, device_id: int) -> Header | None:
    """Check what is in the flash as the device does; None unless it is complete and meant for this device."""
    geometry = flash.geometry
    header = Header.decode(flash.read(geometry.start, HEADER_SIZE))
    if header is None or header.device_id != device_id or not HEADER_SIZE <= header.size <= geometry.size:
        return None
    return header if _digest(flash.read(geometry.start, header.size)) == header.digest else None


def make_application(version: str, *, size: int, device_id: int, seed: int = 0) -> bytes:
    """Return a complete application; the same arguments give the same bytes.

    Raises:
        ValueError: the size leaves no room for the header, or the version does not fit into it.
    """
    if size < HEADER_SIZE:
        raise ValueError(f"an application has at least {HEADER_SIZE} bytes, got {size}")
    if not version.isascii() or not 1 <= len(version) <= 32:  # noqa: PLR2004  (the field's size)
        raise ValueError(f"a version is 1 to 32 ASCII characters, got {version!r}")
    # Not a secret: reproducible filling.
    body = random.Random(f"{version}/{seed}").randbytes(size - HEADER_SIZE)  # noqa: S311
    fields = (_MAGIC, size, device_id, version.encode())
    unsigned = _HEADER.pack(*fields, bytes(32)) + body
    return _HEADER.pack(*fields, _digest(unsigned)) + body


def make_update_file(profile: Profile, version: str, *, size: int, seed: int = 0) -> bytes:
    """Return an update file in the profile's format that carries an application of `size` bytes.

    Raises:
        ValueError: it would not fit into the device, or see `make_application`.
    """
    if size > profile.flash.size:
        raise ValueError(f"{profile.name} has room for {profile.flash.size} bytes, got {size}")
    application = make_application(version, size=size, device_id=profile.device_id, seed=seed)
    return b"".join(_blocks(profile, application))


def _digest(application: bytes) -> bytes:
    return sha256(application[:_DIGEST_AT] + application[HEADER_SIZE:]).digest()


def _blocks(profile: Profile, application: bytes) -> Iterator[bytes]:
    """Cut an application into the blocks of the profile's format."""
    keys = struct.pack("<4H", *profile.unlock_keys)
    match profile.image_format:
        case ImageFormat.MDFU_8BIT:
            version = bytes((0, 3, 0))
        case ImageFormat.MDFU_32BIT:
            version = bytes((0, 0, 1))
            keys = b""
        case _:
            yield application
            return
    geometry = profile.flash
    metadata = struct.pack(
        "<HB3sIHI",
        profile.buffer_size,
        1,
        version,
        profile.device_id,
        geometry.write_size,
        geometry.start,
    )
    yield (metadata + keys).ljust(profile.buffer_size, b"\0")
    for offset in range(0, len(application), geometry.write_size):
        data = application[offset : offset + geometry.write_size].ljust(geometry.write_size, b"\xff")
        yield struct.pack("<HBI", profile.buffer_size, 2, geometry.start + offset) + keys + data
