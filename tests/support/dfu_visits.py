"""The service's side of a DFU update, without a service: visits of a simulated device, by what is on the bus alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmwarden.drivers.boot import recovery
from firmwarden.drivers.boot.carry_out import StageBegins, carry_out
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.procedures import procedure
from firmwarden.drivers.boot.reads import wanted
from firmwarden.model import CommitMark, Phase
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.requests import Request, Setup
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.simulate.dfu.appearance import Mode
from firmwarden.simulate.dfu.settings import DfuSettings
from support.dfu_script import run
from support.dfu_simulated import Bench

if TYPE_CHECKING:
    from firmwarden.drivers.boot.reads import Read
    from firmwarden.drivers.boot.target import Target
    from firmwarden.protocol.dfu.conversation import Conversation, Event, Reply
    from support.power_cuts import Stand


class Visits:
    """A device in its loader, and the journal of its update.

    Attributes:
        bench: the device and its time.
        journal: what is on disk; None before the first stage that needs it.
    """

    def __init__(self, stand: Stand, *, self_powered: bool = False) -> None:
        chip = stand.chip
        settings = DfuSettings(part=chip.part, known=chip.known, flash_time=0.0, self_powered=self_powered)
        self.bench = Bench(settings, on=False)
        self.bench.device.chip.load(chip.save())
        self.bench.device.power_on(self.bench.now)
        self.bench.wait(1.0)
        self.journal: recovery.Unfinished | None = None
        self._stand = stand
        self._mark: CommitMark | None = None
        self.enter()

    def enter(self) -> None:
        """Bring the device into a loader, if it is not in one: by BOOT0, or as its application does when asked."""
        device = self.bench.device
        if device.mode is Mode.RUN_TIME:
            device.chip.boot0 = 1
            device.reset(self.bench.now)
            device.chip.boot0 = 0
            self.bench.wait(1.0)
        if device.mode is Mode.RUN_TIME:
            # With nSWBOOT0 cleared the pin means nothing.
            self.bench.transfer(Setup.of(Request.DETACH, interface=1, value=1000, length=0))
            self.bench.wait(1.0)

    def update(self) -> bool:
        """Do a visit to its end."""
        return run(self.visit(), self.answer)

    def answer(self, event: Event) -> Reply:
        """Do what a driver's shell does."""
        if isinstance(event, StageBegins) and event.stage.journal is not Phase.PROBING:
            self.journal = recovery.Unfinished(phase=event.stage.journal, mark=self._mark)
        return self.bench.answer(event)

    def visit(self) -> Conversation[bool]:
        """Read, decide, carry out."""
        identity = self.bench.device.identity
        assert identity is not None
        assert identity.dfu is not None
        target = replace(self._stand.target, memory=MemoryMap.parse(identity.dfu.alternates[0]))
        unit = Unit(interface=identity.dfu.number, functional=identity.dfu.functional)
        host = DfuseHost(unit, target.memory, erased=target.erased, granule=target.granule)
        yield from host.make_idle()
        whole = True
        contents = yield from self._read(host, target, whole=self.journal is None)
        if self.journal is not None:
            decision = recovery.recover(self.journal, target, self._stand.image, contents)
            whole = decision != recovery.Begin(keep=False)
            if whole:
                contents = yield from self._read(host, target, whole=True)
                decision = recovery.recover(self.journal, target, self._stand.image, contents)
            assert isinstance(decision, recovery.Begin | recovery.Start), decision
        plan = procedure(target, self._stand.image, contents, keep=whole)
        commit = target.commit(plan.image)
        before = contents.read(commit.address, commit.end) or b""
        self._mark = CommitMark(before=before[: recovery.MARK_SIZE], after=commit.data[: recovery.MARK_SIZE])
        return (yield from carry_out(host, plan))

    def _read(self, host: DfuseHost, target: Target, *, whole: bool) -> Conversation[Contents]:
        reads: tuple[Read, ...] = wanted(target, self._stand.image, whole=whole)
        pieces = []
        for read in reads:
            if read.required:
                data = yield from host.read(read.address, read.size)
                pieces.append(Segment(read.address, data))
        return Contents(tuple(pieces))
