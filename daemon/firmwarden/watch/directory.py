"""Hints that something in a directory changed, by inotify(7).

An event shortens the wait for the next scan and says nothing more (invariant 7): network file systems send none,
a queue overflows, and what a file holds is known only by reading it.  The directory may be missing, be removed
and made again or be mounted over; the watch then looks at the nearest directory above it.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import anyio
from anyio import to_thread
from asyncinotify import Event, Inotify, Mask, Watch

from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_TOGETHER_S: Final = 0.02
"""What happens within this time is one change: a copy is several events, a release several files."""
_EVENTS_AT_ONCE: Final = 16_384
"""The kernel's default limit of a queue (max_queued_events); more than that cannot wait here."""

_ITSELF: Final = Mask.ONLYDIR | Mask.DELETE_SELF | Mask.MOVE_SELF
_APPEARING: Final = _ITSELF | Mask.CREATE | Mask.MOVED_TO | Mask.ATTRIB
_NAMES: Final = _APPEARING | Mask.DELETE | Mask.MOVED_FROM
_CONTENTS: Final = _NAMES | Mask.CLOSE_WRITE


class WatchUnavailable(FirmwardenError):
    """There are no events about a directory; the message says why.  Scans go on."""


class DirectoryWatch:
    """Waits for changes in one directory; holds an inotify instance until it is closed."""

    def __init__(self, directory: Path, *, contents: bool) -> None:
        """Begin to listen.

        Args:
            directory: what to watch, an absolute path; it may not be there yet.
            contents: whether files that are written count as changes, or only names that come and go.  In ``/dev``
                every process that is done with ``/dev/null`` would be a change.

        Raises:
            WatchUnavailable: the user has too many inotify instances.
        """
        self._directory = directory
        self._mask = _CONTENTS if contents else _NAMES
        try:
            self._inotify = Inotify(sync_timeout=0)
        except OSError as exc:
            raise WatchUnavailable(f"changes in {directory} cannot be watched: {exc.strerror}") from exc
        self._watch: Watch | None = None
        self._limiter = anyio.CapacityLimiter(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; nobody may be waiting."""
        self._inotify.close()

    async def next_change(self) -> None:
        """Wait until something may have changed; whatever came in the meantime is one change.

        The first call returns at once, and so does one that finds the directory come or gone: what happened before
        it was listened to is for a scan to find.  A cancelled call may swallow events, so a scan has to follow.

        Raises:
            WatchUnavailable: the user has too many inotify watches.
        """
        changed = await self._listen()
        while not changed:
            event = await self._inotify.get()
            changed = self._concerns(event) or await self._listen()
        await anyio.sleep(_TOGETHER_S)
        for _ in range(_EVENTS_AT_ONCE):
            if self._inotify.sync_get() is None:
                break

    def _concerns(self, event: Event) -> bool:
        """Tell events of the directory from those of one above it, which only say that it may be there now."""
        # An overflow of the queue comes behind the events that filled it, so it needs no answer of its own.
        return self._watch is not None and event.watch is self._watch and self._watch.path == self._directory

    async def _listen(self) -> bool:
        """Listen to the directory, or else to the nearest one above it; tell whether that is a new one.

        In a thread, because a file server that is gone can hold a look at a path for minutes.
        """
        return await to_thread.run_sync(self._follow, limiter=self._limiter)

    def _follow(self) -> bool:
        before = self._watch
        while True:
            watch = self._nearest()
            if watch is self._watch:
                # Seen twice: what is made below it from now on is an event.
                return watch is not before
            self._watch, old = watch, self._watch
            if old is not None:
                with suppress(OSError):  # it went by itself when its directory did
                    self._inotify.rm_watch(old)

    def _nearest(self) -> Watch | None:
        """Add a watch; where one is in place already, it costs a system call and is the same as before."""
        mask = self._mask
        for path in (self._directory, *self._directory.parents):
            try:
                watch = self._inotify.add_watch(path, mask)
            except OSError as exc:
                if exc.errno in (errno.ENOSPC, errno.ENOMEM):
                    raise WatchUnavailable(f"changes in {path} cannot be watched: {exc.strerror}") from exc
                mask = _APPEARING  # it is not there, no directory or not for us
            else:
                watch.path = path  # a directory keeps its watch when it moves
                return watch
        return None
