"""What is plugged into a simulated bus, as a scan of the real one tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.model import UsbFacts
from firmwarden.transport.usb_link import UsbSeen

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.bus import Seen, SimBus


class SimLister:
    """Lists the devices of a bus as ``UsbBus`` wants it."""

    def __init__(self, bus: SimBus) -> None:
        self._bus = bus

    def list(self) -> tuple[UsbSeen, ...]:
        """Return every device."""
        return tuple(self._seen(found) for found in self._bus.devices())

    def look(self, topology: str) -> UsbSeen | None:
        """Return what is at a place now."""
        return next((seen for seen in self.list() if seen.facts.topology == topology), None)

    def _seen(self, found: Seen) -> UsbSeen:
        what = found.identity
        path = ".".join(str(port) for port in found.port)
        return UsbSeen(
            facts=UsbFacts(
                vendor_id=what.vendor,
                product_id=what.product,
                revision=what.revision,
                serial=what.serial or None,
                topology=f"{self._bus.number}-{path}",
                port=f"usb-sim-{path}",
                manufacturer=what.manufacturer,
                product=what.name,
            ),
            address=found.address,
            configuration=what.configuration(),
        )
