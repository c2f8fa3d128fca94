"""Naming one device on the command line, for what works without the daemon."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.model import Address, TcpAddress

_LARGEST_PORT = 65_535


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


class _Endpoint(click.ParamType["TcpAddress"]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TcpAddress:  # noqa: ANN401
        try:
            return parse_endpoint(value)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}.", param, ctx)


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name a device; it gets the address, or None where none was named."""

    @click.option("--serial", metavar="PORT", help="A serial port, e.g. /dev/ttyACM0.")
    @click.option(
        "--baud", type=click.IntRange(50, 20_000_000), help="Of the serial port.  [default: 115200]"
    )
    @click.option("--tcp", type=_Endpoint(), help="A device behind a TCP port.")
    @click.option("--usb", metavar="VID:PID[@TOPOLOGY][,SERIAL]", help="A USB device; comes with DFU.")
    @click.option(
        "--driver",
        type=click.Choice(("mdfu", "dfu")),
        default="mdfu",
        show_default=True,
        help="How to speak to it.",
    )
    @click.option("--address", metavar="ADDR", help="Where a raw image goes; comes with DFU.")
    @functools.wraps(command)
    def wrapper(
        *args: object,
        serial: str | None,
        baud: int | None,
        tcp: TcpAddress | None,
        usb: str | None,
        driver: str,
        address: str | None,
        **kwargs: object,
    ) -> None:
        from firmwarden.model import SerialAddress

        if usb is not None or driver == "dfu" or address is not None:
            _not_yet()
        if serial is not None and tcp is not None:
            raise click.UsageError("Name one device: --serial or --tcp.")
        if baud is not None and serial is None:
            raise click.UsageError("--baud belongs to --serial.")
        named = SerialAddress(path=serial, baud=baud or 115_200) if serial is not None else tcp
        command(named, *args, **kwargs)

    return wrapper


def needed(address: Address | None) -> Address:
    """Return the address, which must have been named."""
    if address is None:
        raise click.UsageError("Name the device: --serial PORT or --tcp HOST:PORT.")
    return address


def _not_yet() -> NoReturn:
    raise click.UsageError(
        "--usb, --address and --driver dfu come with a later version: this one updates over MDFU, on serial ports "
        "(--serial PORT) and TCP (--tcp HOST:PORT)."
    )
