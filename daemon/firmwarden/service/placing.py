"""Puts files into a directory that others write to as well: each whole or not at all, and none over another one.

Every function blocks on the disk, so call them in a thread.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from firmwarden.errors import Refused
from firmwarden.files import Unusable, read_file, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

_HIDDEN: Final = ".upload-"
"""What the names begin with under which files are written; the intake leaves hidden ones alone.

Always the same ones, so that what a power cut left there is written over by the next."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
"""What file systems answer that give a file one name only, FAT among them (link(2))."""


class Placing:
    """A few files on their way into a directory; one such at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._laid: list[tuple[Path, Path]] = []
        """Hidden name and the one it is to get, in the order in which they get it."""
        self._named: list[Path] = []
        """Those that have got theirs, until all have."""

    def lay(self, name: str, content: bytes) -> None:
        """Write a file that is not to be seen yet; one that is there already with this content stays as it is.

        Raises:
            Refused: one with another content is there.
            OSError: it cannot be written.
        """
        path = self._directory / name
        if not _is_there(path, content):
            hidden = self._directory / f"{_HIDDEN}{len(self._laid)}"
            self._laid.append((hidden, path))
            hidden.unlink(missing_ok=True)
            _write(hidden, content)

    def show(self) -> None:
        """Give the files their names, in the order in which they were laid; each is on disk before the next one.

        Raises:
            Refused: another one got such a name meanwhile.
            OSError: it cannot be done.
        """
        for hidden, path in self._laid:
            _name(hidden, path)
            self._named.append(path)
            sync_directory(self._directory)
        self._named.clear()

    def clear(self) -> None:
        """Take back what was begun and not brought to its end; to be called in any case.

        Raises:
            OSError: the disk does not even let it be taken back.
        """
        for path in (*reversed(self._named), *(hidden for hidden, _ in self._laid)):
            path.unlink(missing_ok=True)


def _is_there(path: Path, content: bytes) -> bool:
    try:
        found, _ = read_file(path, len(content))
    except FileNotFoundError:
        return False
    except Unusable:  # longer, or no file at all
        found = None
    if found != content:
        raise _taken(path)
    return True


def _taken(path: Path) -> Refused:
    return Refused(
        f"{path.name} is in the firmware directory already, with other content; give this one another name, or "
        "remove that one first"
    )


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _name(hidden: Path, path: Path) -> None:
    """Unlike a renaming, a link does not take the place of what is there."""
    try:
        path.hardlink_to(hidden)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise _taken(path) from None
        hidden.rename(path)
