"""What can be chosen about a simulated DFU device, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.simulate.dfu.faults import Fault
    from firmwarden.simulate.dfu.firmware import Firmware
    from firmwarden.simulate.dfu.parts import Part
    from firmwarden.simulate.dfu.traits import Traits


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuSettings:
    """One simulated device."""

    part: Part
    name: str = "device"
    """Also decides, with the seed, its serial number and what chance does to it."""
    known: tuple[Firmware, ...] = ()
    """Images that may come to run, besides those that are marked; anything else is an accident when it runs."""
    installed: Mapping[int, tuple[Firmware, ...]] = field(default_factory=dict)
    """What it left the factory with, by bank."""
    factory: Mapping[str, int] = field(default_factory=dict)
    """Option bytes that are not as the vendor delivers them: ``{"BFB2": 1}``."""
    traits: Traits | None = None
    """Of the ROM, where they are not its part's."""
    serial: str | None = None
    """None: from a number that is unique to the chip, as the ROM does it."""
    product_serial: str | None = None
    """What its own programs show instead of the ROM's serial number, if they do."""
    boot0: bool = False
    """The level of the pin."""
    crystal: bool = True
    self_powered: bool = False
    """Keeps its power when the cable is pulled."""
    boot_s: float = 0.4
    """From a reset until it is on the bus."""
    flash_time: float = 1.0
    """Factor on the time that work on the flash takes; 0 for none."""
    faults: tuple[Fault, ...] = ()
    seed: int = 0
