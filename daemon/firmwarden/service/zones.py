"""Time zones: those with a name, and the machine's own."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

if TYPE_CHECKING:
    from datetime import tzinfo

LOCALTIME: Final = Path("/etc/localtime")


def zone_named(name: str) -> tzinfo:
    """Return a zone of the system's database, or of the package ``tzdata``.

    It is read anew each time: what the governments of the world decide comes with an update of that database.

    Raises:
        ValueError: there is none of that name, with the reason where the database is what is missing.
    """
    try:
        return ZoneInfo.no_cache(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Europe" is a directory
        if not available_timezones():
            raise ValueError("this machine has no database of time zones; install tzdata") from None
        raise ValueError from None


def machine_zone(localtime: Path = LOCALTIME) -> tzinfo:
    """Return the zone of this machine as it is set now, which a long-running process is not told; see localtime(5)."""
    try:
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file, key=str(localtime))
    except (OSError, ValueError):
        return UTC
