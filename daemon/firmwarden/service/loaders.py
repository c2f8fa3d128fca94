"""Whose loader it is that a USB device shows itself in.  Pure.

A part's ROM goes by the ids of its maker, not by those of the product, and by a serial number that need not be that of
the application, nor the only one of its kind.  So such a loader is told by its place alone: it is taken for the unit
that was last seen there; unless that was not left in it, and one that was is missing.  A loader of the product's own is
told by its serial number where that is its unit's, else by its place too.  Whatever is not told so is a conflict
(invariant 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.protocol.dfu.quirks import is_shared

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.model import ClassName, Device, Sighting, UsbFacts
    from firmwarden.service.identity import ClassRule


@dataclass(frozen=True, slots=True)
class Owner:
    """A unit whose loader it may be."""

    rule: ClassRule
    key: str
    device: Device | None
    """None: one that was never seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """One loader that was seen, and the classes whose units show themselves so."""

    sighting: Sighting
    usb: UsbFacts
    place: str
    rules: Sequence[ClassRule]

    @property
    def shared(self) -> bool:
        """Whether many products have a loader with these ids."""
        return is_shared(self.usb.vendor_id, self.usb.product_id)

    def owners(self, known: Collection[Device], elsewhere: AbstractSet[tuple[ClassName, str]]) -> list[Owner]:
        """Name the units whose loader it may be; exactly one where that is clear.

        Args:
            known: every device of the store.
            elsewhere: units that are seen in another place, by class and key.
        """
        return self._by_serial(known, elsewhere) or self._by_place(known, elsewhere) or self._new()

    def _by_serial(
        self, known: Iterable[Device], elsewhere: AbstractSet[tuple[ClassName, str]]
    ) -> list[Owner]:
        devices = {(device.device_class, device.key): device for device in known}
        return [
            Owner(rule, key, devices.get((name, key)))
            for rule in self.rules
            for name, key in self.numbers
            # One that is seen for the first time, and elsewhere, is as good as known: its number is here twice.
            if rule.name == name and ((name, key) in devices or (name, key) in elsewhere)
        ]

    def _by_place(
        self, known: Iterable[Device], elsewhere: AbstractSet[tuple[ClassName, str]]
    ) -> list[Owner]:
        return [
            Owner(rule, device.key, device)
            for rule in self.rules
            for device in known
            if (device.device_class, device.port) == (rule.name, self.place)
            and device.key.startswith("serial:") == rule.by_serial
            and (device.device_class, device.key) not in elsewhere
        ]

    def _new(self) -> list[Owner]:
        """Name units that were never seen: the configuration names the place, or the loader is the product's own."""
        found = []
        for rule in self.rules:
            if rule.by_serial and not self.shared and self.usb.serial and rule.fits_serial(self.usb.serial):
                found.append(Owner(rule, f"serial:{self.usb.serial}", None))
            elif not rule.by_serial and (rule.place is not None or not self.shared):
                found.append(Owner(rule, f"port:{self.place}", None))
        return found

    @property
    def numbers(self) -> set[tuple[ClassName, str]]:
        """The units whose loader it is by its serial number, were they known, by class and key."""
        if self.shared or not self.usb.serial:
            return set()
        return {(rule.name, f"serial:{self.usb.serial}") for rule in self.rules if rule.by_serial}

    def rivals(
        self, owner: Owner, known: Collection[Device], present: AbstractSet[tuple[ClassName, str]]
    ) -> list[Owner]:
        """Name the units whose loader it may be rather than that of its owner, who was no more than last seen there.

        Those of a class that goes by the place are none to each other: another place makes another unit of them.
        """
        told = not self.shared and owner.key == f"serial:{self.usb.serial}"
        if told or (owner.device is not None and _was_left(owner.device)):
            return []
        rules = {rule.name: rule for rule in self.rules}
        return [
            Owner(rules[lost.device_class], lost.key, lost)
            for lost in self.lost(known, present)
            if owner.rule.by_serial or lost.device_class != owner.rule.name
        ]

    def lost(self, known: Iterable[Device], present: AbstractSet[tuple[ClassName, str]]) -> list[Device]:
        """Name the units that are not here and were left in such a loader: it may be one of them."""
        names = {rule.name for rule in self.rules}
        return sorted(
            (
                device
                for device in known
                if device.device_class in names
                and _was_left(device)
                and (device.device_class, device.key) not in present
            ),
            key=lambda device: device.id,
        )

    def riddle(self, owners: Sequence[Owner], lost: Sequence[Device]) -> str:
        """Say why it is not clear whose loader it is, and what makes it so."""
        ids = f"{self.usb.vendor_id:04x}:{self.usb.product_id:04x}"
        devices = sorted(owner.device.id for owner in owners if owner.device is not None)
        say = f"say which it is with `firmwarden adopt {self.place} DEVICE`"
        if devices:
            return (
                f"the loader {ids} at {self.place} may be that of {' or '.join(devices)}: {say}, or "
                "`firmwarden forget` those that will not come back"
            )
        classes = " or ".join(sorted(rule.name for rule in self.rules))
        if owners:
            return (
                f"the loader {ids} at {self.place} may be that of a new unit of {classes}: narrow `port` in `match` of "
                f"all but one, then `systemctl reload firmwarden`, or {say}"
            )
        who = f"the loader {ids}, which many products have," if self.shared else f"the loader {ids}"
        why = f"{who} is at {self.place}, where no unit of {classes} was before"
        if lost:
            left = ", ".join(
                f"{device.id} at {device.port or 'a place that is not known'}" for device in lost
            )
            return f"{why}. Left in its loader was {left}: plug it in there again, or {say}"
        return (
            f"{why}: plug it in where it was before, or {say}; for a unit that is new give its class "
            '`identity = "port"` and `port` in `match`, then `systemctl reload firmwarden`'
        )


def _was_left(device: Device) -> bool:
    """Tell whether a unit was in its loader when it was last heard of."""
    return device.complete is False or device.entered
