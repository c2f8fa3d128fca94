"""Opens whatever an address names, with a little patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.errors import OpenFailed, PortHeld
from firmwarden.model import SerialAddress, TcpAddress
from firmwarden.transport.link import OPEN_PATIENCE_S
from firmwarden.transport.serial import open_serial
from firmwarden.transport.tcp import open_tcp

if TYPE_CHECKING:
    from firmwarden.model import StreamAddress
    from firmwarden.transport.link import Link

_PAUSE_S: Final = 0.1


async def open_link(address: StreamAddress, *, patience_s: float = OPEN_PATIENCE_S) -> Link:
    """Open a link; see ``OpenLink``."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + patience_s
    while True:
        try:
            return await _open(address)
        except PortHeld:
            raise
        except OpenFailed:
            if clock() >= give_up_at:
                raise
        await asyncio.sleep(_PAUSE_S)


async def _open(address: StreamAddress) -> Link:
    match address:
        case SerialAddress():
            return await open_serial(address)
        case TcpAddress():
            return await open_tcp(address)
        case unreachable:
            assert_never(unreachable)
