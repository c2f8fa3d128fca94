"""The DfuSe host: set the address, erase, write, read back, leave.

Theory of operation.  ``DfuseHost`` is one visit of a device, on one of its memories.  Its methods are conversations,
to be put together in whatever order keeps the device safe; each begins and ends with the device idle between two
commands, in dfuDNLOAD-IDLE or dfuIDLE, and works from either.

A command or a block is carried out by the first GETSTATUS after it, which must say dfuDNBUSY; the device is then
left alone for the time that it gave, and the next GETSTATUS tells the result.  The ROM does the work inside the
control transfer, so that GETSTATUS may take as long as the erase.

Before each block the address is set and the block has number 2, so that it makes no difference how a ROM computes
addresses from block numbers.  Read-back has to use ascending numbers, as the pointer can only be set by leaving the
upload; all blocks but the last have the full transfer size, so again it makes none.

ROMs report no error when they write to a protected sector.  So nothing is believed: ``verify`` reads back, ``Checked``
keeps account of what is known, and ``leave`` is refused unless the whole image is, ``return_untouched`` once anything
was changed (invariant 1).  No other method sends the empty DNLOAD that starts an image.

Source: ST AN3156 rev. 17; AN2606 for the errors of single ROMs; dfu-util 0.11 (dfuse.c).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from firmwarden.errors import AttemptFailed
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.dfu import dfuse
from firmwarden.protocol.dfu.checked import Checked
from firmwarden.protocol.dfu.conversation import (
    Conversation,
    Pause,
    Progress,
    SelectAlternate,
    Trouble,
    Writing,
)
from firmwarden.protocol.dfu.host import OutOfTurn
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap, Sector
from firmwarden.protocol.dfu.requests import Request, State, StatusReport
from firmwarden.protocol.dfu.segments import Segment, aligned, joined
from firmwarden.protocol.dfu.steps import (
    LONGEST_WAIT_S,
    Unit,
    abort,
    expect,
    make_idle,
    pause_after,
    poll,
    refused,
    settle,
    status,
)
from firmwarden.protocol.dfu.verdicts import failure, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GRANULE: Final = 16
"""Blocks begin and end at multiples of this, unless the silicon is known.

It is the strictest alignment that any STM32 asks for (AN2606, table 7), and it avoids the ROMs V9.x and V10.x of
STM32L47x and L48x, which corrupt a block of more than 256 bytes whose length is no multiple of 8."""

_BUSY: Final = frozenset({State.DNLOAD_SYNC, State.DNBUSY})

_EVIDENCE: Final = 16
"""Bytes of a difference that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patience:
    """How long the device may take over a command."""

    timeout_s: float = 10.0
    """For the GETSTATUS that carries it out: an STM32F745 needs up to 5 s for a sector."""
    shortest_s: float = 0.0
    """The first wait, whatever the device says."""
    least_pause_s: float = 0.0
    """Between two polls, whatever the device says."""
    longest_s: float = LONGEST_WAIT_S


_COMMAND: Final = _Patience()

_STICKING_ERASE: Final = _Patience(longest_s=10.0, least_pause_s=0.25)
"""After that an erase of an STM32H743 that is still busy is taken to be done: its datasheet allows 4 s a sector.

It is polled so seldom that the time ends the wait, and not the number of polls, also where it says 0 ms: a status that
is cleared in the middle of an erase makes a good sector look worn out."""

_MASS_ERASE: Final = _Patience(timeout_s=40.0)

_LYING_MASS_ERASE: Final = replace(_MASS_ERASE, shortest_s=35.0)
"""How long it can take on an STM32F405; dfu-util waits so long."""


class ReadsBackWrong(AttemptFailed):
    """Memory does not hold what it should.

    Attributes:
        address: of the first byte that differs.
        found: what is there, and behind it.
    """

    def __init__(self, segment: Segment, offset: int, found: bytes) -> None:
        self.address = segment.address + offset
        self.found = found[:_EVIDENCE]
        wanted = segment.data[offset : offset + _EVIDENCE]
        super().__init__(
            Cause(
                code=CauseCode.READ_BACK_DIFFERS,
                detail=f"0x{self.address:08x} should hold {wanted.hex()} and holds {self.found.hex()}",
                raw=self.found,
                offset=offset,
            )
        )


