"""Waiting in the machine, whose time is emulated: for conditions, and for longer than on any real one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE_S: Final = 120.0
_PAUSE_S: Final = 0.1


def until(condition: Callable[[], T | None], what: str, *, timeout_s: float = PATIENCE_S) -> T:
    """Wait until a condition gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{timeout_s:g} s passed without {what}"
        time.sleep(_PAUSE_S)
    return found
