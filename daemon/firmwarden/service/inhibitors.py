"""Files by which workloads keep their class from being updated: while one is there, and not old, nothing starts.

Whoever writes them is not trusted with more than that.  What lies there may be a pipe, a link, a file without end, or
behind a file server that is gone: each is looked at in a thread of its own, for which nobody waits, and only the
beginning of a regular file is read.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from anyio import to_thread

from firmwarden.files import Unusable, refuse_special
from firmwarden.model import Wait, WaitKind
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from firmwarden.model import ClassName
    from firmwarden.service.clock import Clock

_READ: Final = 512
"""Bytes; the reason stands in the first line, and a sentence is enough of one."""
_REASON: Final = 200
"""Characters."""
SLOW_S: Final = 10.0
"""A look that takes longer is told: a file server that is gone, most likely."""


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """A file, and how long it counts after it was last touched."""

    path: Path
    counts_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the file found."""

    owner: str
    reason: str
    touched: tuple[int, int, int]
    """Changes when it is touched, or is another file."""
    touched_at: float
    """Wall clock, by whoever touched it."""


def look(path: Path) -> Seen | None:
    """Look at a file; None where there is none.

    Raises:
        OSError: it cannot be said whether there is one.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Seen(
        owner=_name_of(status.st_uid),
        reason=_first_line(path, status),
        touched=(status.st_dev, status.st_ino, status.st_mtime_ns),
        touched_at=status.st_mtime,
    )


def _first_line(path: Path, status: os.stat_result) -> str:
    """Read the reason; what cannot be read holds all the same, and that it cannot is the reason."""
    try:
        refuse_special(status)
        # O_NONBLOCK: it may have become a pipe just now.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            refuse_special(os.fstat(descriptor))
            content = os.read(descriptor, _READ)
        finally:
            os.close(descriptor)
    except Unusable as exc:
        return f"it {exc}"
    except OSError as exc:
        return f"its reason cannot be read: {exc.strerror}"
    line = content.decode(errors="replace").partition("\n")[0].strip()
    return printable(line)[:_REASON] or "no reason given"


def _name_of(user: int) -> str:
    try:
        return printable(pwd.getpwuid(user).pw_name)
    except KeyError:
        return f"user {user}"


@dataclass(slots=True)
class _Watched:
    """One file, as it stands."""

    inhibitor: Inhibitor
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    seen: Seen | None = None
    ends_at: float = 0.0
    """Boot clock: until then what was seen counts."""
    trouble: str = "was not looked at yet"
    looking_since: float | None = None
    """Boot clock, while a look is under way."""


class _Look(Protocol):
    def __call__(self, path: Path, /) -> Seen | None: ...


class Inhibitors:
    """Looks after the files of all classes."""

    def __init__(self, clock: Clock, changed: Callable[[], None], *, seen_at: _Look = look) -> None:
        """Take what they are told to.

        Args:
            clock: reads time.
            changed: told when one came, went or was touched.
            seen_at: looks at a file; runs in a thread.
        """
        self._clock = clock
        self._changed = changed
        self._seen_at = seen_at
        self._watched: dict[ClassName, _Watched] = {}

    def configure(self, inhibitors: Mapping[ClassName, Inhibitor]) -> None:
        """Put other files in force; of those that stay, what was seen stays."""
        known = self._watched
        self._watched = {
            name: known[name] if name in known and known[name].inhibitor == inhibitor else _Watched(inhibitor)
            for name, inhibitor in inhibitors.items()
        }

    async def run(self, every_s: Callable[[], float]) -> None:
        """Look at each file again and again until cancelled; one that is still being looked at is left out."""
        async with anyio.create_task_group() as tasks:
            while True:
                self.look(tasks)
                await anyio.sleep(every_s())

    def look(self, tasks: TaskGroup) -> None:
        """Begin to look at each file once."""
        for watched in self._watched.values():
            if watched.looking_since is None:
                watched.looking_since = self._clock.boot()
                tasks.start_soon(self._look_at, watched)

    async def _look_at(self, watched: _Watched) -> None:
        before = (watched.seen, watched.trouble)
        try:
            # Abandoned when the service stops: a file server that is gone holds a thread for minutes.
            seen = await to_thread.run_sync(
                self._seen_at, watched.inhibitor.path, limiter=watched.limiter, abandon_on_cancel=True
            )
        except OSError as exc:
            watched.trouble = f"cannot be looked at: {exc.strerror}"
        else:
            self._take(watched, seen)
        watched.looking_since = None
        if (watched.seen, watched.trouble) != before:
            self._changed()

    def _take(self, watched: _Watched, seen: Seen | None) -> None:
        watched.trouble = ""
        if seen is not None and (watched.seen is None or watched.seen.touched != seen.touched):
            # Its time ends at an instant of the clock that never jumps, and is never longer than it was said to be:
            # whoever touched it may go by a clock that is ahead.
            counts_s = watched.inhibitor.counts_s
            left_s = seen.touched_at + counts_s - self._clock.wall()
            watched.ends_at = self._clock.boot() + min(left_s, counts_s)
        watched.seen = seen

    def waits(self) -> dict[ClassName, Wait]:
        """What the classes wait for whose file is there, or of which that cannot be said."""
        boot, wall = self._clock.boot(), self._clock.wall()
        waits = {name: _wait(watched, boot, wall) for name, watched in self._watched.items()}
        return {name: wait for name, wait in waits.items() if wait is not None}


def _wait(watched: _Watched, boot: float, wall: float) -> Wait | None:
    path = watched.inhibitor.path
    slow = watched.looking_since is not None and boot - watched.looking_since > SLOW_S
    if watched.trouble or slow:
        # Nobody can say that the workload is idle.
        trouble = "does not answer" if slow else watched.trouble
        return Wait(kind=WaitKind.HOLD, detail=f"{path}, with which a workload may hold its class, {trouble}")
    left_s = watched.ends_at - boot
    if watched.seen is None or left_s <= 0.0:
        return None
    detail = f"its class is held by {watched.seen.owner} with {path}: {watched.seen.reason}"
    return Wait(kind=WaitKind.HOLD, detail=detail, until=wall + left_s)
