"""Finds a USB serial port again although its tty has another name now.

A device that goes into its loader, or out of it, leaves the bus and comes back.  The kernel then gives its tty the
first number that is free: another one while somebody holds the old, and that of another unit when several come back
at a time.  The place on the bus stays the same, so the port is asked for by that; opening its old name could write
one unit's image to another.  And what is at the place must not show that it is another unit: one may have been
plugged in there since.

Source: Linux kernel, Documentation/ABI/testing/sysfs-bus-usb; the directory of an interface is called
``<bus>-<ports>:<configuration>.<interface>`` in drivers/usb/core/message.c, usb_set_configuration(); ``port_number``
is in drivers/usb/serial/bus.c.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.errors import OpenFailed
from firmwarden.transport.sysfs import InTransition, read, read_number, text

if TYPE_CHECKING:
    from firmwarden.model import SerialAddress, UsbFacts

USB_DEVICES: Final = Path("/sys/bus/usb/devices")

_NUMBERED: Final = re.compile(r"-port(\d+)$")
"""How ``UsbFacts.port`` ends where an interface has several ports; the first of them is not numbered."""


def name_now(address: SerialAddress) -> str:
    """The name that the port of ``address`` has at present.

    Raises:
        OpenFailed: there is none, the device may be on its way back; or it is that of another unit.
    """
    usb = address.usb
    if usb is None or usb.interface is None:
        return address.path
    try:
        ttys = _ttys(usb)
        # Read after the names: they are of the unit that is judged, or of one that has left.
        stranger = _stranger(usb) if ttys else None
    except (InTransition, OSError) as exc:
        raise OpenFailed(f"{address.path}: what is at {usb.topology} cannot be told now") from exc
    if stranger is not None:
        raise OpenFailed(
            f"{address.path}: at {usb.topology} there is another unit now, serial number {stranger}"
        )
    if os.path.basename(os.path.realpath(address.path)) in ttys:  # noqa: PTH119  (pathlib raises where links loop)
        return address.path
    if len(ttys) != 1:
        found = "several ports" if ttys else "no port"
        raise OpenFailed(f"{address.path}: there is {found} at {usb.topology}, interface {usb.interface} now")
    return f"/dev/{ttys.pop()}"


def _stranger(usb: UsbFacts) -> str | None:
    """The serial number of what is at the place, where that shows that it is not the unit that was there.

    A loader may have other ids than its application, and then another number too; with the same ids, perhaps none.
    """
    device = USB_DEVICES / usb.topology
    ids = read_number(f"{device}/idVendor", 16), read_number(f"{device}/idProduct", 16)
    serial = text(read(f"{device}/serial")) or None
    if usb.serial is None or serial is None or ids != (usb.vendor_id, usb.product_id):
        return None
    return serial if serial != usb.serial else None


def _ttys(usb: UsbFacts) -> set[str]:
    """Names of the ttys of a port: of a CDC-ACM function, or of a converter, which may have several on an interface."""
    numbered = _NUMBERED.search(usb.port)
    number = numbered[1].encode() if numbered else b"0"
    return {
        tty.name
        for directory in USB_DEVICES.glob(f"{usb.topology}:*.{usb.interface}")
        for pattern in ("tty/*", "tty*/tty/*")
        for tty in directory.glob(pattern)
        if (read(f"{tty.parent.parent}/port_number") or b"0") == number
    }
