"""Runs one attempt for one device: claim, drive, conclude.

The worker is where the driver's story, the store and the policy meet.  Whatever a device, a wire or a person
does, an attempt that was claimed is concluded in the store; what a kill or a power loss leaves is concluded by
``recovery`` at the next start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from firmwarden.drivers.base import Landing
from firmwarden.errors import AttemptFailed, BadImage, MustWait, PortHeld, StoreError
from firmwarden.events import LogEvent
from firmwarden.model import Cause, CauseCode, JobState, Outcome, Phase
from firmwarden.service.chronicle import tell
from firmwarden.service.conclude import Concluding
from firmwarden.service.lending import Lending
from firmwarden.service.orders import orders_for
from firmwarden.service.policy import DISPOSITIONS, Disposition
from firmwarden.service.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.model import Address, Attempt, CommitMark, Device, DeviceId, ImageHash, Job
    from firmwarden.service.clock import Clock
    from firmwarden.service.conclude import Conclusion
    from firmwarden.service.orders import Orders
    from firmwarden.service.policy import Budgets
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()

T = TypeVar("T")

_Result = Landing | Cause | PortHeld | MustWait
"""How a driver's story ended."""

_Begun = tuple["Attempt", "Attempt | None", "Device"]
"""The attempt, the one that was left unfinished before it, if any, and their unit as it was then."""

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

    def __call__(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        """Make it; touches nothing."""


class AttemptJournal:
    """The durable side of one attempt; also the last safe point at which it can be cancelled."""

    def __init__(
        self, store: Store, clock: Clock, attempt: Attempt, unfinished: Attempt | None, *, entered: bool
    ) -> None:
        self._store = store
        self._clock = clock
        self.attempt = attempt
        """As it stands on disk."""
        self.untouched = attempt.phase is Phase.PROBING
        """Until an erase is about to be recorded: so long the attempt can be cancelled."""
        self.cancelled: Cause | None = None
        """Set by who wants the attempt to stop."""
        self.complete_before: bool | None = None
        """Whether the device held a complete image before the first erase."""
        self.unfinished = unfinished
        """See ``Ledger.unfinished``; read with the claim, or with the question."""
        self.entered = entered
        """See ``Device.entered``; read at the same time."""

    async def entering(self) -> None:
        """Record that the unit is about to be brought out of its application."""
        await self._store.run(lambda ledger: ledger.entering(self.attempt.id, self._clock.wall()))

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        """Record that an erase is about to start, unless somebody cancelled."""
        if self.cancelled is not None:
            raise AttemptFailed(self.cancelled)
        self.untouched = False  # before the commit: whoever cancels while it is under way comes too late
        complete = await self._store.run(lambda ledger: self._record_erase(ledger, mark))
        if self.attempt.erase_starts == 0:
            self.complete_before = complete
        self.attempt = replace(
            self.attempt,
            phase=Phase.WRITING,
            erase_starts=self.attempt.erase_starts + 1,
            mark=mark or self.attempt.mark,
        )

    async def ending(self, mark: CommitMark | None = None) -> None:
        """Record that the device is about to be told to start the image; again, when a question tells it anew."""
        if self.attempt.phase is Phase.ENDING:
            return
        await self._store.run(lambda ledger: ledger.ending(self.attempt.id, self._clock.wall(), mark))
        self.attempt = replace(self.attempt, phase=Phase.ENDING, mark=mark or self.attempt.mark)

    def _record_erase(self, ledger: Ledger, mark: CommitMark | None) -> bool | None:
        device = ledger.device(self.attempt.device)
        ledger.erase_starting(self.attempt.id, self._clock.wall(), mark)
        return None if device is None else device.complete


class Run:
    """One attempt or question under way, as others see it."""

    def __init__(
        self, job: Job, journal: AttemptJournal, driver: Driver, budgets: Budgets, started: float
    ) -> None:
        self.job = job
        self.journal = journal
        self.driver = driver
        self.budgets = budgets
        """Of its class when it began: a reload does not change what is under way."""
        self.started = started
        """Boot clock."""
        self.trying_since = anyio.current_time()
        """The same by the loop's clock, which stands still in suspend: nobody tries anything then."""

    def stop(self, cause: Cause) -> None:
        """Let it end at the next boundary between commands, for ``cause``; a person's wish outdoes a stop."""
        if self.journal.cancelled is None or cause.code is CauseCode.CANCELLED:
            self.journal.cancelled = cause
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
        concluded: Callable[[Conclusion], None],
        soaks: Callable[[Job], bool] = lambda _job: False,
    ) -> None:
        """Take what an attempt needs.

        Args:
            store: where it is recorded.
            images: where its bytes come from.
            make_driver: what moves them.
            budgets: of the class of a job, asked when an attempt begins.
            clock: for instants.
            dice: uniform in [0, 1), for the jitter.
            concluded: told after every conclusion is on disk.
            soaks: whether a unit of the class of a job has to show after an update that it keeps well.
        """
        self._store = store
        self._lending = Lending(images)
        self._make_driver = make_driver
        self._budgets = budgets
        self._clock = clock
        self._dice = dice
        self._concluded = concluded
        self._soaks = soaks
        self.trouble = Trouble(clock)
        """What was told of the store's."""
        self.runs: dict[DeviceId, Run] = {}
        """Attempts and questions under way."""

    async def update(self, job: Job, address: Address, present_s: float, orders: Orders | None) -> None:
        """Make one attempt at ``job``; none when a person had another wish since it was planned.

        Args:
            job: queued.
            address: where its device is.
            present_s: for how long the device was here since this was last told to the store.
            orders: by which it was planned.

        Raises:
            PortHeld: somebody else has the port; nothing was sent and no attempt counts.
            MustWait: a person has to look first; nothing was changed and no attempt counts.
        """
        now = self._clock.wall()
        budgets = self._budgets(job)
        claimed = await self._store.run(lambda ledger: _claim(ledger, job, orders, present_s, now))
        if claimed is None:
            return
        attempt, unfinished, device = claimed
        with bound_contextvars(device=job.device, job=job.id, attempt=attempt.id, release=job.version):
            log.info(LogEvent.ATTEMPT_STARTED, port=str(address), number=attempt.number)

            async def story(driver: Driver) -> Landing:
                try:
                    async with self._lending.lend(job.image) as image:
                        return await driver.update(image)
                except BadImage as exc:
                    raise AttemptFailed(Cause(code=CauseCode.IMAGE_UNAVAILABLE, detail=str(exc))) from exc

            journal = AttemptJournal(self._store, self._clock, attempt, unfinished, entered=device.entered)
            driver = self._make_driver(job, device, address, journal)
            await self._conclude_after(story, Run(job, journal, driver, budgets, self._clock.boot()))

    async def ask(self, job: Job, address: Address, orders: Orders | None) -> None:
        """Ask the device of a job with an unknown outcome what became of it, and settle the record.

        Nothing is done when a person had another wish since the job was planned, by ``orders``.

        Raises:
            PortHeld: somebody else has the port; nothing was sent.
            MustWait: a person has to look first.
        """
        budgets = self._budgets(job)
        asked = await self._store.run(lambda ledger: _unsettled(ledger, job, orders))
        if asked is None:
            return
        attempt, unfinished, device = asked
        with bound_contextvars(device=job.device, job=job.id, attempt=attempt.id, release=job.version):
            journal = AttemptJournal(self._store, self._clock, attempt, unfinished, entered=device.entered)
            driver = self._make_driver(job, device, address, journal)
            run = Run(job, journal, driver, budgets, self._clock.boot())
            await self._conclude_after(lambda driver: driver.confirm(), run)

    async def _conclude_after(self, story: Callable[[Driver], Awaitable[Landing]], run: Run) -> None:
        result: _Result = Cause(code=CauseCode.STOPPING, detail="the daemon stopped")
        self.runs[run.job.device] = run
        try:
            result = await self._tell(story, run)
            await self._conclude(run, result)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(LAST_WORDS_S, shield=True):
                await self._conclude(run, result)
            raise
        finally:
            del self.runs[run.job.device]
        if isinstance(result, PortHeld | MustWait):
            raise result

    @staticmethod
    async def _tell(story: Callable[[Driver], Awaitable[Landing]], run: Run) -> _Result:
        """Run the driver; only its verdict comes out."""
        try:
            return await story(run.driver)
        except AttemptFailed as exc:
            cause = exc.cause
        except (PortHeld, MustWait) as exc:
            wished, attempt = run.journal.cancelled, run.journal.attempt
            if wished is not None and wished.code is CauseCode.CANCELLED:
                return wished
            writing = attempt.outcome is Outcome.RUNNING and attempt.phase is not Phase.PROBING
            if isinstance(exc, PortHeld) or not writing:
                return exc
            cause = Cause(code=CauseCode.DEFECT, detail=f"the driver would wait after its first erase: {exc}")
        except StoreError as exc:
            # The journal could not write, so the device was not touched any further.
            cause = Cause(code=CauseCode.STATE_UNWRITABLE, detail=str(exc))
        except Exception as exc:
            # A defect in a driver must not take down every other device (invariant 6); it is logged loudly.
            log.exception(LogEvent.WORKER_CRASHED, detail=repr(exc))
            cause = Cause(code=CauseCode.DEFECT, detail=repr(exc))
        return _as_wished(cause, run.journal.cancelled)

    async def _conclude(self, run: Run, result: _Result) -> None:
        """Record how it ended, however often the store must be asked to."""
        seconds = self._clock.boot() - run.started
        tried_s = anyio.current_time() - run.trying_since
        conclusion = await self._stored(lambda ledger: self._record(ledger, run, result, seconds, tried_s))
        if conclusion is not None:
            tell(conclusion, seconds)
            self._concluded(conclusion)

    async def _stored(self, work: Callable[[Ledger], T]) -> T:
        while True:
            try:
                return await self._store.run(work)
            except StoreError as exc:
                self.trouble.failed(str(exc))
                await anyio.sleep(STORE_AGAIN_S)

    def _record(
        self, ledger: Ledger, run: Run, result: _Result, seconds: float, tried_s: float
    ) -> Conclusion | None:
        """Inside one transaction; None where nothing was concluded."""
        attempt = ledger.attempt(run.journal.attempt.id)
        if attempt is None:
            return None  # its device was forgotten while it was asked
        now = self._clock.wall()
        if isinstance(result, PortHeld | MustWait):
            if attempt.outcome is Outcome.UNKNOWN:
                return None
            if attempt.phase is Phase.PROBING:
                ledger.unclaim(attempt.id, now)
                return None
            result = Cause(code=CauseCode.PORT_HELD, detail=str(result))
        ledger.add_presence(attempt.job, tried_s)
        concluding = Concluding(
            ledger,
            attempt,
            stats=run.driver.stats,
            now=now,
            seconds=seconds,
            complete_before=run.journal.complete_before,
            soaks=self._soaks(run.job),
        )
        if isinstance(result, Cause):
            return concluding.failed(result, budgets=run.budgets, dice=self._dice())
        return concluding.landed(result)


