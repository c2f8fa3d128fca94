"""String descriptors, asked for by control transfers: a device's own words, among them its memory maps.

Source: USB 2.0 Specification, 9.4.3 and 9.6.7.
"""

from __future__ import annotations

from typing import Final

from firmwarden.protocol.dfu.conversation import Control, Conversation, Trouble
from firmwarden.protocol.dfu.descriptors import MalformedDescriptor, decode_string
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.protocol.dfu.steps import TRANSFER_TIMEOUT_S, expect

_GET_DESCRIPTOR: Final = 6
_FROM_DEVICE: Final = 0x80
_DEVICE: Final = 0x01
_STRING: Final = 0x03

_ENGLISH: Final = 0x0409
_LONGEST: Final = 255

_DEVICE_SIZE: Final = 18
_SERIAL_INDEX: Final = 16
"""Where a device descriptor has iSerialNumber."""


def read_string(index: int, encoding: str = "utf-16-le") -> Conversation[str]:
    """Ask for a string in English, or in the first language that there is; empty where there is none.

    Raises:
        AttemptFailed: the device cannot be asked.
        MalformedDescriptor: what came is no string.
    """
    if index == 0:
        return ""
    raw = yield _descriptor(_STRING, index, _LONGEST, _ENGLISH)
    if raw is Trouble.STALL:
        languages = expect((yield _descriptor(_STRING, 0, _LONGEST)), "asking for the languages")
        raw = yield _descriptor(_STRING, index, _LONGEST, int.from_bytes(languages[2:4], "little"))
    return decode_string(expect(raw, f"asking for string {index}"), encoding)


def read_serial(encoding: str) -> Conversation[str]:
    """Ask for the serial number, of a device whose encoding the operating system does not know.

    Raises:
        AttemptFailed: the device cannot be asked.
        MalformedDescriptor: what came is no string.
    """
    device = expect((yield _descriptor(_DEVICE, 0, _DEVICE_SIZE)), "asking for the device descriptor")
    if len(device) != _DEVICE_SIZE:
        raise MalformedDescriptor(f"a device descriptor of {len(device)} byte(s)")
    return (yield from read_string(device[_SERIAL_INDEX], encoding))


def _descriptor(kind: int, index: int, length: int, language: int = 0) -> Control:
    setup = Setup(
        request_type=_FROM_DEVICE,
        request=_GET_DESCRIPTOR,
        value=kind << 8 | index,
        index=language,
        length=length,
    )
    return Control(setup, TRANSFER_TIMEOUT_S)
