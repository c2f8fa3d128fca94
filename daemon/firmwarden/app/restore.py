"""Puts a backup in the place of the state, as one step: before it the old state stands, after it the new one.

Everything is made ready beside the state first: the backup is unpacked and examined, what still counts of the present
state is worked into its database (``store.restored``), and the present state is put aside as a backup of its own.
Images only ever add to what is there, and the service drops those that nothing needs.  So one rename, that of the
database, is all that decides; no write-ahead log of the old one may be left by then, for SQLite would replay it into
the new one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from firmwarden.app.archive import DATABASE, IMAGES, BadBackup, Contents, unpack
from firmwarden.app.backup import back_up
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.errors import Refused, StoreError
from firmwarden.files import sync_directory
from firmwarden.images.cas import ImageStore
from firmwarden.model import Action
from firmwarden.store.examine import examined
from firmwarden.store.failures import translated
from firmwarden.store.lock import lock
from firmwarden.store.migrations import steps
from firmwarden.store.restored import Settled, settle
from firmwarden.store.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_STAGE: Final = "restore.part"
_LOGS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, https://www.sqlite.org/tempfiles.html."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done."""

    contents: Contents
    settled: Settled
    aside: Path | None
    """A backup of the state that was there, if there was one."""


def restore(state_dir: Path, source: BinaryIO, *, who: str) -> Restored:
    """Restore the backup that ``source`` gives.

    Raises:
        StoreError: the daemon uses the state.
        BadBackup: the backup is refused; nothing was changed.
        Refused: the present state cannot be read, so nothing of it could be kept; nothing was changed.
        OSError: there is no room, say; the old state stands.
    """
    if not state_dir.is_dir():
        # Not by starting the service: without a state it would give each device the newest release.
        raise Refused(
            f"{state_dir} does not exist; make it first, for the user of the service: "
            f"sudo install -d -o firmwarden -g firmwarden -m 750 {state_dir}"
        )
    database = state_dir / STATE_FILE
    descriptor = lock(database)
    try:
        _hand_over(state_dir, database.with_name(f"{database.name}.lock"))
        with _stage(state_dir) as stage:
            unpacked = stage / "backup"
            unpacked.mkdir()
            contents = unpack(source, unpacked)
            present = _present(database, stage)
            settled = _make_ready(unpacked / DATABASE, contents, present, who)
            aside = None if present is None else _put_aside(state_dir, stage)
            _add_images(state_dir, contents, unpacked)
            _close_log(database)
            _hand_over(state_dir, unpacked / DATABASE)
            os.replace(unpacked / DATABASE, database)  # noqa: PTH105 - a step, not a path's method
            sync_directory(state_dir)
    finally:
        os.close(descriptor)
    return Restored(contents=contents, settled=settled, aside=aside)


@contextmanager
def _stage(state_dir: Path) -> Iterator[Path]:
    """Give an empty directory on the same file system; one that a kill left behind goes first."""
    stage = state_dir / _STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _present(database: Path, stage: Path) -> Path | None:
    """Copy the present state, with the schema of this program; None where there is none.

    Raises:
        Refused: there is one that cannot be read.
    """
    beside = [log for log in (database.with_name(database.name + end) for end in _LOGS) if log.exists()]
    if not database.exists():
        if beside:
            raise Refused(f"{beside[0]} belongs to a database that is not there; put it aside too")
        return None
    copy = stage / "present.db"
    try:
        snapshot(database, copy)
        examined(copy).close()
    except StoreError as exc:
        aside = database.with_name("aside")
        raise Refused(
            f"the present state cannot be read, so the flash wear that it counted and the latches that it has would be "
            f"lost: {exc}. If that has to be, put it aside and restore again: mkdir {aside} && "
            f"mv {' '.join(map(str, (database, *beside)))} {aside}"
        ) from exc
    return copy


def _make_ready(database: Path, contents: Contents, present: Path | None, who: str) -> Settled:
    """Examine the database of a backup and settle what still counts.

    Raises:
        BadBackup: it is refused.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != contents.schema_version:
            raise BadBackup(
                f"its database has schema version {version}, its manifest says {contents.schema_version}"
            )
        if version > steps()[-1].number:
            raise BadBackup(
                f"its database has schema version {version}, this Firmwarden knows up to {steps()[-1].number}: "
                f"restore it with version {contents.firmwarden}, which wrote it, or a newer one"
            )
        connection = examined(database)
    except (sqlite3.Error, StoreError) as exc:
        raise BadBackup(f"its database is refused: {exc}") from exc
    with closing(connection), translated(str(database)):
        act = Action(at=time.time(), who=who, what="restore", target="all", detail=contents.made)
        settled = settle(connection, present, act, contents.made)
        # One file, with all of it: the rename takes no log along.
        connection.execute("PRAGMA journal_mode = DELETE")
    with database.open("rb") as file:
        os.fsync(file.fileno())
    return settled


def _put_aside(state_dir: Path, stage: Path) -> Path:
    """Keep the present state as a backup, under a name that nothing has."""
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"before-restore-{made}{more}.tar" for more in chain([""], map("-{}".format, count(2))))
    aside = next(path for path in map(state_dir.joinpath, names) if not path.exists())
    back_up(state_dir, stage / aside.name)
    _hand_over(state_dir, stage / aside.name)
    (stage / aside.name).rename(aside)
    sync_directory(state_dir)
    return aside


def _add_images(state_dir: Path, contents: Contents, unpacked: Path) -> None:
    directory = state_dir / IMAGES_DIR
    if directory.is_symlink():
        raise Refused(f"{directory} is a symbolic link, and what root makes there could be anywhere")
    images = ImageStore(directory)
    images.open()
    for image in contents.images:
        images.admit((unpacked / IMAGES / image).read_bytes())
    _hand_over(state_dir, directory, *directory.iterdir())


def _hand_over(state_dir: Path, *made: Path) -> None:
    """Give what root made to the daemon's user, who could not write it otherwise."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        for path in made:
            # Not what a link leads to: that user could have left one to any file of root's.
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _close_log(database: Path) -> None:
    """Bring everything of the write-ahead log into the database, and end with one file."""
    if not database.exists():
        return
    with translated(str(database)), closing(sqlite3.connect(database, isolation_level=None)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    if mode != "delete" or database.with_name(f"{database.name}-wal").exists():
        raise StoreError(f"{database}: another program has it open; close that")
