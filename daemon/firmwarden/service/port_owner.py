"""Who has a port when Firmwarden does not need it: a unit of systemd, or whatever two commands stop and start."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from firmwarden.errors import FirmwardenError
from firmwarden.programs import Heard, hear_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PATIENCE_S: Final = 30.0
"""How long each command may take, unless the configuration says otherwise."""

_RUNS: Final = frozenset({"active", "reloading", "activating"})
"""The states of a unit that it was to be in, and is to be in again; systemctl(1) and systemd's D-Bus API,
org.freedesktop.systemd1(5), ``ActiveState``.  A unit that is being stopped is somebody else's doing."""
_STARTED: Final = "active"
_LOADED: Final = "loaded"


class OwnerStays(FirmwardenError):
    """An owner cannot be asked, stopped or started; the message says why."""


class Owner(Protocol):
    """Somebody who can be asked to leave a port, and to come back."""

    @property
    def key(self) -> str:
        """The name in the store, from which ``owner_of`` makes it again."""

    @property
    def title(self) -> str:
        """The name for a person, as part of a sentence."""

    async def runs(self) -> bool:
        """Tell whether it would have to be stopped.

        Raises:
            OwnerStays: it cannot be told, or it could not be started again.
        """

    async def stop(self) -> None:
        """Stop it; harmless when it is stopped already.

        Raises:
            OwnerStays: it did not stop, or not in time.
        """

    async def start(self) -> None:
        """Start it; harmless when it runs already.

        Raises:
            OwnerStays: it did not start, or not in time.
        """


@dataclass(frozen=True, slots=True)
class UnitOwner:
    """A unit of systemd."""

    unit: str
    patience_s: float = PATIENCE_S

    @property
    def key(self) -> str:
        """The unit's name."""
        return self.unit

    @property
    def title(self) -> str:
        """The unit's name."""
        return self.unit

    async def runs(self) -> bool:
        """Ask systemd; see ``Owner``."""
        told = await self._told()
        known = told.get("LoadState", "")
        if known != _LOADED:
            raise OwnerStays(
                f"systemd calls it {known or 'nothing'}, and could not start it again afterwards; "
                f"`systemctl status {self.unit}` tells more"
            )
        return told.get("ActiveState") in _RUNS

    async def stop(self) -> None:
        """Have systemd stop it, and wait until it has; see ``Owner``."""
        await self._systemctl("stop")

    async def start(self) -> None:
        """Have systemd start it, and wait until it has; see ``Owner``."""
        try:
            await self._systemctl("start")
        except OwnerStays:
            # Who may not stop it may not start it either: it runs still.
            if (await self._told()).get("ActiveState") != _STARTED:
                raise

    async def _told(self) -> dict[str, str]:
        heard = await self._systemctl("show", "--property=LoadState,ActiveState")
        return dict(line.partition("=")[::2] for line in heard.said.splitlines())

    async def _systemctl(self, verb: str, *options: str) -> Heard:
        argv = ("systemctl", "--no-ask-password", verb, *options, "--", self.unit)
        heard = await hear_program(argv, timeout_s=self.patience_s)
        if heard.wrong:
            raise OwnerStays(f"systemctl {verb}: {heard.wrong}")
        return heard


@dataclass(frozen=True, slots=True)
class CommandOwner:
    """Whatever one command stops and another starts; nobody can tell whether it runs, so it is always stopped."""

    stop_argv: tuple[str, ...]
    start_argv: tuple[str, ...]
    patience_s: float = PATIENCE_S

    @property
    def key(self) -> str:
        """Both commands, as JSON."""
        return json.dumps([self.stop_argv, self.start_argv])

    @property
    def title(self) -> str:
        """The command that stops it, as a shell takes it, for nobody knows the program itself."""
        return f"the program behind `{shlex.join(self.stop_argv)}`"

    async def runs(self) -> bool:
        """Take it that it does; see ``Owner``."""
        return True

    async def stop(self) -> None:
        """Run the one command; see ``Owner``."""
        await self._run(self.stop_argv)

    async def start(self) -> None:
        """Run the other; see ``Owner``."""
        await self._run(self.start_argv)

    async def _run(self, argv: Sequence[str]) -> None:
        if wrong := (await hear_program(argv, timeout_s=self.patience_s)).wrong:
            raise OwnerStays(f"{argv[0]}: {wrong}")


def owner_of(key: str, configured: Iterable[Owner]) -> Owner:
    """Make an owner again from its name in the store, as the configuration knows it, if it still does."""
    for owner in configured:
        if owner.key == key:
            return owner
    if not key.startswith("["):
        return UnitOwner(key)
    stop, start = json.loads(key)
    return CommandOwner(tuple(stop), tuple(start))
