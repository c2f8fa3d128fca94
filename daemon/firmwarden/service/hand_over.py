"""Has the owner of a port off it while a device there is spoken to, and back afterwards, whatever happened.

Who is about to be stopped stands in the store before, and is struck out when it was started again: so a kill or a
power loss in between leaves a row, and the next start begins with it.  Several devices may share an owner; it is
stopped for the first that needs the port and started after the last.  One that does not leave is asked once for all
who wait for it, and started in any case: it may have stopped half.  What cannot be started again is tried again
until it can, and stays in the store as long.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from firmwarden.errors import PortHeld, StoreError
from firmwarden.events import LogEvent
from firmwarden.service.port_owner import Owner, OwnerStays
from firmwarden.service.telling import instant

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from anyio.abc import TaskStatus

    from firmwarden.service.clock import Clock
    from firmwarden.store.store import Store

log = structlog.get_logger()

REFUSAL_S: Final = 1.0
"""So long an owner that did not leave is not asked again: whoever wants its port at the same time has the same answer.
Shorter than the first pause before a port that is held."""
AGAIN_FIRST_S: Final = 5.0
AGAIN_LONGEST_S: Final = 300.0
"""An owner that could not be started again is tried again after a pause that doubles between these."""


@dataclass(slots=True)
class _Loan:
    """What is known of one owner."""

    owner: Owner
    since: float | None = None
    """Wall clock, when it was about to be stopped; the same as in the store, None where nothing is."""
    stopped: bool = False
    """It was seen to stop, and nothing has started it since."""
    told: bool = True
    """Whether anybody heard that it was stopped, and has to hear of its return; not where it would not leave."""
    users: int = 0
    """How many need the port now."""
    refusal: str = ""
    """Why it did not leave when it was asked last."""
    refused_at: float = -inf
    """Boot clock: when that was."""
    trouble: str = ""
    """Why it could not be started again."""
    failures: int = 0
    again_at: float = 0.0
    """Boot clock: before that starting it is not tried again."""
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Whoever stops or starts it has this."""


class HandOver:
    """The owners of ports, for one run of the service."""

    def __init__(self, store: Store, clock: Clock, remembered: Callable[[str], Owner]) -> None:
        """Take what is needed.

        Args:
            store: where it stands who was stopped.
            clock: for instants.
            remembered: makes an owner from its name in the store.
        """
        self._store = store
        self._clock = clock
        self._remembered = remembered
        self._loans: dict[str, _Loan] = {}
        self._changed = anyio.Event()

    @asynccontextmanager
    async def lent(self, owner: Owner | None) -> AsyncGenerator[None]:
        """Have an owner off its port as long as the context lasts; nothing to do where there is none.

        On the way out it is started again, also when cancelled: bounded by the owner's own patience.

        Raises:
            PortHeld: it cannot be stopped.  It was started again, in case it had stopped half.
            StoreError: that it is stopped cannot be noted, so it was not.
        """
        if owner is None:
            yield
            return
        loan = self._loans.setdefault(owner.key, _Loan(owner))
        loan.users += 1
        try:
            async with loan.turn:
                loan.owner = owner  # a reload may have given it more patience
                if not loan.stopped:
                    await self._stop(loan)
            yield
        finally:
            loan.users -= 1
            with anyio.CancelScope(shield=True):
                await self._give_back(loan)

    async def _stop(self, loan: _Loan) -> None:
        owner = loan.owner
        if self._clock.boot() < loan.refused_at + REFUSAL_S:
            raise _stays(loan)
        try:
            if loan.since is None:
                if not await owner.runs():
                    return
                now = self._clock.wall()
                await self._store.run(lambda ledger: ledger.hand_over(owner.key, now))
                loan.since, loan.told = now, False
            await owner.stop()
        except OwnerStays as exc:
            loan.refusal, loan.refused_at = str(exc), self._clock.boot()
            raise _stays(loan) from exc
        loan.stopped = loan.told = True
        log.info(LogEvent.PORT_LENT, owner=owner.title)

    async def _give_back(self, loan: _Loan) -> None:
        """Start an owner again, if it was stopped and nobody needs its port any more."""
        async with loan.turn:
            since = loan.since
            if since is None or loan.users:
                return
            loan.stopped = False
            try:
                await loan.owner.start()
                # The start stands for itself; where this fails it is done once more, which is harmless.
                await self._store.run(lambda ledger: ledger.handed_back(loan.owner.key))
            except (OwnerStays, StoreError) as exc:
                pause_s = min(AGAIN_FIRST_S * 2.0 ** min(loan.failures, 10), AGAIN_LONGEST_S)
                loan.failures += 1
                loan.trouble, loan.told = str(exc), True
                loan.again_at = self._clock.boot() + pause_s
                self._changed.set()
                log.error(
                    LogEvent.PORT_NOT_RETURNED,
                    owner=loan.owner.title,
                    detail=loan.trouble,
                    retry_in_s=round(pause_s, 1),
                )
                return
            loan.since, loan.trouble, loan.failures, loan.again_at = None, "", 0, 0.0
            if loan.told:
                seconds = max(self._clock.wall() - since, 0.0)
                log.info(LogEvent.PORT_RETURNED, owner=loan.owner.title, seconds=round(seconds, 1))

    async def recall(self) -> None:
        """Take up what an earlier run has left stopped.

        Raises:
            StoreError: it cannot be read.
        """
        left = await self._store.run(lambda ledger: ledger.handed_over())
        for key, since in left.items():
            self._loans[key] = _Loan(self._remembered(key), since=since)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Start again whoever an earlier run has left stopped, and whoever could not be started; until cancelled."""
        await self.recall()
        task_status.started()
        while True:
            self._changed = anyio.Event()
            now = self._clock.boot()
            idle = [loan for loan in self._loans.values() if loan.since is not None and not loan.users]
            due = [loan for loan in idle if loan.again_at <= now]
            if due:
                await self._return_all(due)
                continue
            with anyio.move_on_after(min((loan.again_at - now for loan in idle), default=inf)):
                await self._changed.wait()

    async def close(self) -> None:
        """Try once more to start again whoever is stopped still: the last thing in a stop."""
        with anyio.CancelScope(shield=True):
            await self._return_all([loan for loan in self._loans.values() if loan.since is not None])

    async def _return_all(self, loans: list[_Loan]) -> None:
        async with anyio.create_task_group() as tasks:
            for loan in loans:
                tasks.start_soon(self._give_back, loan)

    def stopped_for(self, owner: Owner | None) -> str:
        """Say since when an owner is stopped; empty where it is not, as far as is known here."""
        loan = None if owner is None else self._loans.get(owner.key)
        if loan is None or loan.since is None:
            return ""
        return f"{loan.owner.title} is stopped since {instant(loan.since)}"

    @property
    def problems(self) -> list[str]:
        """Say of each owner that cannot be started again why."""
        return [
            f"{self.stopped_for(loan.owner)} to leave its port, and cannot be started again: {loan.trouble}; "
            "it is tried again, and `firmwarden hand-back` tries it when the daemon does not run"
            for loan in self._loans.values()
            if loan.trouble
        ]


def _stays(loan: _Loan) -> PortHeld:
    return PortHeld("its port", f"{loan.owner.title}, which cannot be made to leave: {loan.refusal}")
