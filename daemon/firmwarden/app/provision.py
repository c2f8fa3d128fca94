"""``firmwarden provision``: sets the bit that failsafe updates rely on, of one device, for a person who is there.

Two visits.  The first reads everything and changes nothing; what comes of it is shown.  The second, after a yes, reads
the option bytes again, writes them only if they are those that were shown, waits until the device has restarted, and
reads them once more.  What is said at the end is what was read then, or that nothing could be.

Neither the daemon nor an update leads here.
"""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.app.named_usb import ST_ROM
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.option_block import Result
from firmwarden.drivers.boot.provisioning import provisioning
from firmwarden.drivers.dfu_shell import Shell
from firmwarden.drivers.dfuse_visit import read_memories
from firmwarden.drivers.usb_place import Place, ids_of, told
from firmwarden.errors import AttemptFailed, LinkError, NotFound, Refused
from firmwarden.model import CauseCode, UsbAddress
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.steps import Unit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from firmwarden.app.named_usb import UsbWay
    from firmwarden.drivers.boot.option_block import Change
    from firmwarden.drivers.boot.provisioning import Provisioning
    from firmwarden.drivers.boot.reads import Read
    from firmwarden.drivers.dfuse_visit import Memory
    from firmwarden.drivers.usb_place import Shown
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.memory_map import MemoryMap
    from firmwarden.protocol.machine import Milestone
    from firmwarden.transport.usb_link import UsbLink

_BACK_WITHIN_S: Final = 15.0
"""From the write until the device is on the bus again; ROMs need less than one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A device as it was found, and what would be written."""

    part: str
    way: UsbWay
    found: Provisioning
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of it."""

    result: Result
    detail: str = ""
    """What the device or the bus said, where that says more."""


def survey(part: str, way: UsbWay) -> Survey:
    """Look at a device in its ROM's loader, and work out what would be written; changes nothing.

    Raises:
        NotFound: it is gone, or not in that loader; nothing was sent.
        LinkError: it cannot be opened; nothing was sent.
        Refused: it had better be left alone.
        AttemptFailed: it does not answer as it should.
    """
    return anyio.run(Visits(part, way).survey)


def provision(survey: Survey) -> Ending:
    """Write what was shown.

    Raises:
        NotFound: the device is gone, or it is another one; nothing was written.
        LinkError: it cannot be opened; nothing was written.
        Refused: its option bytes are no longer what was shown; nothing was written.
        AttemptFailed: it does not answer as it should; nothing was written.
    """
    return anyio.run(Visits(survey.part, survey.way).write, survey)


class Visits:
    """The two visits: their place, and a way to run conversations there."""

    def __init__(self, part: str, way: UsbWay) -> None:
        facts = way.seen.facts
        self._part = part
        self._way = way
        self._place = Place(
            UsbAddress(topology=facts.topology, usb=facts),
            way.usb,
            application=frozenset(),
            loader=frozenset({ST_ROM}),
        )
        self._shell = Shell(_go_on)

    async def survey(self) -> Survey:
        """Look; see `survey`."""
        async with self._open(await self._find()) as visit:
            found = provisioning(self._part, [memory.map for memory in visit.memories])
            pieces = await visit.read(found.flash, found.flash_reads)
            pieces += await visit.read(found.options, found.option_reads)
        change = found.change(Contents(pieces))
        return Survey(part=self._part, way=self._way, found=found, change=change)

    async def write(self, survey: Survey) -> Ending:
        """Write; see `provision`."""
        shown = await self._find()
        # A host that is gone does the device no harm, but then nobody would tell what became of it.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            detail = ""
            async with self._open(shown) as visit:
                options = await visit.read(survey.found.options, survey.found.option_reads)
                if survey.change.result(Contents(options)) is not Result.UNCHANGED:
                    raise Refused("its option bytes are no longer what was shown")
                try:
                    await visit.write(survey.found.options, survey.change.after)
                except AttemptFailed as failed:
                    detail = failed.cause.detail
            return await self._look_again(survey, shown, detail)

    async def _look_again(self, survey: Survey, before: Shown, detail: str) -> Ending:
        """Find out what the option bytes are now."""
        number = before.seen.address
        shown = await self._place.wait_for(lambda now: now.seen.address != number, _BACK_WITHIN_S)
        if shown is None:
            return Ending(result=Result.GONE, detail=detail)
        if self._place.is_another(shown):
            return Ending(result=Result.GONE, detail=f"another unit is there now, {shown}")
        if not self._place.may_be_loader(shown):
            return Ending(result=Result.RUNNING, detail=str(shown))
        try:
            async with self._open(shown) as visit:
                options = await visit.read(survey.found.options, survey.found.option_reads)
        except AttemptFailed as failed:
            protected = failed.cause.code is CauseCode.READ_PROTECTED
            result = Result.PROTECTED if protected else Result.UNREADABLE
            return Ending(result=result, detail=failed.cause.detail)
        except LinkError as exc:
            return Ending(result=Result.UNREADABLE, detail=str(exc))
        return Ending(result=survey.change.result(Contents(options)), detail=detail)

    async def _find(self) -> Shown:
        facts = self._way.seen.facts
        if ids_of(facts) != ST_ROM:
            raise NotFound(f"{told(facts)} is not the loader in a ROM")
        try:
            shown = await self._place.find()
        except AttemptFailed as failed:
            raise NotFound(failed.cause.detail) from failed
        if not self._place.may_be_loader(shown):
            raise NotFound(f"{shown} is not in its loader")
        return shown

    @asynccontextmanager
    async def _open(self, shown: Shown) -> AsyncGenerator[_Visit]:
        link = await self._place.open(shown)
        try:
            assert shown.interface is not None  # noqa: S101 - there it was opened
            memories = await self._shell.run(link, read_memories(shown.interface, shown.quirks))
            unit = Unit.of(shown.interface, shown.quirks)
            yield _Visit(self._shell, link, unit, memories)
        finally:
            await link.aclose()


@dataclass(frozen=True, slots=True)
class _Visit:
    """A loader that is open."""

    shell: Shell
    link: UsbLink
    unit: Unit
    memories: tuple[Memory, ...]

    async def read(self, memory: MemoryMap, reads: Iterable[Read]) -> tuple[Segment, ...]:
        """Read pieces of one memory, or beside it."""
        return await self.shell.run(self.link, self._read(memory, reads))

    async def write(self, memory: MemoryMap, block: Segment) -> None:
        """Write a block of option bytes in one piece."""
        await self.shell.run(self.link, DfuseHost(self.unit, memory).write_options(block))

    def _read(self, memory: MemoryMap, reads: Iterable[Read]) -> Conversation[tuple[Segment, ...]]:
        host = DfuseHost(self.unit, memory)
        yield from host.select(next(each.setting for each in self.memories if each.map == memory))
        pieces = []
        for read in reads:
            data = yield from host.read(read.address, read.size)
            pieces.append(Segment(read.address, data))
        return tuple(pieces)


async def _go_on(_milestone: Milestone) -> None:
    """Stop for no milestone: nothing of this is in a journal, a person looks on."""
