"""Naming one device on the command line, for what works without the daemon."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.app.named import Target
    from firmwarden.model import SerialAddress, TcpAddress

_LARGEST_PORT: Final = 65_535
_LARGEST_ADDRESS: Final = 0xFFFF_FFFF
_IDS: Final = r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})"
_USB: Final = re.compile(rf"{_IDS}(?:@(\d+-\d+(?:\.\d+)*))?(?:,(.+))?", re.ASCII)

FAILSAFES: Final = ("bfb2", "empty-check", "resident-loader", "golden-bank", "none")
"""The values of ``Failsafe``; the module that has it takes long to import."""

Ids = tuple[int, int]
"""Vendor and product."""


def parse_endpoint(text: str) -> TcpAddress:
    """Return ``HOST:PORT`` as an address; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is none, with the reason.
    """
    from firmwarden.model import TcpAddress

    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError("expected HOST:PORT, with an IPv6 address in brackets: [::1]:5559")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= _LARGEST_PORT):
        raise ValueError(f"the port must be a number from 1 to {_LARGEST_PORT}")
    return TcpAddress(host=host[1:-1] if bracketed else host, port=int(port))


def parse_usb(text: str) -> tuple[Ids, str | None, str | None]:
    """Return ``VID:PID[@TOPOLOGY][,SERIAL]`` as ids, place and serial number.

    Raises:
        ValueError: it is not that.
    """
    found = _USB.fullmatch(text)
    if found is None:
        raise ValueError("expected VID:PID[@TOPOLOGY][,SERIAL], such as 0483:df11@1-1.4")
    return (int(found[1], 16), int(found[2], 16)), found[3], found[4]


def parse_ids(text: str) -> Ids:
    """Return ``VID:PID`` as numbers.

    Raises:
        ValueError: it is not that.
    """
    found = re.fullmatch(_IDS, text, re.ASCII)
    if found is None:
        raise ValueError("expected vendor and product in hexadecimal, such as 0483:df11")
    return int(found[1], 16), int(found[2], 16)


def parse_address(text: str) -> int:
    """Return an address, decimal or with ``0x`` in hexadecimal.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}|[0-9]{1,16}", text, re.ASCII):
        raise ValueError("expected an address, such as 0x08000000")
    if re.match("0[0-9]", text):
        raise ValueError(f"hexadecimal begins with 0x: 0x{text}")
    address = int(text, 16 if text[:2].lower() == "0x" else 10)
    if address > _LARGEST_ADDRESS:
        raise ValueError("an address has 32 bits")
    return address


class _Parsed(click.ParamType[Any]):
    """A value that a function reads; it raises ``ValueError`` with the reason."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        try:
            return self._parse(value)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}.", param, ctx)


_OF_USB: Final = ("address", "part", "failsafe", "loader", "application")


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a device; it gets the target, or None where none was named."""

    @click.option(
        "--serial", metavar="PORT", help="A loader that speaks MDFU on a serial port, e.g. /dev/ttyACM0."
    )
    @click.option(
        "--baud",
        type=click.IntRange(50, 20_000_000),
        help="Bits a second on the serial port.  [default: 115200]",
    )
    @click.option(
        "--tcp",
        type=_Parsed("HOST:PORT", parse_endpoint),
        help="The same behind a TCP port, e.g. 10.0.0.7:5559.",
    )
    @click.option(
        "--usb",
        type=_Parsed("VID:PID[@TOPOLOGY][,SERIAL]", parse_usb),
        help="A DFU device, e.g. 1209:0001 or 0483:df11@1-1.4.",
    )
    @click.option(
        "--driver",
        type=click.Choice(("mdfu", "dfu")),
        help="How to speak to it.  [default: dfu with --usb, else mdfu]",
    )
    @click.option(
        "--address",
        type=_Parsed("ADDR", parse_address),
        help="Where a raw image goes in a DfuSe device, e.g. 0x08000000.",
    )
    @click.option("--part", metavar="NAME", help="Its silicon, e.g. STM32L476RG.")
    @click.option(
        "--failsafe",
        type=click.Choice(FAILSAFES),
        help="What protects it when the power fails while it is written.",
    )
    @click.option(
        "--loader",
        type=_Parsed("VID:PID", parse_ids),
        help="What it shows in its loader.  [default: the same, or 0483:df11]",
    )
    @click.option(
        "--application",
        type=_Parsed("ADDR", parse_address),
        help="Where its application begins, behind a resident loader.",
    )
    @functools.wraps(command)
    def wrapper(*args: object, **options: Any) -> None:  # noqa: ANN401 - click passes what it has
        names = ("serial", "baud", "tcp", "usb", "driver", *_OF_USB)
        command(_target(**{name: options.pop(name) for name in names}), *args, **options)

    return wrapper


def needed(target: Target | None) -> Target:
    """Return the target, which must have been named."""
    if target is None:
        raise click.UsageError("Name the device: --serial PORT, --tcp HOST:PORT or --usb VID:PID.")
    return target


def _target(
    *,
    serial: str | None,
    baud: int | None,
    tcp: TcpAddress | None,
    usb: tuple[Ids, str | None, str | None] | None,
    driver: str | None,
    **of_usb: Any,  # noqa: ANN401 - as above
) -> Target | None:
    if [serial, tcp, usb].count(None) < 2:  # noqa: PLR2004 - of the three
        raise click.UsageError("Name one device: --serial, --tcp or --usb.")
    if baud is not None and serial is None:
        raise click.UsageError("--baud belongs to --serial.")
    if usb is not None:
        if driver == "mdfu":
            raise click.UsageError("MDFU goes over --serial or --tcp; --usb is for DFU.")
        return _usb_target(usb, **of_usb)
    stray = next((name for name in _OF_USB if of_usb[name] is not None), None)
    if stray is not None:
        raise click.UsageError(f"--{stray} belongs to --usb.")
    if driver == "dfu":
        raise click.UsageError("DFU goes over USB: name the device with --usb VID:PID.")
    address = tcp if serial is None else _serial(serial, baud)
    if address is None:
        return None
    from firmwarden.app.named_stream import StreamTarget

    return StreamTarget(address)


def _serial(port: str, baud: int | None) -> SerialAddress:
    from firmwarden.model import SerialAddress

    return SerialAddress(path=port, baud=baud or 115_200)


def _usb_target(
    named: tuple[Ids, str | None, str | None],
    *,
    address: int | None,
    part: str | None,
    failsafe: str | None,
    loader: Ids | None,
    application: int | None,
) -> Target:
    from firmwarden.app.named_usb import UsbTarget
    from firmwarden.drivers.boot.declared import fault_of_failsafe, fault_of_part
    from firmwarden.drivers.boot.outlook import Failsafe

    relied_on = None if failsafe is None else Failsafe(failsafe)
    if fault := fault_of_part(part, relied_on):
        raise click.UsageError(f"--part: {fault}.")
    if fault := fault_of_failsafe(part, relied_on):
        raise click.UsageError(f"--failsafe: {fault}.")
    if application is not None and relied_on is not Failsafe.RESIDENT_LOADER:
        raise click.UsageError("--application belongs to --failsafe resident-loader.")
    ids, topology, serial = named
    return UsbTarget(
        ids=ids,
        topology=topology,
        serial=serial,
        loader=loader,
        part=part,
        failsafe=relied_on,
        application=application,
        address=address,
    )
