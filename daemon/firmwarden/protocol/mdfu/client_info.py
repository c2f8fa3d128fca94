"""What an MDFU client tells of itself: a list of type, length, value in the answer to GET_CLIENT_INFO.

Three parameters are mandatory and their shape is checked strictly: without them a host does not know what
it may send and how long to wait.  Everything else is read as kindly as possible, since clients of later
versions must stay usable: unknown types are skipped, so are time-outs of unknown commands; each such thing
leaves a remark.

Source: MDFU Protocol Specification 1.0.0 (DS50003743), 3.1.2 and 3.2.5.1; the inter-transaction delay (type
4) came with protocol 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, Self

from firmwarden.protocol.mdfu.packet import COMMANDS, Command

DISCOVERY_TIMEOUT_S: Final = 1.0
"""GET_CLIENT_INFO has a fixed time-out: a client cannot tell one before it is asked (DS50003743, 3.2.5.1)."""

SHORTEST_TIMEOUT_S: Final = 0.1
"""One unit of the field.  Clients that report 0 mean "at once", which no link delivers."""

_DEFAULT_TIMEOUT: Final = 0x00
_TIMEOUT_UNITS_PER_S: Final = 10
_DELAY_UNITS_PER_S: Final = 1_000_000_000


class MalformedClientInfo(ValueError):
    """A mandatory parameter is missing or has the wrong shape."""


@unique
class _Parameter(IntEnum):
    PROTOCOL_VERSION = 0x01
    BUFFER_INFO = 0x02
    COMMAND_TIMEOUTS = 0x03
    INTER_TRANSACTION_DELAY = 0x04


@dataclass(frozen=True, slots=True)
class ProtocolVersion:
    """The protocol version that a client speaks."""

    major: int
    minor: int
    patch: int = 0
    internal: int | None = None
    """Fourth number of the vendor's own pre-releases."""

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        return text if self.internal is None else f"{text}-{self.internal}"

    @property
    def newer_than_ours(self) -> bool:
        """True when a host of our version must not talk to this client; the patch level never matters."""
        return (self.major, self.minor) > (OUR_VERSION.major, OUR_VERSION.minor)


OUR_VERSION: Final = ProtocolVersion(1, 3)
"""Nothing in packets or serial framing differs between 0.1 and 1.3; later ones may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientInfo:
    """Parameters of a client; always complete and usable."""

    version: ProtocolVersion
    buffer_size: int
    """The most data bytes a command may carry, its two header bytes not counted."""
    buffer_count: int = 1
    default_timeout_s: float
    timeouts_s: tuple[tuple[Command, float], ...] = ()
    """Commands that have a time-out of their own."""
    inter_transaction_delay_s: float | None = None
    """Quiet time between bus transactions; means something on SPI and I2C only."""
    remarks: tuple[str, ...] = ()
    """What was odd but tolerable, for the log."""

    def timeout_s(self, command: Command) -> float:
        """Return how long the client may take to execute a command."""
        if command is Command.GET_CLIENT_INFO:
            return DISCOVERY_TIMEOUT_S
        return max(dict(self.timeouts_s).get(command, self.default_timeout_s), SHORTEST_TIMEOUT_S)

    def encode(self) -> bytes:
        """Return the parameters as a client sends them."""
        version = [self.version.major, self.version.minor, self.version.patch]
        if self.version.internal is not None:
            version.append(self.version.internal)
        timeouts = [(_DEFAULT_TIMEOUT, self.default_timeout_s), *self.timeouts_s]
        encoded = [
            _encode_parameter(_Parameter.PROTOCOL_VERSION, bytes(version)),
            _encode_parameter(
                _Parameter.BUFFER_INFO, self.buffer_size.to_bytes(2, "little") + bytes((self.buffer_count,))
            ),
            _encode_parameter(
                _Parameter.COMMAND_TIMEOUTS,
                b"".join(
                    bytes((code,)) + round(timeout_s * _TIMEOUT_UNITS_PER_S).to_bytes(2, "little")
                    for code, timeout_s in timeouts
                ),
            ),
        ]
        if self.inter_transaction_delay_s is not None:
            delay = round(self.inter_transaction_delay_s * _DELAY_UNITS_PER_S)
            encoded.append(_encode_parameter(_Parameter.INTER_TRANSACTION_DELAY, delay.to_bytes(4, "little")))
        return b"".join(encoded)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read the data of an answer to GET_CLIENT_INFO; raises MalformedClientInfo."""
        parameters, remarks = _split(raw)
        version = _decode_version(_mandatory(parameters, _Parameter.PROTOCOL_VERSION), remarks)
        size, count = _decode_buffers(_mandatory(parameters, _Parameter.BUFFER_INFO), remarks)
        default, timeouts = _decode_timeouts(_mandatory(parameters, _Parameter.COMMAND_TIMEOUTS), remarks)
        return cls(
            version=version,
            buffer_size=size,
            buffer_count=count,
            default_timeout_s=default,
            timeouts_s=timeouts,
            inter_transaction_delay_s=_decode_delay(
                parameters.get(_Parameter.INTER_TRANSACTION_DELAY), remarks
            ),
            remarks=tuple(remarks),
        )


