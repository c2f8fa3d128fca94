"""What can be chosen about simulated devices, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firmwarden.simulate.application import Dialogue
from firmwarden.simulate.profile import PROFILES, Profile

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.simulate.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """One simulated device."""

    name: str = "device"
    """Also decides, with the seed, what chance does to it."""
    profile: Profile = PROFILES["generic"]
    installed: bytes | None = None
    """The update file whose application it left the factory with; None for an empty one."""
    stay_in_loader: bool = False
    """Powers up in the loader, whatever is installed, until it was updated."""
    flash_time: float = 1.0
    """Factor on the time that work on the flash takes; 0 for none."""
    baud: int | None = None
    """Bytes take their time on the wire, ten bits each; None for none."""
    dialogue: Dialogue = field(default_factory=Dialogue)
    faults: tuple[Fault, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PtyPlaces:
    """Every device gets a pty with a stable link to it, named as the device."""

    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPlaces:
    """Every device listens on a port of its own."""

    host: str
    first_port: int
    """Of the first device, the next one takes the next; 0 for any free ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """A whole simulator."""

    devices: tuple[DeviceSettings, ...]
    places: PtyPlaces | TcpPlaces
    report: Path | None = None
    """File that always tells the state of all devices."""
    flash_directory: Path | None = None
    """Where each device's flash is kept over restarts of the simulator."""
    stop_with_stdin: bool = False
    """End when standard input is closed, so that no parent leaves a simulator behind."""
