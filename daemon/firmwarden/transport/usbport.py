"""Finds a USB serial port again although its tty has another name now.

A device that goes into its loader, or out of it, leaves the bus and comes back.  The kernel then gives its tty the
first number that is free: another one while somebody holds the old, and that of another unit when several come back
at a time.  The place on the bus stays the same, so the port is asked for by that; opening its old name could write
one unit's image to another.

Source: Linux kernel, Documentation/ABI/testing/sysfs-bus-usb; the directory of an interface is called
``<bus>-<ports>:<configuration>.<interface>`` in drivers/usb/core/message.c, usb_set_configuration().
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.errors import OpenFailed

if TYPE_CHECKING:
    from firmwarden.model import SerialAddress

USB_DEVICES: Final = Path("/sys/bus/usb/devices")


def name_now(address: SerialAddress) -> str:
    """The name that the port of ``address`` has at present.

    Raises:
        OpenFailed: there is none; the device may be on its way back.
    """
    usb = address.usb
    if usb is None or usb.interface is None:
        return address.path
    ttys = _ttys(f"{usb.topology}:*.{usb.interface}")
    if os.path.basename(os.path.realpath(address.path)) in ttys:  # noqa: PTH119  (pathlib raises where links loop)
        return address.path
    if len(ttys) != 1:
        found = "several ports" if ttys else "no port"
        raise OpenFailed(f"{address.path}: there is {found} at {usb.topology}, interface {usb.interface} now")
    return f"/dev/{ttys.pop()}"


def _ttys(interface: str) -> set[str]:
    """Names of the ttys of the interfaces with such a name: CDC-ACM's own, and those of a converter's ports."""
    return {
        tty.name
        for directory in USB_DEVICES.glob(interface)
        for pattern in ("tty/*", "tty*/tty/*")
        for tty in directory.glob(pattern)
    }