def _as_wished(cause: Cause, wished: Cause | None) -> Cause:
    """What an attempt that was asked to stop ended for: the wish, unless the device gave a verdict before."""
    if wished is None:
        return cause
    transport = DISPOSITIONS[cause.code] is Disposition.RETRY
    stopped = cause.code in {CauseCode.STOPPING, CauseCode.CANCELLED}
    return wished if stopped or (transport and wished.code is CauseCode.CANCELLED) else cause


def _claim(ledger: Ledger, job: Job, orders: Orders | None, present_s: float, now: float) -> _Begun | None:
    """Start an attempt, unless something else became of the job, or was ordered, since it was planned.

    In the same transaction: whatever was answered before is on disk, and heard.
    """
    device = _as_planned(ledger, job, JobState.QUEUED, orders)
    if device is None:
        return None
    ledger.add_presence(job.id, present_s)
    return ledger.claim(job.id, now), ledger.unfinished(job.device), device


def _unsettled(ledger: Ledger, job: Job, orders: Orders | None) -> _Begun | None:
    """The attempt to ask about, unless something else became of the job, or was ordered, since it was planned."""
    device = _as_planned(ledger, job, JobState.UNKNOWN, orders)
    attempt = ledger.last_attempt(job.id)
    return None if attempt is None or device is None else (attempt, ledger.unfinished(job.device), device)


def _as_planned(ledger: Ledger, job: Job, state: JobState, orders: Orders | None) -> Device | None:
    """The device of a job with which all is as it was planned: not cancelled, settled, handed on or forbidden."""
    current = ledger.job(job.id)
    if current is None or current.state is not state or current.device != job.device:
        return None
    return ledger.device(job.device) if orders_for(ledger, job) == orders else None
