"""HTTP over a unix socket, with what the standard library has."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

BROKEN: Final = (OSError, http.client.HTTPException)
"""What a connection that cannot be made, or breaks, raises."""


class Connection(http.client.HTTPConnection):
    """One request and its answer."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; called by the first request."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.close()
