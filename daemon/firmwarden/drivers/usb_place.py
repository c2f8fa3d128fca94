"""A place on the USB and what comes and goes there: an application, its loader, nothing for a while, another unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.errors import AttemptFailed
from firmwarden.model import Cause, CauseCode
from firmwarden.protocol.dfu.descriptors import DfuInterface, MalformedDescriptor, find_dfu
from firmwarden.protocol.dfu.host import announced_mode
from firmwarden.protocol.dfu.quirks import Mode, Quirks, quirks_of
from firmwarden.transport.link import OPEN_PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import UsbAddress, UsbFacts
    from firmwarden.transport.usb_link import UsbLink, UsbPorts, UsbSeen

Ids = tuple[int, int]
"""Vendor and product."""

_LOOK_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A device as it shows itself, read for what matters here."""

    seen: UsbSeen
    interface: DfuInterface | None
    quirks: Quirks
    mode: Mode | None
    """None: it does not tell."""

    def __str__(self) -> str:
        return told(self.seen.facts)


class Place:
    """One place, where units of one class are expected."""

    def __init__(
        self,
        address: UsbAddress,
        ports: UsbPorts,
        *,
        application: frozenset[Ids] | None,
        loader: frozenset[Ids],
        serial: str | None = None,
    ) -> None:
        """Take what tells units of the class from others.

        Args:
            address: the place, and what was seen there.
            ports: the bus.
            application: what a unit goes by while its application runs; None: not known, anything may be it.
            loader: the same for its loader.
            serial: of the unit's application, where it is known by that.
        """
        self._address = address
        self._ports = ports
        self._application = application
        self._loader = loader
        self._serial = serial

    def __str__(self) -> str:
        return str(self._address)

    async def find(self, patience_s: float = OPEN_PATIENCE_S) -> Shown:
        """Return what is there, with patience for a device that is just coming.

        Raises:
            AttemptFailed: nothing is, or no unit of the class, or another than was seen there.
        """
        shown = await self.wait_for(lambda _shown: True, patience_s)
        if shown is None:
            raise _not_there(f"nothing is plugged in at {self._address}")
        if not self.is_known(shown):
            raise _not_there(f"at {self._address} there is {shown}, which is no device of this class")
        if self.is_another(shown):
            raise _not_there(f"at {self._address} there is another unit than before, {shown}")
        return shown

    async def wait_for(self, wanted: Callable[[Shown], bool], within_s: float) -> Shown | None:
        """Look until a device is there that is wanted; return what is there in the end, wanted or not."""
        give_up_at = anyio.current_time() + within_s
        while True:
            seen = await self._ports.look(self._address.topology)
            shown = None if seen is None else self._read(seen)
            if (shown is not None and wanted(shown)) or anyio.current_time() >= give_up_at:
                return shown
            await anyio.sleep(_LOOK_AGAIN_S)

    async def open(self, shown: Shown) -> UsbLink:
        """Open a device at its DFU interface.

        Raises:
            AttemptFailed: it has none.
            OpenFailed: it cannot be opened, or is another one by now.
            PortHeld: another program has the interface.
        """
        if shown.interface is None:
            raise _not_there(f"{shown} at {self._address} has no DFU interface")
        return await self._ports.open(shown.seen, shown.interface.number)

    def is_known(self, shown: Shown) -> bool:
        """Tell whether it goes by what units of the class go by."""
        ids = ids_of(shown.seen.facts)
        return ids in self._loader or self._may_run_as(ids)

    def is_another(self, shown: Shown) -> bool:
        """Tell whether a serial number shows that it is not the unit that was seen here before, or that is known."""
        before, now = self._address.usb, shown.seen.facts
        if self._serial is not None and shown.mode is Mode.RUN_TIME and now.serial != self._serial:
            return True
        if before is None or ids_of(before) != ids_of(now):
            return False  # a loader may go by another serial number than the application
        return before.serial != now.serial

    def shows_itself(self, shown: Shown) -> bool:
        """Tell whether an application shows what units of the class do, or is at least no stranger."""
        before, serial = self._address.usb, shown.seen.facts.serial
        same = before is not None and serial is not None and serial == before.serial
        return self._application is not None or shown.interface is not None or same

    def may_be_loader(self, shown: Shown) -> bool:
        """Tell whether it is a unit of the class, in its loader for all that it shows."""
        return ids_of(shown.seen.facts) in self._loader and shown.mode is not Mode.RUN_TIME

    def may_be_application(self, shown: Shown) -> bool:
        """Tell whether it is a unit of the class, in its application for all that it shows."""
        return self._may_run_as(ids_of(shown.seen.facts)) and shown.mode is not Mode.DFU

    def _may_run_as(self, ids: Ids) -> bool:
        return self._application is None or ids in self._application

    def _read(self, seen: UsbSeen) -> Shown:
        facts = seen.facts
        quirks = quirks_of(facts.vendor_id, facts.product_id, facts.revision)
        try:
            interface = next(iter(find_dfu(seen.configuration)), None)
        except MalformedDescriptor:
            interface = None
        mode: Mode | None = Mode.RUN_TIME
        if interface is not None:
            mode = announced_mode(interface, quirks)
        if ids_of(facts) in self._loader and not self._may_run_as(ids_of(facts)):
            mode = Mode.DFU
        elif mode is None and ids_of(facts) not in self._loader:
            mode = Mode.RUN_TIME
        return Shown(seen=seen, interface=interface, quirks=quirks, mode=mode)


def ids_of(facts: UsbFacts) -> Ids:
    """Return what a device goes by."""
    return facts.vendor_id, facts.product_id


def told(facts: UsbFacts) -> str:
    """Say for a person what a device says it is."""
    name = f" {facts.product}" if facts.product else ""
    serial = f", serial number {facts.serial}" if facts.serial else ""
    return f"{facts.vendor_id:04x}:{facts.product_id:04x}{name}{serial}"


def _not_there(detail: str) -> AttemptFailed:
    return AttemptFailed(Cause(code=CauseCode.OPEN_FAILED, detail=detail))
