"""String descriptors, asked for by control transfers: a device's own words, among them its memory maps.

Much is concluded from them, and a transfer that came short looks like a word that was cut.  So a descriptor is believed
when as much came as its first byte promises, or when it was the same three times: some devices promise too much.

Source: USB 2.0 Specification, 9.4.3 and 9.6.7.
"""

from __future__ import annotations

from typing import Final

from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Control, Conversation, Reply, Trouble
from firmwarden.protocol.dfu.descriptors import MalformedDescriptor, decode_string
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.protocol.dfu.steps import TRANSFER_TIMEOUT_S, expect
from firmwarden.protocol.dfu.verdicts import failure

_GET_DESCRIPTOR: Final = 6
_FROM_DEVICE: Final = 0x80
_DEVICE: Final = 0x01
_STRING: Final = 0x03

_ENGLISH: Final = 0x0409
_LONGEST: Final = 255

_DEVICE_SIZE: Final = 18
_SERIAL_INDEX: Final = 16
"""Where a device descriptor has iSerialNumber."""

_TRIES: Final = 3


def read_string(index: int, encoding: str = "utf-16-le") -> Conversation[str]:
    """Ask for a string in English, or in the first language that there is; empty where there is none.

    Raises:
        AttemptFailed: the device cannot be asked.
        MalformedDescriptor: what came is no string.
    """
    if index == 0:
        return ""
    raw = yield from _believed(_STRING, index, _LONGEST, _ENGLISH)
    if raw is Trouble.STALL:
        languages = expect((yield _descriptor(_STRING, 0, _LONGEST)), "asking for the languages")
        language = int.from_bytes(languages[2:4], "little")
        raw = yield from _believed(_STRING, index, _LONGEST, language)
    return decode_string(expect(raw, f"asking for string {index}"), encoding)


def read_serial(encoding: str) -> Conversation[str]:
    """Ask for the serial number, of a device whose encoding the operating system does not know.

    Raises:
        AttemptFailed: the device cannot be asked.
        MalformedDescriptor: what came is no string.
    """
    raw = yield from _believed(_DEVICE, 0, _DEVICE_SIZE)
    device = expect(raw, "asking for the device descriptor")
    if len(device) != _DEVICE_SIZE:
        raise MalformedDescriptor(f"a device descriptor of {len(device)} byte(s)")
    return (yield from read_string(device[_SERIAL_INDEX], encoding))


def _believed(kind: int, index: int, length: int, language: int = 0) -> Conversation[Reply]:
    """Ask for a descriptor until it can be believed; raises AttemptFailed when it is another each time."""
    came: list[bytes] = []
    while len(came) < _TRIES:
        raw = yield _descriptor(kind, index, length, language)
        if isinstance(raw, Trouble) or (raw[1:2] == bytes((kind,)) and len(raw) >= raw[0]):
            return raw
        came.append(raw)
    if len(set(came)) > 1:
        detail = f"descriptor {index} comes short, and otherwise each time"
        raise failure(CauseCode.OUT_OF_STEP, detail, raw=came[-1])
    return came[-1]


def _descriptor(kind: int, index: int, length: int, language: int = 0) -> Control:
    setup = Setup(
        request_type=_FROM_DEVICE,
        request=_GET_DESCRIPTOR,
        value=kind << 8 | index,
        index=language,
        length=length,
    )
    return Control(setup, TRANSFER_TIMEOUT_S)
