"""What sysfs tells of USB devices: read with care, since devices come and go and say of themselves what they like.

Sources: Linux kernel, Documentation/ABI/testing/sysfs-bus-usb; the names of directories are set in
drivers/usb/core/usb.c, usb_alloc_dev(), ``<bus>-<ports>``, and message.c, usb_set_configuration(), for interfaces.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final

from firmwarden.model import UsbFacts

Registration = tuple[str, int, int]
"""Name, inode and change time of an entry of a class or bus: others as soon as the device is registered anew."""

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing of what was asked for."""

_ATTRIBUTE_MAX: Final = 4096
"""Bytes; sysfs gives a page at most."""
_ROOT_HUB: Final = re.compile(r"(.*)/usb\d+(?=/|$)")


class InTransition(Exception):
    """A device came or went while it was read: nothing is said of it in this scan."""


def registration(path: str) -> Registration:
    """Return by what an entry is known again.

    Raises:
        InTransition: it is gone.
    """
    try:
        status = os.lstat(path)
    except OSError:
        raise InTransition from None
    return path, status.st_ino, status.st_ctime_ns


def read(path: str) -> bytes | None:
    """Read an attribute without the white space around it, None where there is no such attribute.

    Raises:
        InTransition: it cannot be read.
        OSError: nothing can, the machine is out of descriptors or memory.
    """
    data = read_all(path, _ATTRIBUTE_MAX)
    return None if data is None else data.strip()


def read_all(path: str, limit: int) -> bytes | None:
    """Read an attribute as it is, up to a number of bytes; else as `read`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) < limit and (more := os.read(descriptor, limit - len(data))):
                data += more
            return data
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        raise InTransition from None


def read_number(path: str, base: int = 10) -> int:
    """Read an attribute that is a number.

    Raises:
        InTransition: it is not there, or not what the kernel writes.
    """
    try:
        return int(read(path) or b"", base)
    except ValueError:
        raise InTransition from None


def text(raw: bytes | None) -> str:
    """What a device says of itself, made safe to print and store; two that differ stay different."""
    decoded = (raw or b"").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in decoded)


def usb_facts(device: str, device_path: str) -> UsbFacts:
    """Read what is known of a USB device; the interface stays open.

    Args:
        device: its directory, with all links followed.
        device_path: the same without the mount point of sysfs.

    Raises:
        InTransition: it is only half there, and must not pass for something else.
    """
    above, _, topology = device_path.rpartition("/")
    return UsbFacts(
        vendor_id=read_number(f"{device}/idVendor", 16),
        product_id=read_number(f"{device}/idProduct", 16),
        revision=read_number(f"{device}/bcdDevice", 16),
        serial=text(read(f"{device}/serial")) or None,
        topology=topology,
        port=f"usb-{_controller(above)}{topology.partition('-')[2]}",
        manufacturer=text(read(f"{device}/manufacturer")),
        product=text(read(f"{device}/product")),
    )


def _controller(device_path: str) -> str:
    """The name of the host controller with a dash behind it, as in ``0000:00:14.0-``, empty where it is not known.

    Buses are numbered in the order in which their controllers are found, and so are platform devices that
    end in ``.auto``: neither says the same after a restart.
    """
    above = _ROOT_HUB.match(device_path)
    names = above[1].split("/") if above else []
    return next((f"{name}-" for name in reversed(names) if name and not name.endswith(".auto")), "")
