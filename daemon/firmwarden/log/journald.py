"""Hands log entries to the systemd journal with their fields, so that it can be asked by device, job or cause.

The native protocol (systemd.io, JOURNAL_NATIVE_PROTOCOL): a datagram of fields to a socket of the journal's.  Nothing
here waits, and nothing raises: who logs has a device to update, and can write its line elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

SOCKET: Final = "/run/systemd/journal/socket"

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
"""The journal reads a file in memory in place, and only when nobody can change it any more."""

_MESSAGES: Final = uuid.UUID("1f6ad0a3-0c4f-4f0e-9d5b-6a3f7be2c8d1")
"""Drawn once, at random; the ids of all messages follow from it."""


def is_behind(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether the journal reads what is written to ``stream``: systemd.exec(5), JOURNAL_STREAM.

    The variable alone proves nothing, for whoever started us may have sent the stream elsewhere.
    """
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return environment.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def message_id(name: str) -> str:
    """Make the id by which the journal's catalogue of messages knows a kind of entry, sd-id128(3)."""
    return uuid.uuid5(_MESSAGES, name).hex


def encode(fields: Mapping[str, str]) -> bytes:
    """Write fields as the journal reads them: a value with a line break comes with its length.

    Args:
        fields: by name, which is made of capital letters, digits and underscores.
    """
    return b"".join(_encode(name.encode("ascii"), value) for name, value in fields.items())


def send(fields: Mapping[str, str], address: str = SOCKET) -> bool:
    """Hand an entry to the journal; returns whether it took it.  Never waits and never raises."""
    # One socket for each entry needs nobody to close it, and finds a journal that was started anew.
    entry = encode(fields)
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
    ):
        try:
            out.sendto(entry, address)
        except OSError as exc:
            if exc.errno != errno.EMSGSIZE:
                raise
            _send_file(out, entry, address)
        return True
    return False


def _send_file(out: socket.socket, entry: bytes, address: str) -> None:
    """Send what no datagram holds, e.g. a long traceback, as a file in memory."""
    with open(os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:  # noqa: PTH123
        file.write(entry)
        file.flush()
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        # Not socket.send_fds, which drops the address (Python 3.11 to 3.13).
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", file.fileno()))
        out.sendmsg([], [rights], 0, address)


def _encode(name: bytes, text: str) -> bytes:
    # Names of files may hold bytes that are no UTF-8; a person reads them escaped.
    value = text.encode("utf-8", "backslashreplace")
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, struct.pack("<Q", len(value)), value)
    return b"%s=%s\n" % (name, value)
