"""USB devices that were made to harm whoever looks at them: what they say of themselves, and in their loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from support.sysfs import usb_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD: Final = bytes((18, 1, *bytes(16)))
_INTERFACE: Final = bytes.fromhex("09 04 00 00 00 fe 01 02 04")
_FUNCTIONAL: Final = bytes.fromhex("09 21 0b ff 00 00 08 1a 01")

_WALK: Final = "lengths are held to what is there: `protocol/dfu/descriptors.py`"
_MAP: Final = "a strict grammar with bounds: `protocol/dfu/memory_map.py`"
_TEXT: Final = "what a device says of itself is escaped: `transport/sysfs.py`"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileUsb:
    """One device."""

    name: str
    does: str
    """In words."""
    stopped: str
    """By what."""
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    """What the kernel shows of it."""
    refused: str = ""
    """Why it is no device with DFU; empty: it may be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileMap:
    """One memory map."""

    name: str
    does: str
    stopped: str = _MAP
    text: str
    refused: str


def _described(*body: bytes) -> dict[str, bytes]:
    return {"descriptors": _HEAD + usb_configuration(1, b"".join(body))}


DEVICES: Final = (
    HostileUsb(
        name="descriptor of no length",
        does="a descriptor of length 0, over which a reader never gets",
        stopped=_WALK,
        attributes=_described(_INTERFACE, b"\x00\x21"),
        refused="a descriptor of 0 byte",
    ),
    HostileUsb(
        name="descriptor that leads out",
        does="a descriptor that goes on behind the end of all",
        stopped=_WALK,
        attributes=_described(_INTERFACE, b"\xff\x21\x0b"),
        refused="a descriptor of 255 byte",
    ),
    HostileUsb(
        name="configuration that leads out",
        does="a configuration that announces more than there is",
        stopped=_WALK,
        attributes={"descriptors": _HEAD + bytes.fromhex("09 02 ff ff 01 01 00 c0 32") + _INTERFACE},
        refused="cut short",
    ),
    HostileUsb(
        name="short functional descriptor",
        does="a functional descriptor without its fields",
        stopped=_WALK,
        attributes=_described(_INTERFACE, b"\x03\x21\x0b"),
        refused="has 7 or 9 bytes, not 3",
    ),
    HostileUsb(
        name="megabytes of descriptors",
        does="descriptors without end",
        stopped="what is read of an attribute is bounded: `transport/usb_sysfs.py`",
        attributes={"descriptors": _HEAD + usb_configuration(9, _INTERFACE * 1000) * 400},
    ),
    HostileUsb(
        name="escapes in a string",
        does="a product and a serial number that take over the terminal, or are no text",
        stopped=_TEXT,
        attributes={
            **_described(_INTERFACE, _FUNCTIONAL),
            "product": b"\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\r\n",
            "serial": b"\xff\xfe\x00\xe2\x80\xae",
        },
    ),
)

MAPS: Final = (
    HostileMap(
        name="map of millions of pages",
        does="more pages than anybody could erase",
        text="@Flash /0x08000000/99999*001Ka",
        refused="more than 9999",
    ),
    HostileMap(
        name="map beyond the address space",
        does="a memory that goes on behind the last address",
        text="@Flash /0xFFFFF000/9999*999Mg",
        refused="a region from 0xfffff000",
    ),
    HostileMap(
        name="map whose memories lie over each other",
        does="one address in two regions",
        text="@Flash /0x08000000/04*016Kg/0x08001000/01*016Kg",
        refused="two regions with a byte in common",
    ),
    HostileMap(
        name="map with more behind it",
        does="a map and then something else",
        text="@Flash /0x08000000/04*016Kg;rm",
        refused="tells no sectors",
    ),
)
