"""Zip archives of the one kind that any two readers read alike: files in a row, described twice in the same words.

A zip archive says everything twice, before each member and in the directory at its end, leaves room between, before and
behind, and has extensions for most fields: what one reader finds in it another may not.  Here every byte has one
meaning.  The members stand without gaps from the first byte on, the directory behind them and its end record at the
very end; both descriptions of a member are the same; there are no comments, extra fields, data descriptors, encryption,
spanning or 64-bit forms, no directories, links or other kinds of files, and no methods but "stored" and "deflated".

Nothing is ever unpacked to disk, and nothing is decompressed beyond the size that was announced and allowed.

Source: PKWARE's APPNOTE.TXT 6.3.10; for the mode of a file in the external attributes, Info-ZIP's zip.
"""

from __future__ import annotations

import stat
import unicodedata
import zlib
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LOCAL: Final = Struct("<4sHHHHHLLLHH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_CENTRAL: Final = Struct("<4sHHHHHHLLLHHHHHLL")
_CENTRAL_MAGIC: Final = b"PK\x01\x02"
_END: Final = Struct("<4sHHHHLLH")
_END_MAGIC: Final = b"PK\x05\x06"

_LONGEST_COMMENT: Final = 0xFFFF
_GAPS: Final = "there are bytes before, behind or between its parts that belong to none of them"

MOST_MEMBERS: Final = 64
_NAME_MAX: Final = 255
"""Bytes in a file name: NAME_MAX of Linux."""

_NEEDS_AT_MOST: Final = 20
"""What reading needs, 2.0: deflate.  Later numbers are for what is refused here."""
_UTF8: Final = 1 << 11
_HOW_DEFLATED: Final = 0b110
"""Flags: what the compressor took care of, without a meaning for who reads."""

_STORED: Final = 0
_DEFLATED: Final = 8
_MOST_DEFLATED: Final = 1032
"""Deflate makes no more than 258 bytes of 2 bits (RFC 1951, 3.2.5): what announces more lies."""

_DOS: Final = 0
_UNIX: Final = 3
_NO_FILE: Final = 0x08 | 0x10
"""Attributes of DOS: volume label, directory."""
_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX

_1980: Final = (1 << 5) | 1
"""The first day that there is, as a date of DOS."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What both descriptions of a member say."""

    raw_name: bytes
    needs: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int


@dataclass(frozen=True, slots=True)
class _Member:
    """What the directory says of a member."""

    told: _Told
    offset: int

    @property
    def name(self) -> str:
        return self.told.raw_name.decode()


def read_zip(archive: bytes, limit_of: Callable[[str], int], limit: int) -> dict[str, bytes]:
    """Read an archive.

    Args:
        archive: all of it.
        limit_of: the largest size of a member, by its name.
        limit: the largest size of all members together.

    Raises:
        BadManifest: with the reason.
    """
    members = list(_members(archive))
    _check_names(members)
    for member in members:
        if member.told.size > limit_of(member.name):
            raise BadManifest(f"{member.name} in it is larger than {limit_of(member.name)} bytes")
    if sum(member.told.size for member in members) > limit:
        raise BadManifest(f"its members are larger than {limit} bytes together")
    return {member.name: _content(archive, member) for member in members}


def write_zip(files: Mapping[str, bytes]) -> bytes:
    """Make an archive; the same files make the same bytes on any machine, therefore nothing is compressed."""
    body, directory = bytearray(), bytearray()
    for name, content in files.items():
        raw = name.encode()
        flags = 0 if name.isascii() else _UTF8
        told = (10, flags, _STORED, 0, _1980, zlib.crc32(content), len(content), len(content), len(raw), 0)
        mode = (stat.S_IFREG | 0o644) << 16
        directory += _CENTRAL.pack(
            _CENTRAL_MAGIC, _UNIX << 8 | _NEEDS_AT_MOST, *told, 0, 0, 0, mode, len(body)
        )
        directory += raw
        body += _LOCAL.pack(_LOCAL_MAGIC, *told) + raw + content
    end = _END.pack(_END_MAGIC, 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


def _members(archive: bytes) -> Iterator[_Member]:
    """Walk through the directory and the members, and see that nothing else is there."""
    count, start, end = _directory(archive)
    at = start
    reached = 0
    for _ in range(count):
        if at + _CENTRAL.size > end:
            raise BadManifest(f"offset {at}: its directory ends within an entry")
        member, at = _entry(archive, at, end)
        if member.offset != reached:
            raise BadManifest(f"{member.name} in it overlaps another member, or leaves a gap")
        reached = _behind(archive, member)
        yield member
    if at != end or reached != start:
        raise BadManifest(_GAPS)


def _directory(archive: bytes) -> tuple[int, int, int]:
    """Find the directory: how many entries it has, and from where to where it reaches."""
    end = len(archive) - _END.size
    if end < 0 or archive[end : end + 4] != _END_MAGIC:
        if not archive.startswith(_LOCAL_MAGIC[: len(archive)]):
            raise BadManifest("it is no zip archive")
        if 0 <= archive.rfind(_END_MAGIC, max(0, end - _LONGEST_COMMENT)) < end:
            raise BadManifest("there is a comment or something else behind its end")
        raise BadManifest("waits for the rest of it: it does not end as a zip archive does")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(archive, end)
    if disk or first_disk or here != count or comment:
        raise BadManifest("its end record is of an archive in several parts, or has a comment")
    if count > MOST_MEMBERS:
        raise BadManifest(f"it has {count} members, and {MOST_MEMBERS} are the most")
    if start + size != end:
        raise BadManifest(_GAPS)
    return count, start, end


def _entry(archive: bytes, at: int, end: int) -> tuple[_Member, int]:
    """Read an entry of the directory; returns it with where the next one begins."""
    magic, made_by, *told, name_length, extra, comment, disk, _, attributes, offset = _CENTRAL.unpack_from(
        archive, at
    )
    behind = at + _CENTRAL.size + name_length
    if magic != _CENTRAL_MAGIC or behind > end:
        raise BadManifest(f"offset {at}: no entry of its directory")
    raw = archive[at + _CENTRAL.size : behind]
    name = _name(raw, told[1])
    if extra or comment or disk:
        raise BadManifest(f"{name} in it has extra fields or a comment; `firmwarden bundle` makes none")
    member = _Member(_Told(raw, *told), offset)
    _check_kind(name, member.told)
    system, mode = made_by >> 8, attributes >> 16
    if system not in {_DOS, _UNIX} or attributes & _NO_FILE:
        raise BadManifest(f"{name} in it is no regular file, or of an unknown system")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG} or mode & _SPECIAL:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "something special"
        raise BadManifest(f"{name} in it is {kind}, not a regular file")
    return member, behind


def _name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise BadManifest("the name of a member is neither ASCII nor said to be UTF-8") from None
    if not name or not name.isprintable() or len(raw) > _NAME_MAX:
        raise BadManifest("the name of a member is empty, too long or has characters that cannot be printed")
    if {"/", "\\", ":"} & set(name):
        raise BadManifest(f"{name} in it is a path; a bundle has plain names only")
    if name.startswith("."):
        raise BadManifest(f"{name} in it is hidden")
    return name


def _check_kind(name: str, told: _Told) -> None:
    if told.flags & 1:
        raise BadManifest(f"{name} in it is encrypted")
    if told.flags & ~(_UTF8 | _HOW_DEFLATED) or told.needs > _NEEDS_AT_MOST:
        raise BadManifest(f"{name} in it uses a feature of zip that is not taken here")
    if told.method not in {_STORED, _DEFLATED}:
        raise BadManifest(f"{name} in it is compressed with method {told.method}, which is not taken here")
    possible = (
        told.size == told.packed if told.method == _STORED else told.size <= told.packed * _MOST_DEFLATED
    )
    if not possible:
        raise BadManifest(f"{name} in it cannot have {told.size} bytes in {told.packed}")


def _behind(archive: bytes, member: _Member) -> int:
    """Compare what precedes a member with its entry; returns where the member ends."""
    told = member.told
    if member.offset + _LOCAL.size > len(archive):
        raise BadManifest(f"{member.name} in it is said to be where the archive has ended")
    magic, *local, name_length, extra = _LOCAL.unpack_from(archive, member.offset)
    start = member.offset + _LOCAL.size
    raw = archive[start : start + name_length]
    if magic != _LOCAL_MAGIC or extra or _Told(raw, *local) != told:
        raise BadManifest(f"{member.name} in it is described in two ways, or has extra fields")
    return start + len(raw) + told.packed


def _check_names(members: list[_Member]) -> None:
    seen: dict[str, str] = {}
    for name in (member.name for member in members):
        # Which of the two it would be depends on the file system that the archive was made for.
        folded = unicodedata.normalize("NFKC", name).casefold()
        if seen.get(folded) == name:
            raise BadManifest(f"{name} is in it twice")
        if folded in seen:
            raise BadManifest(f"{seen[folded]} and {name} in it are one name where case does not count")
        seen[folded] = name


def _content(archive: bytes, member: _Member) -> bytes:
    told = member.told
    start = member.offset + _LOCAL.size + len(told.raw_name)
    packed = archive[start : start + told.packed]
    content = _inflated(member.name, packed, told.size) if told.method == _DEFLATED else packed
    if len(content) != told.size or zlib.crc32(content) != told.crc:
        raise BadManifest(f"{member.name} in it is damaged: size or checksum differ from what is announced")
    return content


def _inflated(name: str, packed: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than there should be shows a stream that goes on.
        content = stream.decompress(packed, size + 1)
    except zlib.error as exc:
        raise BadManifest(f"{name} in it is damaged: {exc}") from None
    if not stream.eof or stream.unused_data:
        raise BadManifest(f"{name} in it is damaged: it is longer or shorter than announced")
    return content
