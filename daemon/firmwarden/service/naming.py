"""How a person names what is meant: a device by id, label or a beginning of the id, a latch by device or image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.errors import NotFound, Refused
from firmwarden.service.measures import numbers_by_value

if TYPE_CHECKING:
    from firmwarden.model import Device, Latch
    from firmwarden.store.ledger import Ledger

SHORTEST_HASH: Final = 6
"""Characters of an image's hash that a person must type at least."""


def find_device(ledger: Ledger, name: str) -> Device:
    """The device that a person means by its id, a beginning of it that only one has, or its label."""
    devices = ledger.devices()
    exact = [device for device in devices if device.id == name]
    found = (
        exact
        or [device for device in devices if device.label and device.label == name]
        or [device for device in devices if name and device.id.startswith(name)]
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{name!r} may mean any of {', '.join(device.id for device in found)}")
    raise NotFound(f"there is no device {name!r}; `firmwarden devices` lists them")


def in_order(device: Device) -> tuple[str, list[tuple[int, str]], str]:
    """The place of a device in a list for people: by class, and by label or port with slot-9 before slot-10."""
    return device.device_class, numbers_by_value(device.label or device.port), device.id


def find_latches(ledger: Ledger, target: str) -> list[Latch]:
    """The latches that a person means by a device or by the beginning of an image's hash."""
    latches = ledger.latches()
    if len(target) >= SHORTEST_HASH:
        of_image = [latch for latch in latches if (latch.image or "").startswith(target.lower())]
        if of_image:
            return of_image
    try:
        device = find_device(ledger, target).id
    except NotFound:
        return []
    return [latch for latch in latches if latch.device == device]
