"""The device's end of a link over a pty or TCP, for tests that look at single bytes."""

from __future__ import annotations

import os
import pty
import socket
import struct
import tty
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.abc import SocketAttribute, SocketStream

from firmwarden.model import SerialAddress, TcpAddress

if TYPE_CHECKING:
    from collections.abc import Generator


class Peer(Protocol):
    """Whoever is at the other end."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """Return what has come; empty when the host is gone."""

    async def hang_up(self) -> None: ...


class PtyPeer:
    """The master of a pty."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        # With nobody at the other end a master reads as hung up.
        self._slave: int | None = slave
        os.set_blocking(self._master, False)
        self._gone = False

    @property
    def address(self) -> SerialAddress:
        return SerialAddress(path=self.path, baud=3_000_000)

    async def send(self, data: bytes) -> None:
        while data:
            await anyio.wait_writable(self._master)
            data = data[os.write(self._master, data) :]

    async def receive(self) -> bytes:
        self._let_go()
        await anyio.wait_readable(self._master)
        try:
            return os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open
            return b""

    async def hang_up(self) -> None:
        self.close()

    def close(self) -> None:
        self._let_go()
        if not self._gone:
            self._gone = True
            os.close(self._master)

    def _let_go(self) -> None:
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None


class TcpPeer:
    """An accepted connection."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def receive(self) -> bytes:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""

    def reset_on_close(self) -> None:
        self._stream.extra(SocketAttribute.raw_socket).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )

    async def hang_up(self) -> None:
        await self._stream.aclose()


class TcpListener:
    """A listening socket that hands out the peers that connect."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        host, port = server.getsockname()
        self.address = TcpAddress(host=host, port=port)

    async def accept(self) -> TcpPeer:
        await anyio.wait_readable(self._server)
        connection, _ = self._server.accept()
        return TcpPeer(await SocketStream.from_socket(connection))


@contextmanager
def tcp_listener() -> Generator[TcpListener]:
    """Listen on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield TcpListener(server)


def open_descriptors() -> Counter[str]:
    """List what this process has open: how often each file, and each socket or pipe by its number."""
    found: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory itself is closed by now
            found[str(each.readlink())] += 1
    return found


async def settle_descriptors(before: Counter[str]) -> None:
    """Wait until nothing is open that was not before; ports are closed in threads.

    What was open and is no more counts for nothing: an opening that an earlier test left behind may just have ended.
    """
    with anyio.fail_after(10):
        while open_descriptors() - before:  # noqa: ASYNC110  (no event tells)
            await anyio.sleep(0.01)
