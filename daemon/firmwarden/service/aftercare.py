"""Looks after units that were updated until they have shown that they keep well, and draws the consequence.

Whether one does is ``health.follow``'s to say, look by look; this module does the looking.  What was found so far is
written down every few minutes, so a restart goes on from there.  The verdict is one transaction: a unit that kept well
gets its good image and its floor, one that did not gets its latch.  Whether that one goes back is for the next planning
(``going_back``).

A unit is asked, or the operator's command is run, when the soak is over: in a task of its own, while nothing else is
started on it, so that a command that hangs holds up that unit alone (invariant 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import structlog

from firmwarden.errors import CannotTell, LinkError, PortHeld, StoreError
from firmwarden.events import LogEvent
from firmwarden.model import THE_DAEMON, Action, Cause, CauseCode, LatchScope
from firmwarden.service.health import Course, Ill, Seen, follow, left_s
from firmwarden.service.holding import concerning, wait_for
from firmwarden.service.worker import STORE_AGAIN_S
from firmwarden.store.probations import ProbationEnd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup

    from firmwarden.model import Address, Device, DeviceId, Hold, JobId, Probation, Wait
    from firmwarden.service.clock import Clock
    from firmwarden.service.health import HealthRule
    from firmwarden.service.planner import Here
    from firmwarden.service.warden import Warden
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

log = structlog.get_logger()

LONGEST_PAUSE_S: Final = 30.0
"""Between two looks."""
MOMENT_S: Final = 0.01
"""What is due now is looked at after this: a clock may read a little less than was waited for."""
SAVE_EVERY_S: Final = 300.0
"""How much of a soak a restart may lose, for few commits."""
CHECKS_AT_ONCE: Final = 16
"""Commands and questions: the soak of a whole rack may be over in the same moment."""
TRIES: Final = 3
AGAIN_S: Final = 10.0
"""A command fails for many reasons, and so does a link: it is tried again after this pause before a unit is blamed."""
ASK_AGAIN_S: Final = 60.0
"""After which it is tried again where this machine could not: somebody else had the port, the command is not there."""


class Examine(Protocol):
    """Finds out more of a unit than can be seen, as its class says; only ``app`` knows how."""

    async def ask(self, device: Device, address: Address, expected_version: str) -> str:
        """Ask its application, and return what is wrong with it, nothing when it is well.

        Raises:
            PortHeld: somebody else has the port; nothing was sent.
            LinkError: the way to it failed.
        """

    async def run(self, device: Device, address: Address, expected_version: str) -> str:
        """Run the operator's command once, and return what is wrong, nothing when all is well.

        Raises:
            CannotTell: it cannot be run.
        """


@dataclass(slots=True)
class _Care:
    """What this process knows of one probation."""

    job: JobId
    since: float
    """Boot clock: what a scan found that began before that is not about it."""
    course: Course
    looked_at: float
    saved_s: float
    due_at: float = inf
    """Boot clock: when to look again at the latest."""
    check_at: float = -inf
    """Boot clock: not asked before."""
    found: str | None = None
    """What the question or the command found; empty where all is well, None before."""
    held_up: str = ""
    """Why it could not be asked."""


@dataclass(frozen=True, slots=True)
class _Check:
    """What is to be found out of one unit."""

    examine: Examine
    rule: HealthRule
    device: Device
    address: Address
    expected_version: str


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known when all units on probation are looked at."""

    here: Here
    now: float
    """Boot clock."""
    holds: Sequence[Hold]
    due: list[tuple[_Care, _Check]] = field(default_factory=list)
    """What is to be found out now."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a probation stands, for those who ask."""

    course: Course
    detail: str
    """What it waits for, one sentence without its full stop."""
    ends_at: float | None
    """Wall clock: when the soak is over if the unit goes on as it does."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    probation: Probation
    end: ProbationEnd
    detail: str = ""


class Aftercare:
    """The units on probation, for one run of the service."""

    def __init__(self, *, store: Store, clock: Clock, warden: Warden, examine: Examine | None) -> None:
        """Take what is needed.

        Args:
            store: where probations stand.
            clock: reads time.
            warden: knows who is here and what is being done.
            examine: finds out more of a unit; None where no class wants that.
        """
        self._store = store
        self._clock = clock
        self._warden = warden
        self.examine = examine
        """Asks, and runs commands; set once."""
        self._cares: dict[DeviceId, _Care] = {}

    def standing(self, probation: Probation, rule: HealthRule) -> Standing:
        """Say how a probation stands."""
        care = self._cares.get(probation.device)
        if care is None or care.job != probation.job:
            return Standing(Course(soaked_s=probation.soaked_s), "it has not been looked at yet", None)
        course = care.course
        left = left_s(rule, course)
        if course.away:
            return Standing(course, f"{course.away}; it may be so for {max(left, 0.0):.0f} s more", None)
        if left > 0.0:
            return Standing(course, "it is here and well", self._clock.wall() + left)
        return Standing(course, care.held_up or "it is being checked", None)

    async def run(self) -> None:
        """Look after units until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                planned = self._warden.planned
                try:
                    await self._look(tasks)
                except StoreError as exc:
                    self._warden.worker.trouble.failed(str(exc))
                    await anyio.sleep(STORE_AGAIN_S)
                    continue
                with anyio.move_on_after(self._pause_s()):
                    await planned.wait()

    # --- looking

    async def _look(self, tasks: TaskGroup) -> None:
        if not self._warden.registry.scanned:
            return
        units, holds = await self._store.run(_on_probation)
        now = self._clock.boot()
        look = _Look(self._warden.here(), now, holds)
        self._cares = {probation.device: self._care(probation, now) for probation, _ in units}
        verdicts = []
        for probation, device in units:
            verdict = self._look_at(probation, device, look)
            if verdict is not None:
                verdicts.append(verdict)
        # Who waits longest comes first: those that cannot be asked would take each place again.
        for care, check in sorted(look.due, key=lambda each: each[0].check_at):
            self._begin(care, check, tasks)
        await self._write_down(verdicts)

    def _care(self, probation: Probation, now: float) -> _Care:
        care = self._cares.get(probation.device)
        if care is not None and care.job == probation.job:
            return care
        soaked_s = probation.soaked_s
        log.info(
            LogEvent.PROBATION_STARTED,
            device=probation.device,
            job=probation.job,
            release=probation.version,
            soaked_s=round(soaked_s, 3),
        )
        return _Care(probation.job, now, Course(soaked_s=soaked_s), looked_at=now, saved_s=soaked_s)

    def _look_at(self, probation: Probation, device: Device, look: _Look) -> _Verdict | None:
        policy = self._warden.planner.classes.get(device.device_class)
        if policy is None:
            return None  # its class left the configuration: what is known of it stays
        if policy.health is None:
            return _Verdict(probation, ProbationEnd.PASSED, "its class asks for no more")
        rule = policy.health
        care = self._cares[device.id]
        fresh = self._warden.registry.as_of > care.since
        seen, now = _seen(device.id, rule, look.here), look.now
        if self._warden.registry.behind or (not fresh and (seen.away or seen.version is not None)):
            seen = Seen(doubtful=True)
        elapsed_s, care.looked_at = now - care.looked_at, now
        followed = follow(rule, probation.version, care.course, seen, elapsed_s)
        if isinstance(followed, Ill):
            return _Verdict(probation, ProbationEnd.FAILED, followed.detail)
        if device.running_image != probation.image and not seen.doubtful:
            return _Verdict(probation, ProbationEnd.OVERTAKEN, f"it runs {device.running_version}")
        care.course = followed
        if self._is_soaked(care, rule, seen, now):
            return self._when_soaked(probation, device, rule, care, look)
        return None

    @staticmethod
    def _is_soaked(care: _Care, rule: HealthRule, seen: Seen, now: float) -> bool:
        followed = care.course
        if followed.away:
            care.found = None  # of whatever it was then
        left = left_s(rule, followed)
        care.due_at = inf if seen.doubtful else now + max(left, MOMENT_S)
        return not (seen.doubtful or followed.away or left > 0.0)

    def _when_soaked(
        self,
        probation: Probation,
        device: Device,
        rule: HealthRule,
        care: _Care,
        look: _Look,
    ) -> _Verdict | None:
        """Find out more where the class wants that and nobody holds the unit, and judge when that is done."""
        now = self._clock.boot()
        if care.found is None and self.examine is not None and (rule.asks or rule.runs):
            hands_off = self._hands_off(device, look.holds)
            if hands_off is not None:
                care.held_up = f"it is to be checked when nobody holds it: {hands_off.detail}"
                care.due_at = inf
                return None
            address = self._warden.registry.address(device.id)
            care.due_at = max(care.check_at, now + MOMENT_S)
            if address is not None and care.check_at <= now:
                care.due_at = inf
                check = _Check(self.examine, rule, device, address, probation.version)
                look.due.append((care, check))
            return None
        if care.found:
            return _Verdict(probation, ProbationEnd.FAILED, care.found)
        return _Verdict(probation, ProbationEnd.PASSED, f"here and well for {care.course.soaked_s:.0f} s")

    def _hands_off(self, device: Device, holds: Sequence[Hold]) -> Wait | None:
        """For what a unit must not be spoken to, as it must not be updated."""
        inhibited = self._warden.timekeeper.inhibitors.waits()
        return wait_for(concerning(holds, device.id)) or inhibited.get(device.device_class)

    def _pause_s(self) -> float:
        """Until the first of them may be due."""
        due_at = min((care.due_at for care in self._cares.values()), default=inf)
        return min(max(due_at - self._clock.boot(), MOMENT_S), LONGEST_PAUSE_S)

    # --- asking

    def _begin(self, care: _Care, check: _Check, tasks: TaskGroup) -> None:
        """Check a unit, where there is a place for that; else the end of what has it brings the next look.

        Nothing waits for a place: by its turn the unit might be in its loader, or have another port.
        """
        if len(self._warden.looked_at) < CHECKS_AT_ONCE and check.address not in self._warden.in_use:
            self._warden.look_at(check.device.id, check.address)
            tasks.start_soon(self._check, care, check)

    async def _check(self, care: _Care, check: _Check) -> None:
        try:
            care.found = await self._find_out(check)
            care.held_up = ""
        except (CannotTell, PortHeld, StoreError) as exc:
            if not care.held_up:
                log.warning(
                    LogEvent.PROBATION_HELD_UP,
                    device=check.device.id,
                    job=care.job,
                    release=check.expected_version,
                    detail=str(exc),
                )
            care.held_up = f"it is to be checked, and cannot be yet: {exc}"
            care.check_at = self._clock.boot() + ASK_AGAIN_S
        except Exception as exc:
            # A defect of ours must not end what others are doing (invariant 6).
            log.exception(LogEvent.WORKER_CRASHED, device=check.device.id, detail=repr(exc))
            care.check_at = self._clock.boot() + ASK_AGAIN_S
        finally:
            self._warden.let_go(check.device.id)

    async def _find_out(self, check: _Check) -> str | None:
        """Ask the unit, then the operator's command; return what is wrong, nothing when all is well.

        None where it must not be spoken to by now: the next look says what it waits for.
        """
        wrong = await self._ask(check) if check.rule.asks else ""
        return await self._run(check) if check.rule.runs and wrong == "" else wrong

    async def _ask(self, check: _Check) -> str | None:
        wrong = ""
        for number in range(TRIES):
            if number:
                await anyio.sleep(AGAIN_S)
            try:
                async with self._warden.hand_over.lent(self._warden.owner(check.device.device_class)):
                    address = await self._address(check.device)
                    if address is None:
                        return None
                    return await check.examine.ask(check.device, address, check.expected_version)
            except PortHeld:
                raise
            except LinkError as exc:
                wrong = f"it cannot be asked: {exc}"
        return wrong

    async def _run(self, check: _Check) -> str | None:
        wrong = ""
        for number in range(TRIES):
            if number:
                await anyio.sleep(AGAIN_S)
            address = await self._address(check.device)
            if address is None:
                return None
            wrong = await check.examine.run(check.device, address, check.expected_version)
            if not wrong:
                break
        return wrong

    async def _address(self, device: Device) -> Address | None:
        """Where a unit may be spoken to by now, if anywhere: an owner takes half a minute to leave its port."""
        holds = await self._store.run(lambda ledger: ledger.holds())
        warden = self._warden
        address = warden.registry.address(device.id)
        if (
            address is None
            or self._hands_off(device, holds) is not None
            or device.id in warden.registry.conflicts_of_known
            or warden.in_use.get(address, device.id) != device.id
        ):
            return None
        warden.look_at(device.id, address)  # it may have another name than at the try before
        return address

    # --- the consequence

    async def _write_down(self, verdicts: list[_Verdict]) -> None:
        soaked = {
            device: care.course.soaked_s
            for device, care in self._cares.items()
            if care.course.soaked_s - care.saved_s >= SAVE_EVERY_S
        }
        if not verdicts and not soaked:
            return
        now = self._clock.wall()

        def work(ledger: Ledger) -> list[_Verdict]:
            for device, soaked_s in soaked.items():
                ledger.soak(device, soaked_s)
            return [verdict for verdict in verdicts if _settle(ledger, verdict, now)]

        settled = await self._store.run(work)
        for device, soaked_s in soaked.items():
            self._cares[device].saved_s = soaked_s
        for verdict in settled:
            self._cares.pop(verdict.probation.device, None)
            _tell(verdict)
        if settled:
            self._warden.poke()


