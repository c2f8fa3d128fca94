"""Runs one attempt for one device: claim, drive, conclude.

The worker is where the driver's story, the store and the policy meet.  Whatever a device, a wire or a person
does, an attempt that was claimed is concluded in the store; what a kill or a power loss leaves is concluded by
``recovery`` at the next start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from firmwarden.errors import AttemptFailed, BadImage, PortHeld, StoreError
from firmwarden.events import LogEvent
from firmwarden.model import Cause, CauseCode, Outcome, Phase
from firmwarden.service.chronicle import tell
from firmwarden.service.conclude import Concluding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from firmwarden.drivers.base import Driver, Journal, Landing
    from firmwarden.model import Address, Attempt, DeviceId, ImageHash, Job
    from firmwarden.service.clock import Clock
    from firmwarden.service.conclude import Conclusion
    from firmwarden.service.policy import Budgets
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()

STORE_AGAIN_S: Final = 5.0
"""Pause before an outcome that could not be stored is tried again: a full disk is not emptied any faster."""


LAST_WORDS_S: Final = 5.0
"""How long a conclusion may take while the daemon is being torn down; recovery does it otherwise."""


class Images(Protocol):
    """Where the verified bytes of an image come from."""

    async def load(self, image: ImageHash) -> bytes:
        """Read an image and check its hash.

        Raises:
            BadImage: it is not there or damaged.
        """


class MakeDriver(Protocol):
    """Makes the driver of a class for one attempt; only ``app`` knows which."""

    def __call__(self, job: Job, address: Address, journal: Journal) -> Driver:
        """Make it; touches nothing."""


class AttemptJournal:
    """The durable side of one attempt; also the last safe point at which it can be cancelled."""

    def __init__(self, store: Store, clock: Clock, attempt: Attempt) -> None:
        self._store = store
        self._clock = clock
        self.attempt = attempt
        """As it stands on disk."""
        self.cancelled: Cause | None = None
        """Set by who wants the attempt to stop before an erase begins."""

    async def erase_starting(self) -> None:
        """Record that an erase is about to start, unless somebody cancelled."""
        if self.cancelled is not None:
            raise AttemptFailed(self.cancelled)
        await self._store.run(lambda ledger: ledger.erase_starting(self.attempt.id, self._clock.wall()))
        self.attempt = replace(self.attempt, phase=Phase.WRITING, erase_starts=self.attempt.erase_starts + 1)

    async def ending(self) -> None:
        """Record that the device is about to be told to start the image."""
        await self._store.run(lambda ledger: ledger.ending(self.attempt.id, self._clock.wall()))
        self.attempt = replace(self.attempt, phase=Phase.ENDING)


class Run:
    """One attempt under way, as others see it."""

    def __init__(self, job: Job, journal: AttemptJournal, driver: Driver, started: float) -> None:
        self.job = job
        self.journal = journal
        self.driver = driver
        self.started = started
        """Boot clock."""

    def stop(self, cause: Cause) -> None:
        """Let it end at the next boundary between commands, for ``cause``."""
        self.journal.cancelled = self.journal.cancelled or cause
        self.driver.request_stop()


class Worker:
    """Runs attempts; one object serves every device, one call each attempt."""

    def __init__(
        self,
        *,
        store: Store,
        images: Images,
        make_driver: MakeDriver,
        budgets: Callable[[Job], Budgets],
        clock: Clock,
        dice: Callable[[], float],
        concluded: Callable[[Conclusion], Awaitable[None]],
    ) -> None:
        """Take what an attempt needs.

        Args:
            store: where it is recorded.
            images: where its bytes come from.
            make_driver: what moves them.
            budgets: of the class of a job.
            clock: for instants.
            dice: uniform in [0, 1), for the jitter.
            concluded: told after every conclusion is on disk.
        """
        self._store = store
        self._images = images
        self._make_driver = make_driver
        self._budgets = budgets
        self._clock = clock
        self._dice = dice
        self._concluded = concluded
        self.runs: dict[DeviceId, Run] = {}
        """Attempts and questions under way."""

    async def update(self, job: Job, address: Address, present_s: float) -> None:
        """Make one attempt at ``job``.

        Args:
            job: queued.
            address: where its device is.
            present_s: for how long the device was here since this was last told to the store.

        Raises:
            PortHeld: somebody else has the port; nothing was sent and no attempt counts.
        """
        now = self._clock.wall()
        attempt = await self._store.run(lambda ledger: _claim(ledger, job, present_s, now))
        with bound_contextvars(device=job.device, job=job.id, attempt=attempt.id, release=job.version):
            log.info(LogEvent.ATTEMPT_STARTED, port=str(address), number=attempt.number)

            async def story(driver: Driver) -> Landing:
                try:
                    image = await self._images.load(job.image)
                except BadImage as exc:
                    raise AttemptFailed(Cause(code=CauseCode.IMAGE_UNAVAILABLE, detail=str(exc))) from exc
                return await driver.update(image)

            await self._conclude_after(story, job, attempt, address)

    async def ask(self, job: Job, address: Address) -> None:
        """Ask the device of a job with an unknown outcome what became of it, and settle the record.

        Raises:
            PortHeld: somebody else has the port; nothing was sent.
        """
        attempt = await self._store.run(lambda ledger: ledger.last_attempt(job.id))
        if attempt is None:
            raise AssertionError(f"job {job.id} is unknown and has no attempt")
        with bound_contextvars(device=job.device, job=job.id, attempt=attempt.id, release=job.version):
            await self._conclude_after(lambda driver: driver.confirm(), job, attempt, address)

    async def _conclude_after(
        self, story: Callable[[Driver], Awaitable[Landing]], job: Job, attempt: Attempt, address: Address
    ) -> None:
        journal = AttemptJournal(self._store, self._clock, attempt)
        driver = self._make_driver(job, address, journal)
        run = Run(job, journal, driver, self._clock.boot())
        self.runs[job.device] = run
        try:
            await self._conclude(run, await self._tell(story, run))
        except PortHeld:
            if attempt.outcome is Outcome.RUNNING:
                await self._store.run(lambda ledger: ledger.unclaim(attempt.id, self._clock.wall()))
            raise
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._conclude(run, Cause(code=CauseCode.STOPPING, detail="the daemon stopped"))
            raise
        finally:
            del self.runs[job.device]

    @staticmethod
    async def _tell(story: Callable[[Driver], Awaitable[Landing]], run: Run) -> Landing | Cause:
        """Run the driver; only its verdict comes out, and ``PortHeld``."""
        try:
            return await story(run.driver)
        except AttemptFailed as exc:
            stopped = exc.cause.code is CauseCode.STOPPING and run.journal.cancelled is not None
            return run.journal.cancelled if stopped and run.journal.cancelled else exc.cause
        except PortHeld:
            raise
        except StoreError as exc:
            # The journal could not write, so the device was not touched any further.
            return Cause(code=CauseCode.INTERRUPTED, detail=str(exc))
        except Exception as exc:
            # A defect in a driver must not take down every other device (invariant 6); it is logged loudly.
            log.exception(LogEvent.WORKER_CRASHED, detail=repr(exc))
            return Cause(code=CauseCode.DEFECT, detail=repr(exc))

    async def _conclude(self, run: Run, result: Landing | Cause) -> None:
        conclusion = None
        while conclusion is None:
            try:
                conclusion = await self._store.run(lambda ledger: self._record(ledger, run, result))
            except StoreError as exc:
                log.error(LogEvent.STORE_FAILED, detail=str(exc))
                await anyio.sleep(STORE_AGAIN_S)
        tell(conclusion, self._clock.boot() - run.started, before=run.journal.attempt.outcome)
        await self._concluded(conclusion)

    def _record(self, ledger: Ledger, run: Run, result: Landing | Cause) -> Conclusion:
        concluding = Concluding(ledger, run.journal.attempt, stats=run.driver.stats, now=self._clock.wall())
        if isinstance(result, Cause):
            return concluding.failed(result, budgets=self._budgets(run.job), dice=self._dice())
        return concluding.landed(result)


def _claim(ledger: Ledger, job: Job, present_s: float, now: float) -> Attempt:
    ledger.add_presence(job.id, present_s)
    return ledger.claim(job.id, now)
