"""Whether the store still answers.

Whoever asks waits for a bounded time only, and there is one look at a time however many ask: a store that is stuck
holds the thread of that look and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from firmwarden.service.clock import Clock
    from firmwarden.store.store import Store

ANSWER_S: Final = 5.0
"""An fsync takes a second or more on a worn SD card, and what waits before us may be one or two of those."""


class Pulse:
    """Looks when it is asked; ``run`` has to run for that."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._asked = anyio.Event()
        self._beat = anyio.Event()
        """Set after the next look, and then another one."""
        self._found: float | StoreError = 0.0

    async def run(self) -> None:
        """Look when somebody asks, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            self._found = await self._look()
            self._beat.set()
            self._beat = anyio.Event()

    async def feel(self) -> float:
        """Return the seconds that the store took to answer.

        Raises:
            Unavailable: it does not answer.
            StoreError: its answer is that it cannot be used.
        """
        beat = self._beat
        self._asked.set()
        with anyio.move_on_after(ANSWER_S):
            await beat.wait()
        if not beat.is_set():
            raise Unavailable(f"the state database has not answered for {ANSWER_S:.0f} s")
        if isinstance(self._found, StoreError):
            raise self._found
        return self._found

    async def _look(self) -> float | StoreError:
        began = self._clock.boot()
        try:
            await self._store.run(lambda _: None)
        except StoreError as exc:
            return exc
        return self._clock.boot() - began
