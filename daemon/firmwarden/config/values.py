"""How the values that only the configuration knows are read: addresses, patterns, byte strings, steps."""

from __future__ import annotations

import grp
import ipaddress
import re
import string
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, AnyStr, Final

from firmwarden.images.minisign import BadKey, PublicKey
from firmwarden.model import TcpAddress, UnixGroup
from firmwarden.service.windows import Window
from firmwarden.service.zones import zone_named
from firmwarden.toml.values import reader, seconds, text_that, whole

LABEL_FIELDS: Final = ("class", "serial", "port", "place", "id")
_WILDCARDS: Final = frozenset("*?[")
_SUN_PATH_MAX: Final = 107
"""Bytes in the name of a unix socket, without the closing zero: unix(7)."""
_USB_ID: Final = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})", re.ASCII)
_TCP: Final = re.compile(r"(?:\[([0-9a-zA-Z:.%]+)\]|([^\s:/\[\]@]+)):([0-9]{1,5})", re.ASCII)
_TCP_PORTS: Final = range(1, 0x10000)
_LISTEN_PORTS: Final = range(0x10000)
"""0 is any that is free."""
_UNIT: Final = re.compile(r"(?!-)[0-9a-zA-Z:_.\\-]+(@[0-9a-zA-Z:_.\\-]+)?\.(service|socket|target)", re.ASCII)
_UNIT_MAX: Final = 255
"""systemd.unit(5); a template without its instance cannot be stopped."""
_OCTETS: Final = range(0x100)
_STEP: Final = re.compile(r"(dtr|rts)=([01])|wait=(.+)", re.ASCII)
_LONGEST_PAUSE_S: Final = 60.0
"""The steps of a reset sequence are milliseconds long: more than a minute is a wrong unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbId:
    """Vendor and product of a USB device."""

    vendor_id: int
    product_id: int

    def __str__(self) -> str:
        return f"{self.vendor_id:04x}:{self.product_id:04x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLine:
    """Set DTR or RTS."""

    line: str
    """``dtr`` or ``rts``."""
    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Leave the lines as they are for a while."""

    seconds: float


def has_wildcard(pattern: str) -> bool:
    """Tell a pattern from a fixed name."""
    return not _WILDCARDS.isdisjoint(pattern)


def _absolute_path(value: str) -> Path:
    path = Path(value)
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError
    return path


def _socket_path(value: str) -> Path:
    path = _absolute_path(value)
    if len(bytes(path)) > _SUN_PATH_MAX:
        raise ValueError(f"Linux takes at most {_SUN_PATH_MAX} bytes")
    return path


def _path_pattern(value: str) -> str:
    directory, _, name = value.rpartition("/")
    if not value.startswith("/") or not name or "//" in value or {".", ".."} & set(value.split("/")):
        raise ValueError
    if has_wildcard(directory):
        # One directory is watched for each pattern.
        raise ValueError("only the last part may have wildcards")
    return value


def _name_pattern(value: str) -> str:
    if not value:
        raise ValueError
    return value


def _usb_id(value: str) -> UsbId:
    found = _USB_ID.fullmatch(value)
    if found is None:
        raise ValueError
    return UsbId(vendor_id=int(found[1], 16), product_id=int(found[2], 16))


def _tcp_address(value: str) -> TcpAddress:
    found = _TCP.fullmatch(value)
    if found is None or int(found[3]) not in _TCP_PORTS:
        raise ValueError
    return TcpAddress(host=found[1] or found[2], port=int(found[3]))


def _listen(value: str) -> TcpAddress:
    found = _TCP.fullmatch(value)
    if found is None or int(found[3]) not in _LISTEN_PORTS:
        raise ValueError
    host = found[1] or found[2]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # A name may stand for several addresses, and for none while the network is not up.
        raise ValueError("a name is no address") from None
    return TcpAddress(host=host, port=int(found[3]))


def _group(value: str) -> UnixGroup:
    try:
        found = grp.getgrnam(value)
    except KeyError:
        raise ValueError from None
    return UnixGroup(name=found.gr_name, gid=found.gr_gid)


def _public_key(value: str) -> PublicKey:
    try:
        return PublicKey.decode(value)
    except BadKey as exc:
        raise ValueError(str(exc)) from None


def _unit(value: str) -> str:
    if _UNIT.fullmatch(value) is None or len(value) > _UNIT_MAX:
        raise ValueError
    if value.startswith("firmwarden."):
        raise ValueError("that is Firmwarden itself")
    return value


