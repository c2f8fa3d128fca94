"""DFU requests and the two answers: what crosses the control pipe, as frozen values.

Everything that DFU says is a control transfer on endpoint 0: a setup packet of eight bytes, then data in one of
the two directions.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1 (2004), 3 and 6.1.2; USB 2.0
Specification, 9.3 for the setup packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK_NUMBERS: Final = 1 << 16
"""wBlockNum has 16 bits and wraps (DFU 1.1, 6.1.1)."""

STATUS_SIZE: Final = 6
STATE_SIZE: Final = 1

_SETUP: Final = Struct("<BBHHH")
_WORD: Final = 1 << 16
_LONGEST_POLL_MS: Final = (1 << 24) - 1

_DEVICE_TO_HOST: Final = 0x80
_CLASS_INTERFACE: Final = 0x21
"""bmRequestType of a class request to an interface, from host to device."""


class MalformedTransfer(ValueError):
    """The bytes are no setup packet or no answer that DFU has."""


@unique
class Request(IntEnum):
    """What a host may ask (DFU 1.1, table 3.2)."""

    DETACH = 0
    DNLOAD = 1
    UPLOAD = 2
    GETSTATUS = 3
    CLRSTATUS = 4
    GETSTATE = 5
    ABORT = 6

    @property
    def answered(self) -> bool:
        """True when the data goes from device to host."""
        return self in _ANSWERED


_ANSWERED: Final = frozenset({Request.UPLOAD, Request.GETSTATUS, Request.GETSTATE})
_REQUESTS: Final = {int(member): member for member in Request}


@unique
class State(IntEnum):
    """Where a device stands (DFU 1.1, 6.1.2)."""

    APP_IDLE = 0
    APP_DETACH = 1
    DFU_IDLE = 2
    DNLOAD_SYNC = 3
    DNBUSY = 4
    DNLOAD_IDLE = 5
    MANIFEST_SYNC = 6
    MANIFEST = 7
    MANIFEST_WAIT_RESET = 8
    UPLOAD_IDLE = 9
    ERROR = 10

    @property
    def in_application(self) -> bool:
        """True in run-time mode: the device runs its application."""
        return self <= State.APP_DETACH


_STATES: Final = {int(member): member for member in State}


@unique
class Status(IntEnum):
    """How the last request ended (DFU 1.1, 6.1.2).  DfuSe gives TARGET and VENDOR meanings of its own."""

    OK = 0x00
    ERR_TARGET = 0x01
    ERR_FILE = 0x02
    ERR_WRITE = 0x03
    ERR_ERASE = 0x04
    ERR_CHECK_ERASED = 0x05
    ERR_PROG = 0x06
    ERR_VERIFY = 0x07
    ERR_ADDRESS = 0x08
    ERR_NOTDONE = 0x09
    ERR_FIRMWARE = 0x0A
    ERR_VENDOR = 0x0B
    ERR_USBR = 0x0C
    ERR_POR = 0x0D
    ERR_UNKNOWN = 0x0E
    ERR_STALLEDPKT = 0x0F


STATUSES: Final[Mapping[int, Status]] = MappingProxyType({int(member): member for member in Status})
"""Statuses by code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One setup packet."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    def __post_init__(self) -> None:
        if not (0 <= self.request_type < 1 << 8 and 0 <= self.request < 1 << 8):
            raise ValueError(
                f"request type and request must fit one byte: {self.request_type}, {self.request}"
            )
        if not all(0 <= word < _WORD for word in (self.value, self.index, self.length)):
            raise ValueError(
                f"value, index and length must fit two bytes: {self.value}, {self.index}, {self.length}"
            )

    @classmethod
    def of(cls, request: Request, *, interface: int, value: int = 0, length: int = 0) -> Self:
        """Return the packet of a DFU request, in the direction that it has."""
        direction = _DEVICE_TO_HOST if request.answered else 0
        return cls(
            request_type=_CLASS_INTERFACE | direction,
            request=request,
            value=value,
            index=interface,
            length=length,
        )

    @property
    def dfu_request(self) -> Request | None:
        """Which DFU request this is; None when it is none, or has the wrong direction."""
        request = _REQUESTS.get(self.request)
        if request is None or self != self.of(
            request, interface=self.index, value=self.value, length=self.length
        ):
            return None
        return request

    def encode(self) -> bytes:
        """Return the eight bytes."""
        return _SETUP.pack(self.request_type, self.request, self.value, self.index, self.length)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a packet; raises MalformedTransfer when it does not have eight bytes."""
        if len(raw) != _SETUP.size:
            raise MalformedTransfer(f"{len(raw)} byte(s), a setup packet has {_SETUP.size}")
        request_type, request, value, index, length = _SETUP.unpack(raw)
        return cls(request_type=request_type, request=request, value=value, index=index, length=length)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """The answer to GETSTATUS.

    `state` is the state in which the device is in consequence of the question.  `status` is a bare number when
    the device made one up: it is a verdict all the same, though nobody can read it.
    """

    status: Status | int
    state: State
    poll_timeout_ms: int = 0
    """The device wants to be left alone for so long before the next GETSTATUS."""
    string_index: int = 0
    """Of a string descriptor that explains the status."""

    def __post_init__(self) -> None:
        if not (0 <= self.status < 1 << 8 and 0 <= self.string_index < 1 << 8):
            raise ValueError(f"status and string index must fit one byte: {self.status}, {self.string_index}")
        if not 0 <= self.poll_timeout_ms <= _LONGEST_POLL_MS:
            raise ValueError(f"a poll time-out must fit three bytes, got {self.poll_timeout_ms}")

    def encode(self) -> bytes:
        """Return the six bytes."""
        poll_timeout = self.poll_timeout_ms.to_bytes(3, "little")
        return bytes((self.status, *poll_timeout, self.state, self.string_index))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read an answer; raises MalformedTransfer when its size or its state is none that DFU has."""
        if len(raw) != STATUS_SIZE:
            raise MalformedTransfer(f"{len(raw)} byte(s), a status report has {STATUS_SIZE}")
        return cls(
            status=STATUSES.get(raw[0], raw[0]),
            poll_timeout_ms=int.from_bytes(raw[1:4], "little"),
            state=_state(raw[4]),
            string_index=raw[5],
        )


def decode_state(raw: bytes) -> State:
    """Read the answer to GETSTATE; raises MalformedTransfer when it is not one byte or no state."""
    if len(raw) != STATE_SIZE:
        raise MalformedTransfer(f"{len(raw)} byte(s), a state has one")
    return _state(raw[0])


def _state(code: int) -> State:
    state = _STATES.get(code)
    if state is None:
        raise MalformedTransfer(f"undefined state {code}")
    return state
