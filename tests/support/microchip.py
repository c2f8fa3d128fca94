"""Microchip's own programs as peers: ``pymdfuclient`` behind TCP or a pty, and ``pyfwimagebuilder``."""

from __future__ import annotations

import os
import pty
import re
import selectors
import socket
import sys
import threading
import tty
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyfwimagebuilder.builder import build

from support.processes import PATIENCE_S, Process

if TYPE_CHECKING:
    from collections.abc import Iterator

BAUD: Final = 115_200
_PACKET: Final = re.compile(r"^Command: +(\w+)")
_DATA: Final = re.compile(r"^Data: +(?:0x([0-9a-f]+))?$")


class MicrochipClient:
    """``pymdfuclient``: takes any file, calls it valid, and tells in its debug log what it was sent."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def received(self) -> list[tuple[str, bytes]]:
        """Return the commands that it executed, each with its data; what it sends is told by status, not command."""
        packets = []
        command = ""
        for line in self.process.lines:
            if found := _PACKET.match(line):
                command = found[1]
            elif command and (data := _DATA.match(line)):
                packets.append((command, bytes.fromhex(data[1] or "")))
                command = ""
        return packets

    def file(self) -> bytes:
        """Return what it was sent as a file since the last start of a transfer."""
        file = b""
        for command, data in self.received():
            match command:
                case "START_TRANSFER":
                    file = b""
                case "WRITE_CHUNK":
                    file += data
        return file


@contextmanager
def tcp_client(config: Path) -> Iterator[tuple[MicrochipClient, str]]:
    """Run it behind a TCP port; yields it and its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with _client("network", "--host", "127.0.0.1", "--port", port, config=config) as client:
        client.process.until(
            lambda: any("Socket MAC started" in line for line in client.process.lines), "its start"
        )
        yield client, f"127.0.0.1:{port}"


@contextmanager
def pty_client(config: Path, link: Path) -> Iterator[MicrochipClient]:
    """Run it at one end of a cable of two ptys; the other end is at ``link``."""
    with (
        _cable() as (host_end, client_end),
        _client("serial", "--port", client_end, "--baudrate", BAUD, config=config) as client,
    ):
        link.symlink_to(host_end)
        yield client


@contextmanager
def _client(tool: str, *options: object, config: Path) -> Iterator[MicrochipClient]:
    program = Path(sys.executable).with_name("pymdfuclient")
    process = Process("pymdfuclient", program, "-v", "debug", "--config", config, "--tool", tool, *options)
    try:
        yield MicrochipClient(process)
    finally:
        process.close()
        print(process.tail(40))


@contextmanager
def _cable() -> Iterator[tuple[str, str]]:
    """Join two ptys by their masters; yields the names of the slaves."""
    ends = [pty.openpty(), pty.openpty()]
    for _, slave in ends:
        tty.setraw(slave)  # and it is kept open: a master alone reads as hung up
    stop, stopped = os.pipe()
    other = {ends[0][0]: ends[1][0], ends[1][0]: ends[0][0]}

    def carry() -> None:
        with selectors.DefaultSelector() as selector:
            for descriptor in (*other, stop):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == stop:
                        return
                    os.write(other[key.fd], os.read(key.fd, 4096))

    thread = threading.Thread(target=carry, name="cable")
    thread.start()
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        os.close(stopped)
        thread.join(PATIENCE_S)
        for descriptor in (stop, *(each for end in ends for each in end)):
            os.close(descriptor)


def client_config(path: Path, *, buffer_size: int) -> Path:
    """Write what the client says of itself."""
    path.write_text(
        f"""\
[client_info]
version = "1.2.0"
buffer_count = 1
buffer_size = {buffer_size}
default_timeout = 5
[client_info.timeouts]
START_TRANSFER = 10
"""
    )
    return path


def build_image(place: Path, application: bytes, *, write_size: int, start: int = 0x3000) -> bytes:
    """Have ``pyfwimagebuilder`` make an image for an 8-bit PIC from a HEX file."""
    source, config, target = place / "application.hex", place / "boot.toml", place / "application.img"
    source.write_text(_to_hex(start, application))
    config.write_text(
        f"""\
[bootloader]
IMAGE_FORMAT_VERSION = "0.3.0"
ARCH = "PIC18"
DEVICE_ID = 0x7640
WRITE_BLOCK_SIZE = {write_size}
FLASH_START = {start}
FLASH_END = 0xFFFF
PAGE_ERASE_KEY = 0x9D81
PAGE_WRITE_KEY = 0x9DC3
BYTE_WRITE_KEY = 0x9DA7
PAGE_READ_KEY = 0x9DE5
"""
    )
    build(str(source), str(config), str(target))
    return target.read_bytes()


def _to_hex(start: int, data: bytes) -> str:
    lines = []
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        record = bytes((len(row),)) + (start + offset).to_bytes(2, "big") + b"\0" + row
        lines.append(f":{(record + bytes((-sum(record) & 0xFF,))).hex().upper()}")
    return "\n".join((*lines, ":00000001FF", ""))
