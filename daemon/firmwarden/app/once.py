"""One update, one look or one plan without a daemon: the same worker, drivers and policy, with the state in memory."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden import log
from firmwarden.app.named import ONE_SHOT
from firmwarden.errors import BadImage
from firmwarden.events import LogEvent
from firmwarden.exit_status import ExitStatus
from firmwarden.files import Unusable, read_file
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.model import (
    Cause,
    CauseCode,
    JobState,
    Outcome,
    Release,
    WaitKind,
)
from firmwarden.service.clock import SystemClock
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.feed import Feed
from firmwarden.service.outcome import outcome_message
from firmwarden.service.policy import Budgets
from firmwarden.service.registry import Registry
from firmwarden.service.telling import cause_view
from firmwarden.service.warden import Warden
from firmwarden.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from firmwarden.app.named import Target, Way
    from firmwarden.drivers.base import Driver, Journal, PlannedStep
    from firmwarden.model import Address, Attempt, CommitMark, Device, ImageHash, Job
    from firmwarden.service.conclude import Conclusion

    Report = Callable[[dict[str, object]], None]
    """Gets events as plain data, one at a time; the last one is ``update-finished``."""

TRYING_S: Final = 60.0
"""How long transport trouble is tried again before the command gives up."""
_POLICY: Final = ClassPolicy(
    name=ONE_SHOT, budgets=Budgets(attempts=1_000, back_off_s=1.0, back_off_longest_s=8.0)
)
_FOR_A_PERSON: Final = frozenset({WaitKind.FAILSAFE, WaitKind.IDENTITY})
"""Waits that no time ends: the person who is here is told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOrder:
    """What to write and where."""

    image: Path
    target: Target


