"""Turns what SQLite reports into ``StoreError``, once, with what to do about it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from firmwarden.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Primary result codes, https://www.sqlite.org/rescode.html
_ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "the disk is full; make room on its file system",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions and whether the file system is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its directory exists and may be written",
    sqlite3.SQLITE_PERM: "it may not be used; check its permissions",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; close whatever else has it open",
    sqlite3.SQLITE_IOERR: "the storage reports an error; look at the kernel log and check the medium",
}
_DAMAGED: Final = (
    "it is damaged; stop the service, put it aside and restore a backup, or start without it: "
    "jobs are then planned anew, but history, latches and wear are lost"
)


def damaged(where: str, finding: str) -> StoreError:
    """Say that a database cannot be trusted any more."""
    return StoreError(f"{where}: {_DAMAGED} ({finding})")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise ``StoreError`` for whatever goes wrong with the database ``where`` inside."""
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        # Extended codes carry the primary one in their low byte.  One of them is a full disk by another name: there is
        # no room for the index of the write-ahead log.
        code = sqlite3.SQLITE_FULL if extended == sqlite3.SQLITE_IOERR_SHMSIZE else extended & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise damaged(where, str(error)) from error
        if code in _ADVICE:
            raise StoreError(f"{where}: {_ADVICE[code]} ({error}); nothing was changed") from error
        raise StoreError(f"{where}: {error}") from error
