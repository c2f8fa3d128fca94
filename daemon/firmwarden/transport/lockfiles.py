"""Lock files of serial ports: how terminal programs such as minicom and picocom say that they have one.

They take neither flock nor TIOCEXCL, so the port would open all the same.  A lock file is looked at before opening,
which moves the control lines; none is written, the kernel's own locks are ours.

Source: Filesystem Hierarchy Standard 3.0, 5.9: ``/var/lock/LCK..NAME`` holds the process id as ten ASCII characters
and a line feed.  Programs put ``_`` for the slashes of names in folders of ``/dev``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from firmwarden.transport.holders import process_name

LOCK_DIR: Final = Path("/var/lock")

_LONGEST: Final = 64
"""Some programs write their name behind the number."""


def locked_by(path: str, *, lock_dir: Path | None = None) -> str | None:
    """Name the living process that wrote a lock file for a port, by this or by its real name."""
    for name in dict.fromkeys((path, os.path.realpath(path))):
        process = _writer((lock_dir or LOCK_DIR) / f"LCK..{name.removeprefix('/dev/').replace('/', '_')}")
        if process is not None and process != os.getpid() and _lives(process):
            return f"{process_name(Path(f'/proc/{process}'))} (pid {process})"
    return None


def _writer(lock: Path) -> int | None:
    try:
        with lock.open("rb") as file:
            words = file.read(_LONGEST).split()
    except OSError:
        return None
    return int(words[0]) if words and words[0].isdigit() else None


def _lives(process: int) -> bool:
    """Ask the kernel, kill(2): a sandbox keeps the processes of others out of ``/proc``."""
    if process == 0:  # would mean ourselves
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
