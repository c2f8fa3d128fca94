"""Scripted devices, and a driver that plays their script against the service.

A ``Unit`` is a piece of silicon: what it holds and runs outlives drivers, workers and the whole service.  Its script
says how the next attempts go; when it is used up everything goes well.  The driver keeps a driver's duties: it asks
the journal before it erases or ends, and never starts what is not whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import anyio
import anyio.lowlevel

from firmwarden.drivers.base import Landing, Progress, Step
from firmwarden.errors import AttemptFailed, MustWait, PortHeld
from firmwarden.model import Cause, CauseCode, CommitMark, LinkStats, Phase, WaitKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firmwarden.drivers.base import Journal, PlannedStep
    from firmwarden.model import Attempt

MARKED: Final = 8
"""Bytes by which a unit starts what it holds."""
PARTIAL: Final = b"\xff"
"""What a flash holds between its erase and its last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """How one attempt goes."""

    at: Step = Step.PROBE
    """Where it happens: PROBE before the erase, WRITE half-way, VERIFY after the last byte, LEAVE at the end."""
    fails: Cause | Exception | None = None
    hangs: bool = False
    """Until somebody asks it to stop or cancels it."""
    deaf: bool = False
    """Does not hear when it is asked to stop."""
    seconds: float = 0.0
    """That each step takes."""
    end: Literal["acknowledged", "lost", "answer-lost"] = "acknowledged"
    """What becomes of the command that starts the image."""


WELL: Final = Play()


def fails(code: CauseCode, at: Step = Step.WRITE, **evidence: int) -> Play:
    """An attempt that ends for a cause."""
    detail = f"scripted {code.value}"
    return Play(at=at, fails=Cause(code=code, detail=detail, raw=b"\x01", **evidence))


def held(holder: str = "ModemManager (process 7)") -> Play:
    """Somebody else has the port."""
    return Play(fails=PortHeld("/dev/ttyACM0", holder))


def must_wait(
    at: Step = Step.PROBE, kind: WaitKind = WaitKind.FAILSAFE, *, left_in_loader: bool = False
) -> Play:
    """The device shows something that a person has to look at."""
    return Play(at=at, fails=MustWait(kind, "the device does not have BFB2=1", left_in_loader=left_in_loader))


class Unit:
    """One device."""

    def __init__(self, holds: bytes = b"factory image", script: Iterable[Play] = ()) -> None:
        self.flash = holds
        self.runs: bytes | None = holds
        """None: it waits in its loader."""
        self.script = deque(script)
        self.answers: deque[Play] = deque()
        """How the next questions go; when used up it answers as it is."""
        self.detaches = False
        """Whether its loader is one of its own, into which its application has to make room, and can be read back."""
        self.tells = False
        """Whether its application tells what it is."""
        self.erases = 0
        self.started: list[bytes] = []
        self.attempts = 0
        self.questions = 0
        self.latest: ScriptedDriver | None = None
        self.left: list[Attempt | None] = []
        """What the journal told each driver of the attempt before."""
        self.was_entered: list[bool] = []
        """Whether the journal told it that the unit was brought into its loader before."""

    def erase(self) -> None:
        self.erases += 1
        self.flash = PARTIAL
        self.runs = None

    def enter(self) -> None:
        """Leave its application for its loader, which changes nothing of what it holds."""
        self.runs = None

    def put_back(self) -> None:
        """Start what was there."""
        self.runs = self.flash

    def start(self) -> None:
        self.started.append(self.flash)
        self.runs = self.flash


class ScriptedDriver:
    """Implements ``firmwarden.drivers.base.Driver``."""

    def __init__(self, unit: Unit, journal: Journal) -> None:
        self.unit = unit
        self._journal = journal
        self._stopping = anyio.Event()
        self._step = Step.PROBE
        self._done = self._total = self._commands = 0
        unit.latest = self

    @property
    def progress(self) -> Progress:
        return Progress(self._step, self._done, self._total)

    @property
    def stats(self) -> LinkStats:
        return LinkStats(commands=self._commands)

    def request_stop(self) -> None:
        self._stopping.set()

    async def update(self, image: bytes) -> Landing:
        unit = self.unit
        unit.attempts += 1
        unit.left.append(self._journal.unfinished)
        self._total = len(image)
        play = unit.script.popleft() if unit.script else WELL
        unit.was_entered.append(self._journal.entered)
        if unit.detaches and unit.runs is not None:
            await self._journal.entering()
            unit.enter()
        try:
            await self._reach(Step.PROBE, play)
        except MustWait as exc:
            if unit.detaches and not exc.left_in_loader:
                unit.put_back()
            raise
        mark = CommitMark(unit.flash[:MARKED], image[:MARKED])
        if not (unit.detaches and unit.flash == image):
            await self._journal.erase_starting(mark)
            unit.erase()
            await self._reach(Step.WRITE, play)
            self._done = len(image)
            unit.flash = image
        await self._reach(Step.VERIFY, play)
        await self._journal.ending(mark)
        if play.end != "lost":
            unit.start()
        await self._reach(Step.LEAVE, play)
        if play.end == "acknowledged":
            return Landing(confirmed=True, evidence="the unit acknowledged its end")
        return self._unknown("image valid, loader left")

    async def confirm(self) -> Landing:
        unit = self.unit
        unit.questions += 1
        unit.left.append(self._journal.unfinished)
        play = unit.answers.popleft() if unit.answers else WELL
        await self._reach(Step.CONFIRM, play)
        if play.end == "lost":
            return self._unknown("nothing answers")
        if unit.runs is not None:
            if not unit.tells:
                return self._unknown("image valid, loader left, nothing answers since")
            return Landing(confirmed=True, evidence="the application tells its version")
        if unit.flash == PARTIAL:
            raise AttemptFailed(
                Cause(code=CauseCode.IMAGE_INVALID, detail="the unit calls the image invalid")
            )
        await self._journal.ending()
        unit.start()
        return Landing(confirmed=True, evidence="the unit acknowledged its end")

    async def info(self) -> Mapping[str, str | int]:
        await anyio.lowlevel.checkpoint()
        return {}

    async def plan(self, image: bytes) -> tuple[PlannedStep, ...]:
        del image
        return ()

    def _unknown(self, evidence: str) -> Landing:
        return Landing(
            confirmed=False,
            evidence=evidence,
            cause=Cause(code=CauseCode.END_UNANSWERED, detail=evidence),
        )

    async def _reach(self, step: Step, play: Play) -> None:
        """Come to the boundary before the next step, where an attempt may fail or be stopped."""
        self._step = step
        self._commands += 1
        await anyio.lowlevel.checkpoint()
        if play.seconds:
            await anyio.sleep(play.seconds)
        if play.at is step and play.hangs:
            await (anyio.sleep_forever() if play.deaf else self._stopping.wait())
        if play.at is step and play.fails is not None:
            raise AttemptFailed(play.fails) if isinstance(play.fails, Cause) else play.fails
        if self._stopping.is_set() and step is not Step.LEAVE and not play.deaf:
            raise AttemptFailed(Cause(code=CauseCode.STOPPING, detail=f"stopped before {step.value}"))


def phase_at(step: Step) -> Phase:
    """What stands on disk when an attempt ends at a step."""
    return {
        Step.PROBE: Phase.PROBING,
        Step.WRITE: Phase.WRITING,
        Step.VERIFY: Phase.WRITING,
        Step.LEAVE: Phase.ENDING,
    }[step]
