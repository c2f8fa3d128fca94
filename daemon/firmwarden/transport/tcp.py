"""Links over TCP: the frames of a serial line in a stream, as terminal servers and Microchip's tools carry them."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final

from firmwarden.errors import OpenFailed
from firmwarden.transport.channel import Channel
from firmwarden.transport.threads import in_own_thread

if TYPE_CHECKING:
    from firmwarden.model import TcpAddress

CONNECT_TIMEOUT_S: Final = 5.0
"""For all addresses of a host together; each has an equal share, since the first one may lead nowhere."""

_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""In seconds: a peer that lost its power is gone after 25 s, however long its device may take for a command."""

_MARGIN_S: Final = 0.25
"""Above the 200 ms after which Linux sends a lost segment again."""

_READ_SIZE: Final = 4096
"""At most so much is decoded before other devices have their turn; asyncio would read 256 KiB."""


class _TcpChannel(Channel, asyncio.BufferedProtocol):
    def __init__(self, name: str) -> None:
        super().__init__(name, baud=None, margin_s=_MARGIN_S)
        self._buffer = memoryview(bytearray(_READ_SIZE))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio hints at 64 KiB)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))


async def open_tcp(address: TcpAddress) -> Channel:
    """Connect to ``address``.

    Raises:
        OpenFailed: its name is unknown, nobody listens there, or nobody answers in time.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await _connect(address)
    except TimeoutError as exc:
        raise OpenFailed(f"{address}: no connection within {CONNECT_TIMEOUT_S:.0f} s") from exc
    except socket.gaierror as exc:
        raise OpenFailed(f"{address}: {exc.strerror}") from exc
    except UnicodeError as exc:  # what names with an empty or an endless part meet
        raise OpenFailed(f"{address}: no name of a host: {exc}") from exc
    except OSError as exc:
        # asyncio puts its own text in the place of the system's.
        raise OpenFailed(f"{address}: {os.strerror(exc.errno) if exc.errno else exc}") from exc


async def _connect(address: TcpAddress) -> Channel:
    # asyncio would look names up in its pool, where a few that hang keep all others waiting.
    found = await in_own_thread(
        lambda: socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    )
    refused: OSError | None = None
    for family, kind, protocol, _name, place in found:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S / len(found)):
                return await _connect_to(str(address), socket.socket(family, kind, protocol), place)
        except OSError as exc:  # TimeoutError is one
            refused = exc
    raise refused or OSError("no address")


async def _connect_to(name: str, sock: socket.socket, place: tuple[object, ...]) -> Channel:
    loop = asyncio.get_running_loop()
    try:
        sock.setblocking(False)  # noqa: FBT003  (the socket module's own way)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        await loop.sock_connect(sock, place)
        # asyncio sets TCP_NODELAY; without it a small frame waits for the acknowledgement of the one before.
        _transport, channel = await loop.create_connection(lambda: _TcpChannel(name), sock=sock)
    except BaseException:
        sock.close()
        raise
    return channel
