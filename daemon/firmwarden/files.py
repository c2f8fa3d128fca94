"""Files, whole or not at all: reading those that others made, and writing our own.

What is read is a regular file, and nobody is waited for.

A name in a directory that others write to may be a pipe that nobody feeds, a device, a link to anywhere, a
file without end or one that is being written right now.  None of these may hold the service or be read as what
it is not.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


class Unusable(FirmwardenError):
    """There is something by that name, but not a file to be read; the message goes on from the name."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file does; two equal ones mean the same content, given a moment between writes."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Take it from a ``stat``."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_file(path: Path, limit: int, *, follow: bool = False) -> tuple[bytes, Stamp]:
    """Read a regular file whole; also returns the stamp of what was read.

    Args:
        path: the file.
        limit: the largest size that is read.
        follow: whether the last part of ``path`` may be a symbolic link.

    Raises:
        Unusable: it is not a regular file, is larger than ``limit``, or changed meanwhile.
        OSError: it cannot be read.
    """
    # Looked at before it is opened: to open a tty may reset the board behind it.
    refuse_special(path.stat(follow_symlinks=follow))
    # O_NONBLOCK: a pipe is not waited for.  O_NOCTTY: a terminal does not become ours.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        before = os.fstat(descriptor)
        refuse_special(before)
        if before.st_size > limit:
            raise Unusable(f"is larger than {limit} bytes")
        content = bytearray()
        # One byte more than there should be shows a file that grows.
        while len(content) <= before.st_size:
            block = os.read(descriptor, before.st_size + 1 - len(content))
            if not block:
                break
            content += block
        stamp = Stamp.of(before)
        if len(content) != before.st_size or stamp != Stamp.of(os.fstat(descriptor)):
            raise Unusable("changed while it was read")
    finally:
        os.close(descriptor)
    return bytes(content), stamp


def refuse_special(status: os.stat_result) -> None:
    """Raise ``Unusable`` unless ``status`` is that of a regular file."""
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    raise Unusable(f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a regular file")


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that gets its name when all of it is on disk; only its owner may read it.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)  # noqa: PTH105 - mkstemp gives names
    except BaseException:
        os.unlink(unfinished)  # noqa: PTH108
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names in a directory survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
