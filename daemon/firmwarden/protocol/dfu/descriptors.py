"""What a device tells of its DFU interface: the functional descriptor, and where in a configuration it is.

The functional descriptor has type 0x21, the number that HID uses too: only one that belongs to a DFU interface
counts.  Some devices put it behind the last alternate setting, some behind each, some before the first interface;
one ROM never answers when it is asked for alone.  So it is read from the whole configuration.

Every length byte in here comes from the device: a walk over them has to end, and inside the data.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, 4.1 and 4.2; version 1.0, 4.1.3, for
the descriptor without a version; ST UM0424 for bit 7 of the attributes; USB 2.0 Specification, 9.6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Flag, unique
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

DFU_1_0: Final = 0x0100
DFU_1_1: Final = 0x0110
DFUSE: Final = 0x011A
"""bcdDFUVersion."""

LARGEST_TRANSFER: Final = 4096
"""What Linux lets a program move in one control transfer (usbfs)."""

_UNLIMITED: Final = 0xFFFF
_SIZE_IF_UNLIMITED: Final = 1024
_SIZE_IF_NONE: Final = 64
"""What fwupd takes for a transfer size of 0xFFFF and of 0; both occur."""

_CONFIGURATION: Final = 0x02
_STRING: Final = 0x03
_INTERFACE: Final = 0x04
_FUNCTIONAL: Final = 0x21
_APPLICATION_SPECIFIC: Final = 0xFE
_FIRMWARE_UPGRADE: Final = 0x01

_FUNCTIONAL_1_0: Final = Struct("<BBBHH")
_FUNCTIONAL_1_1: Final = Struct("<BBBHHH")
_INTERFACE_SIZE: Final = 9
_CONFIGURATION_SIZE: Final = 9
_HEADER_SIZE: Final = 2


class MalformedDescriptor(ValueError):
    """The bytes are not the descriptor that they should be."""


@unique
class Attribute(Flag):
    """bmAttributes.  Bits that are not here are reserved."""

    CAN_DOWNLOAD = 0x01
    CAN_UPLOAD = 0x02
    MANIFESTATION_TOLERANT = 0x04
    """The device still answers after manifestation; else it waits for a reset."""
    WILL_DETACH = 0x08
    """The device leaves the bus by itself after DETACH: it must not be reset."""
    CAN_ACCELERATE = 0x80
    """DfuSe only."""


_DEFINED: Final = 0x8F


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionalDescriptor:
    """The DFU functional descriptor, as announced."""

    attributes: Attribute
    detach_timeout_ms: int
    """How long the device waits for a reset after DETACH."""
    transfer_size: int
    version: int = DFU_1_0

    def __post_init__(self) -> None:
        words = (self.detach_timeout_ms, self.transfer_size, self.version)
        if not all(0 <= word < 1 << 16 for word in words):
            raise ValueError(f"detach time-out, transfer size and version must fit two bytes: {words}")

    @property
    def block_size(self) -> int:
        """How many bytes to move at a time: as announced, where that can be meant."""
        match self.transfer_size:
            case 0:
                return _SIZE_IF_NONE
            case size if size == _UNLIMITED:
                return _SIZE_IF_UNLIMITED
            case size:
                return min(size, LARGEST_TRANSFER)

    def encode(self) -> bytes:
        """Return the descriptor: seven bytes for DFU 1.0, which has no field for a version, nine else."""
        fields = (_FUNCTIONAL, self.attributes.value, self.detach_timeout_ms, self.transfer_size)
        if self.version == DFU_1_0:
            return _FUNCTIONAL_1_0.pack(_FUNCTIONAL_1_0.size, *fields)
        return _FUNCTIONAL_1_1.pack(_FUNCTIONAL_1_1.size, *fields, self.version)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a descriptor; raises MalformedDescriptor when its type or its length is wrong."""
        if len(raw) < _HEADER_SIZE or raw[1] != _FUNCTIONAL:
            raise MalformedDescriptor("no DFU functional descriptor")
        size = raw[0]
        if size > len(raw):
            raise MalformedDescriptor(
                f"a functional descriptor of {size} bytes in {len(raw)} byte(s) of data"
            )
        if size == _FUNCTIONAL_1_0.size:
            attributes, detach_timeout_ms, transfer_size = _FUNCTIONAL_1_0.unpack_from(raw)[2:]
            version = DFU_1_0
        elif size >= _FUNCTIONAL_1_1.size:
            attributes, detach_timeout_ms, transfer_size, version = _FUNCTIONAL_1_1.unpack_from(raw)[2:]
        else:
            raise MalformedDescriptor(f"a functional descriptor has 7 or 9 bytes, not {size}")
        return cls(
            attributes=Attribute(attributes & _DEFINED),
            detach_timeout_ms=detach_timeout_ms,
            transfer_size=transfer_size,
            version=version,
        )