def read_image(path: Path) -> bytes:
    """Read an image file.

    Raises:
        BadImage: it cannot be read, is empty or too large.
    """
    try:
        content, _ = read_file(path, LARGEST_IMAGE, follow=True)
    except (OSError, Unusable) as exc:
        raise BadImage(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if not content:
        raise BadImage(f"{path} is empty")
    return content


def update_once(order: UpdateOrder, report: Report) -> ExitStatus:
    """Update one device; returns the exit status of ``firmwarden update``.

    Raises:
        BadImage: the image cannot be used; nothing was sent.
        NotFound: no device is meant, or it cannot be said which; nothing was sent.
        OpenFailed: no trying again will open that port; nothing was sent.
    """
    way, content = _prepared(order)
    if way.remark:
        report({"event": "image-taken", "detail": way.remark})
    return anyio.run(_Once(order.image.name, way, content, report).run)


def info_once(target: Target) -> Mapping[str, str | int]:
    """Ask a device's loader what it is; changes nothing on it.

    Raises:
        AttemptFailed: no loader answers, or it answers badly.
        NotFound: no device is meant, or it cannot be said which.
        OpenFailed: the port is of no use to this user, or somebody else has it; nothing was sent.
    """
    return anyio.run(target.find().driver(_NoJournal(), "").driver.info)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update would do."""

    steps: tuple[PlannedStep, ...]
    remark: str = ""
    """What was taken for granted."""


def plan_once(order: UpdateOrder) -> Plan:
    """Say phase by phase what an update would do; at most reads from a loader that runs already.

    Raises:
        AttemptFailed: the image cannot go there, or the loader cannot be read.
        BadImage: the image cannot be used.
        NotFound: no device is meant, or it cannot be said which.
        OpenFailed: the port is of no use to this user, or somebody else has it.
    """
    way, content = _prepared(order)
    driver = way.driver(_NoJournal(), order.image.name).driver
    return Plan(anyio.run(driver.plan, content), way.remark)


def _prepared(order: UpdateOrder) -> tuple[Way, bytes]:
    way = order.target.find()
    content = read_image(order.image)
    return way.carrying(order.image.name, content), content


class _NoJournal:
    """For what changes nothing on a device."""

    unfinished = None
    entered = False

    async def entering(self) -> None:
        raise AssertionError("nothing may leave its application here")

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        del mark
        raise AssertionError("nothing may be erased here")

    async def ending(self, mark: CommitMark | None = None) -> None:
        del mark
        raise AssertionError("nothing may be started here")


class _Telling:
    """A journal that lets a driver's warnings be told before anything is erased."""

    def __init__(self, journal: Journal, tell: Callable[[Sequence[str]], None]) -> None:
        self._journal = journal
        self._tell = tell
        self.warnings: Sequence[str] = ()
        """Of the driver, which is made after its journal."""

    @property
    def unfinished(self) -> Attempt | None:
        return self._journal.unfinished

    @property
    def entered(self) -> bool:
        return self._journal.entered

    async def entering(self) -> None:
        await self._journal.entering()

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        self._tell(self.warnings)
        await self._journal.erase_starting(mark)

    async def ending(self, mark: CommitMark | None = None) -> None:
        await self._journal.ending(mark)


class _OneImage:
    """The image of the command line."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def load(self, image: ImageHash) -> bytes:
        """Return it."""
        if hash_of(self._content) != image:
            raise BadImage("the image in memory is damaged")
        return self._content


class _Once:
    """One run of ``firmwarden update``."""

    def __init__(self, name: str, way: Way, content: bytes, report: Report) -> None:
        self._name = name
        self._way = way
        self._content = content
        self._report = report
        self._feed = Feed()
        self._last: Conclusion | None = None
        self._over = anyio.Event()
        self._interrupted = False
        self._warned: list[str] = []
        self._left_to_person: Mapping[str, object] | None = None
        """What only the person can settle: neither this attempt nor another goes on."""
        self._complete: bool | None = None
        """Whether the device holds a complete image; None where nothing was begun that could change it."""

    async def run(self) -> ExitStatus:
        log.publish_only(lambda event: self._feed.publish("log", event))
        store = await Store.open(None)
        try:
            await self._work(store)
            self._complete = await store.run(lambda ledger: ledger.devices()[0].complete)
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()
        return self._finish()

    async def _work(self, store: Store) -> None:
        clock = SystemClock()
        registry = Registry(store=store, clock=clock, rules=[self._way.rule])
        self._warden = warden = Warden(
            store=store,
            registry=registry,
            images=_OneImage(self._content),
            make_driver=self._make_driver,
            feed=self._feed,
            clock=clock,
            dice=random.random,
            classes={ONE_SHOT: _POLICY},
            parallel=1,
            on_conclusion=lambda conclusion, _hook: self._concluded(conclusion),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_on)
            await registry.take((self._way.sighting,))
            warden.shelve([self._release()])
            tasks.start_soon(warden.run)
            tasks.start_soon(self._hear_signals)
            with anyio.move_on_after(TRYING_S):
                await self._over.wait()
            await warden.stop(float("inf") if not self._interrupted else 0.0)
            self._feed.close()
            tasks.cancel_scope.cancel()

    def _release(self) -> Release:
        return Release(
            device_class=ONE_SHOT,
            version=self._name,
            sequence=1,
            image=hash_of(self._content),
            size=len(self._content),
            manifest="",
        )

    def _make_driver(self, job: Job, device: Device, address: Address, journal: Journal) -> Driver:
        del device, address  # the way goes there
        telling = _Telling(journal, self._warn)
        attended = self._way.driver(telling, job.version)
        telling.warnings = attended.warnings
        return attended.driver

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self._warned.append(warning)
                self._report({"event": "warning", "detail": warning})

    def _concluded(self, conclusion: Conclusion) -> None:
        ours = conclusion.cause is not None and conclusion.cause.code is CauseCode.STOPPING
        if not ours or self._interrupted:  # that the time is over is no reason why nothing worked
            self._last = conclusion
        if conclusion.job.state.final or self._interrupted:
            self._over.set()

    async def _hear_signals(self) -> None:
        """Stop between commands at the first signal; the state of the device is then told."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                self._interrupted = True
                cause = Cause(code=CauseCode.STOPPING, detail="stopped by a signal")
                for run in self._warden.worker.runs.values():
                    run.stop(cause)
                if not self._warden.worker.runs:
                    self._over.set()

    async def _pass_on(self) -> None:
        async for item in self._feed.read(0):
            data = item["data"]
            self._report(data if item["kind"] == "log" else {"event": item["kind"], **data})
            if data.get("event") == LogEvent.JOB_WAITING and data["wait"] in _FOR_A_PERSON:
                self._left_to_person = {"code": data["wait"], "detail": data["detail"]}
                self._over.set()

    def _finish(self) -> ExitStatus:
        """Tell the end and return the exit status."""
        last = self._last
        message = None if last is None else outcome_message(last)
        if last is not None and message is not None:
            self._report({**message, "complete": self._complete})
            return _exit_status(last)
        if self._interrupted:
            detail = "nothing on the device was changed"
            if self._complete is False:
                # Whether it waits in its loader is not known: it may just have gone.
                detail = "the device holds no complete image, and needs another update"
            return self._give_up("interrupted", Cause(code=CauseCode.STOPPING, detail=detail))
        if self._left_to_person is not None:
            self._end("failed", self._left_to_person)
            return ExitStatus.REFUSED
        wait = next(iter(self._warden.agenda.waits.values()), None)
        if last is None and wait is not None:
            code = CauseCode.PORT_HELD if wait.kind is WaitKind.PORT_HELD else CauseCode.TRANSPORT_EXHAUSTED
            return self._give_up("failed", Cause(code=code, detail=wait.detail))
        cause = None if last is None else last.cause
        detail = "" if cause is None else f"the last attempt: {cause.detail or cause.code.value}"
        return self._give_up("failed", Cause(code=CauseCode.TRANSPORT_EXHAUSTED, detail=detail))

    def _give_up(self, outcome: str, cause: Cause) -> ExitStatus:
        self._end(outcome, cause_view(cause))
        return ExitStatus.INTERRUPTED if self._interrupted else ExitStatus.EXHAUSTED

    def _end(self, outcome: str, cause: Mapping[str, object]) -> None:
        self._report(
            {
                "event": "update-finished",
                "outcome": outcome,
                "cause": {**cause, "scope": None},
                "complete": self._complete,
            }
        )


def _exit_status(last: Conclusion) -> ExitStatus:
    if last.outcome is Outcome.UNKNOWN:
        return ExitStatus.UNKNOWN
    if last.job.state is JobState.SUCCEEDED:
        return ExitStatus.SUCCEEDED
    exhausted = last.job.cause is not None and last.job.cause.code is CauseCode.TRANSPORT_EXHAUSTED
    return ExitStatus.EXHAUSTED if exhausted else ExitStatus.REFUSED
