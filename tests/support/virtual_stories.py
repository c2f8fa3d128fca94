"""Stories of one update, by the kind of the device, for the campaigns on virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.faults import parse_fault
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES, Profile
from firmwarden.simulate.settings import DeviceSettings
from support.virtual_service import NEW, Story

if TYPE_CHECKING:
    from pathlib import Path

_GENERIC: Final = PROFILES["generic"]
KINDS: Final = {**PROFILES, "generic": replace(_GENERIC, info=replace(_GENERIC.info, buffer_size=64))}
POWER: Final = ("kept", "lost")
CAMPAIGN: Final = 200
"""From so many samples on, nothing is left out."""


def story(kind: Profile, *faults: str, asks_version: bool = True, database: Path | None = None) -> Story:
    """Return the story of one update from 1.0.0; the state is in memory, or in a file that a kill leaves."""
    return Story(
        database=database,
        settings=DeviceSettings(
            name="panel",
            profile=kind,
            installed=make_update_file(kind, "1.0.0", size=160),
            faults=tuple(parse_fault(fault) for fault in faults),
        ),
        image=make_update_file(kind, NEW, size=300),
        asks_version=asks_version,
    )
