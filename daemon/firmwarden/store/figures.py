"""What happened, counted for good, and how things stand in numbers.

Attempts are folded and devices forgotten; a counter that fell then would show a monitoring system things that never
happened.  So what ends is counted in the transaction in which it ends, by class, and never again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

from firmwarden.model import ClassName, LinkStats
from firmwarden.store.rows import WATCHED_S, Transaction, utc_day

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.model import Cause, JobState, Outcome

BOUNDS_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""How long attempts take is told by these: a small image through USB takes a second, a big one through a slow line
half an hour."""

_STATS: Final = tuple(field.name for field in fields(LinkStats))
_NO_STATS: Final = LinkStats()


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAttempts:
    """Attempts of one class that are over, by how they ended first."""

    device_class: ClassName
    outcome: str
    cause: str
    """The code, or empty.  As it was written: by a newer program, perhaps, whose codes we do not know."""
    attempts: int
    settled: int
    """Those that had ended unknown, when they became this."""
    retried: int
    """Those after which the job was queued again with a pause."""
    stats: LinkStats


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedJobs:
    """Jobs of one class that are over."""

    device_class: ClassName
    state: str
    cause: str
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedProbations:
    """Probations of one class that are over."""

    device_class: ClassName
    outcome: str
    probations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedSeconds:
    """Attempts of one class that took longer than so much, and no longer than the next of the bounds."""

    device_class: ClassName
    outcome: str
    longer_than: float
    attempts: int
    seconds: float
    """Of all of them together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassWear:
    """Starts of an erase in one class."""

    device_class: ClassName
    starts: int
    """Of all units that there ever were."""
    most_today: int
    """Of the one unit, among those that are not forgotten, that has most."""
    most_life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Everything that is counted for good."""

    attempts: list[CountedAttempts]
    jobs: list[CountedJobs]
    probations: list[CountedProbations]
    seconds: list[CountedSeconds]
    wear: list[ClassWear]


class Counting(Transaction):
    """What the parts of the ledger count with."""

    def _count_attempt(
        self,
        device_class: ClassName,
        outcome: Outcome,
        cause: Cause | None,
        *,
        stats: LinkStats = _NO_STATS,
        **amounts: int,
    ) -> None:
        key = {"device_class": device_class, "outcome": outcome, "cause": _code(cause)}
        self._add("counted_attempts", key, {**amounts, **asdict(stats)})

    def _count_seconds(self, device_class: ClassName, outcome: Outcome, seconds: float) -> None:
        longer_than = max((bound for bound in BOUNDS_S if bound < seconds), default=0.0)
        key = {"device_class": device_class, "outcome": outcome, "longer_than": longer_than}
        self._add("counted_seconds", key, {"attempts": 1, "seconds": seconds})

    def _count_job(self, device_class: ClassName, state: JobState, cause: Cause | None = None) -> None:
        key = {"device_class": device_class, "state": state, "cause": _code(cause)}
        self._add("counted_jobs", key, {"jobs": 1})

    def _add(self, table: str, key: Mapping[str, object], amounts: Mapping[str, float]) -> None:
        """Add to a row, which need not be there yet."""
        names = (*key, *amounts)
        more = ", ".join(f"{name} = {name} + excluded.{name}" for name in amounts)
        self._do(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608  our names
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {more}",
            *key.values(), *amounts.values(),
        )  # fmt: skip


class Figures(Transaction):
    """The part of the ledger that tells them."""

    def counted(self, now: float) -> Counted:
        """Tell everything that was counted; days of wear as ``Jobs.wear`` sees them."""
        return Counted(
            attempts=[
                CountedAttempts(
                    device_class=row["device_class"],
                    outcome=row["outcome"],
                    cause=row["cause"],
                    attempts=row["attempts"],
                    settled=row["settled"],
                    retried=row["retried"],
                    stats=LinkStats(**{name: row[name] for name in _STATS}),
                )
                for row in self._all("SELECT * FROM counted_attempts")
            ],
            jobs=[CountedJobs(**row) for row in self._all("SELECT * FROM counted_jobs")],
            probations=[CountedProbations(**row) for row in self._all("SELECT * FROM counted_probations")],
            seconds=[CountedSeconds(**row) for row in self._all("SELECT * FROM counted_seconds")],
            wear=[
                ClassWear(**row)
                for row in self._all(
                    "SELECT device_class, sum(life) AS starts, max(iif(forgotten, 0, today)) AS most_today, "
                    "max(iif(forgotten, 0, life)) AS most_life FROM ("
                    "  SELECT device, sum(starts) AS life,"
                    "    coalesce(sum(starts) FILTER (WHERE day >= ? AND watched_s < ?), 0) AS today"
                    "  FROM wear GROUP BY device"
                    ") JOIN devices ON devices.id = device GROUP BY device_class",
                    utc_day(now),
                    WATCHED_S,
                )
            ],
        )


def _code(cause: Cause | None) -> str:
    return "" if cause is None else cause.code.value
