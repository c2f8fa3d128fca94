"""Zip archives of every kind, also of those that no honest program makes."""

from __future__ import annotations

import stat
import zlib
from dataclasses import dataclass, field, replace
from struct import pack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = (stat.S_IFREG | 0o644) << 16
LINK = (stat.S_IFLNK | 0o777) << 16


def deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member as its two descriptions say; whatever is left out is as it should be."""

    name: bytes = b"a.toml"
    content: bytes = b"content"
    packed: bytes | None = None
    """What stands in the archive; None: the content."""
    size: int | None = None
    crc: int | None = None
    method: int = 0
    flags: int = 0
    needs: int = 20
    time: int = 0
    made_by: int = 3 << 8 | 20
    attributes: int = FILE
    extra: bytes = b""
    comment: bytes = b""
    disk: int = 0
    offset: int | None = None
    before: bytes = b""
    """Stands before it, and belongs to nothing."""
    local: Mapping[str, Any] = field(default_factory=dict)
    """What the description before the member says instead."""

    @property
    def raw(self) -> bytes:
        """What stands in the archive."""
        return self.content if self.packed is None else self.packed

    def told(self, extra: bytes) -> bytes:
        """What both descriptions say."""
        size = len(self.content) if self.size is None else self.size
        crc = zlib.crc32(self.content) if self.crc is None else self.crc
        told = (self.needs, self.flags, self.method, self.time, 33, crc, len(self.raw), size)
        return pack("<HHHHHLLLHH", *told, len(self.name), len(extra))

    def head(self) -> bytes:
        """All of it."""
        said = replace(self, **self.local)
        extra: bytes = self.local.get("extra", b"")
        return b"PK\x03\x04" + said.told(extra) + said.name + extra + self.raw

    def entry(self, offset: int) -> bytes:
        """What the directory says of it."""
        behind = pack("<HHHLL", len(self.comment), self.disk, 0, self.attributes, offset)
        return (
            b"PK\x01\x02" + pack("<H", self.made_by) + self.told(self.extra) + behind
            + self.name + self.extra + self.comment
        )  # fmt: skip


def archive(
    *members: Member,
    between: bytes = b"",
    behind: bytes = b"",
    count: int | None = None,
    disk: int = 0,
    comment: bytes = b"",
) -> bytes:
    """Make an archive of them; ``between`` stands before its directory and ``behind`` after that."""
    body, directory = b"", b""
    for member in members:
        body += member.before
        directory += member.entry(len(body) if member.offset is None else member.offset)
        body += member.head()
    body += between
    number = len(members) if count is None else count
    end = pack("<HHHHLLH", disk, 0, number, number, len(directory), len(body), len(comment))
    return body + directory + behind + b"PK\x05\x06" + end + comment
