"""What a simulated device says it is: descriptors, made from a few facts.

Source: USB 2.0 Specification, 9.6; USB Device Class Specification for Device Firmware Upgrade, version 1.1, 4; ST
AN3156 and real devices for the ROM's strings; libopencm3 and MicroPython (pydfu.py) for the serial number.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.descriptors import FunctionalDescriptor
    from firmwarden.simulate.dfu.firmware import RunTime, Service

DEVICE: Final = 0x01
CONFIGURATION: Final = 0x02
STRING: Final = 0x03
INTERFACE: Final = 0x04

_DEVICE: Final = Struct("<BBHBBBBHHHBBBB")
_CONFIGURATION: Final = Struct("<BBHBBBBB")
_INTERFACE: Final = Struct("<BBBBBBBBB")

_MANUFACTURER, _PRODUCT, _SERIAL, _FIRST_MAP = 1, 2, 3, 4
_SELF_POWERED: Final = 0xC0
_HALF_AN_AMPERE: Final = 50
_USB_2: Final = 0x0200
_CONTROL_PACKET: Final = 64

RUN_TIME: Final = 0x01
IN_DFU_MODE: Final = 0x02
"""bInterfaceProtocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuInterface:
    """The interface that speaks DFU."""

    number: int
    protocol: int
    alternates: tuple[str, ...]
    """What each alternate setting is called."""
    functional: FunctionalDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device as it shows itself on the bus."""

    vendor: int
    product: int
    revision: int
    manufacturer: str
    name: str
    serial: str
    dfu: DfuInterface | None
    others: int = 0
    """Interfaces of the vendor's own, without endpoints; their numbers come first."""

    @property
    def strings(self) -> tuple[str, ...]:
        """All strings, the first one having number 1."""
        return self.manufacturer, self.name, self.serial, *(self.dfu.alternates if self.dfu else ())

    def device(self) -> bytes:
        """Return the device descriptor."""
        return _DEVICE.pack(
            _DEVICE.size,
            DEVICE,
            _USB_2,
            0,
            0,
            0,
            _CONTROL_PACKET,
            self.vendor,
            self.product,
            self.revision,
            _MANUFACTURER,
            _PRODUCT,
            _SERIAL if self.serial else 0,
            1,
        )

    def configuration(self) -> bytes:
        """Return the configuration descriptor and all that belongs to it."""
        body = b"".join(
            _INTERFACE.pack(_INTERFACE.size, INTERFACE, number, 0, 0, 0xFF, 0, 0, 0)
            for number in range(self.others)
        )
        if self.dfu is not None:
            for setting in range(len(self.dfu.alternates)):
                body += _INTERFACE.pack(
                    _INTERFACE.size,
                    INTERFACE,
                    self.dfu.number,
                    setting,
                    0,
                    0xFE,
                    0x01,
                    self.dfu.protocol,
                    _FIRST_MAP + setting,
                )
            body += self.dfu.functional.encode()
        interfaces = self.others + (self.dfu is not None)
        total = _CONFIGURATION.size + len(body)
        return (
            _CONFIGURATION.pack(
                _CONFIGURATION.size, CONFIGURATION, total, interfaces, 1, 0, _SELF_POWERED, _HALF_AN_AMPERE
            )
            + body
        )

    def string(self, number: int, *, overlong: bool = False) -> bytes | None:
        """Return a string descriptor; number 0 tells the languages; None if there is none.

        Args:
            number: which.
            overlong: the length byte promises more than there is.
        """
        if number == 0:
            return bytes((4, STRING, 0x09, 0x04))
        if number > len(self.strings) or not self.strings[number - 1]:
            return None
        text = self.strings[number - 1].encode("utf-16-le")
        return bytes((min(2 + len(text) + 2 * overlong, 0xFF), STRING)) + text


def rom_identity(serial: str, maps: tuple[str, ...], functional: FunctionalDescriptor) -> Identity:
    """Return what the ROM of an STM32 shows, whatever the product is."""
    return Identity(
        vendor=0x0483,
        product=0xDF11,
        revision=0x2200,
        manufacturer="STMicroelectronics",
        name="STM32  BOOTLOADER",
        serial=serial,
        dfu=DfuInterface(number=0, protocol=IN_DFU_MODE, alternates=maps, functional=functional),
    )


def run_time_identity(what: RunTime, serial: str, functional: FunctionalDescriptor) -> Identity:
    """Return what a running application shows."""
    interface = None
    if what.dfu_interface is not None:
        interface = DfuInterface(
            number=what.dfu_interface,
            protocol=RUN_TIME,
            alternates=("Firmware update",),
            functional=functional,
        )
    return Identity(
        vendor=what.vendor,
        product=what.product,
        revision=what.revision,
        manufacturer="Firmwarden",
        name=what.name,
        serial=serial,
        dfu=interface,
        others=1 if what.dfu_interface is None else what.dfu_interface,
    )


def service_identity(what: Service, serial: str, layout: str) -> Identity:
    """Return what a loader of the user's own shows."""
    return Identity(
        vendor=what.vendor,
        product=what.product,
        revision=0x0100,
        manufacturer="Firmwarden",
        name=what.name,
        serial=serial,
        dfu=DfuInterface(number=0, protocol=IN_DFU_MODE, alternates=(layout,), functional=what.functional),
    )


def serial_of(unique: bytes) -> str:
    """Return the serial number that a ROM of the F4's age makes of the 96 bits that are unique to a chip."""
    numbers = (
        unique[11],
        unique[10] + unique[2],
        unique[9],
        unique[8] + unique[0],
        unique[7],
        unique[6],
    )
    return "".join(f"{number & 0xFF:02X}" for number in numbers)
