"""Keeps a second process away from the state.

Two daemons on one state would both write to the same devices.  The kernel drops the lock with its process, also
after kill -9, so there is nothing stale to clean up; the file itself stays, since removing it would race.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from firmwarden.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def lock(database: Path) -> int:
    """Take the lock file beside ``database`` and return its descriptor; closing that gives it back.

    Raises:
        StoreError: another process has it, or the file cannot be made.
    """
    path = database.with_name(f"{database.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}; the state directory must exist and this user must be able to write there"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(
            f"{path} is locked by process {holder}: another firmwarden uses this state directory; "
            "stop it, or give this one a state_dir of its own"
        ) from None
    # Whose it is only helps a person: on a full disk the lock holds without.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
    return descriptor
