"""Updates devices that speak MDFU over a byte stream: UART, USB serial, or TCP.

What is said on the wire is ``protocol/mdfu``'s; here is the story around it: the way into the loader, what must be on
disk when, and what makes us believe the end.  The order of a delivery is in ``_deliver``, and it is the whole of it:
END_TRANSFER, which starts whatever the device holds, comes out of the machine only after the device called the image
valid and that is on disk.  There is nothing to undo when a delivery breaks off: MDFU knows no way to abandon one but
silence, so the link is closed and nothing more is sent.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from firmwarden.drivers.base import Landing, PlannedStep, Progress, Step
from firmwarden.drivers.entry import RETURNS_WITHIN_S, Enter, EnterNone, describe, enter
from firmwarden.drivers.question import TRIES, Question, ask_once
from firmwarden.errors import AttemptFailed, BadImage, LinkError, LinkLost, OpenFailed, PortHeld
from firmwarden.images.mdfu_image import check_fits
from firmwarden.model import Cause, CauseCode, LinkStats
from firmwarden.protocol.machine import Milestone
from firmwarden.protocol.mdfu.host import (
    Discovered,
    Ended,
    ImageValid,
    MdfuConfirm,
    MdfuHost,
    MdfuInfo,
    Phase,
    ReadyToStart,
    Settings,
    Silent,
)
from firmwarden.transport.link import OPEN_PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from firmwarden.drivers.base import Journal
    from firmwarden.model import StreamAddress
    from firmwarden.protocol.mdfu.client_info import ClientInfo
    from firmwarden.transport.link import Link, OpenLink

Talk = MdfuHost | MdfuConfirm | MdfuInfo
M = TypeVar("M", bound=Milestone)
T = TypeVar("T", bound=Talk)

_STEPS: Final[Mapping[Phase, Step]] = {
    Phase.STARTING: Step.WRITE,
    Phase.WRITING: Step.WRITE,
    Phase.CHECKING: Step.VERIFY,
    Phase.VALID: Step.LEAVE,
    Phase.ENDING: Step.LEAVE,
    Phase.ENDED: Step.LEAVE,
    Phase.UNACKNOWLEDGED: Step.LEAVE,
}
"""What a delivery is doing; in every other phase it is finding out whom it talks to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuery(Question):
    """How an application is asked what it runs; the one group of ``expect`` is the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MdfuSettings:
    """What a device class says of its units."""

    enter: Enter = field(default_factory=EnterNone)
    settle_s: float = 0.0
    """Silence between the way into the loader and the first command."""
    boot_delay_s: float = 2.0
    """How long the application takes to start, before it is asked anything."""
    version_query: VersionQuery | None = None
    host: Settings = field(default_factory=Settings)


class MdfuDriver:
    """One attempt at one MDFU device; implements ``drivers/base.Driver``."""

    def __init__(
        self,
        settings: MdfuSettings,
        address: StreamAddress,
        journal: Journal,
        *,
        open_link: OpenLink,
        expected_version: str,
    ) -> None:
        """Take what the attempt needs.

        Args:
            settings: of the device's class.
            address: where the device is.
            journal: the durable side.
            open_link: the way there.
            expected_version: what the application must say when it is asked for its version.
        """
        self._settings = settings
        self._address = address
        self._journal = journal
        self._open_link = open_link
        self._expected_version = expected_version
        self._talks: list[Talk] = []
        self._step: Step | None = None  # None: the conversation tells
        self._total = 0
        self._stopping = False

    @property
    def progress(self) -> Progress:
        """Where the attempt is."""
        talk = self._talks[-1] if self._talks else None
        if self._step is not None or talk is None:
            return Progress(self._step or Step.ENTER, self._accepted(), self._total)
        return Progress(_STEPS.get(talk.phase, Step.PROBE), self._accepted(), self._total)

    @property
    def stats(self) -> LinkStats:
        """The counters of all conversations of this attempt."""
        return LinkStats(
            **{
                counter.name: sum(getattr(talk.stats, counter.name) for talk in self._talks)
                for counter in fields(LinkStats)
            }
        )

    def request_stop(self) -> None:
        """Stop at the next boundary between commands."""
        self._stopping = True
        for talk in self._talks:
            talk.request_stop()

    async def update(self, image: bytes) -> Landing:
        """Write ``image``, have it checked, start it, ask whether it runs; see ``drivers/base.Driver``."""
        self._total = len(image)
        with self._told():
            try:
                host = MdfuHost(image, self._settings.host)
            except BadImage as exc:
                raise AttemptFailed(Cause(code=CauseCode.IMAGE_UNFIT, detail=str(exc))) from exc
            async with self._loader(host) as (link, client):
                acknowledged = await self._deliver(link, host, client, image)
            if acknowledged:
                return await self._landed()
            self._step = Step.CONFIRM
            await anyio.sleep(self._settings.boot_delay_s)
            try:
                return await self._ask()
            except PortHeld as exc:
                # Too late for "nothing was sent".
                return self._unknown(f"the device called the image valid; asking it has to wait: {exc}")

    async def confirm(self) -> Landing:
        """Ask what became of an attempt that ended unknown; see ``drivers/base.Driver``.

        The way into the loader is not gone: it would stop an application that runs.
        """
        self._step = Step.CONFIRM
        with self._told():
            return await self._ask()

    async def info(self) -> Mapping[str, str | int]:
        """Ask the loader for its parameters; see ``drivers/base.Driver``."""
        with self._told():
            async with self._loader(MdfuInfo(self._settings.host)) as (_link, client):
                pass  # the first question tells it all
        told: dict[str, str | int] = {
            "protocol-version": str(client.version),
            "buffer-size": client.buffer_size,
            "buffers": client.buffer_count,
            "timeout": f"{client.default_timeout_s:g} s",
        }
        for command, timeout_s in client.timeouts_s:
            told[f"timeout-{command.name.lower().replace('_', '-')}"] = f"{timeout_s:g} s"
        if client.inter_transaction_delay_s is not None:
            told["inter-transaction-delay"] = f"{client.inter_transaction_delay_s * 1000:g} ms"
        if client.remarks:
            told["remarks"] = "; ".join(client.remarks)
        return told

    async def plan(self, image: bytes) -> tuple[PlannedStep, ...]:
        """Say phase by phase what ``update`` would do."""
        query = self._settings.version_query
        confirm = (
            "Its acknowledgement of END_TRANSFER is the evidence."
            if query is None
            else f"After {self._settings.boot_delay_s:g} s the application is asked for its version, "
            f"which must be {self._expected_version}."
        )
        untouched = "Nothing on the device has changed."
        partial = "The device holds no complete image and waits in its loader for another attempt."
        return (
            PlannedStep(
                step=Step.ENTER,
                does=describe(self._settings.enter),
                if_interrupted="The device may wait in its loader; the application that it holds is whole.",
            ),
            PlannedStep(
                step=Step.PROBE,
                does="GET_CLIENT_INFO; the image is checked against the answer.",
                if_interrupted=untouched,
            ),
            PlannedStep(
                step=Step.WRITE,
                does=f"START_TRANSFER and WRITE_CHUNK for {len(image)} bytes; the flash is erased.",
                if_interrupted=partial,
            ),
            PlannedStep(
                step=Step.VERIFY,
                does="GET_IMAGE_STATE: the device checks the image. If it calls it invalid, that is the end.",
                if_interrupted="The device holds the image and waits in its loader; nothing starts it.",
            ),
            PlannedStep(
                step=Step.LEAVE,
                does="END_TRANSFER: the device restarts into the new application.",
                if_interrupted="The outcome is unknown until the device has been asked.",
            ),
            PlannedStep(
                step=Step.CONFIRM,
                does=confirm,
                if_interrupted="The outcome is unknown until the device has been asked."
                if query
                else "The update has succeeded already.",
            ),
        )

    # --- the delivery --------------------------------------------------------------------------------

    async def _deliver(self, link: Link, host: MdfuHost, client: ClientInfo, image: bytes) -> bool:
        """Deliver the image and return whether the device acknowledged the command that starts it."""
        try:
            check_fits(image, client)
        except BadImage as exc:
            # Nothing is erased yet, and the application that the device holds is whole.
            raise AttemptFailed(Cause(code=CauseCode.IMAGE_UNFIT, detail=str(exc))) from exc
        await _reach(link, host, ReadyToStart)
        await self._journal.erase_starting()
        await _reach(link, host, ImageValid)
        await self._journal.ending()
        return await self._end(link, host)

    @staticmethod
    async def _end(link: Link, talk: MdfuHost | MdfuConfirm) -> bool:
        try:
            return (await _reach(link, talk, Ended)).acknowledged
        except LinkLost:
            # Some loaders take their USB port with them before the acknowledgement is through.
            return False

    @asynccontextmanager
    async def _loader(self, talk: MdfuHost | MdfuInfo) -> AsyncGenerator[tuple[Link, ClientInfo]]:
        """Go the way into the loader, and begin the conversation with it."""
        if self._stopping:
            raise AttemptFailed(Cause(code=CauseCode.STOPPING, detail="stopped before anything was sent"))
        self._step = Step.ENTER
        entered = await enter(self._settings.enter, self._address, self._open_link)
        link = entered.link
        try:
            self._begin(talk)
            try:
                client = await self._discover(link, talk)
            except LinkLost:
                if isinstance(self._settings.enter, EnterNone):
                    raise
                # An application with a USB of its own leaves the bus some time after it was sent into its loader.
                await link.aclose()
                link = await self._open_link(self._address, patience_s=RETURNS_WITHIN_S)
                talk.timed_out()  # the answer to a question that went down with the port
                client = await self._discover(link, talk)
            yield link, client
        except AttemptFailed as exc:
            if entered.doubt and exc.cause.code is CauseCode.NO_ANSWER:
                detail = f"{entered.doubt}, and no loader answers"
                raise AttemptFailed(replace(exc.cause, code=CauseCode.ENTRY_FAILED, detail=detail)) from exc
            raise
        finally:
            await link.aclose()

    async def _discover(self, link: Link, talk: MdfuHost | MdfuInfo) -> ClientInfo:
        await anyio.sleep(self._settings.settle_s)
        link.discard_input()
        self._step = None
        return (await _reach(link, talk, Discovered)).info

    # --- the aftermath -------------------------------------------------------------------------------

    async def _landed(self) -> Landing:
        """Conclude after an acknowledged END_TRANSFER."""
        evidence = "the device called the image valid and acknowledged END_TRANSFER"
        if self._settings.version_query is None:
            return Landing(confirmed=True, evidence=evidence)
        self._step = Step.CONFIRM
        await anyio.sleep(self._settings.boot_delay_s)
        try:
            landing = await self._landing_by_version(self._settings.version_query)
        except PortHeld as exc:
            return self._unknown(f"{evidence}; asking for its version has to wait: {exc}")
        return landing or self._unknown(f"{evidence}, but the application does not tell its version")

    async def _ask(self) -> Landing:
        """Find out what became of an END_TRANSFER of which nobody knows whether it arrived."""
        query = self._settings.version_query
        if query is not None:
            landing = await self._landing_by_version(query)
            if landing is not None:
                return landing
        talk = self._begin(MdfuConfirm(self._settings.host))
        try:
            async with self._port(self._address) as link:
                if isinstance(await link.converse(talk), Silent):
                    return self._unknown("image valid, loader left, nothing answers since")
                # It answers and calls the image valid: it is still in its loader.
                await self._journal.ending()
                acknowledged = await self._end(link, talk)
        except PortHeld:
            raise
        except LinkError as exc:
            return self._unknown(f"the device called the image valid and cannot be asked now: {exc}")
        if acknowledged:
            return await self._landed()
        return self._unknown("the device calls the image valid, but does not acknowledge END_TRANSFER")

    async def _landing_by_version(self, query: VersionQuery) -> Landing | None:
        """Ask the application what it runs; None when it does not say."""
        version = await self._ask_version(query)
        if version is None:
            return None
        if version != self._expected_version:
            detail = f"the application says that it is {version}, not {self._expected_version}"
            raise AttemptFailed(Cause(code=CauseCode.VERSION_MISMATCH, detail=detail, raw=version.encode()))
        return Landing(
            confirmed=True,
            evidence=f"the application says that it is {version}",
            version=version,
        )

    async def _ask_version(self, query: VersionQuery) -> str | None:
        try:
            async with self._port(query.at(self._address)) as link:
                told: str | None = None
                for _ in range(TRIES):
                    version = await ask_once(link, query)
                    # A reply has no checksum, and a wrong version latches: noise must not pass for one.
                    if version is not None and version in {self._expected_version, told}:
                        return version
                    told = version or told
        except PortHeld:
            raise
        except LinkError:
            pass
        return None

    def _unknown(self, evidence: str) -> Landing:
        return Landing(
            confirmed=False,
            evidence=evidence,
            cause=Cause(code=CauseCode.END_UNANSWERED, detail=evidence),
        )

    @asynccontextmanager
    async def _port(self, address: StreamAddress) -> AsyncGenerator[Link]:
        # A USB device that restarts is away for a while.
        patience_s = max(self._settings.boot_delay_s, OPEN_PATIENCE_S)
        link = await self._open_link(address, patience_s=patience_s)
        try:
            yield link
        finally:
            await link.aclose()

    # --- telling -------------------------------------------------------------------------------------

    def _begin(self, talk: T) -> T:
        if self._stopping:
            talk.request_stop()
        self._talks.append(talk)
        return talk

    def _accepted(self) -> int:
        return max((talk.bytes_accepted for talk in self._talks), default=0)

    @contextmanager
    def _told(self) -> Generator[None]:
        """Turn what a link or a stop brings into an attempt's cause."""
        try:
            yield
        except PortHeld:
            raise
        except OpenFailed as exc:
            raise AttemptFailed(Cause(code=CauseCode.OPEN_FAILED, detail=str(exc))) from exc
        except LinkError as exc:
            talk = self._talks[-1] if self._talks else None
            raise AttemptFailed(
                Cause(
                    code=CauseCode.LINK_LOST,
                    detail=str(exc),
                    offset=talk.bytes_accepted if talk else None,
                    chunk=talk.chunks_accepted if talk and talk.phase is Phase.WRITING else None,
                )
            ) from exc
        except AttemptFailed as exc:
            if exc.cause.code is CauseCode.CANCELLED:
                raise AttemptFailed(replace(exc.cause, code=CauseCode.STOPPING)) from exc
            raise


async def _reach(link: Link, talk: Talk, expected: type[M]) -> M:
    """Run a conversation to its next milestone, which can only be this one."""
    milestone = await link.converse(talk)
    if not isinstance(milestone, expected):
        raise TypeError(f"{expected.__name__} was to come, not {milestone}")
    return milestone
