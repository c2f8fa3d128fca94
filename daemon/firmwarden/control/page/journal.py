"""What the log page shows of the feed's recent events.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from firmwarden.control.problems import BadRequest
from firmwarden.events import Level
from firmwarden.service.words import event_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firmwarden.service.views import FeedItem

LEVELS: Final[tuple[str, ...]] = get_args(Level)
"""From the least important up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event."""

    id: int
    at: str
    level: str
    device: str
    """Empty where it concerns none."""
    what: str
    rest: str


def entries(items: Sequence[FeedItem], asked: Mapping[str, str]) -> list[Entry]:
    """Tell the events that concern a ``device``, of at least a ``level``.

    Raises:
        BadRequest: there is no such level.
    """
    level, device = asked.get("level", LEVELS[0]), asked.get("device")
    if level not in LEVELS:
        raise BadRequest(f"`level` must be one of: {', '.join(LEVELS)}.")
    told = [_entry(item) for item in items]
    return [
        entry
        for entry in told
        if device in {None, entry.device} and LEVELS.index(entry.level) >= LEVELS.index(level)
    ]


def _entry(item: FeedItem) -> Entry:
    data = item["data"]
    what, rest = event_in_words(data)
    return Entry(
        id=item["id"],
        at=str(data["timestamp"]),
        level=str(data["level"]),
        device=str(data.get("device") or ""),
        what=what,
        rest=rest,
    )
