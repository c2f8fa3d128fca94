"""Holds: who keeps what from being started on, why, and until when.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.errors import Refused
from firmwarden.model import Wait, WaitKind
from firmwarden.service.telling import instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from firmwarden.model import DeviceId, Hold


def concerning(holds: Iterable[Hold], device: DeviceId) -> list[Hold]:
    """The holds that keep a device waiting."""
    return [hold for hold in holds if hold.device in {None, device}]


def in_words(holds: Sequence[Hold]) -> str | None:
    """Say by whom something is held, and why; None where nobody holds it."""
    return "; ".join(map(_in_words, holds)) or None


def _in_words(hold: Hold) -> str:
    until = "" if hold.expires_at is None else f" (until {instant(hold.expires_at)})"
    return f"{hold.owner}: {hold.reason}{until}"


def wait_for(holds: Sequence[Hold]) -> Wait | None:
    """What a job waits for that these holds concern: it goes on when the last of them has ended."""
    if not holds:
        return None
    told = (
        f"{'everything is' if hold.device is None else 'the device is'} held by {hold.owner}: {hold.reason}"
        for hold in holds
    )
    ends = [hold.expires_at for hold in holds if hold.expires_at is not None]
    return Wait(
        kind=WaitKind.HOLD,
        detail="; ".join(told),
        until=max(ends) if len(ends) == len(holds) else None,
    )


def to_take_back(holds: Sequence[Hold], device: DeviceId | None, *, owner: str | None, who: str) -> Hold:
    """Find the hold on a device, or with None on everything, that ``who`` wants to end.

    Without an owner that is the only one, whosever it is, or one's own.

    Raises:
        Refused: there is none, or there are several and none is one's own.
    """
    here = [hold for hold in holds if hold.device == device]
    found = [hold for hold in here if hold.owner == (owner or who)]
    if not found and owner is None and len(here) == 1:
        found = here
    if found:
        return found[0]
    what = device or "everything"
    if here:
        raise Refused(
            f"{what} is held by {', '.join(hold.owner for hold in here)}, and not by {owner or who}; "
            "--owner NAME says whose hold is meant"
        )
    if device is not None:
        raise Refused(f"{device} is not held")
    alone = ", ".join(dict.fromkeys(hold.device for hold in holds if hold.device is not None))
    raise Refused(f"there is no hold on everything{f', only on {alone}' if alone else ''}")
