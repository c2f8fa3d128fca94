"""Which keys of a class belong to which driver: a key that would say nothing is a mistake, also at its default."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.config.tree import ST_ROM, DriverName, EnterDetach
from firmwarden.drivers.boot.facts import FLASH_BASE
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.images.formats import ImageFormat
from firmwarden.protocol.dfu.quirks import is_shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.config.faults import Fault
    from firmwarden.config.tree import DeviceClass

_OF_ONE_DRIVER: Final[Mapping[tuple[str, ...], DriverName]] = MappingProxyType(
    {
        ("match", "path"): DriverName.MDFU,
        ("match", "interface"): DriverName.MDFU,
        ("match", "tcp"): DriverName.MDFU,
        ("match", "port"): DriverName.DFU,
        ("part",): DriverName.DFU,
        ("failsafe",): DriverName.DFU,
        ("baud",): DriverName.MDFU,
        ("image_address",): DriverName.DFU,
        ("settle",): DriverName.MDFU,
        ("boot_delay",): DriverName.MDFU,
        ("version_query",): DriverName.MDFU,
        ("health", "query"): DriverName.MDFU,
        ("mdfu",): DriverName.MDFU,
        ("dfu",): DriverName.DFU,
    }
)

_FORMATS: Final[Mapping[DriverName, tuple[ImageFormat, ...]]] = MappingProxyType(
    {
        DriverName.MDFU: (
            ImageFormat.RAW,
            ImageFormat.MDFU_8BIT,
            ImageFormat.MDFU_32BIT,
            ImageFormat.INTEL_HEX,
        ),
        DriverName.DFU: (ImageFormat.RAW, ImageFormat.INTEL_HEX, ImageFormat.DFU, ImageFormat.DFUSE),
    }
)

_WAYS: Final[Mapping[DriverName, tuple[str, ...]]] = MappingProxyType(
    {
        DriverName.MDFU: ("none", "pulse", "touch-1200", "send", "command"),
        DriverName.DFU: ("none", "detach", "command"),
    }
)


def faults_of_driver(device: DeviceClass, given: Mapping[str, object]) -> Iterator[Fault]:
    """Look for what does not go with the class's driver.

    Args:
        device: the class.
        given: its table as it stands in the file, without what is inherited or left out.
    """
    for place, owner in _OF_ONE_DRIVER.items():
        if owner is not device.driver and _stands(given, place):
            yield place, f'belongs to driver = "{owner}", and this class has driver = "{device.driver}"'
    formats = _FORMATS[device.driver]
    if device.image_format not in formats:
        yield (
            ("image_format",),
            f'expected {_or(formats)} with driver = "{device.driver}", got "{device.image_format}"',
        )
    ways = _WAYS[device.driver]
    if device.enter.method not in ways:
        yield (
            ("enter", "method"),
            f'expected {_or(ways)} with driver = "{device.driver}", got "{device.enter.method}"',
        )
    if device.driver is DriverName.DFU:
        yield from _faults_of_dfu(device)


def _faults_of_dfu(device: DeviceClass) -> Iterator[Fault]:
    shown = device.match.usb
    if shown is None:
        yield ("match", "usb"), 'is missing; driver = "dfu" needs the ids that the application shows'
    elif is_shared(shown.vendor_id, shown.product_id) and isinstance(device.enter, EnterDetach):
        yield (
            ("match", "usb"),
            (
                f"expected the ids that the application shows: {shown} is a loader that many products have, and no "
                'loader is asked to detach; enter = { method = "none" } is for units that are always in it'
            ),
        )
    yield from _faults_of_address(device)
    if device.dfu.application is not None and device.failsafe is not Failsafe.RESIDENT_LOADER:
        yield ("dfu", "application"), f'expected only with failsafe = "{Failsafe.RESIDENT_LOADER}"'


def _faults_of_address(device: DeviceClass) -> Iterator[Fault]:
    address = device.image_address
    if device.image_format is not ImageFormat.RAW:
        if address is not None:
            yield (
                ("image_address",),
                (
                    'expected only with image_format = "raw": '
                    f'a file in "{device.image_format}" has its addresses, or none'
                ),
            )
        return
    if address is None:
        # Only of ST's ROM is it certain that it has addresses; it would refuse the image of one unit after the other.
        if device.dfu.loader == ST_ROM:
            yield (
                ("image_address",),
                f"is missing; the loader {ST_ROM} has to be told where a raw image goes, such as 0x{FLASH_BASE:08x}",
            )
        return
    family = None if device.part is None else family_of(device.part)
    if family is None:
        return
    flash = range(FLASH_BASE, FLASH_BASE + (max(family.flash.kilobytes) << 10))
    if address not in flash:
        yield (
            ("image_address",),
            (
                f"expected an address in the flash of {family.title}, 0x{flash.start:08x} to 0x{flash.stop - 1:08x}, "
                f"got 0x{address:08x}"
            ),
        )


def _stands(given: Mapping[str, object], place: tuple[str, ...]) -> bool:
    head, *rest = place
    inner = given.get(head)
    return head in given and (not rest or (isinstance(inner, dict) and rest[0] in inner))


def _or(names: tuple[str, ...]) -> str:
    quoted = [f'"{name}"' for name in names]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"
