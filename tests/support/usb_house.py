"""The whole service around scripted units that are USB devices, and come up in a ROM that many products share."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.drivers.dfu_settings import VersionSource
from firmwarden.model import Sighting, UsbAddress, UsbFacts
from firmwarden.service.identity import ClassRule
from support.house import House

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from firmwarden.model import Address, ClassName
    from firmwarden.service.clock import Clock
    from firmwarden.service.desired import ClassPolicy
    from firmwarden.store.store import Store
    from support.scripted import Unit

APPLICATION: Final = (0x1209, 0x0001)
ROM: Final = (0x0483, 0xDF11)
SCAN_S: Final = 2.0


def place_of(number: int) -> str:
    """Name a place as it is called after each start of the host."""
    return f"usb-0000:00:14.0-1.{number}"


class UsbHouse(House):
    """The number at the end of a unit's name is where it is plugged in at first, and its serial number."""

    by_serial = True

    def __init__(
        self, store: Store, clock: Clock, units: Mapping[str, Unit], policies: Sequence[ClassPolicy]
    ) -> None:
        super().__init__(store, clock, units, policies)
        self.places = {name: int(name[-1]) for name in units}

    async def watch(self) -> None:
        """See again and again which units are plugged in, and as what."""
        while True:
            await self.scan()
            await anyio.sleep(SCAN_S)

    async def move(self, name: str, place: int) -> None:
        """Plug a unit in elsewhere."""
        await self.unplug(name)
        self.places[name] = place
        await self.plug(name)

    def _rule(self, device_class: ClassName) -> ClassRule:
        return ClassRule(name=device_class, dfu=True, usb=APPLICATION, loader=ROM, by_serial=self.by_serial)

    def _sighting(self, name: str) -> Sighting:
        place = self.places[name]
        running = self.units[name].runs is not None
        vendor, product = APPLICATION if running else ROM
        facts = UsbFacts(
            vendor_id=vendor,
            product_id=product,
            serial=name[-1] if running else "FFFFFFFEFFFF",
            topology=f"3-1.{place}",
            port=place_of(place),
        )
        return Sighting(address=UsbAddress(topology=facts.topology), usb=facts)

    def _key(self, name: str) -> str:
        return f"serial:{name[-1]}" if self.by_serial else f"port:{place_of(self.places[name])}"

    def _at(self, address: Address) -> str:
        assert isinstance(address, UsbAddress)
        number = int(address.topology[-1])
        return next(name for name, place in self.places.items() if place == number and name in self.plugged)


class UsbHouseByPort(UsbHouse):
    """The same where units go by their place."""

    by_serial = False


class TellingUsbHouse(UsbHouse):
    """The same where applications tell by their product string what they are."""

    def _rule(self, device_class: ClassName) -> ClassRule:
        source = VersionSource(field="product", expect=re.compile(rf"^{device_class} (\S+)$"))
        return replace(super()._rule(device_class), version=source)

    def _sighting(self, name: str) -> Sighting:
        seen, runs = super()._sighting(name), self.units[name].runs
        assert seen.usb is not None
        # A loader that happens to look like a version of the application.
        product = "panel 9.9.9" if runs is None else runs.decode()
        return replace(seen, usb=replace(seen.usb, product=product))
