"""HTTP as a client writes it: over the socket or TCP, by itself or in the name of another user."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.served import Served

PATIENCE_S: Final = 10.0


class Answer:
    """What came back, whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.kind = response.headers.get_content_type()
        self.headers = response.headers
        self.raw = response.read()

    @property
    def json(self) -> Any:  # noqa: ANN401 - tests look into it as they like
        return json.loads(self.raw)


def connect(api: Served, *, tcp: bool = False) -> socket.socket:
    """Connect, and say nothing yet."""
    sock = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
    sock.settimeout(PATIENCE_S)
    sock.connect(("127.0.0.1", api.port) if tcp else str(api.path))
    return sock


def ask(
    api: Served,
    method: str,
    path: str,
    body: object = None,
    *,
    tcp: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request, and return its answer."""
    with connect(api, tcp=tcp) as sock:
        connection = http.client.HTTPConnection("127.0.0.1", api.port)
        connection.sock = sock
        raw = None if body is None else json.dumps(body).encode()
        connection.request(method, path, raw, dict(headers or {}))
        return Answer(connection.getresponse())


def rest(sock: socket.socket) -> bytes:
    """Read to the end; a connection that is cut ends too."""
    found = b""
    try:
        while piece := sock.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


@dataclass(frozen=True, slots=True)
class Somebody:
    """A user of this machine, as a process has it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


_PROGRAM: Final = """
import json, os, socket, sys
uid, gid, groups, path, requests = json.loads(sys.argv[1])
if [uid, gid] != [os.geteuid(), os.getegid()]:
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
for request in requests:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(request.encode())
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\\r\\n\\r\\n")
    print(json.dumps([int(head.split()[1]), json.loads(body or "null")]))
"""


def ask_as(person: Somebody, path: Path, *requests: tuple[str, str]) -> list[tuple[int, Any]]:
    """Have a process of this user send requests, each a method and a path; return statuses and bodies.

    Only root may have one of another user than itself.
    """
    raw = [f"{method} {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" for method, url in requests]
    argument = json.dumps([person.uid, person.gid, person.groups, str(path), raw])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, argument], capture_output=True, text=True, check=True, timeout=20
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
