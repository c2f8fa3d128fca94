"""The file that a backup is: a plain tar with a manifest in front, and nothing that the manifest does not say.

``tar`` lists and unpacks it.  What is read here may come from anywhere, so it is not read with a library that knows
links, devices, sparse files and names of every length: each member must be the next one of the manifest, a regular
file with its name, size and hash, and all that follows the last is the end.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from firmwarden.errors import FirmwardenError
from firmwarden.images.cas import LARGEST_IMAGE

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASE: Final = "firmwarden.db"
IMAGES: Final = "images"

_LARGEST_MANIFEST: Final = 1 << 20
"""Room for thousands of images; it is held in memory."""
_LARGEST_DATABASE: Final = 4 << 30
"""Far beyond a thousand attempts of each of a thousand devices."""
_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = 2 * _BLOCK
"""Bytes of zeros that end a tar at least; what writes in records adds more, up to one of them."""
_CHUNK: Final = 1 << 20

_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=255)]


class BadBackup(FirmwardenError):
    """A file is no backup, or not as it was written; the message says why."""


class Member(BaseModel):
    """One file within."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=rf"^(firmwarden\.db|{IMAGES}/[0-9a-f]{{64}})$")]
    size: Annotated[int, Field(ge=0, le=_LARGEST_DATABASE)]
    sha256: _Digest


class Contents(BaseModel):
    """The manifest."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: int
    firmwarden: _Text
    """The version that wrote it."""
    schema_version: Annotated[int, Field(ge=1)]
    """Of the database."""
    made_at: _Text
    """RFC 3339."""
    host: _Text
    members: tuple[Member, ...]

    @property
    def made(self) -> str:
        """When and where it was made, in words."""
        return f"a backup of {self.made_at} from {self.host}"

    @property
    def images(self) -> list[str]:
        """The hashes of its images."""
        return [member.sha256 for member in self.members[1:]]


def pack(contents: Contents, directory: Path, out: BinaryIO) -> None:
    """Write the members, which lie in ``directory`` under their names."""
    text = contents.model_dump_json(indent=1).encode()
    out.write(_header(MANIFEST, len(text)))
    out.write(text)
    _pad(out, len(text))
    for member in contents.members:
        out.write(_header(member.name, member.size))
        with (directory / member.name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                out.write(chunk)
        _pad(out, member.size)
    out.write(bytes(_END))


def unpack(source: BinaryIO, directory: Path) -> Contents:
    """Read a backup into the empty ``directory``, every member checked.

    Raises:
        BadBackup: it is refused; what was unpacked up to then is not to be used.
        OSError: it cannot be read or written.
    """
    contents = _contents(source)
    (directory / IMAGES).mkdir(mode=0o700)
    for member in contents.members:
        _expect(source, member.name, member.size)
        _copy(source, member, directory / member.name)
    rest = _at_most(source, tarfile.RECORDSIZE + 1)
    if len(rest) < _END:
        raise BadBackup("it is cut off: its end is missing")
    if len(rest) > tarfile.RECORDSIZE or any(rest):
        raise BadBackup("there is more in it than its manifest says")
    return contents


def member_of(directory: Path, name: str) -> Member:
    """Describe a file that is to be packed."""
    with (directory / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Member(name=name, size=os.fstat(file.fileno()).st_size, sha256=digest)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _pad(out: BinaryIO, size: int) -> None:
    out.write(bytes(-size % _BLOCK))


def _contents(source: BinaryIO) -> Contents:
    name, size = _next(source)
    if name != MANIFEST or size > _LARGEST_MANIFEST:
        raise BadBackup(f"it is no backup of Firmwarden's: it does not begin with {MANIFEST}")
    text = _exactly(source, size)
    _skip_padding(source, size)
    try:
        contents = Contents.model_validate_json(text)
    except ValidationError as exc:
        newer = _format_of(text)
        if newer is not None and newer > FORMAT:
            raise BadBackup(_too_new(newer)) from exc
        fault = exc.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "all of it"
        raise BadBackup(f"its {MANIFEST} is not as Firmwarden writes it: {where}: {fault['msg']}") from exc
    if contents.format != FORMAT:
        raise BadBackup(_too_new(contents.format))
    names = [member.name for member in contents.members]
    if not names or names[0] != DATABASE or len(set(names)) != len(names):
        raise BadBackup(f"its {MANIFEST} must name the database, then each image once")
    for member in contents.members[1:]:
        if member.name != f"{IMAGES}/{member.sha256}" or member.size > LARGEST_IMAGE:
            raise BadBackup(f"its {MANIFEST} has {member.name}, which is no image that Firmwarden keeps")
    return contents


def _too_new(number: int) -> str:
    return f"it has format {number}, this Firmwarden knows {FORMAT}: restore it with the one that wrote it"


class _OnlyFormat(BaseModel):
    model_config = ConfigDict(strict=True)

    format: int


def _format_of(text: bytes) -> int | None:
    """What a manifest says of its format, where no more of it can be read."""
    try:
        return _OnlyFormat.model_validate_json(text).format
    except ValidationError:
        return None


def _next(source: BinaryIO) -> tuple[str, int]:
    """Read the header of a regular file."""
    block = _exactly(source, _BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as exc:
        raise BadBackup(f"it is no backup, or damaged: no tar header where one should be ({exc})") from exc
    if info.type != tarfile.REGTYPE or info.linkname or info.size < 0:
        raise BadBackup(f"it has something else than plain files: {info.name!r}")
    return info.name, info.size


def _expect(source: BinaryIO, name: str, size: int) -> None:
    found = _next(source)
    if found != (name, size):
        raise BadBackup(f"it has {found[0]!r} with {found[1]} bytes where {name} with {size} should be")


def _copy(source: BinaryIO, member: Member, path: Path) -> None:
    digest = hashlib.sha256()
    left = member.size
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while left:
            chunk = _exactly(source, min(left, _CHUNK))
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != member.sha256:
        raise BadBackup(f"{member.name} is not as it was written: its sha256 is {digest.hexdigest()}")
    _skip_padding(source, member.size)


def _skip_padding(source: BinaryIO, size: int) -> None:
    if any(_exactly(source, -size % _BLOCK)):
        raise BadBackup("there is more in it than its manifest says")


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = _at_most(source, size)
    if len(data) < size:
        raise BadBackup("it is cut off" if data else "it is cut off, or empty")
    return data


def _at_most(source: BinaryIO, size: int) -> bytes:
    """Read so many bytes, fewer only at the end; a pipe may give them in parts."""
    data = bytearray()
    while len(data) < size and (part := source.read(size - len(data))):
        data += part
    return bytes(data)
