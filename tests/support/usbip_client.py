"""A USB/IP client, from the protocol's description alone: what ``usbip attach`` and the kernel behind it would send."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from support.dfu_script import hexadecimal

if TYPE_CHECKING:
    from anyio.abc import SocketStream

HEADER = ">IIIII"


def submit(number: int, setup: bytes, data: bytes = b"", *, endpoint: int = 0) -> bytes:
    """Return USBIP_CMD_SUBMIT."""
    inward = setup[0] >> 7
    length = int.from_bytes(setup[6:8], "little") if inward else len(data)
    basic = struct.pack(HEADER, 1, number, 1 << 16 | 2, inward, endpoint)
    return basic + struct.pack(">IiiiI8s", 0, length, 0, 0, 0, setup) + data


def unlink(number: int, victim: int) -> bytes:
    """Return USBIP_CMD_UNLINK."""
    return struct.pack(HEADER, 2, number, 1 << 16 | 2, 0, 0) + struct.pack(">I24x", victim)


@dataclass(frozen=True)
class Listed:
    """A device in the list, or one that is imported."""

    bus_id: str
    speed: int
    ids: tuple[int, int, int]
    """idVendor, idProduct, bcdDevice."""
    interfaces: tuple[tuple[int, int, int], ...] = ()


def parse_list(raw: bytes) -> list[Listed]:
    """Read OP_REP_DEVLIST, to its last byte."""
    version, code, status, count = struct.unpack_from(">HHII", raw)
    assert (version, code, status) == (0x0111, 0x0005, 0)
    found = []
    at = 12
    for _ in range(count):
        device, interfaces = parse_device(raw[at : at + 312])
        at += 312
        kinds = [struct.unpack_from(">BBBx", raw, at + 4 * each) for each in range(interfaces)]
        at += 4 * interfaces
        found.append(Listed(device.bus_id, device.speed, device.ids, tuple(kinds)))
    assert at == len(raw)
    return found


def parse_device(raw: bytes) -> tuple[Listed, int]:
    """Read a device, and how many interfaces follow where any do."""
    _, bus_id, _, _, speed, *ids = struct.unpack_from(">256s32sIIIHHH", raw)
    return Listed(bus_id.rstrip(b"\0").decode(), speed, (ids[0], ids[1], ids[2])), raw[311]


class UsbipClient:
    """A connection that a device was imported over, or attached by."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._input = BufferedByteReceiveStream(stream)
        self._number = 0

    @classmethod
    async def list(cls, port: int) -> list[Listed]:
        """Ask which devices there are."""
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(struct.pack(">HHI", 0x0111, 0x8005, 0))
            raw = b"".join([piece async for piece in stream])
        return parse_list(raw)

    async def import_(self, bus_id: str) -> Listed | None:
        """Import a device; None when it cannot be had."""
        await self._stream.send(struct.pack(">HHI32s", 0x0111, 0x8003, 0, bus_id.encode()))
        version, code, status = struct.unpack(">HHI", await self._input.receive_exactly(8))
        assert (version, code) == (0x0111, 0x0003)
        if status:
            return None
        return parse_device(await self._input.receive_exactly(312))[0]

    async def send(self, setup: str, data: bytes = b"", *, endpoint: int = 0) -> int:
        """Begin a transfer; returns its number."""
        self._number += 1
        await self._stream.send(submit(self._number, hexadecimal(setup), data, endpoint=endpoint))
        return self._number

    async def unlink(self, victim: int) -> int:
        """Give a transfer up; returns the number of that command."""
        self._number += 1
        await self._stream.send(unlink(self._number, victim))
        return self._number

    async def receive(self, *, inward: bool = True) -> tuple[int, int, int, bytes]:
        """Return the next answer: command, number, status and data."""
        command, number, devid, direction, endpoint = struct.unpack(
            HEADER, await self._input.receive_exactly(20)
        )
        assert (devid, direction, endpoint) == (0, 0, 0)
        status, moved = struct.unpack_from(">ii", await self._input.receive_exactly(28))
        data = await self._input.receive_exactly(moved) if command == 3 and inward and moved else b""
        return command, number, status, data

    async def transfer(self, setup: str, data: bytes = b"") -> bytes | int:
        """Make a transfer, and return what came or the number of the error."""
        inward = hexadecimal(setup)[0] >= 0x80
        sent = await self.send(setup, data)
        command, number, status, came = await self.receive(inward=inward)
        assert (command, number) == (3, sent)
        return status or came

    async def is_gone(self) -> bool:
        """Wait for the cable to be pulled."""
        try:
            await self._input.receive_exactly(1)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            return True
        return False
