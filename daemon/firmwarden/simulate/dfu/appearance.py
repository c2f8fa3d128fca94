"""What a simulated device is on the bus, by what runs on its chip: an identity, and what speaks DFU behind it."""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.protocol.dfu.descriptors import DFU_1_1, DFUSE, Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.requests import State
from firmwarden.simulate.dfu.addressed import Addressed, map_of
from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.dfu.engine import Engine
from firmwarden.simulate.dfu.identity import rom_identity, run_time_identity, service_identity
from firmwarden.simulate.dfu.streamed import Streamed
from firmwarden.simulate.dfu.traits import Traits

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.chip import Chip
    from firmwarden.simulate.dfu.firmware import Firmware, RunTime, Service
    from firmwarden.simulate.dfu.identity import Identity
    from firmwarden.simulate.dfu.work import Worker

Appearance = tuple["Identity | None", Engine | None]

_ROM_ATTRIBUTES: Final = Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD | Attribute.WILL_DETACH
_ROM_DETACH_MS: Final = 255
_RUN_TIME_TRANSFER_SIZE: Final = 1024


@unique
class Mode(Enum):
    """What a device is on the bus as."""

    NOTHING = "nothing"
    ROM = "rom"
    SERVICE = "service"
    """A program of the user's that speaks DFU."""
    RUN_TIME = "run-time"


MODES: Final = {
    Landing.ROM: Mode.ROM,
    Landing.LOADER: Mode.SERVICE,
    Landing.APPLICATION: Mode.RUN_TIME,
    Landing.GOLDEN: Mode.RUN_TIME,
    Landing.PARTIAL: Mode.NOTHING,
    Landing.LOCKED_UP: Mode.NOTHING,
    Landing.RESETTING: Mode.NOTHING,
    Landing.BLOCKED: Mode.NOTHING,
}
"""What becomes of a boot."""


def appearance(
    mode: Mode, firmware: Firmware | None, *, chip: Chip, worker: Worker, serial: str, has_clock: bool
) -> Appearance:
    """Return what is on the bus.

    Args:
        mode: as what.
        firmware: that runs.
        chip: on which.
        worker: does its work on the flash.
        serial: its serial number.
        has_clock: the ROM's loader can run its USB.
    """
    match mode:
        case Mode.ROM if has_clock:
            return _rom(chip, worker, serial)
        case Mode.SERVICE if firmware is not None and firmware.service is not None:
            return _service(firmware.service, chip, worker, serial)
        case Mode.RUN_TIME if firmware is not None:
            return _run_time(firmware.run_time, chip, worker, serial)
        case Mode.NOTHING | Mode.ROM | Mode.SERVICE | Mode.RUN_TIME:
            return None, None
        case unreachable:
            assert_never(unreachable)


def _rom(chip: Chip, worker: Worker, serial: str) -> Appearance:
    functional = FunctionalDescriptor(
        attributes=_ROM_ATTRIBUTES,
        detach_timeout_ms=_ROM_DETACH_MS,
        transfer_size=chip.traits.transfer_size,
        version=DFUSE,
    )
    identity = rom_identity(serial, chip.traits.maps or chip.part.maps, functional)
    return identity, Engine(Addressed(chip, chip.traits, functional), chip.traits, worker)


def _service(what: Service, chip: Chip, worker: Worker, serial: str) -> Appearance:
    window = (what.start, what.end)
    layout = map_of(chip, *window).encode() if what.dfuse else "Application"
    traits = Traits(alignment=chip.part.cells.granule)
    tongue = Addressed(chip, traits, what.functional, window) if what.dfuse else Streamed(chip, what)
    return service_identity(what, serial, layout), Engine(tongue, traits, worker)


def _run_time(what: RunTime, chip: Chip, worker: Worker, serial: str) -> Appearance:
    attributes = Attribute.CAN_DOWNLOAD | (Attribute.WILL_DETACH if what.will_detach else Attribute(0))
    functional = FunctionalDescriptor(
        attributes=attributes,
        detach_timeout_ms=what.detach_timeout_ms,
        transfer_size=_RUN_TIME_TRANSFER_SIZE,
        version=DFU_1_1,
    )
    identity = run_time_identity(what, serial, functional)
    if what.dfu_interface is None:
        return identity, None
    traits = Traits()
    # In these states nothing is downloaded, so what a download would mean does not matter.
    tongue = Addressed(chip, traits, functional)
    return identity, Engine(tongue, traits, worker, interface=what.dfu_interface, state=State.APP_IDLE)
