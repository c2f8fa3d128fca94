"""The journal's end of its native protocol (systemd.io, JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_LIMIT = 64
"""Characters of a field's name; the journal drops a field with a longer one."""
SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journal:
    """Takes entries; one that never reads is full soon."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self.address = address

    def entries(self) -> list[dict[str, str]]:
        """Take what came since the last time."""
        found: list[dict[str, str]] = []
        while True:
            try:
                raw = self._take()
            except BlockingIOError:
                return found
            found.append({name: value.decode() for name, value in parse(raw)})

    def _take(self) -> bytes:
        descriptors = array.array("i")
        raw, ancillary, flags, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(descriptors.itemsize))
        assert flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) == 0
        if not ancillary:
            return raw
        assert raw == b""
        ((level, kind, data),) = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        descriptors.frombytes(data)
        with open(descriptors[0], "rb") as file:  # noqa: PTH123  a descriptor
            # The journal maps it as it is only when it cannot change, and refuses others of users that are not root.
            assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == SEALED
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def parse(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Read an entry, strictly: the journal drops what is wrong without a word."""
    while raw:
        head, newline, rest = raw.partition(b"\n")
        assert newline
        name, equals, value = head.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, end, raw = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert (len(value), end) == (length, b"\n")
        else:
            raw = rest
        text = name.decode("ascii")
        assert 0 < len(text) <= NAME_LIMIT
        assert text[0].isalpha()
        assert text == text.upper()
        assert text.replace("_", "").isalnum()
        yield text, value
