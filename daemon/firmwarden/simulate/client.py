"""One simulated MDFU device, without IO: bytes and the time go in, bytes come out.

Theory of operation.  The device is off, booting, in its loader or in its application.  Only the loader speaks MDFU.
It has one receive buffer and no interrupts: while it erases, programs or checks it is deaf, and what is sent to
it meanwhile is lost.  Everything in RAM (sequence numbers, the stored answer, how far a transfer got) is gone
after a reset; the flash stays.  A boot looks at the flash alone and starts an application only if that is complete.

The owner calls `feed` with what came in and `poll` when `wake_at` has come, sends on what they return, and then
looks at `link` (is the port still there?) and `wake_at` anew.  The time is whatever the owner says; it must not
go back.  Nothing here reads a clock, and chance comes from the seed alone: the same calls give the same bytes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.packet import (
    COMMANDS,
    SEQUENCE_NUMBERS,
    Command,
    ImageState,
    NotExecutedCause,
    Status,
)
from firmwarden.simulate.agenda import Agenda, Life
from firmwarden.simulate.application import Application
from firmwarden.simulate.faultplan import FaultPlan, OnTheLine
from firmwarden.simulate.faults import Abort, Cut, Direction, Fault, Lose, Mute, Reboot, Wedge
from firmwarden.simulate.flash import Erase, Flash
from firmwarden.simulate.line import Line, Link
from firmwarden.simulate.loader import Inspection, install
from firmwarden.simulate.reception import Crash, Receiver
from firmwarden.simulate.session import Judgement, Session
from firmwarden.simulate.transfer import Transfer, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmwarden.simulate.settings import DeviceSettings

_TICK_S: Final = 1e-9
"""Two instants that differ by less are the same: sums of floats do not come out even."""

_ACKS: Final = {
    packet: encode_frame(packet)
    for packet in (bytes((number, Status.SUCCESS)) for number in range(SEQUENCE_NUMBERS))
}
"""Nearly all answers are one of these."""


@unique
class Mode(StrEnum):
    """What the device is doing."""

    OFF = "off"
    BOOTING = "booting"
    LOADER = "loader"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class SimEvent:
    """Something worth telling, as the device saw it."""

    kind: str
    at: float
    details: Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Running:
    """The application that runs."""

    version: str
    sha256: str
    """Of the update file that was accepted whole."""


class SimClient:
    """A simulated device.

    Args:
        settings: what it is like.
        notify: is told what happens, from within the calls.
    """

    def __init__(
        self, settings: DeviceSettings, notify: Callable[[SimEvent], None] = lambda _event: None
    ) -> None:
        self.settings = settings
        self.profile = settings.profile
        self.flash = Flash(settings.profile.flash)
        if settings.installed is not None:
            install(self.profile, settings.installed, self.flash)
            self.flash.forget_wear()
        self._inspection = Inspection(self.profile, self.flash)
        self.mode = Mode.OFF
        self.running: Running | None = None
        self.boots = 0
        self.started_partial = 0
        """Boots into an application that no whole update file made: never, or this model is wrong."""
        self.ended_partial = 0
        """END_TRANSFER commands while no complete image was there: a loader that trusts its host would start it."""
        self.commands: Counter[Command | int] = Counter()
        """How often each was executed."""
        self._notify = notify
        self._plan = FaultPlan(settings.faults, f"{settings.seed}/{settings.name}")
        self._agenda = Agenda()
        self._line = Line(
            baud=settings.baud, plan=self._plan, agenda=self._agenda, hear=self._hear, struck=self._strike
        )
        # Reproducible, not secret.
        self._rng = random.Random(f"{settings.seed}/{settings.name}/power")  # noqa: S311
        self._updated = False
        self._loader_requested = False
        self._muted = False
        self._start_run(0.0)

    # --- the owner's side ----------------------------------------------------------------------------

    @property
    def wake_at(self) -> float | None:
        """When `poll` is to be called next, None if only input can change anything."""
        return self._agenda.next_at

    @property
    def complete(self) -> bool:
        """Whether the flash holds a complete application, made by a whole update file."""
        return self._inspection.is_whole()

    @property
    def faults_fired(self) -> dict[str, int]:
        """How often each fault struck, by its text."""
        return self._plan.fired

    @property
    def link(self) -> Link:
        """What the port is like now."""
        return self._line.state

    @property
    def link_losses(self) -> int:
        """How often the port vanished."""
        return self._line.losses

    def power_on(self, now: float) -> None:
        """Plug it in for the first time."""
        self._line.come_up(now)
        self._boot(now)
        for fault in self._plan.from_the_start():
            self._strike(fault, now)

    def feed(self, data: bytes, now: float) -> bytes:
        """Take what the host sent, return what leaves the device now."""
        self._agenda.run(now)
        self._line.feed(data, now)
        return self._line.take()

    def poll(self, now: float) -> bytes:
        """Do what has become due, return what leaves the device now."""
        self._agenda.run(now)
        return self._line.take()

    def touch(self, now: float) -> None:
        """Take the 1200 baud touch: the port was closed at that speed, which means "into the loader"."""
        self._agenda.run(now)
        if self.mode is Mode.APPLICATION and not self._muted:
            self._enter_loader("touch", now)

    def unplug(self, now: float, *, back_s: float | None = None, power_lost: bool = False) -> None:
        """Take the port away, and the power if that is lost too; it is back after `back_s`, or never."""
        self._agenda.run(now)
        self._cut(now, back_s=back_s, power_lost=power_lost, fault=None)

    def _tell(self, kind: str, now: float, **details: str | float | bool | None) -> None:
        self._notify(SimEvent(kind, now, details))

    # --- power and boot ------------------------------------------------------------------------------

    def _reset(self, now: float) -> None:
        self._tell("reset", now)
        self._boot(now)

    def _boot(self, now: float) -> None:
        self._agenda.strike_out(Life.RUN)
        self._start_run(now)
        self.mode = Mode.BOOTING
        self.running = None
        self._agenda.add(now + self.profile.boot_s, Life.RUN, self._booted)

    def _start_run(self, now: float) -> None:
        """Forget what is in RAM."""
        self._session = Session(self.profile)
        self._transfer = Transfer(self.profile, self.flash, self._inspection)
        self._receiver = Receiver(self.profile)
        self._application: Application | None = None
        self._work: Work | None = None
        self._deaf = True
        self._hears_since = now

    def _booted(self, now: float) -> None:
        self.boots += 1
        self._deaf = False
        self._hears_since = now
        found = self._inspection.application()
        stays = self._loader_requested or (self.settings.stay_in_loader and not self._updated)
        self._loader_requested = False
        if found is None or stays:
            self.mode = Mode.LOADER
            self._tell("boot", now, mode=self.mode, complete=self.complete)
            return
        self.mode = Mode.APPLICATION
        self.started_partial += not self.complete
        self.running = Running(found.version, sha256(self.flash.source).hexdigest())
        self._application = Application(self.settings.dialogue, found.version)
        self._tell(
            "boot",
            now,
            mode=self.mode,
            complete=self.complete,
            version=self.running.version,
            sha256=self.running.sha256,
        )

    def _enter_loader(self, by: str, now: float) -> None:
        self._loader_requested = True
        self._tell("loader-requested", now, by=by)
        self._boot(now)

    def _lose_power(self, now: float) -> None:
        """Go off; of what the flash was busy with only a part is done."""
        work = self._work
        if work is not None and work.operations:
            began = work.begun_at
            share = (now - began) / work.duration_s if began is not None else self._rng.random()
            self.flash.tear(work.operations[0], share, self._rng)
        self._agenda.strike_out(Life.RUN)
        self._start_run(now)
        self.mode = Mode.OFF
        self.running = None
        self._loader_requested = False

    # --- what it hears -------------------------------------------------------------------------------

    def _hear(self, data: bytes, now: float) -> None:
        if self._line.byte_s:
            # These bytes came one after the other until now; the first of them may have met deaf ears.
            began = now - len(data) * self._line.byte_s
            missed = math.ceil((self._hears_since - began - _TICK_S) / self._line.byte_s)
            data = data[max(missed, 0) :]
        if self._deaf or self._muted:
            return
        if self._application is not None:
            reaction = self._application.hear(data)
            if reaction.answer:
                self._line.transmit(reaction.answer, now)
            if reaction.enters_loader:
                self._deaf = True
                self._agenda.add(
                    max(now, self._line.tx_free_at), Life.RUN, partial(self._enter_loader, "bytes")
                )
        elif self._plan.watches_line[Direction.RX]:
            self._line.spoil(data, now, self._receive_spoilt)
        else:
            self._receive(data, now)

    def _receive_spoilt(self, item: OnTheLine, now: float) -> None:
        data = item.data
        if item.line_error and self.profile.reports_line_errors:
            if self._listens():
                # At once, and again when it meets the end of the frame.
                self._refuse(None, now)
                self._refuse(self._receiver.line_error(data), now)
            return
        if item.line_error:
            middle = len(data) // 2
            data = data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]
        self._receive(data, now)

    def _listens(self) -> bool:
        """Whether the loader is there and not busy."""
        return self.mode is Mode.LOADER and not self._deaf and not self._muted

    def _receive(self, data: bytes, now: float) -> None:
        if not self._listens():
            return
        for item in self._receiver.feed(data):
            if isinstance(item, bytes):
                self._packet(item, now)
            elif isinstance(item, Crash):
                self._reset(now)
            else:
                self._refuse(item, now)
            if not self._listens():
                # What came behind the command came too early.
                self._receiver.clear()
                return

    def _packet(self, packet: bytes, now: float) -> None:
        judgement = self._session.judge(packet[0])
        if judgement is Judgement.EXECUTE:
            self._execute(packet, now)
        elif judgement is Judgement.REFUSE:
            self._refuse(NotExecutedCause.SEQUENCE_NUMBER_INVALID, now)
        elif stored := self._session.stored_answer():
            self._answer(stored, now)

    def _refuse(self, cause: NotExecutedCause | None, now: float) -> None:
        self._answer(self._session.refusal(cause), now)

    def _answer(self, packet: bytes, now: float) -> None:
        self._line.transmit_frame(_ACKS.get(packet) or encode_frame(packet), now)

    # --- what it does about it -----------------------------------------------------------------------

    def _execute(self, packet: bytes, now: float) -> None:
        command = COMMANDS.get(packet[1], packet[1])
        self.commands[command] += 1
        if not self._plan.watches_commands:
            self._begin(self._transfer.plan(packet), now)
            return
        number = self.commands.total() - 1
        struck = self._plan.command(number, command, self._transfer.chunk_number)
        if any(isinstance(fault, Reboot) and not fault.after for fault in struck):
            self._reset(now)
            return
        causes = [fault.cause for fault in struck if isinstance(fault, Abort)]
        work = self._transfer.plan(packet)
        if causes:
            work = self._transfer.abort(command, causes[0])
        for fault in struck:
            if isinstance(fault, Lose | Mute | Reboot):
                work.answered = False
            if isinstance(fault, Reboot):
                work.resets = True
        if any(isinstance(fault, Cut) and fault.power_lost for fault in struck):
            # The power goes while it is at work.
            self._work = work
        for fault in struck:
            self._strike(fault, now)
        if self.mode is Mode.LOADER:
            self._begin(work, now)

    def _begin(self, work: Work, now: float) -> None:
        """Start on a command; on one that takes no time, finish it."""
        work.duration_s *= self.settings.flash_time
        if not work.duration_s:
            self._finish(work, now)
            return
        work.begun_at = now
        self._work = work
        self._deaf = True
        self._agenda.add(now + work.duration_s, Life.RUN, partial(self._finish, work))

    def _finish(self, work: Work, now: float) -> None:
        for operation in work.operations:
            self.flash.apply(operation)
            if isinstance(operation, Erase):
                self._tell("erase", now, starts=self.flash.erase_starts)
        if work.chunk is not None and work.status is Status.SUCCESS:
            self.flash.note_source(work.chunk)
        self._work = None
        self._deaf = False
        self._hears_since = now
        answer = self._session.answer(work.status, work.data)
        if work.answered:
            self._answer(answer, now)
        if work.command is not Command.WRITE_CHUNK or work.status is not Status.SUCCESS:
            self._tell_of(work, now)
        if work.resets:
            self._deaf = True
            delay_s = self.profile.reset_delay_s if work.command is Command.END_TRANSFER else 0.0
            self._agenda.add(max(now, self._line.tx_free_at) + delay_s, Life.RUN, self._reset)

    def _tell_of(self, work: Work, now: float) -> None:
        """Tell of every command but chunks that went well: those are too many."""
        if work.status is Status.ABORT_FILE_TRANSFER:
            cause = work.data[0] if work.data else None
            self._tell("abort", now, cause=cause, chunk=self._transfer.chunk_number - 1)
        elif work.command is Command.GET_IMAGE_STATE:
            self._tell("image-state", now, valid=work.data[0] == ImageState.VALID)
        elif work.command is Command.END_TRANSFER:
            self.ended_partial += not self.complete
            self._updated = self.complete
            self._tell("end", now, complete=self.complete)
        elif work.command is Command.START_TRANSFER:
            self._tell("start", now)

    # --- faults of the whole device ------------------------------------------------------------------

    def _strike(self, fault: Fault, now: float) -> None:
        match fault:
            case Cut(back_s=back_s, power_lost=power_lost):
                self._cut(now, back_s=back_s, power_lost=power_lost, fault=fault.text)
            case Wedge(back_s=back_s):
                self._line.wedge()
                self._tell("wedged", now, fault=fault.text)
                if back_s is not None:
                    self._agenda.add(now + back_s, Life.UNIT, self._plug_in)
            case Mute(for_s=for_s):
                self._muted = True
                self._tell("muted", now, fault=fault.text)
                if for_s is not None:
                    self._agenda.add(now + for_s, Life.UNIT, self._unmute)
            case _:
                # Aborts, resets and lost answers are done where the command is.
                self._tell("fault", now, fault=fault.text)

    def _cut(self, now: float, *, back_s: float | None, power_lost: bool, fault: str | None) -> None:
        self._line.go_down()
        if power_lost:
            self._lose_power(now)
        self._tell("cut", now, fault=fault, power_lost=power_lost)
        if back_s is not None:
            self._agenda.add(now + back_s, Life.UNIT, self._plug_in)

    def _plug_in(self, now: float) -> None:
        self._line.come_up(now)
        self._tell("link-up", now)
        if self.mode is Mode.OFF:
            self._boot(now)

    def _unmute(self, now: float) -> None:
        self._muted = False
        self._hears_since = now