def _octets(value: object) -> bytes:
    match value:
        case str() if value:
            return value.encode()
        case list() if value and all(type(item) is int and item in _OCTETS for item in value):
            return bytes(value)
        case _:
            raise ValueError


def _compiled(value: AnyStr) -> re.Pattern[AnyStr]:
    if not value:
        raise ValueError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of re about sets that may once mean something else
            return re.compile(value)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(str(exc)) from None


def _pattern(value: str) -> re.Pattern[bytes]:
    return _compiled(value.encode())


def _with_one_group(pattern: re.Pattern[AnyStr]) -> re.Pattern[AnyStr]:
    if pattern.groups != 1:
        raise ValueError(f"it has {pattern.groups} groups")
    return pattern


def _capturing(value: str) -> re.Pattern[bytes]:
    return _with_one_group(_pattern(value))


def _capturing_text(value: str) -> re.Pattern[str]:
    return _with_one_group(_compiled(value))


def _step(value: str) -> SetLine | Pause:
    found = _STEP.fullmatch(value)
    if found is None:
        raise ValueError
    if found[1]:
        return SetLine(line=found[1], on=found[2] == "1")
    pause = seconds(found[3])
    if pause > _LONGEST_PAUSE_S:
        raise ValueError(f"a step waits {_LONGEST_PAUSE_S:.0f} s at most")
    return Pause(seconds=pause)


def _zone_name(value: str) -> str:
    zone_named(value)
    return value


def _label(value: str) -> str:
    parts = list(string.Formatter().parse(value))
    if not value or not value.isprintable() or any(part[2] or part[3] for part in parts):
        raise ValueError
    strange = [part[1] for part in parts if part[1] is not None and part[1] not in LABEL_FIELDS]
    if strange:
        raise ValueError(f"{{{strange[0]}}} is none of them")
    return value


AbsolutePath = Annotated[Path, text_that('an absolute path without ".."', _absolute_path)]
SocketPath = Annotated[Path, text_that('an absolute path without ".."', _socket_path)]
PathPattern = Annotated[
    str,
    text_that(
        'an absolute path without "..", whose last part may have the wildcards *, ? and [...]', _path_pattern
    ),
]
NamePattern = Annotated[str, text_that("text, which may have the wildcards *, ? and [...]", _name_pattern)]
UsbIdText = Annotated[UsbId, text_that('vendor and product in hexadecimal, such as "04d8:000a"', _usb_id)]
TcpText = Annotated[TcpAddress, text_that('"host:port" or "[address]:port"', _tcp_address)]
ListenText = Annotated[
    TcpAddress, text_that('an address and a port, such as "127.0.0.1:8642" or "[::1]:8642"', _listen)
]
Group = Annotated[UnixGroup, text_that("the name of a group that exists on this machine", _group)]
"""Refused when it does not exist: a misspelt one would lock people out, and nobody would say why."""
PublicKeyText = Annotated[
    PublicKey, text_that('a public key of minisign, the line that begins with "RW"', _public_key)
]
UnitName = Annotated[
    str,
    text_that('the name of a service, socket or target of systemd, such as "gpsd.service"', _unit),
]
Octets = Annotated[bytes, reader("text, or bytes as an array such as [0x55, 0xaa], not empty", _octets)]
Pattern = Annotated[re.Pattern[bytes], text_that("a regular expression of Python", _pattern)]
_CAPTURING: Final = "a regular expression of Python with one group, which holds the version"
CapturingPattern = Annotated[re.Pattern[bytes], text_that(_CAPTURING, _capturing)]
CapturingTextPattern = Annotated[re.Pattern[str], text_that(_CAPTURING, _capturing_text)]
"""For what is text already, such as the strings of a USB device."""
MemoryAddress = Annotated[int, whole(0, 0xFFFF_FFFF)]
PulseStep = Annotated[SetLine | Pause, text_that('"dtr=0", "dtr=1", "rts=0", "rts=1" or "wait=50ms"', _step)]
Label = Annotated[
    str, text_that("a text with the fields {class}, {serial}, {port}, {place} and {id}", _label)
]
WindowText = Annotated[
    Window, text_that('days and hours such as "Mon-Fri 22:00-04:00" or "Sat,Sun 00:00-24:00"', Window.parse)
]
ZoneName = Annotated[
    str, text_that('the name of a time zone that this machine knows, such as "Europe/Berlin"', _zone_name)
]
