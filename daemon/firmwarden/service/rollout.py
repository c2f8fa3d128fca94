"""How a release goes out with care: to a few units first, then in waves, each after the one before kept well.  Pure.

What follows is all of the rule, and each part has a reason:

* A wave has so many *places*.  A unit takes one as soon as the release was tried at it, whatever came of that, and so
  does one that runs it anyway; no wave lets more be tried than it has places.  A unit that was not tried takes none,
  so one that is away, held or busy elsewhere keeps no place from another that is here.
* A wave is over when all its places are taken, every unit that has one runs the release in good health or failed, and
  that has been so for the soak.  Nobody who could be tried waits for one who cannot: where a place is free, whoever is
  ready gets it.
* It stops when more than a share of those that were tried failed, or when the image is latched.  Then nothing is begun
  until a person says so; the failures of which that person knew count no more.
* After the last wave there is no limit: a unit that comes later gets the release at once.  Too many that fail stop it
  then as well: it is over as soon as nobody who is here waits for it, and many may be away for a moment only.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.model import Rollout, RolloutState, Wait, WaitKind
from firmwarden.service.measures import IMAGE_SHOWN
from firmwarden.service.telling import instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from typing import Self

    from firmwarden.model import DeviceId

_WHOLE: Final = 100
"""Percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the configuration of a class says of its rollouts."""

    first: int
    """How many canaries there are."""
    soak_s: float
    """How long all units of a wave have to keep well before the next one begins."""
    waves: tuple[int, ...]
    """What may be tried in each, canaries included, in percent of the class; the last has everything."""
    stop_at: int
    """It stops when more than so many percent of those that were tried failed."""

    @property
    def last(self) -> int:
        """The number of the last wave."""
        return len(self.waves)

    def places(self, wave: int, units: int) -> int:
        """How many of so many units may be tried by the end of a wave; 0 is the one of the canaries."""
        share = 0 if wave == 0 else -(-units * self.waves[wave - 1] // _WHOLE)
        return min(max(self.first, share), units)


@unique
class Stage(StrEnum):
    """How far a unit is with the release."""

    GOOD = "good"
    """Runs it in good health."""
    PROVING = "proving"
    """Runs it, and has yet to show that it keeps well."""
    FAILED = "failed"
    UNDER_WAY = "under-way"
    WAITING = "waiting"
    """It was not tried there yet."""
    OUT = "out"
    """It will not be tried there, e.g. since a person cancelled that."""


_TRIED: Final = frozenset({Stage.GOOD, Stage.PROVING, Stage.FAILED, Stage.UNDER_WAY})
_UNSETTLED: Final = frozenset({Stage.PROVING, Stage.UNDER_WAY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One unit of the class, as the rollout sees it."""

    device: DeviceId
    stage: Stage
    since: float = 0.0
    """When it was first seen here."""
    here: bool = True
    ready: bool = True
    """Nothing but the rollout keeps its job from running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a rollout stands after it was looked at."""

    rule: Rule
    rollout: Rollout
    members: Sequence[Member]
    until: float | None = None
    """When the wave has soaked, if it does."""
    admitted: frozenset[DeviceId] = field(default_factory=frozenset)
    """Whose jobs may run."""
    latched: bool = False
    """Whether its image is, for every unit."""

    @property
    def tried(self) -> int:
        """How many units were given the release, or run it anyway."""
        return self.count(*_TRIED)

    @property
    def places(self) -> int:
        """How many may be tried by the end of this wave."""
        return self.rule.places(self.wave, len(self.members))

    @property
    def wave(self) -> int:
        """Which wave it is, by the rule of now: there may have been more when it began."""
        return min(self.rollout.wave, self.rule.last)

    @property
    def halted(self) -> bool:
        """Whether nothing is begun until a person says so."""
        return self.rollout.state in {RolloutState.STOPPED, RolloutState.RECALLED}

    def in_words(self, wave: int) -> str:
        """Name a wave, with how many units may have been tried by its end."""
        places = self.rule.places(wave, len(self.members))
        if wave == 0:
            return f"{places} canar{'y' if places == 1 else 'ies'}"
        return f"wave {wave} of {self.rule.last} ({places} of {_devices(len(self.members))})"

    def turns(self) -> dict[DeviceId, int]:
        """In which wave each unit that was not tried yet has its turn, if all go on as they are."""
        waiting = sorted(
            (member for member in self.members if member.stage is Stage.WAITING),
            key=lambda member: (not member.ready, member.since, member.device),
        )
        return {
            member.device: next(
                wave
                for wave in range(self.wave, self.rule.last + 1)
                if wave == self.rule.last or self.rule.places(wave, len(self.members)) > number
            )
            for number, member in enumerate(waiting, start=self.tried)
        }

    def with_begun(self, devices: AbstractSet[DeviceId]) -> Self:
        """The same, with what is begun now at those of its units that waited."""
        return replace(
            self,
            members=[
                replace(member, stage=Stage.UNDER_WAY)
                if member.stage is Stage.WAITING and member.device in devices
                else member
                for member in self.members
            ],
        )

    def count(self, *stages: Stage) -> int:
        """How many units are in one of the stages."""
        return sum(member.stage in stages for member in self.members)


