"""The exit status of ``update`` and of ``retry --wait``: what a script may build on.

The command line and the one-shot update both know it, so it stands below them.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitStatus(IntEnum):
    """How one update ended."""

    SUCCEEDED = 0
    REFUSED = 1
    """The device's own verdict; trying again does not help."""
    NOT_STARTED = 2
    """Usage or bad input: nothing was sent."""
    EXHAUSTED = 3
    """Only transport trouble, but the budget for it is used up."""
    UNKNOWN = 4
    """Whether the device runs the new image is not known."""
    INTERRUPTED = 130
    """By SIGINT, as shells have it."""
