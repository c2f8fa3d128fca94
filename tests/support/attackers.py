"""From where somebody attacks: the sections of docs/explanation/threat-model.md that have a table of what is tried."""

from __future__ import annotations

from enum import Enum, unique


@unique
class Attacker(Enum):
    """Each has its table there under this name."""

    DIRECTORY = "directory"
    """Can write to the firmware directory: over the network, on a stick, through a synchronising program."""
    LOCAL = "local"
    """Runs as another user of the machine, or as one who may give orders and no more."""
    BROWSER = "browser"
    """Is a page that the operator's browser shows."""
    NETWORK = "network"
    """Reaches the TCP listener."""
    DEVICE = "device"
    """Is a device at a port, or takes its place."""
