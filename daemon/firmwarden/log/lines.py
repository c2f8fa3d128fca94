"""Writes lines to where nobody may be reading: a pipe whose reader hangs, a terminal in Ctrl-S, a full disk.

No update waits for a log (invariant 6): a line is begun only where the kernel takes something at once, and what it does
not take of one is kept until it does, so that no line is torn.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Lines:
    """One stream, as structlog writes to it.  What it cannot be given ends nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rest = b""
        self._lock = threading.Lock()
        """Threads log too, and none may write what another one is writing."""
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError):  # in memory, or closed
            self._descriptor = None
            return
        if stream.isatty():
            # That a terminal is writable promises no more than a byte.  What the shell has open is not ours to change.
            with suppress(OSError):
                own = os.open(f"/proc/self/fd/{self._descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                self._descriptor = own
                weakref.finalize(self, os.close, own)

    def takes_more(self) -> bool:
        """Whether a line that is written now is on its way."""
        if self._descriptor is None:
            return True
        with self._lock:
            self._push(self._descriptor)
            return not self._rest and _is_writable(self._descriptor)

    def write(self, text: str) -> None:
        """Write a line, or part of it now and the rest before the next."""
        if self._descriptor is None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
            return
        with self._lock:
            self._rest += text.encode(self._stream.encoding or "utf-8", "backslashreplace")
            self._push(self._descriptor)

    def flush(self) -> None:
        """Do nothing: ``write`` left nothing behind that would be taken."""

    def _push(self, descriptor: int) -> None:
        while self._rest and _is_writable(descriptor):
            try:
                # A pipe that is writable has room for so many: pipe(7).
                written = os.write(descriptor, self._rest[: select.PIPE_BUF])
            except BlockingIOError:
                return
            except OSError:
                self._rest = b""
                return
            self._rest = self._rest[written:]


def _is_writable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    # Where something is wrong with it, that is what a write says.
    return bool(poll.poll(0))
