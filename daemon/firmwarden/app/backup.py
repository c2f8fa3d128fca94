"""Copies the state to one file, whether the daemon runs or not."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden import __version__
from firmwarden.app.archive import DATABASE, FORMAT, IMAGES, Contents, member_of, pack
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.errors import Refused
from firmwarden.files import Unusable, read_file, written_whole
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.service.telling import instant
from firmwarden.store.failures import translated
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import migrate, steps
from firmwarden.store.snapshot import snapshot

if TYPE_CHECKING:
    from typing import BinaryIO

    from firmwarden.model import ImageHash

_LOOKS: Final = 3
"""The daemon drops an image when no job needs it any more, perhaps after the database was copied: then both are copied
again.  What is still missing after so many copies is missing from the state itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """What is in a backup."""

    contents: Contents
    devices: int
    missing: frozenset[ImageHash]
    """Images that open jobs or devices refer to and that the state does not have."""


def back_up(state_dir: Path, target: Path) -> BackedUp:
    """Write a backup to a new file, which gets its name when all of it is on disk.

    Its directory needs room for the state twice.

    Raises:
        Refused: there is something by that name.
        StoreError: the database cannot be copied.
        OSError: the file cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise Refused(f"{target} exists already, and a backup takes nothing's place; name another file")
    with written_whole(target) as out:
        return write_backup(state_dir, out, beside=target.parent)


def write_backup(state_dir: Path, out: BinaryIO, *, beside: Path | None = None) -> BackedUp:
    """Write a backup to ``out``, with a copy of the state in ``beside`` meanwhile, or where temporary files go.

    Raises as ``back_up`` does.
    """
    with tempfile.TemporaryDirectory(prefix=".firmwarden-", dir=beside) as name:
        directory = Path(name)
        missing = _collect(state_dir, directory)
        for _ in range(_LOOKS - 1):
            if missing:
                missing = _collect(state_dir, directory)
        with closing(sqlite3.connect(directory / DATABASE)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (devices,) = connection.execute("SELECT count(*) FROM devices WHERE NOT forgotten").fetchone()
        images = sorted(each.name for each in (directory / IMAGES).iterdir())
        contents = Contents(
            format=FORMAT,
            firmwarden=__version__,
            schema_version=schema,
            made_at=instant(time.time()),
            host=_host(),
            members=tuple(
                member_of(directory, each) for each in (DATABASE, *(f"{IMAGES}/{image}" for image in images))
            ),
        )
        pack(contents, directory, out)
    return BackedUp(contents=contents, devices=devices, missing=missing)


def _collect(state_dir: Path, directory: Path) -> frozenset[ImageHash]:
    """Copy the database and then the images that it needs into an empty directory; return those that are not there."""
    for each in directory.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    (directory / IMAGES).mkdir()
    snapshot(state_dir / STATE_FILE, directory / DATABASE)
    missing = set()
    for image in _needed(state_dir, directory):
        try:
            content, _ = read_file(state_dir / IMAGES_DIR / image, LARGEST_IMAGE)
        except (FileNotFoundError, Unusable):
            missing.add(image)
            continue
        if hash_of(content) == image:
            (directory / IMAGES / image).write_bytes(content)
        else:
            missing.add(image)
    return frozenset(missing)


def _needed(state_dir: Path, directory: Path) -> set[ImageHash]:
    """Ask which images the copied database needs.

    What is asked is one more copy, with the schema of this program: after an upgrade the state has an older one until
    the service starts, and as such it is backed up.
    """
    asked = directory / "asked.db"
    shutil.copyfile(directory / DATABASE, asked)
    with (
        translated(str(state_dir / STATE_FILE)),
        closing(sqlite3.connect(asked, isolation_level=None)) as connection,
    ):
        migrate(connection, None, steps())
        connection.row_factory = sqlite3.Row
        needed = Ledger(connection).needed_images()
    asked.unlink()
    return needed


def _host() -> str:
    name = Path("/proc/sys/kernel/hostname").read_text(encoding="ascii", errors="replace").strip()
    return "".join(each for each in name if each.isprintable())
