"""What the service manager is told: readiness, a reload, the end, a sign of life, and how things stand in words.

The protocol is sd_notify(3): a datagram of VARIABLE=value lines to the socket that NOTIFY_SOCKET names.  Without that
variable nobody listens, and nothing is sent.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST_SILENCE_S: Final = 30.0
"""How often the status is renewed where no watchdog asks for more."""


class ServiceManager:
    """Whoever started us, if it wants to hear of us.

    Args:
        environment: what it gave us: NOTIFY_SOCKET, WATCHDOG_USEC.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract address, unix(7).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        within_s = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
        self.silence_s: Final = within_s / 2 if within_s else _LONGEST_SILENCE_S
        """The longest pause between two signs of life: half of what is granted, sd_watchdog_enabled(3)."""

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Say that the service does its work, for the first time or after a reload."""
        self._say("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that another configuration is read; ``ready`` follows."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self, status: str) -> None:
        """Give a sign of life."""
        self._say("WATCHDOG=1", _status(status))

    def stopping(self, status: str, within_s: float) -> None:
        """Say that the end has begun, and how long it may take, whatever the unit says."""
        self._say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(within_s * 1e6)}", _status(status))

    def _say(self, *lines: str) -> None:
        if not self.listens:
            return
        # A manager that does not take it is no reason to stop, nor to wait in the event loop.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto("\n".join(lines).encode(), self._address)


def _status(text: str) -> str:
    # Each line of a datagram is a variable of its own.
    return f"STATUS={' '.join(text.split())}"


class Planning(Protocol):
    """What shows that the service moves."""

    @property
    def planned(self) -> anyio.Event:
        """Set after the next planning."""

    def poke(self) -> None:
        """Plan again soon."""


async def show_life(manager: ServiceManager, planning: Planning, status: Callable[[], str]) -> None:
    """Tell the manager of each planning, and have one done when there is none for a while.

    A planning needs the event loop, the planner and a transaction of the store: when one of them is stuck, nothing is
    told, and a watchdog restarts the service.
    """
    while True:
        planned = planning.planned
        with anyio.move_on_after(manager.silence_s):
            await planned.wait()
        if not planned.is_set():
            planning.poke()
            await planned.wait()
        manager.alive(status())