def _on_probation(ledger: Ledger) -> tuple[list[tuple[Probation, Device]], list[Hold]]:
    found = [(probation, ledger.device(probation.device)) for probation in ledger.probations()]
    return [(probation, device) for probation, device in found if device is not None], ledger.holds()


def _seen(device: DeviceId, rule: HealthRule, here: Here) -> Seen:
    if device in here.busy or device in here.conflicts:
        return Seen(doubtful=True)
    if device not in here.present:
        return Seen(away="it is not here")
    if device in here.in_loader:
        return Seen(away="it is in its loader")
    word = here.running.get(device)
    if rule.tells_version and word is None:
        return Seen(away="its application does not tell its version")
    return Seen(version=None if word is None else word.version)


def _settle(ledger: Ledger, verdict: _Verdict, now: float) -> bool:
    """Draw the consequence, unless another update came in between."""
    probation = verdict.probation
    current = ledger.probation(probation.device)
    if current is None or current.job != probation.job:
        return False
    ledger.end_probation(probation.device, verdict.end)
    match verdict.end:
        case ProbationEnd.PASSED:
            ledger.keeps_well(probation.device, probation.on_trial)
            ledger.raise_floor(probation.device, probation.sequence)
        case ProbationEnd.FAILED:
            attempt = ledger.last_attempt(probation.job)
            ledger.latch(
                LatchScope.PAIR,
                device=probation.device,
                image=probation.image,
                cause=Cause(code=CauseCode.UNHEALTHY, detail=verdict.detail),
                attempt=None if attempt is None else attempt.id,
                now=now,
            )
            # The latch goes when somebody lifts it, and the attempt stays a success.
            ledger.record(
                Action(
                    at=now,
                    who=THE_DAEMON,
                    what="probation-failed",
                    target=probation.device,
                    detail=f"{probation.version}: {verdict.detail}",
                )
            )
        case ProbationEnd.OVERTAKEN:
            pass
    return True


def _tell(verdict: _Verdict) -> None:
    probation = verdict.probation
    told: dict[str, object] = {
        "device": probation.device,
        "job": probation.job,
        "release": probation.version,
        "detail": verdict.detail,
    }
    match verdict.end:
        case ProbationEnd.PASSED:
            log.info(LogEvent.PROBATION_PASSED, **told)
        case ProbationEnd.FAILED:
            told |= {"image": probation.image, "cause": CauseCode.UNHEALTHY.value}
            log.error(LogEvent.PROBATION_FAILED, **told)
            log.error(LogEvent.LATCH_SET, **told, scope=LatchScope.PAIR.value)
        case ProbationEnd.OVERTAKEN:
            log.info(LogEvent.PROBATION_OVERTAKEN, **told)