def look(
    rule: Rule, rollout: Rollout, members: Sequence[Member], *, now: float, latched: bool = False
) -> Progress:
    """Move a rollout as far as it may go now, and say whose jobs may run.

    Args:
        rule: of the class.
        rollout: as it is stored.
        members: the units of the class that are meant to have the release.
        now: wall clock.  Where it was set, what is stored of a soak was moved with it.
        latched: whether the image is, for every unit.
    """
    progress = Progress(rule=rule, rollout=rollout, members=members, latched=latched)
    if not progress.halted:
        progress = _advance(_or_stop(progress), now)
    return replace(progress, admitted=_admitted(progress))


def resumed(rollout: Rollout, *, failed: int, tried: int, who: str, now: float) -> Rollout:
    """Let a rollout that stopped go on where it was.

    Args:
        rollout: that stopped, or was called back.
        failed: how many failures there are; they count no more.
        tried: among how many.
        who: the person.
        now: wall clock.
    """
    order = f"by order of {who} since {instant(now)} although {failed} of {_devices(tried)} had failed"
    return replace(
        rollout,
        state=RolloutState.CANARY if rollout.wave == 0 else RolloutState.WAVES,
        wave_at=now,
        soaks_since=None,
        forgiven=failed,
        changed_by=who,
        reason=order if failed else "",
    )


def stopped(rollout: Rollout, reason: str) -> Rollout:
    """Stop a rollout by itself."""
    return replace(rollout, state=RolloutState.STOPPED, soaks_since=None, changed_by="", reason=reason)


def wait_of(progress: Progress, turn: int) -> Wait:
    """What a unit waits for that may not be tried yet.

    Args:
        progress: of the rollout.
        turn: the wave in which the unit has its turn.
    """
    version = progress.rollout.version
    if progress.halted:
        detail = f"the rollout of {version} {standing(progress)}; {way_on(progress)}"
    else:
        detail = f"{version} {standing(progress)}; this one has its turn in {progress.in_words(turn)}"
    # Who comes later still waits for another soak after this one, and nobody knows yet when that begins.
    is_next = turn <= _wave_after(progress)
    return Wait(kind=WaitKind.CANARY, detail=detail, until=progress.until if is_next else None)


def standing(progress: Progress) -> str:
    """Say where it is and what it waits for, as the rest of a sentence."""
    rollout, well, failed = progress.rollout, progress.count(Stage.GOOD), progress.count(Stage.FAILED)
    wave = progress.in_words(progress.wave)
    # What a person let go on must not look like what goes well.
    order = f"goes on {rollout.reason}, and " if rollout.forgiven else ""
    match rollout.state:
        case RolloutState.DONE:
            return "went to all; a device that comes later is given it at once"
        case RolloutState.STOPPED:
            return f"stopped at {wave}: {rollout.reason}"
        case RolloutState.RECALLED:
            return f"was called back by {rollout.changed_by}: {rollout.reason}"
        case _ if progress.until is not None:
            # Not last: "until" such an instant follows.
            besides = f", with {failed} failed," if failed else ""
            return f"{order}soaks{besides} on {wave}"
        case _:
            besides = f", {failed} failed" if failed else ""
            runs = "runs" if well == 1 else "run"
            return f"{order}goes to {wave}, of which {well} {runs} it well so far{besides}"


