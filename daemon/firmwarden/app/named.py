"""One device that a person names on the command line: what the commands without a daemon need of it.

It is named in words of a kind of port; finding it opens nothing.  What comes out is a ``Way``, by which the same
registry, worker and policy as the daemon's reach it.
"""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from firmwarden.errors import OpenFailed
from firmwarden.model import ClassName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from firmwarden.drivers.base import Driver, Journal
    from firmwarden.model import Sighting
    from firmwarden.service.identity import ClassRule

ONE_SHOT: Final = ClassName("one-shot")
"""The class that the device is of, as long as the command runs."""

_GROUP_MAY: Final = stat.S_IRGRP | stat.S_IWGRP


class Target(Protocol):
    """A device as it was named."""

    def find(self) -> Way:
        """Find the one device that is meant; opens nothing.

        Raises:
            NotFound: no device is meant, or it cannot be said which.
            OpenFailed: no trying again will open it.
        """


class Way(Protocol):
    """A device that was found, and how to speak to it."""

    @property
    def sighting(self) -> Sighting:
        """As a scan would have it."""

    @property
    def rule(self) -> ClassRule:
        """Matches it, and no other."""

    @property
    def remark(self) -> str:
        """What was taken for granted and a person should know, may be empty."""

    def carrying(self, name: str, content: bytes) -> Way:
        """Return the way for this image file.

        Raises:
            BadImage: it cannot be meant for such a device.
        """

    def driver(self, journal: Journal, version: str) -> Attended:
        """Make a driver for one attempt."""


@dataclass(frozen=True, slots=True)
class Attended:
    """A driver that works while a person looks on."""

    driver: Driver
    warnings: Sequence[str] = ()
    """Grows while it works: what an update that nobody watches would have waited for."""


def refuse_forbidden(node: Path, hint: str = "") -> None:
    """Refuse a device node that is there and that this user may not use; one that is not there may come.

    Raises:
        OpenFailed: with the way out.
    """
    try:
        status = node.stat()
    except OSError:
        return
    if not os.access(node, os.R_OK | os.W_OK):
        raise OpenFailed(f"{node}: permission denied{_way_out(status)}{hint}")


def _way_out(status: os.stat_result) -> str:
    if status.st_mode & _GROUP_MAY != _GROUP_MAY or status.st_gid == 0:
        return "; use sudo"
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return (
        f"; it is for the group {group!r}: become a member with `sudo usermod --append --groups {group} $USER` "
        "and log in again, or use sudo"
    )
