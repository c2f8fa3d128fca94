"""What to tell a person who may not open a device."""

from __future__ import annotations

import grp
import stat
from pathlib import Path
from typing import Final

_GROUP_MAY: Final = stat.S_IRGRP | stat.S_IWGRP


def group_hint(path: str) -> str:
    """Name the group that may use a device; joining it is the usual cure, unless it is root's."""
    try:
        status = Path(path).stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    if status.st_mode & _GROUP_MAY != _GROUP_MAY or not status.st_gid:
        return ""
    return f"; members of the group {group} may open it"