def blocks_of(image: Iterable[Segment], size: int, erased: int, granule: int = GRANULE) -> Iterator[Segment]:
    """Cut an image into what is written at a time, and leave out what an erased flash holds already.

    Blank granules at either end of a block are left out too: flash with error correction would count them as
    written.
    """
    size = size - size % granule or size
    blank = bytes((erased,))
    for segment in aligned(image, granule, erased):
        for offset in range(0, len(segment.data), size):
            data = segment.data[offset : offset + size]
            head = len(data) - len(data.lstrip(blank))
            head -= head % granule
            tail = len(data.rstrip(blank))
            tail += -tail % granule
            if tail > head:
                yield Segment(segment.address + offset + head, data[head:tail])


class DfuseHost:
    """One visit of a DfuSe device, on one memory.

    Attributes:
        touched: something was erased or written, or may have been.

    Args:
        unit: the interface.
        memory: the map of the alternate setting.
        erased: what an erased byte reads as; 0x00 on STM32L0 and L1.
        granule: blocks begin and end at multiples of this.  Where the silicon is known, what it programs at once:
            then two writes may meet anywhere between granules, and never in one.
    """

    def __init__(self, unit: Unit, memory: MemoryMap, *, erased: int = 0xFF, granule: int = GRANULE) -> None:
        self._unit = unit
        self._memory = memory
        self._erased = erased
        self._granule = granule
        self._checked = Checked()
        self.touched = False

    # --- where to begin ----------------------------------------------------------------------------------

    def select(self, setting: int) -> Conversation[None]:
        """Select the memory, and bring the device to idle: a change may have upset its state.

        To be left out where there is only one alternate setting, which some devices refuse to select.

        Raises:
            AttemptFailed: it cannot be done.
        """
        expect((yield SelectAlternate(self._unit.interface, setting)), f"selecting memory {setting}")
        yield from self.make_idle()

    def make_idle(self) -> Conversation[StatusReport]:
        """Bring the device to dfuIDLE, wherever an earlier host left it, and return what it told first.

        Raises:
            AttemptFailed: it cannot be brought there.
        """
        return (yield from make_idle(self._unit))

    # --- erase -------------------------------------------------------------------------------------------

    def erase(self, sectors: Iterable[Sector]) -> Conversation[None]:
        """Erase sectors in the order given.  Milestones: Writing, then Progress after each.

        Raises:
            AttemptFailed: one cannot be erased, by the memory's map or by the device.
        """
        wanted = tuple(sectors)
        patience = _STICKING_ERASE if self._unit.quirks.erase_sticks_busy else _COMMAND
        for sector in wanted:
            if not self._memory.allows(sector.address, sector.end, Access.ERASE):
                raise failure(CauseCode.IMAGE_UNFIT, f"0x{sector.address:08x} cannot be erased")
        total = sum(sector.size for sector in wanted)
        done = 0
        yield Writing()
        self.touched = True
        for sector in wanted:
            self._checked.forget(sector.address, sector.end)
            what = f"erasing 0x{sector.address:08x}"
            try:
                yield from self._command(dfuse.ErasePage(sector.address), what, patience)
            except AttemptFailed as failed:
                if failed.cause.code is not CauseCode.STUCK_BUSY or not self._unit.quirks.erase_sticks_busy:
                    raise
                yield from self._free_stuck(sector)
            done += sector.size
            yield Progress(done, total)

    def mass_erase(self) -> Conversation[None]:
        """Erase the whole flash, whatever is in it.  Milestone: Writing.

        Raises:
            AttemptFailed: it cannot be done.
        """
        yield Writing()
        self.touched = True
        self._checked.forget()
        patience = _LYING_MASS_ERASE if self._unit.quirks.mass_erase_lies else _MASS_ERASE
        yield from self._command(dfuse.MassErase(), "mass erase", patience)

    def _free_stuck(self, sector: Sector) -> Conversation[None]:
        """Clear the status twice, the first time out of turn, and see that the sector is blank."""
        yield self._unit.ask(Request.CLRSTATUS)
        yield from status(self._unit, "CLRSTATUS")
        yield self._unit.ask(Request.CLRSTATUS)
        report = yield from status(self._unit, "CLRSTATUS")
        if report.state is not State.DFU_IDLE:
            detail = f"the device is in {report.state.name} after a stuck erase"
            raise failure(CauseCode.STUCK_BUSY, detail, raw=report.encode())
        data = yield from self.read(sector.address, sector.size)
        if data.strip(bytes((self._erased,))):
            detail = f"the sector at 0x{sector.address:08x} is not blank after a stuck erase"
            raise failure(CauseCode.NOT_BLANK, detail)

    # --- write -------------------------------------------------------------------------------------------

    def write(self, image: Iterable[Segment], *, descending: bool = False) -> Conversation[None]:
        """Write to flash that is erased.  Milestones: Writing, then Progress after each block.

        Args:
            image: the bytes.
            descending: the block that has the lowest address is written last.

        Raises:
            BadImage: two segments give the same byte.
            AttemptFailed: the image does not lie in memory that can be written, or the device failed.
        """
        blocks = tuple(blocks_of(image, self._unit.functional.block_size, self._erased, self._granule))
        for block in blocks:
            if not self._memory.allows(block.address, block.end, Access.WRITE):
                raise failure(
                    CauseCode.IMAGE_UNFIT,
                    f"0x{block.address:08x} to 0x{block.end:08x} is not in memory that can be written",
                )
        if descending:
            blocks = blocks[::-1]
        total = sum(len(block.data) for block in blocks)
        done = 0
        yield Writing()
        self.touched = True
        for block in blocks:
            self._checked.forget(block.address, block.end)
            what = f"writing 0x{block.address:08x}"
            yield from self.set_address(block.address)
            yield from self._execute(dfuse.FIRST_DATA_BLOCK, block.data, what, offset=done)
            done += len(block.data)
            yield Progress(done, total)

    def write_options(self, options: Segment) -> Conversation[bool]:
        """Write a whole block of option bytes; the device restarts with them.  Milestone: Writing.

        Never a part of an update: if the power fails in here the device may be locked for good.

        Returns:
            Whether the device said that it is done.  Most are gone before they can.

        Raises:
            AttemptFailed: it refused.
        """
        if not self._memory.allows(options.address, options.end, Access.WRITE):
            raise failure(CauseCode.IMAGE_UNFIT, f"no option bytes at 0x{options.address:08x}")
        yield Writing()
        self.touched = True
        self._checked.forget()
        yield from self.set_address(options.address)
        what = "writing option bytes"
        reply = yield self._unit.ask(Request.DNLOAD, value=dfuse.FIRST_DATA_BLOCK, data=options.data)
        if isinstance(reply, Trouble):
            yield from refused(self._unit, what, reply)
        report = yield from poll(self._unit, _COMMAND.timeout_s)
        if isinstance(report, Trouble):
            return False
        self._must_be_executing(report, what)
        yield Pause(pause_after(self._unit, report))
        report = yield from poll(self._unit)
        if isinstance(report, StatusReport) and report.state is State.ERROR:
            raise verdict(report, what, dfuse=True)
        return isinstance(report, StatusReport) and report.state is State.DNLOAD_IDLE

    # --- read back ---------------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> Conversation[bytes]:
        """Read memory, also such that no map tells of.  Milestones: Progress after each block.

        Raises:
            AttemptFailed: it cannot be read.
        """
        received = bytearray()
        block = dfuse.LAST_DATA_BLOCK + 1
        while len(received) < size:
            if block > dfuse.LAST_DATA_BLOCK:
                if received:
                    yield from abort(self._unit)
                yield from self.set_address(address + len(received))
                yield from abort(self._unit)
                block = dfuse.FIRST_DATA_BLOCK
            length = min(self._unit.functional.block_size, size - len(received))
            what = f"reading 0x{address + len(received):08x}"
            received += yield from self._upload(block, length, what)
            block += 1
            yield Progress(len(received), size)
        yield from abort(self._unit)
        return bytes(received)

    def verify(self, image: Iterable[Segment]) -> Conversation[None]:
        """Read an image back and compare it; what differs is read once more.  Milestones: Progress.

        Raises:
            ReadsBackWrong: it differs twice.
            AttemptFailed: it cannot be read.
        """
        for segment in joined(image):
            data = yield from self.read(segment.address, len(segment.data))
            while (offset := _first_difference(segment.data, data)) is not None:
                length = min(self._unit.functional.block_size, len(data) - offset)
                again = yield from self.read(segment.address + offset, length)
                if again[:1] != segment.data[offset : offset + 1]:
                    raise ReadsBackWrong(segment, offset, again)
                data = data[:offset] + again + data[offset + length :]
            self._checked.learn(segment)

    # --- leave -------------------------------------------------------------------------------------------

    def leave(self, image: Iterable[Segment], entry: int) -> Conversation[bool]:
        """Start what is at `entry`, once `image` is known to be there whole.

        Returns:
            Whether the device said that it leaves.  If not it may have left all the same: only its coming back as
            an application tells.

        Raises:
            OutOfTurn: not all of `image` was verified since it was last touched.  Nothing was sent.
            AttemptFailed: the device refused.
        """
        if not self._checked.holds(image):
            raise OutOfTurn("leave, without the whole image read back and found right")
        return (yield from self._leave(entry))

    def return_untouched(self, entry: int) -> Conversation[bool]:
        """Send a device back that came here from its application, and in which nothing was changed.

        Invariant 1 is about images that were not wholly written.  This starts the one that ran until a moment ago, and
        without it a device would stay dark in its ROM for nothing: because an update has to wait for a person, say.
        Whether what is at `entry` is what ran, the caller has to know.

        Returns:
            As `leave`.

        Raises:
            OutOfTurn: something was erased or written in this visit.  Nothing was sent.
            AttemptFailed: the device refused.
        """
        if self.touched:
            raise OutOfTurn("return, after something was erased or written")
        yield from self.make_idle()
        return (yield from self._leave(entry))

    def _leave(self, entry: int) -> Conversation[bool]:
        yield from self.set_address(entry)
        self._checked.forget()
        reply = yield self._unit.ask(Request.DNLOAD, value=dfuse.COMMAND_BLOCK)
        if isinstance(reply, Trouble) or self._unit.quirks.leaves_unasked:
            return False
        report = yield from poll(self._unit)
        if isinstance(report, StatusReport) and report.state is State.ERROR:
            raise verdict(report, "leaving", dfuse=True)
        return isinstance(report, StatusReport) and report.state is State.MANIFEST

    # --- the steps ---------------------------------------------------------------------------------------

    def set_address(self, address: int) -> Conversation[None]:
        """Move the address pointer; raises AttemptFailed."""
        yield from self._command(dfuse.SetAddress(address), f"setting the address 0x{address:08x}")

    def _command(
        self, command: dfuse.Command, what: str, patience: _Patience = _COMMAND
    ) -> Conversation[None]:
        yield from self._execute(dfuse.COMMAND_BLOCK, command.encode(), what, patience)

    def _execute(
        self,
        block: int,
        data: bytes,
        what: str,
        patience: _Patience = _COMMAND,
        offset: int | None = None,
    ) -> Conversation[None]:
        unit = self._unit
        reply = yield unit.ask(Request.DNLOAD, value=block, data=data)
        if isinstance(reply, Trouble):
            yield from refused(unit, what, reply, offset)
        report = yield from status(unit, what, patience.timeout_s)
        # Some clones have a block written by then; it is read back anyway.
        if block == dfuse.COMMAND_BLOCK or report.state is not State.DNLOAD_IDLE:
            self._must_be_executing(report, what, offset)
        shortest_ms = round(patience.shortest_s * 1000)
        yield from settle(
            unit,
            what,
            replace(report, poll_timeout_ms=max(report.poll_timeout_ms, shortest_ms)),
            busy=_BUSY,
            goal=State.DNLOAD_IDLE,
            offset=offset,
            longest_s=patience.longest_s,
            least_pause_s=patience.least_pause_s,
            timeout_s=patience.timeout_s,
        )

    def _must_be_executing(self, report: StatusReport, what: str, offset: int | None = None) -> None:
        if report.state is State.ERROR:
            raise verdict(report, what, dfuse=True, offset=offset)
        if report.state is not State.DNBUSY:
            detail = f"the device is in {report.state.name} and not busy with {what}"
            raise failure(CauseCode.OUT_OF_STEP, detail, raw=report.encode(), offset=offset)

    def _upload(self, block: int, size: int, what: str) -> Conversation[bytes]:
        reply = yield self._unit.ask(Request.UPLOAD, value=block, length=size)
        if isinstance(reply, Trouble):
            yield from refused(self._unit, what, reply)
        data = expect(reply, what)
        if len(data) != size:
            raise failure(CauseCode.OUT_OF_STEP, f"{len(data)} of {size} byte(s) came at {what}")
        return data


def _first_difference(wanted: bytes, got: bytes) -> int | None:
    if wanted == got:
        return None
    return next(index for index, (one, other) in enumerate(zip(wanted, got, strict=True)) if one != other)
