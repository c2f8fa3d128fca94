"""A client of the daemon's API: HTTP over a unix socket with what the standard library has."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPResponse

    from firmwarden.cli.connection import Connection
    from firmwarden.service.views import FeedItem

DEFAULT_CONFIG: Final = Path("/etc/firmwarden/firmwarden.toml")
DEFAULT_SOCKET: Final = Path("/run/firmwarden/control.sock")

ANSWER_S: Final = 10.0
"""The daemon answers in milliseconds; one that does not for so long is stuck."""

SILENCE_S: Final = 45.0
"""The event stream is never silent for longer than 15 s, see ``control/stream.py``; three of them are too much."""


_OK: Final = 200


class Unreachable(FirmwardenError):
    """No answer: there is no daemon, or no way to it; the message says what to do."""


class StreamBroken(Unreachable):
    """The event stream ended in the middle: the daemon died, or cut us for reading too slowly."""


class Problem(FirmwardenError):
    """The daemon's answer is no; the message is its own."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind


class Client:
    """Asks the daemon at one socket; each request has a connection of its own."""

    def __init__(self, path: Path, *, answer_s: float | None = None) -> None:
        self._path = path
        self._answer_s = answer_s

    # The answers are our own daemon's: their shapes are in firmwarden.service.views, and are not checked again.
    def get(self, *parts: str, **parameters: object) -> Any:  # noqa: ANN401
        """Ask a question.

        Raises:
            Problem: the daemon says no.
            Unreachable: it says nothing.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", parts, f"?{urlencode(given)}" if given else "")

    def post(self, *parts: str, **body: object) -> str:
        """Ask for something to be done; return the sentence that says what was done.  Raises as ``get`` does."""
        return cast("str", self._ask("POST", parts, body=body)["done"])

    def delete(self, *parts: str) -> str:
        """Ask for something to be dropped, as ``post``."""
        return cast("str", self._ask("DELETE", parts)["done"])

    def events(self, after: int | None = None) -> Iterator[FeedItem | None]:
        """Iterate over events from now on, or after an id; None says that the stream is open and nothing happened.

        Ends when the daemon stops.

        Raises:
            StreamBroken: the stream ended in the middle.
            Unreachable: there was none.
        """
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        connection, response = self._open("GET", "/v1/events", headers=headers, timeout_s=SILENCE_S)
        with connection:
            if response.status != _OK:
                raise _problem(response.status, response.read())
            yield None
            yield from _items(response)

    def _ask(
        self, method: str, parts: tuple[str, ...], query: str = "", body: Mapping[str, object] | None = None
    ) -> Any:  # noqa: ANN401 - as get
        from firmwarden.cli.connection import BROKEN

        path = "/v1/" + "/".join(quote(part, safe="") for part in parts) + query
        raw = json.dumps(body).encode() if body else None
        connection, response = self._open(method, path, body=raw, timeout_s=self._answer_s or ANSWER_S)
        with connection:
            try:
                raw = response.read()
            except BROKEN as exc:
                raise self._gone(exc) from exc
        if response.status != _OK:
            raise _problem(response.status, raw)
        return json.loads(raw)

    def _open(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Connection, HTTPResponse]:
        # Takes a third of what everything else here takes to import, and --help does without it.
        from firmwarden.cli.connection import BROKEN, Connection

        connection = Connection(self._path, timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            return connection, connection.getresponse()
        except BROKEN as exc:
            connection.close()
            raise self._gone(exc) from exc

    def _gone(self, exc: Exception) -> Unreachable:
        return Unreachable(_explain(exc, self._path))


def find_socket(named: Path | None, config: Path | None) -> Path:
    """Return the daemon's socket: what an option names, else the environment, the usual configuration, the default.

    Raises:
        Unreachable: the configuration was named and cannot be read.
    """
    # tomllib takes a few milliseconds to import, and most commands find the socket without it.
    if named is not None:
        return named
    exported = os.environ.get("FIRMWARDEN_SOCKET")
    if config is None and exported:
        return Path(exported)
    if config is None and not DEFAULT_CONFIG.exists():
        return DEFAULT_SOCKET
    import tomllib

    try:
        tree = tomllib.loads((config or DEFAULT_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        if (
            config is None
        ):  # the packaged one is for the daemon's eyes; without it the default is a good guess
            return DEFAULT_SOCKET
        raise Unreachable(f"The configuration {config} cannot be read: {exc}.") from exc
    settings = tree.get("firmwarden")
    found = settings.get("socket") if isinstance(settings, dict) else None
    return Path(found) if isinstance(found, str) else DEFAULT_SOCKET


def _items(response: HTTPResponse) -> Iterator[FeedItem | None]:
    # Not readline(): on a chunked response it takes a broken stream for one that ended.
    rest = b""
    while piece := _read(response):
        *messages, rest = (rest + piece).split(b"\n\n")
        for message in messages:
            lines = (line.partition(": ") for line in message.decode().split("\n"))
            fields = {name: value for name, _, value in lines}
            if "data" in fields:
                item = {"id": int(fields["id"]), "kind": fields["event"], "data": json.loads(fields["data"])}
                yield cast("FeedItem", item)
            else:
                yield None


def _read(response: HTTPResponse) -> bytes:
    from firmwarden.cli.connection import BROKEN

    try:
        return response.read1(65_536)
    except TimeoutError:
        raise StreamBroken(f"The daemon has been silent for {SILENCE_S:.0f} s: it hangs.") from None
    except BROKEN as exc:
        raise StreamBroken(
            "The event stream broke off: the daemon died, or it cut us because we read too slowly."
        ) from exc


def _problem(status: int, raw: bytes) -> Problem:
    try:
        found = json.loads(raw)
        return Problem(status, str(found["type"]), str(found["detail"]))
    except (ValueError, KeyError, TypeError):
        # Not from our API but from the server below it, e.g. at the limit of connections.
        text = raw[:200].decode(errors="replace") or "without a reason"
        return Problem(status, "unavailable", f"The daemon answered {status}: {text}. Try again in a moment.")


def _explain(exc: Exception, path: Path) -> str:
    start = (
        "Start it with `firmwarden run --config FILE`, or `systemctl start firmwarden` where it is a service; "
        "`systemctl status firmwarden` says why it does not run."
    )
    went_away = (
        f"The daemon at {path} went away before it answered. Whether it did what was asked is not known."
    )
    match exc:
        case FileNotFoundError():
            return (
                f"No daemon is running: the socket {path} does not exist. {start} "
                "If it has its socket elsewhere, name that with --socket, --config or FIRMWARDEN_SOCKET."
            )
        case ConnectionRefusedError():
            return (
                f"No daemon is running: nobody listens on the socket {path}, which a dead one left. {start}"
            )
        case PermissionError():
            return f"You may not speak to the daemon at {path}: {_who_may(path)}."
        case TimeoutError():
            return (
                f"The daemon at {path} has not answered for {ANSWER_S:.0f} s: it is being started again, or it hangs, "
                "or its disk does. `systemctl status firmwarden` and its log say which."
            )
        case ConnectionError():
            return went_away
        case OSError():
            return f"The socket {path} cannot be used: {exc}."
        case _:
            return went_away


def _who_may(path: Path) -> str:
    """Name what stops this user: the group of the socket, or of the directory that hides it."""
    obstacle = path
    while not os.access(obstacle.parent, os.X_OK):
        obstacle = obstacle.parent
    gid = obstacle.stat().st_gid
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    if gid == 0:
        return f"{obstacle} is for root alone. Use sudo"
    return (
        f"{obstacle} is for the group {group!r}. Become a member with "
        f"`sudo usermod --append --groups {group} $USER` and log in again, or use sudo"
    )
