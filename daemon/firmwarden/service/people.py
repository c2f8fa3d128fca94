"""Who is behind a number of a user: names may come from a directory server, and nobody waits for it for long."""

from __future__ import annotations

import pwd
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LOOKUP_S: Final = 2.0
"""Nobody waits for a directory server longer than this."""

_LOOKUPS: Final = anyio.CapacityLimiter(4)
"""Threads that hang in a lookup, at most: the others of this process are for its work."""


async def name_of(uid: int) -> str:
    """Return the name of a user, or the number where it has none."""
    return await looked_up(lambda: pwd.getpwuid(uid).pw_name, f"uid {uid}")


async def looked_up(look: Callable[[], T], otherwise: T) -> T:
    """Return what a look into the user database finds, or else ``otherwise``."""
    with anyio.move_on_after(_LOOKUP_S), suppress(KeyError):  # e.g. a user of a container
        return await anyio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=_LOOKUPS)
    return otherwise
