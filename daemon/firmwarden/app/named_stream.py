"""A device named by its serial port or its TCP address, spoken to over MDFU."""

from __future__ import annotations

import glob
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firmwarden.app.named import ONE_SHOT, Attended, refuse_forbidden
from firmwarden.drivers.mdfu import MdfuDriver, MdfuSettings
from firmwarden.errors import OpenFailed
from firmwarden.model import SerialAddress, Sighting
from firmwarden.service.identity import ClassRule
from firmwarden.transport.opening import open_link

if TYPE_CHECKING:
    from firmwarden.drivers.base import Journal
    from firmwarden.model import StreamAddress


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """A port; it is its own way, for there is nothing to be looked for."""

    address: StreamAddress

    remark = ""

    def find(self) -> StreamTarget:
        """Refuse a port that is there and that will be of no use; one that is not there may come."""
        if isinstance(self.address, SerialAddress):
            path = Path(self.address.path)
            try:
                status = path.stat()
            except OSError:
                return self
            if not stat.S_ISCHR(status.st_mode):
                raise OpenFailed(f"{path} is no serial port")
            refuse_forbidden(path)
        return self

    @property
    def sighting(self) -> Sighting:
        """The port."""
        return Sighting(address=self.address)

    @property
    def rule(self) -> ClassRule:
        """Names this port alone."""
        if isinstance(self.address, SerialAddress):
            directory, _, name = self.address.path.rpartition("/")
            return ClassRule(name=ONE_SHOT, path=f"{directory}/{glob.escape(name)}", baud=self.address.baud)
        return ClassRule(name=ONE_SHOT, tcp=(self.address,))

    def carrying(self, _name: str, _content: bytes) -> StreamTarget:
        """Take any file: what its content means is between it and the loader."""
        return self

    def driver(self, journal: Journal, version: str) -> Attended:
        """Speak MDFU with its defaults: no class says more."""
        return Attended(
            MdfuDriver(MdfuSettings(), self.address, journal, open_link=open_link, expected_version=version)
        )
