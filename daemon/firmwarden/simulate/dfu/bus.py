"""A simulated USB bus: ports to plug devices into, addresses that change with each appearance, and a clock.

What a host controller does for a program is done here, once for every front: a transfer that the device holds back is
tried again until the program's time-out is over.  One lock keeps the devices from being used by two threads at once; it
is not held while a transfer waits, so one device never keeps another from answering.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.simulate.dfu.engine import Withheld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firmwarden.protocol.dfu.conversation import Reply
    from firmwarden.protocol.dfu.requests import Setup
    from firmwarden.simulate.dfu.device import SimDfu
    from firmwarden.simulate.dfu.identity import Identity

_HIGHEST_ADDRESS: Final = 127


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as it was found on the bus: it is gone when it appears anew."""

    port: tuple[int, ...]
    """The ports on the way to it, from the root hub on."""
    generation: int
    address: int
    identity: Identity


class SimBus:
    """A bus without devices.

    Args:
        number: of the bus.
        clock: tells the time.
        sleep: lets it pass.
    """

    def __init__(
        self,
        number: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.number = number
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._devices: dict[tuple[int, ...], SimDfu] = {}
        self._addresses: dict[tuple[tuple[int, ...], int], int] = {}

    def plug(self, device: SimDfu, *port: int) -> None:
        """Plug a device into a port, which must be free."""
        with self._lock:
            if port in self._devices or not port:
                raise ValueError(f"port {port} is not free")
            self._devices[port] = device
            device.plug(self._clock())

    def unplug(self, *port: int) -> SimDfu:
        """Pull the cable out of a port, and return the device."""
        with self._lock:
            device = self._devices.pop(port)
            device.unplug(self._clock())
            return device

    def devices(self) -> list[Seen]:
        """Return what is on the bus now."""
        with self._lock:
            return [seen for port in sorted(self._devices) if (seen := self._look(port)) is not None]

    def is_there(self, seen: Seen) -> bool:
        """Tell whether a device is still as it was found."""
        with self._lock:
            return self._find(seen) is not None

    def control(self, seen: Seen, setup: Setup, data: bytes = b"", timeout_s: float | None = None) -> Reply:
        """Make a control transfer."""
        deadline = None if timeout_s is None else self._clock() + timeout_s
        while True:
            with self._lock:
                device = self._find(seen)
                reply = device.control(setup, data, self._clock()) if device else Trouble.GONE
            if not isinstance(reply, Withheld):
                return self._in_time(reply, deadline)
            until = reply.until if deadline is None else min(reply.until, deadline)
            self._sleep(max(0.0, until - self._clock()))
            if deadline is not None and self._clock() >= deadline and deadline < reply.until:
                return Trouble.TIMED_OUT

    def reset(self, seen: Seen) -> bool:
        """Reset the port; tell whether the device is still as it was found."""
        with self._lock:
            device = self._find(seen)
            if device is not None:
                device.bus_reset(self._clock())
            return device is not None and self._find(seen) is not None

    @contextmanager
    def still(self) -> Iterator[None]:
        """Keep everybody else from the devices, for a look at them."""
        with self._lock:
            yield

    # --- inside --------------------------------------------------------------------------------------------

    def _in_time(self, reply: Reply, deadline: float | None) -> Reply:
        """Let a silent device use the whole time-out up."""
        if reply is Trouble.TIMED_OUT and deadline is not None:
            self._sleep(max(0.0, deadline - self._clock()))
        return reply

    def _find(self, seen: Seen) -> SimDfu | None:
        device = self._devices.get(seen.port)
        if device is None:
            return None
        device.poll(self._clock())
        return device if device.present and device.generation == seen.generation else None

    def _look(self, port: tuple[int, ...]) -> Seen | None:
        device = self._devices[port]
        device.poll(self._clock())
        identity = device.identity
        if identity is None:
            return None
        key = (port, device.generation)
        address = self._addresses.setdefault(key, len(self._addresses) % _HIGHEST_ADDRESS + 1)
        return Seen(port, device.generation, address, identity)
