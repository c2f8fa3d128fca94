"""A crowd of MDFU clients in one process that costs next to nothing, so that a bench measures the host.

One epoll loop, answers made in advance, payloads only kept; whether they were right is found out afterwards, when
nobody measures.  Unlike ``firmwarden simulate`` it knows no flash, no time and no faults.

With a baud rate, bytes take ten bit times each, both ways: a frame has arrived when its last byte has, and the answer
is handed over whole when its own last byte has.  That is how a serial driver sees it.

Run as a program it makes ptys with links ``DIR/light-000`` and so on, or listens on TCP ports, prints their names as
a JSON list, and answers each line on its standard input with a report: a JSON list with an object for each device.
It ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import resource
import select
import socket
import sys
import tty
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path
from time import monotonic
from typing import Final

from firmwarden.protocol.mdfu.client_info import ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.packet import SEQUENCE_NUMBERS, Command, ImageState, ResponsePacket, Status

BITS_PER_BYTE: Final = 10
_SPIN_S: Final = 150e-6
"""Sleeping may take so much longer than asked; the rest of a wait is spent looking at the clock."""
_SEQUENCE: Final = SEQUENCE_NUMBERS - 1
_CHECKSUM_SIZE: Final = 2
_HEADER_SIZE: Final = 2


@dataclass(slots=True)
class LightClient:
    """What one device remembers."""

    descriptor: int
    answers: dict[int, tuple[bytes, ...]]
    byte_time_s: float
    partial: bytes = b""
    arriving_since: float = 0.0
    sequence: int = -1
    chunks: list[bytes] = field(default_factory=list)
    updates: int = 0
    resends: int = 0
    started: float = 0.0
    ended: float = 0.0
    wire_s: float = 0.0
    """Of all frames from START to END: what the update would take with a host that is never late."""

    def take(self, data: bytes, now: float) -> tuple[bytes, float] | None:
        """Take bytes; returns the answer and when it is due, once they make a whole frame."""
        if not self.partial:
            self.arriving_since = now
        frame = self.partial + data
        # The end byte is escaped everywhere else, and a host waits for the answer.
        if not frame.endswith(b"\x9e"):
            self.partial = frame
            return None
        self.partial = b""
        # Neither sequence numbers nor commands are ever escaped.
        head, code = frame[1], frame[2]
        sequence = head & _SEQUENCE
        answer = self.answers[code][sequence]
        wire_s = (len(frame) + len(answer)) * self.byte_time_s
        if sequence == self.sequence and code != Command.GET_CLIENT_INFO:
            self.resends += 1
            self.wire_s += wire_s
            return answer, self.arriving_since + wire_s
        self.sequence = sequence
        if code == Command.WRITE_CHUNK:
            self.chunks.append(frame)
        elif code == Command.START_TRANSFER:
            self.started, self.wire_s, self.chunks = self.arriving_since, 0.0, []
        elif code == Command.END_TRANSFER:
            self.updates += 1
        self.wire_s += wire_s
        return answer, self.arriving_since + wire_s

    def report(self) -> dict[str, float]:
        """Tell of the last update, and how many ended since the last report."""
        payload = b"".join(map(_payload, self.chunks))
        told = {
            "updates": self.updates,
            "resends": self.resends,
            "size": len(payload),
            "crc": zlib.crc32(payload),
            "seconds": self.ended - self.started,
            "wire_s": self.wire_s,
        }
        self.updates = self.resends = 0
        self.chunks = []
        return told


def make_answers(chunk_size: int) -> dict[int, tuple[bytes, ...]]:
    """Every answer there is, by command and sequence number."""
    info = ClientInfo(version=ProtocolVersion(1, 3), buffer_size=chunk_size, default_timeout_s=5.0)
    data = {
        Command.GET_CLIENT_INFO: info.encode(),
        Command.GET_IMAGE_STATE: bytes((ImageState.VALID,)),
    }
    return {
        int(command): tuple(
            encode_frame(
                ResponsePacket(
                    sequence=sequence, status=Status.SUCCESS, payload=data.get(command, b"")
                ).encode()
            )
            for sequence in range(SEQUENCE_NUMBERS)
        )
        for command in Command
    }


@lru_cache(maxsize=16_384)  # all devices are sent the same
def _payload(frame: bytes) -> bytes:
    """Undo the framing, byte by byte and with code of its own: the bench vouches for what it measured."""
    packet = bytearray()
    body = iter(frame[1:-1])
    for byte in body:
        packet.append(next(body) ^ 0xFF if byte == 0xCC else byte)
    content, check = packet[:-_CHECKSUM_SIZE], packet[-_CHECKSUM_SIZE:]
    if (sum(content[::2]) + (sum(content[1::2]) << 8) + int.from_bytes(check, "little")) & 0xFFFF != 0xFFFF:
        raise ValueError("a frame with a wrong checksum was answered")
    return bytes(content[_HEADER_SIZE:])


class Crowd:
    """Serves clients until standard input ends."""

    def __init__(self, clients: list[LightClient], listeners: list[socket.socket]) -> None:
        self._crowd = clients
        self._clients = {client.descriptor: client for client in clients if not listeners}
        self._listeners = {
            listener.fileno(): (listener, client)
            for listener, client in zip(listeners, clients, strict=False)
        }
        self._poll = select.epoll()
        self._due: list[tuple[float, int, bytes]] = []
        for descriptor in (sys.stdin.fileno(), *self._clients, *self._listeners):
            self._poll.register(descriptor, select.EPOLLIN)

    def serve(self) -> None:
        """Take, answer, report."""
        while True:
            for descriptor, _ in self._events():
                client = self._clients.get(descriptor)
                if client is not None:
                    self._feed(client)
                elif descriptor in self._listeners:
                    self._accept(*self._listeners[descriptor])
                elif not sys.stdin.readline():
                    return
                else:
                    print(json.dumps([client.report() for client in self._crowd]), flush=True)
            self._hand_over()

    def _events(self) -> list[tuple[int, int]]:
        if not self._due:
            return self._poll.poll()
        wait_s = self._due[0][0] - monotonic() - _SPIN_S
        if wait_s > 0:
            # epoll itself counts in milliseconds.
            select.select([self._poll], [], [], wait_s)
        return self._poll.poll(0)

    def _accept(self, listener: socket.socket, client: LightClient) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.descriptor = connection.detach()
        self._clients[client.descriptor] = client
        self._poll.register(client.descriptor, select.EPOLLIN)

    def _feed(self, client: LightClient) -> None:
        now = monotonic()
        data = os.read(client.descriptor, 65_536)
        if not data:  # only a TCP connection ends
            os.close(client.descriptor)
            del self._clients[client.descriptor]
            return
        answered = client.take(data, now)
        if answered is None:
            return
        answer, due = answered
        if client.byte_time_s:
            heappush(self._due, (due, client.descriptor, answer))
        else:
            os.write(client.descriptor, answer)
            client.ended = now

    def _hand_over(self) -> None:
        while self._due and self._due[0][0] <= monotonic():
            _, descriptor, answer = heappop(self._due)
            os.write(descriptor, answer)
            self._clients[descriptor].ended = monotonic()


def main() -> None:
    """Make the ptys and serve them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--chunk", type=int, required=True)
    parser.add_argument("--baud", type=int)
    parser.add_argument("--tcp", action="store_true")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    answers = make_answers(options.chunk)
    byte_time_s = BITS_PER_BYTE / options.baud if options.baud else 0.0
    clients = []
    listeners = []
    names = []
    slaves = []  # held open: a master reads as hung up while nobody has the other end
    for number in range(options.count):
        master = -1
        if options.tcp:
            listeners.append(socket.create_server(("127.0.0.1", 0)))
            names.append(f"127.0.0.1:{listeners[-1].getsockname()[1]}")
        else:
            master, slave = pty.openpty()
            tty.setraw(slave)
            slaves.append(slave)
            link = options.directory / f"light-{number:03}"
            link.symlink_to(os.ttyname(slave))
            names.append(str(link))
        clients.append(LightClient(master, answers, byte_time_s))
    print(json.dumps(names), flush=True)
    Crowd(clients, listeners).serve()


if __name__ == "__main__":
    main()
