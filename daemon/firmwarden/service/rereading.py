"""Reads files of a directory that is looked at again and again: what did not change is neither read nor judged anew."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from firmwarden.errors import BadManifest
from firmwarden.files import Stamp, Unusable, read_file, refuse_special

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from firmwarden.service.clock import Clock

T = TypeVar("T")

_SETTLED_S: Final = 2.0
"""Two writes within one tick of the kernel's clock leave the same time stamp, so a file that changed a moment ago is
read again.  A tick is at most 10 ms; file systems of USB sticks count in steps of 2 s."""


class NotStored(BadManifest):
    """This machine could not keep an image; that says nothing about the file."""


@dataclass(frozen=True, slots=True)
class _Look(Generic[T]):
    """What a file was found to be, or why it is refused."""

    stamp: Stamp
    settled: bool
    beside: object
    result: T | BadManifest


class Reread(Generic[T]):
    """One file, as it was found to be when it was last read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: _Look[T] | None = None

    def read(
        self,
        entry: os.DirEntry[str],
        limit: int,
        judge: Callable[[bytes], T],
        *,
        beside: object = None,
        holds: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Say what a file is, and read it for that only if it may have become another.

        Args:
            entry: the file.
            limit: the largest size that is read.
            judge: says what it is; raises ``BadManifest`` where it is refused.
            beside: what else the judgement depends on.
            holds: tells whether what was found is still so.

        Raises:
            BadManifest: it is refused.
            FileNotFoundError: it has just been removed.
        """
        stamp = stamp_of(entry)
        last = self._last
        if (
            last is None
            or not last.settled
            or (last.stamp, last.beside) != (stamp, beside)
            or not (isinstance(last.result, BadManifest) or holds(last.result))
        ):
            with _refusing(entry.name):
                content, stamp = read_file(Path(entry.path), limit)
            result: T | BadManifest
            try:
                result = judge(content)
            except NotStored:
                raise
            except BadManifest as exc:
                result = BadManifest(*exc.args)
            last = self._last = _Look(stamp, self._is_settled(stamp), beside, result)
        if isinstance(last.result, BadManifest):
            raise BadManifest(*last.result.args)
        return last.result

    def _is_settled(self, stamp: Stamp) -> bool:
        return abs(self._clock.wall() - stamp.changed_ns / 1e9) >= _SETTLED_S


def stamp_of(entry: os.DirEntry[str]) -> Stamp:
    """Look at a file without opening it.

    Raises:
        BadManifest: it is none that could be read.
        FileNotFoundError: it has just been removed.
    """
    with _refusing(entry.name):
        status = entry.stat(follow_symlinks=False)
        refuse_special(status)
    return Stamp.of(status)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what keeps a file from being read into a refusal, but not that it has just been removed."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise BadManifest(f"{name} cannot be read: {exc.strerror}") from exc
    except Unusable as exc:
        raise BadManifest(f"{name} {exc}") from exc
