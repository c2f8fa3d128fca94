"""The durable side of DFU attempts, without a store: what one attempt leaves is what the next one finds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from firmwarden.errors import AttemptFailed, StoreError
from firmwarden.images.cas import hash_of
from firmwarden.model import Attempt, AttemptId, Cause, DeviceId, JobId, Outcome, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import CommitMark


@dataclass
class Book:
    """All attempts at one device."""

    attempts: list[Attempt] = field(default_factory=list)
    fails_at: str | None = None
    """Where the disk is full."""
    cancelled: Cause | None = None
    """What a person did."""
    entered: bool = False
    """Whether it was brought out of its application, and nothing was erased since."""
    noted: Callable[[str], None] = lambda _name: None
    """Is told what was made durable, when it was."""

    def begin(self, image: bytes) -> Journal:
        """Begin an attempt."""
        earlier = [each for each in self.attempts if each.phase is not Phase.PROBING]
        self.attempts.append(
            Attempt(
                id=AttemptId(len(self.attempts) + 1),
                job=JobId(1),
                device=DeviceId("d1"),
                image=hash_of(image),
                version="2.0.0",
                number=len(self.attempts) + 1,
                started_at=0.0,
                phase=Phase.PROBING,
                outcome=Outcome.RUNNING,
            )
        )
        return Journal(self, earlier[-1] if earlier else None)

    def succeeded(self) -> None:
        """Forget what is settled."""
        self.attempts.clear()
        self.entered = False


class Journal:
    """Of the latest attempt of a book."""

    def __init__(self, book: Book, unfinished: Attempt | None) -> None:
        self.unfinished = unfinished
        self.entered = book.entered
        self.names: list[str] = []
        self._book = book

    async def entering(self) -> None:
        await self._write("entering", self._book.attempts[-1])
        self._book.entered = True

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        if self._book.cancelled is not None:
            raise AttemptFailed(self._book.cancelled)
        now = self._book.attempts[-1]
        await self._write(
            "erase-starting",
            replace(now, phase=Phase.WRITING, erase_starts=now.erase_starts + 1, mark=mark or now.mark),
        )
        self._book.entered = False

    async def ending(self, mark: CommitMark | None = None) -> None:
        now = self._book.attempts[-1]
        await self._write("ending", replace(now, phase=Phase.ENDING, mark=mark or now.mark))

    async def _write(self, name: str, attempt: Attempt) -> None:
        await anyio.lowlevel.checkpoint()
        if self._book.fails_at == name:
            raise StoreError("the disk is full")
        self._book.attempts[-1] = attempt
        self.names.append(name)
        self._book.noted(name)
