"""One update, one look or one plan without a daemon: the same worker, drivers and policy, with the state in memory."""

from __future__ import annotations

import glob
import grp
import os
import random
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden import log
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings
from firmwarden.errors import BadImage, OpenFailed
from firmwarden.exit_status import ExitStatus
from firmwarden.files import Unusable, read_file
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.model import (
    Cause,
    CauseCode,
    ClassName,
    JobState,
    Outcome,
    Release,
    SerialAddress,
    Sighting,
    TcpAddress,
    UsbAddress,
    WaitKind,
)
from firmwarden.service.clock import SystemClock
from firmwarden.service.desired import ClassPolicy
from firmwarden.service.feed import Feed
from firmwarden.service.identity import ClassRule
from firmwarden.service.outcome import outcome_message
from firmwarden.service.policy import Budgets
from firmwarden.service.registry import Registry
from firmwarden.service.telling import cause_view
from firmwarden.service.warden import Warden
from firmwarden.store.store import Store
from firmwarden.transport.opening import open_link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmwarden.drivers.base import Driver, Journal, PlannedStep
    from firmwarden.model import Address, CommitMark, ImageHash, Job
    from firmwarden.service.conclude import Conclusion

    Report = Callable[[dict[str, object]], None]
    """Gets events as plain data, one at a time; the last one is ``update-finished``."""

TRYING_S: Final = 60.0
"""How long transport trouble is tried again before the command gives up."""
_GROUP_MAY: Final = stat.S_IRGRP | stat.S_IWGRP
_CLASS: Final = ClassName("one-shot")
_POLICY: Final = ClassPolicy(
    name=_CLASS, budgets=Budgets(attempts=1_000, back_off_s=1.0, back_off_longest_s=8.0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOrder:
    """What to write and where."""

    image: Path
    address: Address


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
        OpenFailed: no trying again will open that port; nothing was sent.
    """
    _refuse_hopeless(order.address)
    return anyio.run(_Once(order, read_image(order.image), report).run)


def info_once(address: Address) -> Mapping[str, str | int]:
    """Ask the loader at ``address`` what it is; changes nothing on it.

    Raises:
        AttemptFailed: no loader answers, or it answers badly.
        OpenFailed: the port is of no use to this user, or somebody else has it; nothing was sent.
    """
    _refuse_hopeless(address)
    return anyio.run(_driver(address, _NoJournal(), "").info)


def plan_once(order: UpdateOrder) -> tuple[PlannedStep, ...]:
    """Say phase by phase what an update would do; touches nothing but the image file.

    Raises:
        BadImage: the image cannot be used.
    """
    return anyio.run(_driver(order.address, _NoJournal(), "").plan, read_image(order.image))


def _refuse_hopeless(address: Address) -> None:
    """Refuse a port that is there and that this user will not be able to use; one that is not there may come."""
    if not isinstance(address, SerialAddress):
        return
    path = Path(address.path)
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISCHR(status.st_mode):
        raise OpenFailed(f"{path} is no serial port")
    if not os.access(path, os.R_OK | os.W_OK):
        raise OpenFailed(f"{path}: permission denied{_way_to_permission(status)}")


def _way_to_permission(status: os.stat_result) -> str:
    if status.st_mode & _GROUP_MAY != _GROUP_MAY or status.st_gid == 0:
        return "; use sudo"
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return (
        f"; it is for the group {group!r}: become a member with `sudo usermod --append --groups {group} $USER` "
        "and log in again, or use sudo"
    )


def _driver(address: Address, journal: Journal, version: str) -> Driver:
    if isinstance(address, UsbAddress):
        raise TypeError("MDFU goes over streams of bytes")
    return MdfuDriver(MdfuSettings(), address, journal, open_link=open_link, expected_version=version)


class _NoJournal:
    """For what changes nothing on a device."""

    unfinished = None

    async def erase_starting(self, mark: CommitMark | None = None) -> None:
        del mark
        raise AssertionError("nothing may be erased here")

    async def ending(self) -> None:
        raise AssertionError("nothing may be started here")


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

    def __init__(self, order: UpdateOrder, content: bytes, report: Report) -> None:
        self._order = order
        self._content = content
        self._report = report
        self._feed = Feed()
        self._last: Conclusion | None = None
        self._over = anyio.Event()
        self._interrupted = False
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
        registry = Registry(store=store, clock=clock, rules=[self._rule()])
        self._warden = warden = Warden(
            store=store,
            registry=registry,
            images=_OneImage(self._content),
            make_driver=self._make_driver,
            feed=self._feed,
            clock=clock,
            dice=random.random,
            classes={_CLASS: _POLICY},
            parallel=1,
            on_conclusion=lambda conclusion, _hook: self._concluded(conclusion),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_on)
            await registry.take((Sighting(address=self._order.address),))
            warden.shelve([self._release()])
            tasks.start_soon(warden.run)
            tasks.start_soon(self._hear_signals)
            with anyio.move_on_after(TRYING_S):
                await self._over.wait()
            await warden.stop(float("inf") if not self._interrupted else 0.0)
            self._feed.close()
            tasks.cancel_scope.cancel()

    def _rule(self) -> ClassRule:
        address = self._order.address
        if isinstance(address, SerialAddress):
            directory, _, name = address.path.rpartition("/")
            return ClassRule(name=_CLASS, path=f"{directory}/{glob.escape(name)}", baud=address.baud)
        assert isinstance(address, TcpAddress)  # noqa: S101  (the command line offers no other yet)
        return ClassRule(name=_CLASS, tcp=(address,))

    def _release(self) -> Release:
        return Release(
            device_class=_CLASS,
            version=self._order.image.name,
            sequence=1,
            image=hash_of(self._content),
            size=len(self._content),
            manifest="",
        )

    def _make_driver(self, job: Job, address: Address, journal: Journal) -> Driver:
        return _driver(address, journal, job.version)

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
            self._report(data if item["kind"] == "log" else {"event": "progress", **data})

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
                detail = "the device holds no complete image and waits in its loader for another update"
            return self._give_up("interrupted", Cause(code=CauseCode.STOPPING, detail=detail))
        wait = next(iter(self._warden.agenda.waits.values()), None)
        if last is None and wait is not None:
            code = CauseCode.PORT_HELD if wait.kind is WaitKind.PORT_HELD else CauseCode.TRANSPORT_EXHAUSTED
            return self._give_up("failed", Cause(code=code, detail=wait.detail))
        cause = None if last is None else last.cause
        detail = "" if cause is None else f"the last attempt: {cause.detail or cause.code.value}"
        return self._give_up("failed", Cause(code=CauseCode.TRANSPORT_EXHAUSTED, detail=detail))

    def _give_up(self, outcome: str, cause: Cause) -> ExitStatus:
        self._report(
            {
                "event": "update-finished",
                "outcome": outcome,
                "cause": {**cause_view(cause), "scope": None},
                "complete": self._complete,
            }
        )
        return ExitStatus.INTERRUPTED if self._interrupted else ExitStatus.EXHAUSTED


def _exit_status(last: Conclusion) -> ExitStatus:
    if last.outcome is Outcome.UNKNOWN:
        return ExitStatus.UNKNOWN
    if last.job.state is JobState.SUCCEEDED:
        return ExitStatus.SUCCEEDED
    exhausted = last.job.cause is not None and last.job.cause.code is CauseCode.TRANSPORT_EXHAUSTED
    return ExitStatus.EXHAUSTED if exhausted else ExitStatus.REFUSED
