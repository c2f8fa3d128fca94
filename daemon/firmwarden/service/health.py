"""Whether a unit keeps well with what it was given: the rule of its class, and what follows from each look.  Pure.

A probation is time that a unit has to be here and well.  Most of it can be watched without touching anything: the
port is there, the application shows itself on the USB, and where it tells its version that is the right one.  Only
when that time is over is the unit asked, or the operator's command, and only where the class says so: opening a tty
can reset a board.

Time is that of a clock which does not jump, in steps from one look to the next.  A step that is longer than any pause
between two looks was a suspend, in which nobody looked; it counts as one pause, not as well-being.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

LONGEST_STEP_S: Final = 60.0
"""Twice the longest pause between two looks."""
VANISHES_AT_MOST: Final = 3
"""A unit may restart after its update, and once more when it has put its data in order.  One that comes and goes again
and again would soak through between its restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRule:
    """What the units of a class have to show after an update."""

    soak_s: float
    """For how long, all in all, a unit has to be here and well."""
    return_within_s: float
    """For how long, in one go, it may be away."""
    tells_version: bool = False
    """Whether its application tells its version in the descriptors that every scan reads."""
    asks: bool = False
    """Whether the application is asked over its port when the time is over."""
    runs: bool = False
    """Whether the operator's command is run then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look at a unit found."""

    away: str = ""
    """Why it counts as away, in words; empty where it is here as its application."""
    version: str | None = None
    """What its application tells of itself."""
    doubtful: bool = False
    """Which unit this is or who is here cannot be said, or it is being updated: this look says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a probation goes."""

    soaked_s: float
    away: str = ""
    """As of the latest look."""
    away_s: float = 0.0
    """How long it has been away, in one go."""
    vanished: int = 0
    """How often it went away."""


@dataclass(frozen=True, slots=True)
class Ill:
    """The unit does not keep well."""

    detail: str
    """What was seen, one sentence without its full stop."""


def follow(rule: HealthRule, expected: str, course: Course, seen: Seen, elapsed_s: float) -> Course | Ill:
    """Say how a probation goes on after a look.

    Args:
        rule: of the class.
        expected: the version that the unit was given.
        course: until the look before.
        seen: in this look.
        elapsed_s: since the look before, by a clock that counts suspend and never jumps.
    """
    step_s = min(max(elapsed_s, 0.0), LONGEST_STEP_S)
    if seen.doubtful:
        return course
    if seen.version is not None and seen.version != expected:
        return Ill(f"it says that it is {seen.version}, not {expected}")
    if not seen.away:
        soaked_s = course.soaked_s + (0.0 if course.away else step_s)
        return replace(course, soaked_s=min(soaked_s, rule.soak_s), away="", away_s=0.0)
    if not course.away:
        # It went at some time since the look before; that is not held against it.
        if course.vanished >= VANISHES_AT_MOST:
            return Ill(f"it came and went {course.vanished + 1} times; {seen.away}")
        return replace(course, away=seen.away, away_s=0.0, vanished=course.vanished + 1)
    away_s = course.away_s + step_s
    if away_s >= rule.return_within_s:
        return Ill(f"{seen.away}, and has been so for {away_s:.0f} s")
    return replace(course, away=seen.away, away_s=away_s)


def left_s(rule: HealthRule, course: Course) -> float:
    """After how many seconds the next thing can happen if the unit goes on as it does."""
    return rule.return_within_s - course.away_s if course.away else rule.soak_s - course.soaked_s
