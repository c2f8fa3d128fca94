"""What may come over the control socket and the TCP listener from somebody who should not be heeded."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from support.attackers import Attacker
from support.drop import manifest_of
from support.form import CONTENT_TYPE, part, release_form

if TYPE_CHECKING:
    from pathlib import Path

TOKEN: Final = "a-token-of-some-length"


@unique
class Door(Enum):
    """Where it comes in."""

    SOCKET = "the socket, as somebody who may give orders"
    TCP = "TCP"


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """One request, and the answer that it must get."""

    name: str
    does: str
    """In words."""
    stopped: str
    """By what."""
    by: Attacker
    door: Door
    raw: bytes
    status: int
    reason: str
    """What the answer says, in part."""

    def sent(self, where: Path | tuple[str, int]) -> tuple[int, str]:
        """Send it; returns the status and the body."""
        family = socket.AF_INET if isinstance(where, tuple) else socket.AF_UNIX
        with socket.socket(family) as sock:
            sock.settimeout(20)
            sock.connect(where if isinstance(where, tuple) else str(where))
            sock.sendall(self.raw)
            answer = b""
            try:
                while piece := sock.recv(1 << 16):
                    answer += piece
            except ConnectionResetError:
                pass  # what was not read of the request is thrown away
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()


def _request(method: str, target: str, *headers: str, body: bytes = b"", host: str = "localhost") -> bytes:
    lines = (f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers)
    length = (
        []
        if any(header.startswith("Content-Length") for header in headers)
        else [f"Content-Length: {len(body)}"]
    )
    return "\r\n".join((*lines, *length, "", "")).encode() + body


_JSON: Final = "Content-Type: application/json"
_HOLD: Final = b'{"reason": "because"}'
_ORDER: Final = ("POST", "/v1/hold", _JSON)
_SHOWN: Final = f"Authorization: Bearer {TOKEN}"
_FORM: Final = f"Content-Type: {CONTENT_TYPE}"
_GUARD: Final = "`control/access.py`"


def _upload(body: bytes) -> bytes:
    return _request("POST", "/v1/releases", _FORM, body=body)


REQUESTS: Final = (
    HostileRequest(
        "order without the token",
        "an order over TCP",
        _GUARD,
        Attacker.NETWORK,
        Door.TCP,
        _request(*_ORDER, body=_HOLD),
        401,
        "needs the token",
    ),
    HostileRequest(
        "order with a wrong token",
        "an order with another token, or a part of the right one",
        "compared in constant time: `control/access.py`",
        Attacker.NETWORK,
        Door.TCP,
        _request(*_ORDER, f"Authorization: Bearer {TOKEN[:-1]}", body=_HOLD),
        401,
        "This is not the token",
    ),
    HostileRequest(
        "rebound name",
        "a page whose name was made to lead to this machine (DNS rebinding) asks in the operator's browser",
        "only addresses and the machine's own names are answered: `control/access.py`",
        Attacker.BROWSER,
        Door.TCP,
        _request("GET", "/v1/devices", host="evil.example.org:8642"),
        421,
        "This is not 'evil.example.org:8642'",
    ),
    HostileRequest(
        "order of another site",
        "a page of another site sends an order, and the browser has the token",
        "`Sec-Fetch-Site` and `Origin` are judged: `control/access.py`",
        Attacker.BROWSER,
        Door.TCP,
        _request(
            *_ORDER, _SHOWN, "Sec-Fetch-Site: cross-site", "Origin: https://evil.example.org", body=_HOLD
        ),
        403,
        "another site",
    ),
    HostileRequest(
        "forwarded socket",
        "the same through a socket that somebody forwarded to a port of theirs",
        "what is a browser at the socket is judged as one: `control/access.py`",
        Attacker.BROWSER,
        Door.SOCKET,
        _request(*_ORDER, "Origin: https://evil.example.org", body=_HOLD),
        403,
        "another site",
    ),
    HostileRequest(
        "endless head",
        "a head of a request without end",
        "bounded: `control/connection.py`",
        Attacker.NETWORK,
        Door.TCP,
        _request("GET", "/v1/status", f"X-Much: {'x' * (1 << 18)}"),
        400,
        "",
    ),
    HostileRequest(
        "body that is too large",
        "an order that announces a gigabyte",
        "refused unread: `control/requests.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _request(*_ORDER, f"Content-Length: {1 << 30}"),
        413,
        "longer than 65536 bytes",
    ),
    HostileRequest(
        "nested body",
        "thousands of brackets",
        "strict reading: `control/requests.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _request(*_ORDER, body=b"[" * 60_000),
        400,
        "not JSON",
    ),
    HostileRequest(
        "escapes in a reason",
        "terminal escapes for whoever reads the history",
        "printable text only: `control/requests.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _request(*_ORDER, body=b'{"reason": "\\u001b[2J"}'),
        400,
        "printable",
    ),
    HostileRequest(
        "path in the name of a device",
        "`../` in a path of the API",
        "names are looked up, never opened: `service/questions.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _request("GET", "/v1/devices/..%2F..%2Fetc%2Fpasswd"),
        404,
        "",
    ),
    HostileRequest(
        "upload of gigabytes",
        "an upload that announces more than any release has",
        "refused unread: `control/upload.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _request("POST", "/v1/releases", _FORM, f"Content-Length: {1 << 40}"),
        413,
        "longer than",
    ),
    HostileRequest(
        "upload that climbs",
        "an upload whose manifest is called `../x.toml`",
        "plain names only: `service/incoming.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _upload(release_form(manifest_of(b"x"), b"x", "../x.toml")),
        422,
        "plain name of a file",
    ),
    HostileRequest(
        "upload of an image that climbs",
        "an upload whose manifest names `../x.img`",
        "strict reading: `images/manifest.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _upload(release_form(manifest_of(b"x", image="../x.img"), b"x")),
        422,
        "must lie in the directory",
    ),
    HostileRequest(
        "upload without a signature",
        "an unsigned release by somebody who may give orders",
        "what is sent is judged as what is dropped: `service/incoming.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _upload(release_form(manifest_of(b"x"), b"x")),
        422,
        "not signed",
    ),
    HostileRequest(
        "part that nobody asked for",
        "a form with more parts than a release has",
        "strict reading: `control/form.py`",
        Attacker.LOCAL,
        Door.SOCKET,
        _upload(part("passwd", b"root::0:0", "passwd") + release_form(manifest_of(b"x"), b"x")),
        400,
        "Unknown part",
    ),
)
