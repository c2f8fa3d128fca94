"""Opening files that others made: regular files only, without waiting for anybody.

A name in a directory that others can write to may be a pipe that nobody feeds, a device, a link to anywhere
or a file without end.  None of these may hold the service or be read as what it is not.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NotAFile(FirmwardenError):
    """There is something by that name which is not a regular file, or is too large; the message says what."""


@contextmanager
def regular_file(path: Path, *, follow: bool) -> Iterator[int]:
    """Open ``path`` for reading; yields the descriptor and closes it.

    Args:
        path: what to open.
        follow: whether the last part may be a symbolic link.

    Raises:
        NotAFile: it is a link, directory, pipe, socket or device.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: opening a pipe does not wait for a writer. O_NOCTTY: a terminal does not become ours.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    # Looked at first as well: opening a tty may reset the board behind it, and opening others may act too.
    _refuse_special(path.stat(follow_symlinks=follow).st_mode)
    descriptor = os.open(path, flags)
    try:
        _refuse_special(os.fstat(descriptor).st_mode)
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(path: Path, limit: int, *, follow: bool) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        NotAFile: it is not a regular file, or larger.
        OSError: it cannot be read.
    """
    with regular_file(path, follow=follow) as descriptor:
        content = bytearray()
        while len(content) <= limit:
            block = os.read(descriptor, limit + 1 - len(content))
            if not block:
                return bytes(content)
            content += block
    raise NotAFile(f"is larger than {limit} bytes")


def _refuse_special(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    raise NotAFile(f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a regular file")
