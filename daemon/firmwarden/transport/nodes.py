"""What makes two names one port."""

from __future__ import annotations

import os
import stat
from typing import Final

Node = tuple[int, int]
"""The number of a character device, and for a pty its instance of devpts: each container has one, and all of them
begin with number 0."""

PTY_MAJORS: Final = range(136, 144)
"""Linux kernel, Documentation/admin-guide/devices.txt."""


def node_of(path: str) -> Node | None:
    """The character device that a name leads to now; opens nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a scan asks for all ports every two seconds for years)
    except OSError:
        return None
    if not stat.S_ISCHR(status.st_mode):
        return None
    return status.st_rdev, status.st_dev if os.major(status.st_rdev) in PTY_MAJORS else 0
