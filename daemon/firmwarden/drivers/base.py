"""What the service asks of a driver, and what a driver asks of the service.

A driver tells one story: probe > enter > write > verify > leave > confirm.  It moves bytes and reports what
the device said; it never decides whether to try again, never logs and never touches the store.  Everything
durable goes through its ``Journal``, which returns only when the fact is on disk: that is how the intent
stands there before the device is touched (invariant 5).

The order that keeps invariant 1 is a driver's duty: no command that may start an image (leave, END, reset) is
sent before the device called the whole image valid, also not while cleaning up after a failure or a cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.model import Attempt, Cause, CommitMark, LinkStats


class Journal(Protocol):
    """The durable side of one attempt."""

    @property
    def unfinished(self) -> Attempt | None:
        """The latest earlier attempt that began to change this unit, unless one has succeeded since."""

    @property
    def entered(self) -> bool:
        """Whether an earlier attempt brought this unit out of its application, and nothing was erased since.

        If it is found in its loader, it was left there by us, with all that it ran.
        """

    async def entering(self) -> None:
        """Record that the unit is about to be brought out of its application.  Returns when it is on disk."""

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        """Record that an erase is about to start; counts wear.  Returns when it is on disk.

        Args:
            mark: what ``unfinished`` is to tell the driver of the next attempt, should this one be cut.
        """

    async def ending(self, mark: CommitMark | None = None) -> None:
        """Record that the device holds the whole, checked image and is about to be told to start it.

        Args:
            mark: as for ``erase_starting``; for an attempt that has nothing to erase.
        """


@unique
class Step(StrEnum):
    """What a driver is doing, for people who watch."""

    PROBE = "probe"
    ENTER = "enter"
    WRITE = "write"
    VERIFY = "verify"
    LEAVE = "leave"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Progress:
    """A sample of how far an attempt is; never stored."""

    step: Step
    done: int = 0
    """Bytes of the image that the device has accepted."""
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """How an attempt came down, when it did not fail."""

    confirmed: bool
    """True only with evidence from the device (invariant 2); False means the outcome is unknown."""
    evidence: str
    """One sentence for a person: what the device said."""
    version: str | None = None
    """The version that the device itself told, where it tells one."""
    cause: Cause | None = None
    """Why it is not confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One phase of an update as it would be done, and what an interruption in it would leave."""

    step: Step
    does: str
    if_interrupted: str


class Driver(Protocol):
    """One attempt at one device, made anew for each attempt."""

    @property
    def progress(self) -> Progress:
        """Sampled by whoever shows it."""

    @property
    def stats(self) -> LinkStats:
        """The counters so far, also after a failure."""

    def request_stop(self) -> None:
        """Stop at the next boundary between commands: ``update`` then raises ``AttemptFailed`` (``stopping``)."""

    async def update(self, image: bytes) -> Landing:
        """Write ``image``, have it checked, start it, ask whether it runs.

        Cancelling closes the link and sends nothing more.

        Raises:
            AttemptFailed: it ended without success; the cause says why.
            PortHeld: somebody else has the port; nothing was sent.
            MustWait: a person has to look first; nothing on the device was changed.
        """

    async def confirm(self) -> Landing:
        """Ask a device whose last attempt ended ``unknown`` what became of it; writes no image.

        Raises:
            AttemptFailed: the device answered, and the image did not hold.
            PortHeld: somebody else has the port; nothing was sent.
            MustWait: a person has to look first.
        """

    async def info(self) -> Mapping[str, str | int]:
        """What the device tells of itself and its loader, in the protocol's words.

        Raises:
            AttemptFailed: no loader answers, or it answers badly.
            PortHeld: somebody else has the port; nothing was sent.
        """

    async def plan(self, image: bytes) -> tuple[PlannedStep, ...]:
        """Say phase by phase what ``update`` would do; at most reads from a loader that runs already.

        Raises:
            AttemptFailed: the image cannot go there, or the loader cannot be read.
            PortHeld: somebody else has the port.
        """
