"""Devices with a loader of the user's own in the first pages, which starts an application whose seal fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu_settings import DfuSettings
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Entry, Firmware, Role, Service, seal
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_bench import APPLICATION, CLASS, OWN_LOADER
from support.dfu_simulated import L476, image
from support.dfu_simulated import settings as simulated

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated

PAGE: Final = 2048
START: Final = FLASH_BASE + 2 * PAGE
"""Of the application, seal and all, behind the loader."""
END: Final = FLASH_BASE + 8 * PAGE


def sealed(name: str, size: int = 5000) -> Firmware:
    """Make an application that a resident loader starts, if its seal fits."""
    plain = image(name, L476, size, base=START + SEAL_SPACE, detaches_by=Entry.LOADER)
    return replace(plain, segments=seal(plain.segments[0].data, START))


def stream(firmware: Firmware) -> bytes:
    """Return an image as one row of bytes."""
    head, body = firmware.segments
    return head.data.ljust(SEAL_SPACE, b"\xff") + body.data


def loader(service: Service) -> Firmware:
    """Make a resident loader."""
    return replace(image("loader", L476, 1000), role=Role.LOADER, service=service)


SEALED_OLD, SEALED_NEW = sealed("old"), sealed("new", 4500)
FILE: Final = append(stream(SEALED_NEW), DfuSuffix(vendor=0x1209, product=0x0001))

PLAIN: Final = DfuSettings(
    application=frozenset({APPLICATION}),
    loader=frozenset({OWN_LOADER}),
    image=ImageRules(format=ImageFormat.DFU, device=True, ids=(APPLICATION, OWN_LOADER)),
    failsafe=Failsafe.RESIDENT_LOADER,
    declared=True,
)
ADDRESSED: Final = replace(
    PLAIN, image=ImageRules(format=ImageFormat.RAW, address=START, device=True), family=CLASS.family
)


def device(service: Service, *installed: Firmware) -> Simulated:
    """Describe a device with such a loader, and the old application unless another image is given."""
    resident = loader(service)
    return simulated(
        L476, resident, SEALED_OLD, SEALED_NEW, installed={1: (resident, *(installed or (SEALED_OLD,)))}
    )
