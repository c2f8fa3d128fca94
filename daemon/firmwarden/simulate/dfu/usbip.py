"""USB/IP, the protocol in which Linux lets USB devices be somewhere else: messages and their bytes.

A client lists devices or imports one; from then on the connection carries that device's transfers, until either side
closes it.  All numbers are big-endian, except for the setup packet, which is as on the wire.

Source: Linux kernel, Documentation/usb/usbip_protocol.rst; drivers/usb/usbip/usbip_common.h for the speeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.dfu.identity import INTERFACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.simulate.dfu.identity import Identity

VERSION: Final = 0x0111
FULL_SPEED: Final = 2

REQUEST_LIST: Final = 0x8005
REQUEST_IMPORT: Final = 0x8003
_REPLY: Final = 0x7FFF
"""A request's code without its highest bit."""

_OPERATION: Final = Struct(">HHI")
OPERATION_SIZE: Final = _OPERATION.size
BUS_ID_SIZE: Final = 32
_DEVICE: Final = Struct(">256s32sIII")

_BASIC: Final = Struct(">IIIII")
_SUBMIT: Final = Struct(">IiiiI8s")
_UNLINK: Final = Struct(">I24x")
_DONE: Final = Struct(">iiiii8x")
_UNLINKED: Final = Struct(">i24x")
_LONGEST: Final = 0xFFFF
"""Bytes of data that a setup packet has words for."""
COMMAND_SIZE: Final = _BASIC.size + _SUBMIT.size
"""Of each command, and of each answer before its data."""

_RET_SUBMIT, _RET_UNLINK = 3, 4


class BadMessage(ValueError):
    """The bytes are none of the protocol's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Make a transfer."""

    number: int
    inward: bool
    endpoint: int
    length: int
    """Of the data, which follow if they go to the device."""
    setup: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    """Give a transfer up."""

    number: int
    victim: int


def decode_operation(raw: bytes) -> int:
    """Read the head of a request, before a device is imported, and return its code.

    Raises:
        BadMessage: it is none.
    """
    version, code, _ = _OPERATION.unpack(raw)
    if version != VERSION or code not in {REQUEST_LIST, REQUEST_IMPORT}:
        raise BadMessage(f"version 0x{version:04x}, code 0x{code:04x}")
    return int(code)


def encode_list(devices: Iterable[tuple[str, int, Identity]]) -> bytes:
    """Answer a request for the list: devices by bus id and address."""
    records = [
        _record(bus_id, address, identity) + _interfaces(identity) for bus_id, address, identity in devices
    ]
    head = _OPERATION.pack(VERSION, REQUEST_LIST & _REPLY, 0)
    return head + len(records).to_bytes(4, "big") + b"".join(records)


def encode_import(found: tuple[str, int, Identity] | None) -> bytes:
    """Answer a request for a device; None: it cannot be had."""
    head = _OPERATION.pack(VERSION, REQUEST_IMPORT & _REPLY, int(found is None))
    return head if found is None else head + _record(*found)


def device_id(address: int) -> int:
    """Return the number by which vhci knows a device of bus 1."""
    return 1 << 16 | address


def decode_command(raw: bytes) -> Submit | Unlink:
    """Read a command's `COMMAND_SIZE` bytes.

    Raises:
        BadMessage: it is none.
    """
    command, number, _, direction, endpoint = _BASIC.unpack_from(raw)
    match command:
        case 1:
            _, length, _, _, _, setup = _SUBMIT.unpack_from(raw, _BASIC.size)
            if not 0 <= length <= _LONGEST:
                raise BadMessage(f"a transfer of {length} bytes")
            return Submit(number=number, inward=direction == 1, endpoint=endpoint, length=length, setup=setup)
        case 2:
            (victim,) = _UNLINK.unpack_from(raw, _BASIC.size)
            return Unlink(number=number, victim=victim)
        case _:
            raise BadMessage(f"command {command}")


def encode_done(what: Submit, status: int = 0, data: bytes = b"") -> bytes:
    """Answer a transfer that is over.

    Args:
        what: was asked.
        status: 0, or the negative number of an error.
        data: that came from the device.
    """
    data = data[: what.length]
    moved = 0 if status else len(data) if what.inward else what.length
    head = _BASIC.pack(_RET_SUBMIT, what.number, 0, 0, 0)
    return head + _DONE.pack(status, moved, 0, 0, 0) + data


def encode_unlinked(what: Unlink, status: int) -> bytes:
    """Answer an unlink."""
    return _BASIC.pack(_RET_UNLINK, what.number, 0, 0, 0) + _UNLINKED.pack(status)


def _record(bus_id: str, address: int, identity: Identity) -> bytes:
    device, configuration = identity.device(), identity.configuration()
    path = f"/sys/devices/simulated/{bus_id}".encode()
    ids = b"".join(device[at : at + 2][::-1] for at in (8, 10, 12))
    kinds = bytes((*device[4:7], configuration[5], device[17], configuration[4]))
    return _DEVICE.pack(path, bus_id.encode(), 1, address, FULL_SPEED) + ids + kinds


def _interfaces(identity: Identity) -> bytes:
    found: dict[int, bytes] = {}
    at = 0
    configuration = identity.configuration()
    while at < len(configuration):
        if configuration[at + 1] == INTERFACE:
            found.setdefault(configuration[at + 2], configuration[at + 5 : at + 8] + b"\x00")
        at += configuration[at]
    return b"".join(found.values())
