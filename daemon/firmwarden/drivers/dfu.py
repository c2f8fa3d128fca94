"""Updates devices by USB DFU 1.0 and 1.1, and by DfuSe, the loader in the ROM of STM32.

What is said is ``protocol/dfu``'s, what is done in which order ``drivers/boot``'s; here is the story around it: who is
at the place, how a device comes from its application into its loader and back, what must be on disk when, and what
makes us believe the end.

A device that was brought out of its application is not left in its loader for nothing: as long as nothing was erased
in the visit it is sent back when the update does not begin.  From the first erase on it stays in its loader, which is
where the next attempt goes on; so does one that was found there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.base import Step
from firmwarden.drivers.boot.carry_out import StageBegins, carry_out
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.outlook import Failsafe, Stage
from firmwarden.drivers.boot.preflight import at_risk
from firmwarden.drivers.boot.reliance import standing_doubt
from firmwarden.drivers.boot.target import Target
from firmwarden.drivers.dfu_access import Access, Opened, as_causes
from firmwarden.drivers.dfu_aftermath import Aftermath, Sent
from firmwarden.drivers.dfu_meter import Meter
from firmwarden.drivers.dfu_settings import EnterDetach
from firmwarden.drivers.dfu_shell import Shell
from firmwarden.drivers.dfu_words import (
    about_application,
    about_loader,
    plan_of_stream,
    plan_unread,
    plan_words,
)
from firmwarden.drivers.dfuse_visit import (
    Visit,
    choose,
    examine,
    put_back,
    read_loader_id,
    read_memories,
    start_again,
    told_apart,
)
from firmwarden.errors import AttemptFailed, MustWait
from firmwarden.images.cas import hash_of
from firmwarden.images.dfu_image import addressed, check_file, streamed
from firmwarden.model import CauseCode, Phase, WaitKind
from firmwarden.protocol.dfu import conversation as talk
from firmwarden.protocol.dfu.dfuse_host import DfuseHost, ReadsBackWrong
from firmwarden.protocol.dfu.host import DfuHost, Manifested, reset_if_waiting
from firmwarden.protocol.dfu.quirks import Mode
from firmwarden.protocol.dfu.verdicts import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.drivers.base import Journal, Landing, PlannedStep, Progress
    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.drivers.dfuse_visit import Memory, Planned
    from firmwarden.model import LinkStats, UsbAddress
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.steps import Unit
    from firmwarden.protocol.machine import Milestone
    from firmwarden.transport.usb_link import UsbPorts


_HELD: Final = "its flash, read back, holds exactly this image; nothing was written"


class DfuDriver:
    """One attempt at one DFU device; implements ``drivers/base.Driver``.

    Attributes:
        warnings: what an update that nobody watches would have waited for.
    """

    def __init__(
        self,
        settings: DfuSettings,
        address: UsbAddress,
        journal: Journal,
        *,
        ports: UsbPorts,
        expected_version: str,
    ) -> None:
        """Take what the attempt needs.

        Args:
            settings: of the device's class.
            address: where the device is.
            journal: the durable side.
            ports: the way there.
            expected_version: what the application must tell, where it tells a version.
        """
        self.warnings: list[str] = []
        self._settings = settings
        self._address = address
        self._journal = journal
        self._expected_version = expected_version
        self._shell = Shell(self._pass)
        self._access = Access(settings, address, ports, self._shell)
        self._place = self._access.place
        self._aftermath = Aftermath(settings, self._access, expected_version)
        self._meter = Meter()
        self._stopping = False
        self._returning = False
        self._ran = self._erasing = self._whole = False
        self._planned: Planned | None = None

    @property
    def progress(self) -> Progress:
        """Where the attempt is."""
        return self._meter.progress

    @property
    def stats(self) -> LinkStats:
        """The counters of all control transfers of this attempt."""
        return self._shell.stats

    def request_stop(self) -> None:
        """Stop at the next boundary between commands."""
        self._stopping = True

    # --- update --------------------------------------------------------------------------------------

    async def update(self, image: bytes) -> Landing:
        """Write ``image``, read it back, start it, see that it is back; see ``drivers/base.Driver``."""
        with as_causes():
            check_file(image, self._settings.image)
            if not self._journal.entered:
                self._wait_for_word(self._standing_doubt())
            shown = await self._place.find()
            if await self._access.mode(shown) is Mode.RUN_TIME:
                self._wait_for_word(self._standing_doubt())
                self._stop_if_asked()
                self._meter.step(Step.ENTER)
                shown = await self._access.enter(shown, self._journal.entering)
                self._ran = True
            self._meter.step(Step.PROBE)
            async with self._access.opened(shown) as loader:
                write = self._write_addressed if loader.unit.dfuse else self._write_stream
                sent = await write(loader, image)
        self._meter.step(Step.CONFIRM)
        return await self._aftermath.landed(shown, sent)

    async def _write_addressed(self, loader: Opened, image: bytes) -> Sent:
        """Update by DfuSe, up to the command to leave."""
        memories = await loader.run(read_memories(loader.interface, loader.unit.quirks))
        visit = self._visit(loader, memories[0])
        contents = Contents()
        try:
            self._wait_for_word(self._standing_doubt())
            visit = self._visit_of(loader, memories, image)
            planned = await loader.run(self._examine(visit, image))
            contents = planned.contents
            if planned.doubt is not None:
                self._wait_or_warn(*planned.doubt)
            self._planned = planned
            heard = await loader.run(carry_out(visit.host, planned.plan))
        except ReadsBackWrong as wrong:
            raise told_apart(wrong, contents, visit.target) from wrong
        except Exception as exc:
            if not visit.host.touched:
                await self._return(loader, put_back(visit), exc)
            raise
        held = "the image was read back whole" if planned.plan.writes else _HELD
        silent = "" if heard else "; the loader did not say that it leaves"

        def again(anew: Opened) -> Conversation[bool]:
            there = self._visit(anew.with_memory(visit.memory.text), visit.memory)
            return start_again(there, planned.plan.image)

        return Sent(evidence=f"{held}{silent}", heard=heard, checked=True, again=again)

    def _visit_of(self, loader: Opened, memories: tuple[Memory, ...], image: bytes) -> Visit:
        """Choose the memory of an image."""
        if not loader.unit.can_upload:
            detail = (
                "the loader lets nothing be read back, and does not check by itself what it is told to start"
            )
            raise failure(CauseCode.NOT_SUPPORTED, detail)
        segments = addressed(image, self._settings.image)
        memory = choose(memories, segments, self._settings.alternate)
        return replace(self._visit(loader.with_memory(memory.text), memory), image=segments)

    def _visit(self, loader: Opened, memory: Memory) -> Visit:
        settings = self._settings
        resident = settings.failsafe is Failsafe.RESIDENT_LOADER
        base = min(region.address for region in memory.map.regions)
        target = Target(
            memory=memory.map,
            failsafe=settings.failsafe,
            declared=settings.declared,
            family=settings.family,
            application=(settings.application_at or base) if resident else None,
        )
        return Visit(
            host=DfuseHost(loader.unit, memory.map, erased=target.erased, granule=target.granule),
            target=target,
            block_size=loader.unit.functional.block_size,
            memory=memory,
            several=len(loader.interface.alternates) > 1,
        )

    def _examine(self, visit: Visit, image: bytes) -> Conversation[Planned]:
        unfinished = self._journal.unfinished
        return examine(visit, unfinished=unfinished, same_image=self._is_same(image), ran=self._ran)

    async def _write_stream(self, loader: Opened, image: bytes) -> Sent:
        """Update by plain DFU, up to the reset behind the manifestation."""
        if self._ended and await loader.run(reset_if_waiting(loader.unit, told=True)):
            detail = "the device waited for the reset that ends an earlier update, and has it now"
            raise failure(CauseCode.CLIENT_REBOOTED, detail)
        host = DfuHost(loader.unit)
        try:
            self._wait_for_word(self._standing_doubt())
            content = streamed(image, self._settings.image)
            self._wait_for_word(self._doubt_of_stream())
            known = self._may_be_known(loader.unit)
            if known:
                self._meter.step(Step.VERIFY, len(content))
                known = await loader.run(host.holds(content))
            if not known:
                self._meter.step(Step.WRITE, len(content))
                await loader.run(host.download(content))
        except Exception as exc:
            if not host.touched:
                await self._return(loader, host.return_untouched(), exc)
            raise
        await self._journal.ending()
        self._meter.step(Step.LEAVE)
        if known:
            await loader.run(host.return_untouched())
            return Sent(evidence=_HELD, checked=True)
        manifested = await loader.run(host.manifest())
        if manifested is Manifested.UNHEARD:
            return Sent(evidence=manifested.value)
        await loader.run(host.attach())
        return Sent(evidence=manifested.value, heard=True)

    async def confirm(self) -> Landing:
        """Look what became of an attempt that ended unknown; see ``drivers/base.Driver``.

        Nothing is sent to a device but the reset that some wait for in the end.

        Raises:
            AttemptFailed: also when it is in its loader; the next attempt reads back whether it has to be written.
        """
        self._meter.step(Step.CONFIRM)
        with as_causes():
            return await self._aftermath.confirm(ended=self._ended)

    # --- asked by people -----------------------------------------------------------------------------

    async def info(self) -> Mapping[str, str | int]:
        """Say what the device tells of itself, without bringing it into its loader; see ``drivers/base.Driver``."""
        with as_causes():
            shown = await self._place.find()
            if await self._access.mode(shown) is Mode.RUN_TIME:
                return about_application(shown)
            async with self._access.opened(shown) as loader:
                if not loader.unit.dfuse:
                    return about_loader(shown, loader.unit, (), None)
                memories = await loader.run(read_memories(loader.interface, loader.unit.quirks))
                host = self._visit(loader, memories[0]).host
                number = await loader.run(read_loader_id(host, self._settings.family))
                return about_loader(shown, loader.unit, memories, number)

    async def plan(self, image: bytes) -> tuple[PlannedStep, ...]:
        """Say phase by phase what ``update`` would do; a device that runs its application is left there."""
        settings = self._settings
        with as_causes():
            check_file(image, settings.image)
            doubt = self._standing_doubt()
            shown = await self._place.find()
            if await self._access.mode(shown) is Mode.RUN_TIME:
                return plan_unread(settings, doubt, self._expected_version)
            async with self._access.opened(shown) as loader:
                if not loader.unit.dfuse:
                    content = streamed(image, settings.image)
                    return plan_of_stream(
                        settings, self._doubt_of_stream(), len(content), self._expected_version
                    )
                memories = await loader.run(read_memories(loader.interface, loader.unit.quirks))
                visit = self._visit_of(loader, memories, image)
                try:
                    planned = await loader.run(self._examine(visit, image))
                except MustWait as exc:
                    return plan_unread(settings, str(exc), self._expected_version)
                return plan_words(settings, planned, self._expected_version)

    # --- on the way ----------------------------------------------------------------------------------

    async def _return(self, loader: Opened, way: Conversation[object], why: Exception) -> None:
        """Send a device back that was brought out of its application, if it lets itself be.

        Raises:
            MustWait: `why` is that, and it stays: each time this is tried it would be without its application.
        """
        if not (self._ran or self._journal.entered):
            return
        if not self._ran and isinstance(why, MustWait) and why.kind is WaitKind.IDENTITY:
            return  # it may be another unit, and nobody knows what with
        self._returning = True
        back = False
        with suppress(AttemptFailed):
            back = await loader.run(way) is not False
        if isinstance(why, MustWait) and not back:
            raise MustWait(why.kind, str(why), left_in_loader=True) from why

    async def _pass(self, milestone: Milestone) -> None:
        """Stop if that is wished, make durable what has to be, and count."""
        if self._returning:
            return
        if milestone in {StageBegins(Stage.CHECK), StageBegins(Stage.LEAVE)}:
            self._whole = True
        self._stop_if_asked()
        match milestone:
            case StageBegins(stage):
                await self._begin(stage)
            case talk.Writing() if not self._erasing:
                await self._erase_starts()
            case talk.Progress(done, total):
                self._meter.count(done, total)

    async def _begin(self, stage: Stage) -> None:
        if self._planned is not None:
            self._meter.begin(stage, self._planned.plan)
        if stage.journal is Phase.ENDING:
            await self._journal.ending(self._planned.mark if self._planned else None)
        elif stage is Stage.INVALIDATE:
            await self._erase_starts()

    async def _erase_starts(self) -> None:
        self._erasing = True
        await self._journal.erase_starting(self._planned.mark if self._planned else None)

    def _stop_if_asked(self) -> None:
        # With the whole image in place, starting it is quicker than writing it once more.
        if self._stopping and not self._whole:
            detail = (
                "stopped while the device holds no whole image"
                if self._erasing
                else "stopped before anything was erased"
            )
            raise failure(CauseCode.STOPPING, detail)

    def _wait_for_word(self, doubt: str | None) -> None:
        if doubt is not None:
            self._wait_or_warn(WaitKind.FAILSAFE, doubt)

    def _wait_or_warn(self, kind: WaitKind, reason: str) -> None:
        # Who looks on can take a risk, but not make the device another than it shows itself to be.
        if kind is WaitKind.IDENTITY or not self._settings.attended:
            raise MustWait(kind, reason)
        if reason not in self.warnings:
            self.warnings.append(reason)

    def _standing_doubt(self) -> str | None:
        settings = self._settings
        by_software = isinstance(settings.enter, EnterDetach)
        doubt = standing_doubt(settings.failsafe, settings.declared, settings.family, by_software=by_software)
        return None if doubt is None else at_risk(doubt)

    def _doubt_of_stream(self) -> str | None:
        if self._settings.failsafe in {Failsafe.RESIDENT_LOADER, Failsafe.NONE}:
            return None
        declared = self._settings.failsafe.value
        return at_risk(f"{declared} is declared, and what starts the device is a loader of its own")

    def _may_be_known(self, unit: Unit) -> bool:
        """Whether it is worth reading, and safe to believe, what a loader without addresses gives.

        Only of a unit that ran its application a moment ago: what was cut half-way may read right to its last byte
        and lack what a loader of its own keeps elsewhere, without which it starts nothing.
        """
        readable = unit.can_upload and unit.tolerates_manifestation
        return self._settings.recognise and self._ran and readable and self._journal.unfinished is None

    @property
    def _ended(self) -> bool:
        """An earlier attempt began to tell the device that it has the whole image."""
        unfinished = self._journal.unfinished
        return unfinished is not None and unfinished.phase is Phase.ENDING

    def _is_same(self, image: bytes) -> bool:
        unfinished = self._journal.unfinished
        return unfinished is not None and unfinished.image == hash_of(image)
