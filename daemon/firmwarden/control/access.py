"""Who may do what: every request is judged here, before anything else sees it.

Reading is GET and HEAD, all else is acting.  On a unix socket the kernel's word about the peer decides, on TCP
reading is free and acting needs a token.  What a route does is not looked at: one that changes something by GET would
be a defect of that route.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TYPE_CHECKING, Final, assert_never
from urllib.parse import urlsplit

from starlette.requests import Request

from firmwarden.control.peer import Remote, User, completed
from firmwarden.control.problems import problem
from firmwarden.service.people import name_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from firmwarden.control.peer import Peer
    from firmwarden.model import UnixGroup

_READING: Final = frozenset({"GET", "HEAD"})


@unique
class Standing(Enum):
    """What a peer may do by what it is."""

    ACTS = "acts"
    """May ask and give orders."""
    READS = "reads"
    """May ask."""
    STRANGER = "stranger"
    """May be told why not."""
    REMOTE = "remote"
    """May ask, and give orders with the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says about it."""

    act_group: UnixGroup
    read_group: UnixGroup | None = None
    token: str = field(default="", repr=False)
    """Empty: nobody gives orders over TCP."""

    @property
    def groups(self) -> tuple[UnixGroup, ...]:
        """The groups whose members may do anything at all."""
        return (self.act_group,) if self.read_group is None else (self.act_group, self.read_group)

    def standing(self, peer: Peer) -> Standing:
        """Say what a peer may do."""
        match peer:
            case Remote():
                return Standing.REMOTE
            case User(uid=uid, gids=gids):
                if uid in {0, os.geteuid()} or self.act_group.gid in gids:
                    return Standing.ACTS
                if self.read_group is not None and self.read_group.gid in gids:
                    return Standing.READS
                return Standing.STRANGER
            case _:
                assert_never(peer)


class Access:
    """The rules that are in force; a reload puts others in their place."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules


class Guard:
    """The application behind it sees only requests that it may carry out."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        refusal = await _refusal(Request(scope), self._access.rules)
        await (self._app if refusal is None else refusal)(scope, receive, send)


async def _refusal(request: Request, rules: Rules) -> Response | None:
    if request.state.crowded:
        detail = "Too many connections are open. Try again in a moment."
        return problem(503, detail, {"Retry-After": "1", "Connection": "close"})
    acts = request.method not in _READING
    peer: Peer = request.state.peer
    match peer:
        case User():
            # Whoever forwards the socket to a port of their own (ssh -L) has a browser at it, and all that it has open.
            # Browsers name the origin of every order (WHATWG Fetch, 3.2), nobody else does; and what another site
            # could give our address to is a name of the Internet, with a dot in it.
            browses = "." in request.headers.get("host", "") or (acts and "origin" in request.headers)
            return await _refusal_of_user(await completed(peer), rules, acts=acts) or (
                _refusal_of_browser(request, acts=acts) if browses else None
            )
        case Remote():
            return _refusal_of_browser(request, acts=acts) or (
                _refusal_of_token(request, rules) if acts else None
            )
        case _:
            assert_never(peer)


# --- on the unix socket


async def _refusal_of_user(user: User, rules: Rules, *, acts: bool) -> Response | None:
    standing = rules.standing(user)
    if standing is Standing.ACTS or (standing is Standing.READS and not acts):
        return None
    group = rules.act_group if acts or rules.read_group is None else rules.read_group
    name = await name_of(user.uid)
    what = "give orders to the service" if acts else "ask the service"
    if group.gid == 0:
        return problem(403, f"{name} may not {what}: that is for root alone. Use sudo.")
    return problem(
        403,
        f"{name} may not {what}: that is for members of the group {group}. Become one with "
        f"`sudo usermod --append --groups {group} {name}` and log in again, or use sudo.",
    )


# --- on TCP, or by a browser


def _refusal_of_browser(request: Request, *, acts: bool) -> Response | None:
    """Keep the pages of other sites from using a browser to get here.

    A page may give its own name our address ("DNS rebinding"), which makes us a part of its site.  The browser still
    says by which name it came.
    """
    asked = request.headers.get("host", "")
    if not _ours(asked):
        detail = (
            f"This is not {asked[:100]!r}. Ask for the address, for localhost, or for the machine's own name, "
            f"{socket.gethostname()}."
        )
        return problem(421, detail)
    if acts and _from_another_site(request, asked):
        return problem(403, "A page of another site sent this order, and those may give none.")
    return None


def _ours(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return False
    try:
        # No name leads to us by it, so no other site can be at that place.
        ipaddress.ip_address(name)
    except ValueError:
        # Asked each time: it may change while we run.
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        return bool(name) and name in {
            "localhost",
            own,
            short,
            f"{short}.local",
        }  # RFC 6761, 6.3; RFC 6762, 3
    return True


def _from_another_site(request: Request, host: str) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}  # W3C Fetch Metadata, 2.3: `none` is the user's own doing
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != host


def _refusal_of_token(request: Request, rules: Rules) -> Response | None:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if not rules.token:
        detail = (
            "Over TCP nobody gives orders: there is no token, or its file was refused. See `token_file` in the "
            "configuration, and `firmwarden status`."
        )
        return problem(401, detail, _CHALLENGE)
    if scheme.lower() != "bearer":
        return problem(401, "Over TCP an order needs the token: `Authorization: Bearer TOKEN`.", _CHALLENGE)
    if not hmac.compare_digest(shown.strip().encode(), rules.token.encode()):
        return problem(401, "This is not the token.", _CHALLENGE_AGAIN)
    return None


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="firmwarden"'}
"""RFC 6750, 3"""

_CHALLENGE_AGAIN: Final = {"WWW-Authenticate": 'Bearer realm="firmwarden", error="invalid_token"'}