def way_on(progress: Progress) -> str:
    """Say what a person can do about one that does not go on by itself; empty where it does."""
    rollout = progress.rollout
    resume, clear = (
        f"`firmwarden resume {rollout.device_class}`",
        f"`firmwarden clear {rollout.image[:IMAGE_SHOWN]}`",
    )
    recall = f"`firmwarden recall {rollout.device_class} --reason TEXT`"
    match rollout.state:
        case RolloutState.STOPPED if progress.latched:
            return f"{clear} and then {resume} let it go on, {recall} takes it back where it runs"
        case RolloutState.STOPPED:
            return f"{resume} lets it go on, {recall} takes it back where it runs"
        case RolloutState.RECALLED if progress.latched:
            return (
                f"a better release goes out by itself; {clear} and then {resume} let this one go on after all"
            )
        case RolloutState.RECALLED:
            return f"{resume} lets it go on after all"
        case _:
            return ""


def commands(progress: Progress) -> list[str]:
    """The commands that tell more of it, or change it."""
    rollout = progress.rollout
    name = shlex.quote(rollout.device_class)
    found = [f"firmwarden rollout {name}"]
    if progress.halted:
        if progress.latched:
            found.append(f"firmwarden clear {rollout.image[:IMAGE_SHOWN]}")
        found.append(f"firmwarden resume {name}")
    if rollout.state is RolloutState.STOPPED:
        found.append(f"firmwarden recall {name} --reason TEXT")
    return found


def _devices(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"


def _or_stop(progress: Progress) -> Progress:
    """Stop it where too many failed."""
    failed, tried = progress.count(Stage.FAILED), progress.tried
    # A unit that recovered must not hide the next one that fails.
    forgiven = min(progress.rollout.forgiven, failed)
    rollout = replace(progress.rollout, forgiven=forgiven)
    anew = failed - forgiven
    if anew and anew * _WHOLE > progress.rule.stop_at * (tried - forgiven):
        besides = f", besides {forgiven} from before" if forgiven else ""
        rollout = stopped(rollout, f"{anew} of {_devices(tried - forgiven)} failed{besides}")
    return replace(progress, rollout=rollout)


def _advance(progress: Progress, now: float) -> Progress:
    """Begin the next wave, and the one after that, as long as the one before is over."""
    rule = progress.rule
    while progress.rollout.state in {RolloutState.CANARY, RolloutState.WAVES}:
        rollout = progress.rollout
        unsettled = progress.count(*_UNSETTLED) > 0 or progress.tried == 0
        if rollout.wave >= rule.last:
            awaited = any(member.here and member.stage is Stage.WAITING for member in progress.members)
            if unsettled or awaited:
                return progress
            return replace(progress, rollout=replace(rollout, state=RolloutState.DONE))
        if unsettled or progress.tried < progress.places:
            return replace(progress, rollout=replace(rollout, soaks_since=None))
        # An instant ahead was written by a clock that was: its time begins anew.
        since = now if rollout.soaks_since is None else min(rollout.soaks_since, now)
        ends_at = since + rule.soak_s
        if now < ends_at:
            return replace(progress, rollout=replace(rollout, soaks_since=since), until=ends_at)
        progress = replace(progress, rollout=_next_wave(progress, now))
    return progress


def _next_wave(progress: Progress, now: float) -> Rollout:
    wave = _wave_after(progress)
    return replace(progress.rollout, state=RolloutState.WAVES, wave=wave, wave_at=now, soaks_since=None)


def _wave_after(progress: Progress) -> int:
    """The next wave that has a place more; the last one where none has."""
    rule, units = progress.rule, len(progress.members)
    later = range(progress.rollout.wave + 1, rule.last)
    return next((wave for wave in later if rule.places(wave, units) > progress.tried), rule.last)


def _admitted(progress: Progress) -> frozenset[DeviceId]:
    """Those who have their place, and those who have been here longest where places are free."""
    match progress.rollout.state:
        case RolloutState.DONE:
            return frozenset(member.device for member in progress.members)
        case RolloutState.STOPPED | RolloutState.RECALLED:
            return frozenset()
        case RolloutState.CANARY | RolloutState.WAVES:
            placed = [member.device for member in progress.members if member.stage in _TRIED]
            ready = [member for member in progress.members if member.stage is Stage.WAITING and member.ready]
            ready.sort(key=lambda member: (member.since, member.device))
            free = max(progress.places - len(placed), 0)
            return frozenset([*placed, *(member.device for member in ready[:free])])
