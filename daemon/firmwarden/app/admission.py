"""Where the daemon answers, and who may do what there: from the configuration to listeners and rules."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from anyio import to_thread

from firmwarden.control.access import Access, Rules
from firmwarden.control.listeners import open_listeners
from firmwarden.control.token import BadToken, read_token
from firmwarden.events import LogEvent
from firmwarden.model import UnixGroup

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from firmwarden.config import Settings

logger = structlog.get_logger()

_CREDENTIAL: Final = "token"
"""Its name in the unit: LoadCredential=, systemd.exec(5)."""


class Admission:
    """The open listeners and the rules in force.

    Raises:
        SocketUnavailable: a listener cannot be opened.
    """

    def __init__(self, settings: Settings, inherited: Mapping[str, Sequence[socket.socket]]) -> None:
        # Until the first `configure` only root and our own user get anything done.
        self.access: Final = Access(Rules(act_group=_own_group()))
        self.listeners: Final = open_listeners(settings.socket, settings.listen, inherited)
        self.problems: list[str] = []

    def tell(self) -> None:
        """Log where the daemon listens."""
        for address in self.listeners.addresses:
            logger.info(LogEvent.LISTENING, address=address)
        for address in self.listeners.exposed:
            logger.warning(LogEvent.LISTENING_EXPOSED, address=address)

    async def configure(self, settings: Settings) -> None:
        """Put other rules in force."""
        self.access.rules, self.problems = await to_thread.run_sync(self._read, settings)
        for problem in self.problems:
            logger.error(LogEvent.ACCESS_IMPAIRED, detail=problem)

    def _read(self, settings: Settings) -> tuple[Rules, list[str]]:
        token, problems = "", []
        path = settings.token_file or _credential(os.environ)
        if path is not None and self.listeners.over_tcp:
            try:
                token = read_token(path)
            except BadToken as exc:
                problems.append(f"nobody may give orders over TCP, because of the token: {exc}")
        act_group = settings.act_group or _own_group()
        rules = Rules(act_group=act_group, read_group=settings.read_group, token=token)
        self.listeners.admit(rules)
        return rules, [*problems, *self.listeners.shut_out(rules)]


def _credential(environment: Mapping[str, str]) -> Path | None:
    path = Path(environment.get("CREDENTIALS_DIRECTORY", "/nowhere"), _CREDENTIAL)
    return path if path.exists() else None


def _own_group() -> UnixGroup:
    gid = os.getegid()
    try:
        return UnixGroup(name=grp.getgrgid(gid).gr_name, gid=gid)
    except KeyError:  # e.g. in a container
        return UnixGroup(name=str(gid), gid=gid)
