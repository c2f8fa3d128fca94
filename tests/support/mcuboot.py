"""Images as ``imgtool`` makes them, and such as it does not."""

from __future__ import annotations

import hashlib
from struct import pack
from typing import Final

GOLDEN: Final = bytes.fromhex(
    "3db8f396000000002000 0c00 28000000 00000000 01020300 04000000 00000000"
    + "46" * 40
    + "0869 0c00 5000 0400 11000000"
    + "0769 2800 1000 2000 c257512b1c3343aeb1b8cb75dfb9c4c74cd506e7b17ddc9738cf03e64f16177e"
)
"""What ``imgtool create --version 1.2.3+4 --header-size 0x20 --pad-header --security-counter 17`` makes of forty F."""


def entry(kind: int, value: bytes) -> bytes:
    return pack("<HH", kind, len(value)) + value


def part(magic: int, *entries: bytes) -> bytes:
    content = b"".join(entries)
    return pack("<HH", magic, 4 + len(content)) + content


def mcuboot(
    *,
    version: tuple[int, int, int, int] = (1, 2, 3, 4),
    counter: int | None = 17,
    content: bytes = b"F" * 40,
    flags: int = 0,
    protected: bytes | None = None,
) -> bytes:
    """Make an image that holds."""
    if protected is None:
        protected = b"" if counter is None else part(0x6908, entry(0x50, pack("<I", counter)))
    head = pack("<4sIHHII", b"\x3d\xb8\xf3\x96", 0, 32, len(protected), len(content), flags)
    hashed = head + pack("<BBHII", *version, 0) + content + protected
    return hashed + part(0x6907, entry(0x10, hashlib.sha256(hashed).digest()))