def _encode_parameter(kind: _Parameter, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def _split(raw: bytes) -> tuple[dict[int, bytes], list[str]]:
    """Take the list apart; it has no end mark, it ends with the packet."""
    known = {int(member) for member in _Parameter}
    parameters: dict[int, bytes] = {}
    remarks: list[str] = []
    position = 0
    while position < len(raw):
        kind = raw[position]
        value_at = position + 2
        if value_at > len(raw):
            raise MalformedClientInfo(f"parameter {kind} at byte {position} has no length")
        position = value_at + raw[value_at - 1]
        if position > len(raw):
            raise MalformedClientInfo(
                f"parameter {kind} should have {raw[value_at - 1]} byte(s), {len(raw) - value_at} left"
            )
        if kind not in known:
            remarks.append(f"unknown parameter {kind} skipped")
            continue
        if kind in parameters:
            remarks.append(f"parameter {kind} given more than once, the last one counts")
        parameters[kind] = raw[value_at:position]
    return parameters, remarks


def _mandatory(parameters: dict[int, bytes], kind: _Parameter) -> bytes:
    value = parameters.get(kind)
    if value is None:
        raise MalformedClientInfo(f"{_name(kind)} is missing")
    return value


def _name(kind: _Parameter) -> str:
    return kind.name.lower().replace("_", " ")


def _decode_version(value: bytes, remarks: list[str]) -> ProtocolVersion:
    match list(value):
        case [major, minor, patch]:
            version = ProtocolVersion(major, minor, patch)
        case [major, minor, patch, internal]:
            version = ProtocolVersion(major, minor, patch, internal)
        case _:
            raise MalformedClientInfo(f"protocol version of {len(value)} byte(s): {value.hex(' ')}")
    if version.major == 0:
        remarks.append(f"protocol version {version} is older than the specification")
    return version


def _decode_buffers(value: bytes, remarks: list[str]) -> tuple[int, int]:
    if len(value) != 3:  # noqa: PLR2004  (a 16-bit size and a count)
        raise MalformedClientInfo(f"buffer info of {len(value)} byte(s): {value.hex(' ')}")
    size = int.from_bytes(value[:2], "little")
    if size == 0:
        raise MalformedClientInfo("buffer size 0: the client can take no data")
    if value[2] != 1:
        remarks.append(f"{value[2]} command buffers announced, one command at a time is sent all the same")
    return size, value[2]


def _decode_timeouts(value: bytes, remarks: list[str]) -> tuple[float, tuple[tuple[Command, float], ...]]:
    entry_size = 3
    if not value or len(value) % entry_size:
        raise MalformedClientInfo(f"command time-outs of {len(value)} byte(s): {value.hex(' ')}")
    default: float | None = None
    specific: dict[Command, float] = {}
    for start in range(0, len(value), entry_size):
        code = value[start]
        timeout_s = int.from_bytes(value[start + 1 : start + entry_size], "little") / _TIMEOUT_UNITS_PER_S
        if code == _DEFAULT_TIMEOUT:
            default = timeout_s
        elif (command := COMMANDS.get(code)) is not None:
            specific[command] = timeout_s
        else:
            remarks.append(f"time-out of unknown command {code} skipped")
    if default is None:
        raise MalformedClientInfo("command time-outs without the default one")
    return default, tuple(specific.items())


def _decode_delay(value: bytes | None, remarks: list[str]) -> float | None:
    if value is None:
        return None
    if len(value) != 4:  # noqa: PLR2004  (a 32-bit number)
        remarks.append(f"inter-transaction delay of {len(value)} byte(s) ignored")
        return None
    return int.from_bytes(value, "little") / _DELAY_UNITS_PER_S
