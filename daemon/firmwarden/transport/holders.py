"""Who else has a port: said to people, never acted upon.

Source: proc(5), ``/proc/PID/fd`` and ``/proc/PID/comm``.
"""

# ruff: noqa: PTH115, PTH208
# Functions of os where pathlib would do: there may be tens of thousands of descriptors to look at.

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.transport.nodes import node_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.transport.nodes import Node

_TIME_LIMIT_S: Final = 0.5
"""Ten times what a machine with a thousand processes needs."""
_NAMED_AT_MOST: Final = 3


def who_holds(path: str, *, proc_root: Path = Path("/proc")) -> str:
    """Name the processes that have a port open, else the command that finds out; takes half a second at most.

    Not in the event loop: it reads ``/proc``.

    Returns:
        For example ``ModemManager (pid 812)``, to be put after "held by".
    """
    found = sorted(_holders(path, proc_root))
    if not found:
        # They may belong to somebody else, be in another container, or have let go in the meantime.
        return f"another process (run: sudo fuser -v {shlex.quote(path)})"
    named = [f"{process_name(proc_root / str(pid))} (pid {pid})" for pid in found[:_NAMED_AT_MOST]]
    if len(found) > _NAMED_AT_MOST:
        named.append(f"{len(found) - _NAMED_AT_MOST} more")
    return " and ".join(named)


def _holders(path: str, proc_root: Path) -> Iterator[int]:
    node = node_of(path)
    if node is None:
        return
    deadline = time.monotonic() + _TIME_LIMIT_S
    for process in _listing(str(proc_root)):
        if not process.isdecimal() or int(process) == os.getpid():
            continue
        directory = f"{proc_root}/{process}/fd"
        for descriptor in _listing(directory):
            if time.monotonic() > deadline:
                return
            if _leads_to(f"{directory}/{descriptor}", node):
                yield int(process)
                break


def _listing(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # the process ended, or we may not look
        return []


def _leads_to(descriptor: str, node: Node) -> bool:
    try:
        # Only what is said to be a device is asked for its number: that of a file on a dead network
        # mount would not come.
        return "/dev/" in os.readlink(descriptor) and node_of(descriptor) == node
    except OSError:
        return False


def process_name(process: Path) -> str:
    """The name of a process, which may be anything that it likes."""
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return "a process"
    return "".join(char if char.isprintable() else "?" for char in name) or "a process"
