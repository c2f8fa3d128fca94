"""What people put between a browser and the daemon: a forwarded socket as of ``ssh -L``, a web server with a prefix."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def forwarded(path: Path, prefix: str = "") -> Iterator[int]:
    """Forward a port of 127.0.0.1, which is yielded, to a unix socket, one request a connection.

    With a prefix, requests lose it, as a web server does that.
    """

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as upstream:
                upstream.connect(str(path))
                head = b""
                while not head.endswith(b"\r\n\r\n"):  # of a GET, which is all that a page asks
                    piece = self.request.recv(65_536)
                    if not piece:
                        return
                    head += piece
                method, target, rest = head.decode().split(" ", 2)
                assert target.startswith(prefix)
                rest = rest.replace("Connection: keep-alive", "Connection: close")
                upstream.sendall(f"{method} {target.removeprefix(prefix)} {rest}".encode())
                try:
                    while piece := upstream.recv(65_536):
                        self.request.sendall(piece)
                except ConnectionError:
                    return  # one of them has gone

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Forward) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="forwards", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