@dataclass(frozen=True, slots=True)
class Alternate:
    """One alternate setting of a DFU interface: in DfuSe, one memory."""

    setting: int
    protocol: int
    """bInterfaceProtocol."""
    string_index: int
    """iInterface: of the string that names the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuInterface:
    """A DFU interface of a configuration."""

    configuration: int
    """bConfigurationValue."""
    number: int
    alternates: tuple[Alternate, ...]
    functional: FunctionalDescriptor | None
    alone: bool
    """No other interface is in the configuration: always so in DFU mode."""


def find_dfu(configuration: bytes) -> tuple[DfuInterface, ...]:
    """Find the DFU interfaces in a configuration descriptor and all that follows it.

    Raises:
        MalformedDescriptor: it is no configuration, a length leads out of it, or a descriptor in it is malformed.
    """
    if len(configuration) < _CONFIGURATION_SIZE or configuration[1] != _CONFIGURATION:
        raise MalformedDescriptor("no configuration descriptor")
    total = int.from_bytes(configuration[2:4], "little")
    if total > len(configuration):
        raise MalformedDescriptor(
            f"{len(configuration)} byte(s), the configuration announces {total}: cut short"
        )
    interfaces: set[int] = set()
    found: dict[int, DfuInterface] = {}
    shared: FunctionalDescriptor | None = None
    here: DfuInterface | None = None
    for raw in _walk(configuration[:total]):
        if raw[1] == _INTERFACE:
            number, setting, _, kind, subclass, protocol, string_index = _interface(raw)
            interfaces.add(number)
            here = None
            if (kind, subclass) == (_APPLICATION_SPECIFIC, _FIRMWARE_UPGRADE):
                before = found.get(number) or DfuInterface(
                    configuration=configuration[5], number=number, alternates=(), functional=None, alone=False
                )
                alternate = Alternate(setting, protocol, string_index)
                here = replace(before, alternates=(*before.alternates, alternate))
                found[number] = here
        elif raw[1] == _FUNCTIONAL and here is not None:
            here = replace(here, functional=FunctionalDescriptor.decode(raw))
            found[here.number] = here
        elif raw[1] == _FUNCTIONAL and not interfaces:
            shared = FunctionalDescriptor.decode(raw)
    return tuple(
        replace(each, functional=each.functional or shared, alone=len(interfaces) == 1)
        for each in found.values()
    )


def _walk(configuration: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(configuration):
        size = configuration[offset]
        if size < _HEADER_SIZE or offset + size > len(configuration):
            raise MalformedDescriptor(f"offset {offset}: a descriptor of {size} byte(s)")
        yield configuration[offset : offset + size]
        offset += size


def _interface(raw: bytes) -> bytes:
    if len(raw) < _INTERFACE_SIZE:
        raise MalformedDescriptor(f"an interface descriptor of {len(raw)} byte(s)")
    return raw[2:_INTERFACE_SIZE]


def decode_string(raw: bytes, encoding: str = "utf-16-le") -> str:
    """Read a string descriptor; `encoding` is the standard's unless the device is known for another.

    A length byte that promises more than was delivered is forgiven: the ROM of STM32F427 does that.

    Raises:
        MalformedDescriptor: it is no string descriptor, or no text.
    """
    if len(raw) < _HEADER_SIZE or raw[1] != _STRING or raw[0] < _HEADER_SIZE:
        raise MalformedDescriptor("no string descriptor")
    try:
        return raw[_HEADER_SIZE : raw[0]].decode(encoding)
    except UnicodeDecodeError as exc:
        raise MalformedDescriptor(f"a string descriptor that is no text: {exc}") from exc
