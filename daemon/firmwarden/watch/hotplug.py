"""Hints that a port may have come or gone; the only place that knows udev.

An event shortens the wait for the next scan and says nothing more (invariant 7): it may be lost, late, or never
have been sent, as in a container.  Where udevd runs we listen to udevd, which speaks after it has set rights
and links; where it does not, udevd's channel stays silent and we listen to the kernel.

Sources: libudev, ``udev_monitor_new_from_netlink(3)``; ``netlink(7)`` for ENOBUFS.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final, Protocol

import anyio
import pyudev

from firmwarden.errors import FirmwardenError

_EVENTS_AT_ONCE: Final = 64
"""What is read before anybody else may run: a hub full of devices sends more than a hundred events, and one hint
is enough for all of them."""
_FAILURES_IN_A_ROW: Final = 16
"""An event that cannot be read is one change more to look for; a source from which nothing can be read is gone."""


class HotplugUnavailable(FirmwardenError):
    """There are no hot-plug events, or no more; the message says why.  Scans go on."""


@unique
class Source(StrEnum):
    """Who tells."""

    UDEV = "udev"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something changed: scan."""

    events: tuple[str, ...]
    """For the log, e.g. ``add ttyUSB0``."""
    missed: bool = False
    """Events were lost, or one could not be read."""


class EventSource(Protocol):
    """Where events come from."""

    def fileno(self) -> int:
        """A socket that is readable when there are events."""

    def receive(self) -> str | None:
        """Return the next event, None when there is none now; never waits.

        Raises:
            OSError, ValueError: an event was lost, or could not be read.
        """


class UdevEvents:
    """Events of ttys and USB devices, by libudev."""

    def __init__(self, *, udev_run: Path = Path("/run/udev")) -> None:
        """Begin to listen; takes some milliseconds.

        Raises:
            HotplugUnavailable: there is no libudev, or the kernel gives no such socket.
        """
        self.source = Source.UDEV if (udev_run / "control").exists() else Source.KERNEL
        try:
            self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=self.source.value)
            self._monitor.filter_by("tty")
            self._monitor.filter_by("usb", device_type="usb_device")
            self._monitor.start()
        except ImportError as exc:
            raise HotplugUnavailable(
                "libudev cannot be found; on Debian it is in the package libudev1"
            ) from exc
        except (OSError, ValueError) as exc:
            raise HotplugUnavailable(f"libudev cannot listen for events: {exc}") from exc

    def fileno(self) -> int:
        """The netlink socket of libudev."""
        descriptor: int = self._monitor.fileno()
        return descriptor

    def receive(self) -> str | None:
        """Return the next event as action and name."""
        device = self._monitor.poll(timeout=0)
        return None if device is None else f"{device.action} {device.sys_name}"


class HotplugWatch:
    """Turns events into hints."""

    def __init__(self, events: EventSource) -> None:
        self._events = events
        self._failures = 0

    async def next_hint(self) -> Hint:
        """Wait until something changed; whatever came in the meantime is in one hint.

        Raises:
            HotplugUnavailable: the source is gone for good.
        """
        while True:
            await anyio.wait_readable(self._events.fileno())
            hint = self._drain()
            if hint.events or hint.missed:
                return hint

    def _drain(self) -> Hint:
        events: list[str] = []
        missed = self._overrun()
        while len(events) < _EVENTS_AT_ONCE:
            try:
                event = self._events.receive()
            except (OSError, ValueError, OverflowError) as exc:
                # pyudev raises the last two for EINVAL and EOVERFLOW.
                self._failures += 1
                if self._failures == _FAILURES_IN_A_ROW:
                    raise HotplugUnavailable(f"events cannot be read: {exc}") from exc
                missed = True
                self._overrun()
                break
            self._failures = 0
            if event is None:
                break
            events.append(event)
        return Hint(events=tuple(events), missed=missed)

    def _overrun(self) -> bool:
        """Tell whether the kernel dropped events, and clear that: until somebody does, pyudev's poll only fails."""
        descriptor = self._events.fileno()
        with_options = socket.socket(fileno=descriptor)
        try:
            return with_options.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENOBUFS
        finally:
            with_options.detach()
