"""The sockets at which the API is served: our own, or those that whoever started us has opened already."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmwarden.errors import SocketUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firmwarden.control.access import Rules
    from firmwarden.model import TcpAddress

CONTROL: Final = "control"
PAGE: Final = "page"
"""What inherited sockets are called that stand in for ``socket``, and for ``listen``."""

MEMBERS: Final = 0o660
"""The mode of a socket that only the daemon's own group uses: others cannot even connect."""

EVERYBODY: Final = 0o666
"""The mode where the configuration names another group.  A file has only one, and the daemon may not give it to any
other; so the kernel lets everybody connect, and ``access`` judges each by the kernel's word.  Strangers have a few
places of their own.  The sockets of snapd and CUPS are the same."""

_IP_FREEBIND: Final = 15
"""linux/in.h; Python has no name for it."""


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of our own socket in the file system."""

    path: Path
    status: os.stat_result

    def is_there(self) -> bool:
        """Tell whether it is still ours: somebody may have put another in its place, or a link."""
        try:
            return os.path.samestat(self.path.lstat(), self.status)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove it."""
        if self.is_there():
            self.path.unlink(missing_ok=True)

    def change_mode(self, mode: int) -> None:
        """Let others connect, or no longer."""
        if self.is_there():
            with suppress(OSError):  # read-only by now: it stays as it was
                self.path.chmod(mode)


class Listeners:
    """Open sockets."""

    def __init__(
        self, own: Sequence[socket.socket], inherited: Sequence[socket.socket], name: _Name | None
    ) -> None:
        self.sockets: Final = (*own, *inherited)
        self._inherited = inherited
        self._name = name

    def close(self) -> None:
        """Close them; what has the name of our own in the file system is gone then."""
        for each in self.sockets:
            each.close()
        if self._name is not None:
            self._name.remove()

    @property
    def addresses(self) -> list[str]:
        """Where they are."""
        return [_address(each) for each in self.sockets]

    @property
    def exposed(self) -> list[str]:
        """Where other machines may reach us."""
        return [
            _address(each)
            for each in self._on_tcp()
            if not ipaddress.ip_address(each.getsockname()[0]).is_loopback
        ]

    @property
    def over_tcp(self) -> bool:
        """Whether tokens matter."""
        return any(self._on_tcp())

    def admit(self, rules: Rules) -> None:
        """Let those connect who may do something by these rules."""
        if self._name is not None:
            only_our_own = [group.gid for group in rules.groups] == [os.getegid()]
            self._name.change_mode(MEMBERS if only_our_own else EVERYBODY)

    def shut_out(self, rules: Rules) -> Iterator[str]:
        """Say which groups cannot connect, because of the mode of an inherited socket: that is not ours to change."""
        for each in self._inherited:
            path = each.getsockname()
            if each.family != socket.AF_UNIX or not isinstance(path, str):
                continue  # bytes: an abstract name, which has no mode
            try:
                found = Path(path).stat()
            except OSError:  # gone, or in a directory that hides it from us
                continue
            for group in rules.groups:
                lets_in = stat.S_IWGRP if found.st_gid == group.gid else stat.S_IWOTH
                if not found.st_mode & lets_in:
                    yield (
                        f"members of the group {group} cannot connect to {path}: its mode is "
                        f"{stat.S_IMODE(found.st_mode):04o}. Set SocketMode=0666 in the socket unit; the service "
                        "judges who connects"
                    )

    def _on_tcp(self) -> Iterator[socket.socket]:
        return (each for each in self.sockets if each.family != socket.AF_UNIX)


def open_listeners(
    path: Path, listen: TcpAddress | None, inherited: Mapping[str, Sequence[socket.socket]]
) -> Listeners:
    """Open what is not inherited; nobody can connect before ``serve`` listens.

    Raises:
        SocketUnavailable: something else is in the place, or another daemon listens there.
    """
    name = None
    own = []
    with ExitStack() as undo:
        if CONTROL not in inherited:
            control, name = _bind(path)
            own.append(undo.enter_context(control))
            undo.callback(name.remove)
        if PAGE not in inherited and listen is not None:
            own.append(_bind_tcp(listen))
        undo.pop_all()
    return Listeners(own, [each for sockets in inherited.values() for each in sockets], name)


def _address(listener: socket.socket) -> str:
    name = listener.getsockname()
    match name:
        case str():
            return name
        case bytes():  # the abstract namespace, unix(7)
            return f"@{name[1:].decode(errors='replace')}"
        case _:
            return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _bind_tcp(address: TcpAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The network may come later, or never: updates do not wait for it, nor does whoever is on this machine.
        listener.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        ((*_, place),) = socket.getaddrinfo(
            address.host, address.port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        listener.bind(place)
    except OSError as exc:
        listener.close()
        raise SocketUnavailable(
            f"The address {address} cannot be opened: {exc.strerror}. Stop who has it, or set another `listen`."
        ) from exc
    return listener


def _bind(path: Path) -> tuple[socket.socket, _Name]:
    """Bind a socket that does not listen yet, so that its mode is right before anybody can connect."""
    with ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(MEMBERS)
            name = _Name(path, path.stat())
        except OSError as exc:
            # A path beyond the 108 bytes that a socket's name may have comes without an errno.
            detail = exc.strerror or exc
            raise SocketUnavailable(
                f"The control socket {path} cannot be opened: {detail}. Let the daemon's user write into its "
                "directory, or set another `socket`."
            ) from exc
        undo.pop_all()
        return listener, name


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died; one that lives, and anything else, stays."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketUnavailable(
            f"The control socket {path} cannot be opened: something else has that name. Remove it or set `socket`."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # a full backlog would block; it is a sign of life
        error = probe.connect_ex(str(path))
    if error != errno.ECONNREFUSED:
        detail = "another daemon listens there" if error in (0, errno.EAGAIN) else os.strerror(error)
        raise SocketUnavailable(
            f"The control socket {path} is in use: {detail}. Stop that one, or set another `socket`."
        )
    path.unlink()
