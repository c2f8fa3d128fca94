"""Kills the service in the middle of what it does: nothing that a dying task still tries gets to the store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Killed(BaseException):
    """The process is gone: nothing of it may do anything any more."""


class Reaper:
    """Kills the service before or after one of its commits, or when told to."""

    def __init__(self, commit: int | None = None, *, after: bool = False) -> None:
        self._commit = commit
        self._after = after
        self.dead = False
        self.commits = 0

    def kill(self) -> None:
        self._die_if(now=True)

    def before_commit(self) -> None:
        self._die_if(now=not self._after and self.commits == self._commit)

    def after_commit(self) -> None:
        self.commits += 1
        self._die_if(now=self._after and self.commits - 1 == self._commit)

    def _die_if(self, *, now: bool) -> None:
        # Once dead, always dead: what handlers of the dying tasks try to write must not get there.
        self.dead = self.dead or now
        if self.dead:
            raise Killed


@contextmanager
def outliving() -> Iterator[None]:
    """Go on after a kill, and after nothing else."""
    try:
        yield
    except Killed:
        pass
    except BaseExceptionGroup as group:
        if group.split(Killed)[1] is not None:
            raise
