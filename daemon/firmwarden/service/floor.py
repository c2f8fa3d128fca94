"""Anti-rollback: which releases a unit may still be given, after all that it was confirmed with.  Pure.

A release that was good once stays validly signed for ever, with every hole that was found in it since.  So each unit
has a floor, the greatest sequence with which it was ever confirmed (``Ledger.raise_floor``), and nothing below it is
given to that unit any more, whoever drops it and whatever the unit holds by now.  The floor is never lowered.  Three
things lie outside of it, and each is somebody's deliberate act:

* the release says in its signed manifest that it may follow what is newer;
* a person allowed that unit to go back to that version, once;
* the unit was confirmed with that very image last, by one of these ways: without this, whatever then disturbs it would
  leave it with nothing that may be written.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.model import Device, Release


def may_be_given(device: Device, release: Release) -> bool:
    """Whether anti-rollback lets ``device`` have ``release``."""
    return (
        not _is_below(device, release)
        or may_go_back(device, release)
        or (device.good is not None and device.good.image == release.image)
    )


def may_go_back(device: Device, release: Release) -> bool:
    """Whether somebody who may said so: who signed the release, or a person about this unit."""
    return release.downgrade or release.version == device.may_go_back_to


def below_in_words(device: Device, release: Release) -> str:
    """Say of a release that was just named why it may not be given to a device."""
    own = "no sequence" if release.sequence is None else f"the sequence {release.sequence}"
    return (
        f"but that has {own}, and the device was confirmed with {device.floor}: nothing below is given to it unless a "
        "person allows it"
    )


def too_late_for(devices: Iterable[Device], release: Release) -> int:
    """Count the devices of its class that are not given a release since they were confirmed with something newer."""
    return sum(
        device.device_class == release.device_class and not may_be_given(device, release)
        for device in devices
    )


def allowing(device: Device, release: Release) -> str:
    """Return the exact command by which a person lets a device go back."""
    return f"firmwarden pin {device.id} {shlex.quote(release.version)} --allow-downgrade"


def _is_below(device: Device, release: Release) -> bool:
    return device.floor is not None and (release.sequence is None or release.sequence < device.floor)
