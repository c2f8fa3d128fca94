"""When units of a class may be started on: windows, as a clock on the wall of the place shows them.  Pure.

At any instant a window is open exactly if that clock reads a time within it.  No date has to be counted for that, and
whoever looks at the clock sees what Firmwarden sees, also on the two days of the year on which it is moved: times that
are skipped are never read, so a window that begins in them begins behind them; times that come twice are read twice,
so a window that ends in them closes, opens again when the clock goes back, and closes at the second reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

from firmwarden.model import Wait, WaitKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MIN: Final = 24 * 60
_DAY_S: Final = 86_400.0
_TEXT: Final = re.compile(r"([A-Za-z,-]+) ([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)
_LOOK_AHEAD_DAYS: Final = 15
"""A window comes every week; two weeks, where a clock that is moved leaves out the only one of a week."""
_CALENDAR_END: Final = 253_370_764_800.0
"""9999-01-01: a wild clock must not make a planning impossible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some hours of some days; over midnight where they end no later than they begin."""

    days: frozenset[int]
    """On which it begins, 0 for Monday."""
    begin_min: int
    """Minutes since midnight, as the clock reads them."""
    end_min: int
    """Up to 24:00; this minute is outside."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person writes, such as ``Mon-Fri 22:00-04:00``.

        Raises:
            ValueError: with or without a reason.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError
        begin_min, end_min = _minutes(found[2], found[3]), _minutes(found[4], found[5])
        if begin_min == _DAY_MIN:
            raise ValueError("a day begins at 00:00")
        if begin_min == end_min:
            raise ValueError("it ends when it begins; the whole day is 00:00-24:00")
        return cls(days=_days(found[1]), begin_min=begin_min, end_min=end_min)

    def has(self, read: datetime) -> bool:
        """Whether a clock that reads so reads a time within the window."""
        minute, day = read.hour * 60 + read.minute, read.weekday()
        if self.begin_min < self.end_min:
            return day in self.days and self.begin_min <= minute < self.end_min
        # What is left of it after midnight belongs to the day before.
        return (day in self.days and minute >= self.begin_min) or (
            (day - 1) % len(DAYS) in self.days and minute < self.end_min
        )


@dataclass(frozen=True, slots=True)
class Timetable:
    """The windows of a class; none: it may be updated at any time."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo | None = None
    """By whose clocks; None: the machine's."""

    def wait(self, now: float, machine_zone: tzinfo) -> Wait | None:
        """What an update waits for that would start now, if no window is open."""
        zone = self.zone or machine_zone
        if not self.windows or is_open(self.windows, zone, now):
            return None
        opens_at = next_change(self.windows, zone, now)
        if opens_at is None:
            return Wait(kind=WaitKind.WINDOW, detail="no window of its class opens in the next two weeks")
        # By the clock of the place: whoever wrote the window thinks in it.
        told = f"{_read(zone, opens_at):%Y-%m-%d %H:%M %Z}"
        day = DAYS[_read(zone, opens_at).weekday()]
        detail = f"no window of its class is open; the next one opens on {day} {told}"
        return Wait(kind=WaitKind.WINDOW, detail=detail, until=opens_at)


def is_open(windows: Sequence[Window], zone: tzinfo, at: float) -> bool:
    """Whether one of ``windows`` is open in ``zone`` at an instant."""
    read = _read(zone, at)
    return any(window.has(read) for window in windows)


def next_change(windows: Sequence[Window], zone: tzinfo, after: float) -> float | None:
    """The first instant after ``after`` at which ``windows`` open, where they are closed, or close.

    None where that does not happen: the clock is always within one of them.
    """
    now_open = is_open(windows, zone, after)
    return next(
        (
            instant
            for instant in sorted(_turns(windows, zone, after))
            if instant > after and is_open(windows, zone, instant) is not now_open
        ),
        None,
    )


def _turns(windows: Sequence[Window], zone: tzinfo, after: float) -> Iterator[float]:
    """Every instant at which a window may open or close: when the clock reads its ends, and when it is moved."""
    today = _read(zone, after).date()
    days = [today + timedelta(days=number) for number in range(-1, _LOOK_AHEAD_DAYS)]
    ends = {minute for window in windows for minute in (window.begin_min, window.end_min % _DAY_MIN)}
    for day in days:
        for minute in ends:
            for fold in (0, 1):
                yield _instant(day, minute, zone, fold)
    for one, other in pairwise(_instant(day, 0, zone, 0) for day in days):
        if _offset(zone, one) != _offset(zone, other):
            yield _moved_between(zone, one, other)


def _instant(day: date, minute: int, zone: tzinfo, fold: int) -> float:
    """When the clock reads so, for the first or the second time (PEP 495); close by, where it never does."""
    return datetime(day.year, day.month, day.day, *divmod(minute, 60), tzinfo=zone, fold=fold).timestamp()


def _moved_between(zone: tzinfo, before: float, after: float) -> float:
    """When the clock is moved, which is at a whole second."""
    offset = _offset(zone, before)
    low, high = int(before), int(after) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == offset:
            low = middle
        else:
            high = middle
    return float(high)


def _offset(zone: tzinfo, at: float) -> timedelta:
    return _read(zone, at).utcoffset() or timedelta()


def _read(zone: tzinfo, at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, _DAY_S), _CALENDAR_END), zone)


def _minutes(hours: str, minutes: str) -> int:
    count = int(hours) * 60 + int(minutes)
    if int(minutes) >= 60 or count > _DAY_MIN:  # noqa: PLR2004 - of an hour
        raise ValueError(f"there is no {hours}:{minutes}")
    return count


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin, end = _day(first), _day(last if dash else first)
        days.update((begin + number) % len(DAYS) for number in range((end - begin) % len(DAYS) + 1))
    return frozenset(days)


def _day(name: str) -> int:
    if name not in DAYS:
        raise ValueError(f"a day is one of {', '.join(DAYS)}")
    return DAYS.index(name)
