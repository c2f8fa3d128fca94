"""Which USB devices there are, as sysfs tells it: nothing is opened, nothing is sent (invariant 4).

The strings of a device and its descriptors are those that the kernel read when the device came.

Sources: Linux kernel, Documentation/ABI/testing/sysfs-bus-usb and ABI/stable/sysfs-bus-usb;
drivers/usb/core/sysfs.c, descriptors_read(), for the layout of ``descriptors``; USB 2.0 Specification, 9.6.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.transport.sysfs import InTransition, read, read_all, read_number, registration, usb_facts
from firmwarden.transport.usb_link import UsbSeen

if TYPE_CHECKING:
    from firmwarden.transport.sysfs import Registration

_DEVICE: Final = re.compile(r"\d+-\d+(\.\d+)*")
"""Root hubs are called ``usb1``, and interfaces have a colon."""
_HUB: Final = b"09"

_CONFIGURATION: Final = 0x02
_CONFIGURATION_SIZE: Final = 9
_DEVICE_DESCRIPTOR_SIZE: Final = 18
_DESCRIPTORS_MAX: Final = 1 << 16
"""Bytes: wTotalLength of a configuration has 16 bits, and a second one of that size was never built."""


class SysfsLister:
    """Lists devices; remembers what cannot change while a device stays registered, so that a list costs little.

    `list` is not for two threads at once; `look` is for any.
    """

    def __init__(self, *, sys_root: Path = Path("/sys")) -> None:
        self._sys_root = str(sys_root)
        self._devices = f"{sys_root}/bus/usb/devices"
        self._known: dict[Registration, UsbSeen | None] = {}

    def list(self) -> tuple[UsbSeen, ...]:
        """Return every device but hubs, in a fixed order, each with the configuration that it had when it came.

        Raises:
            OSError: nothing is known; the machine is out of descriptors or memory.
        """
        known, self._known = self._known, {}
        try:
            names = [name for name in os.listdir(self._devices) if _DEVICE.fullmatch(name)]  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):  # a machine without USB
            return ()
        for name in names:
            path = f"{self._devices}/{name}"
            try:
                key = registration(path)
                self._known[key] = known[key] if key in known else self._read(path)
            except InTransition:
                continue
        return tuple(sorted(filter(None, self._known.values()), key=lambda seen: seen.facts.topology))

    def look(self, topology: str) -> UsbSeen | None:
        """Return what is at a place now, None when nothing is or it is just coming.

        Raises:
            OSError: as `list`.
        """
        try:
            return self._read(f"{self._devices}/{topology}") if _DEVICE.fullmatch(topology) else None
        except InTransition:
            return None

    def _read(self, path: str) -> UsbSeen | None:
        key = registration(path)
        device = os.path.realpath(path)
        if read(f"{device}/bDeviceClass") == _HUB:
            return None
        # Empty until the kernel has chosen a configuration, which it does as soon as it knows the device.
        active = read(f"{device}/bConfigurationValue")
        seen = UsbSeen(
            facts=usb_facts(device, device.removeprefix(os.path.realpath(self._sys_root))),
            address=read_number(f"{device}/devnum"),
            configuration=active_configuration(
                read_all(f"{device}/descriptors", _DESCRIPTORS_MAX) or b"",
                int(active) if active and active.isdigit() else None,
            ),
        )
        if registration(path) != key:
            # What was read may be of two devices.
            raise InTransition
        return seen


def active_configuration(descriptors: bytes, active: int | None) -> bytes:
    """Pick the configuration with a number, else the first; what is cut short stays so."""
    found = []
    at = _DEVICE_DESCRIPTOR_SIZE
    while len(head := descriptors[at : at + _CONFIGURATION_SIZE]) == _CONFIGURATION_SIZE:
        size = int.from_bytes(head[2:4], "little")
        if head[1] != _CONFIGURATION or size < _CONFIGURATION_SIZE:
            break
        found.append(descriptors[at : at + size])
        at += size
    return next((each for each in found if each[5] == active), found[0] if found else b"")
