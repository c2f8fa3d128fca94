"""One simulated device of a demo, and what should become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OLD: Final = "1.4.0"
"""What every device comes with."""
NEW: Final = "2.0.0"
BAUD: Final = 230_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Who it is, how it misbehaves and how it ends."""

    name: str
    story: str
    fault: str = ""
    options: str = ""
    """Option bytes that are not as delivered, for one on the USB."""
    ends: str | None = "succeeded"
    """The state of its last job; None where it gets none."""
    runs: str | None = NEW
    """What runs on it in the end; None where nothing can."""
    waits: str | None = None
    """For what its job waits in the end, if it does not end."""
    attempts: int = 1
    cause: str | None = None
