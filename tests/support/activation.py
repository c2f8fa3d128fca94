"""Starting a program as a service manager does that holds its sockets: sd_listen_fds(3)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MANAGER: Final = """
import os, sys
names, *argv = sys.argv[1:]
descriptors, argv = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
high = [os.dup2(int(each), 100 + number) for number, each in enumerate(descriptors)]
for number, each in enumerate(high):
    os.dup2(each, 3 + number)
    os.close(each)
os.environ |= {"LISTEN_FDS": str(len(high)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
os.execvp(argv[0], argv)
"""


def activated(descriptors: Sequence[int], names: str, *argv: object) -> tuple[object, ...]:
    """Return a command that runs ``argv`` with these descriptors from 3 on; the process has to inherit them."""
    return (sys.executable, "-c", _MANAGER, names, *descriptors, "--", *argv)
