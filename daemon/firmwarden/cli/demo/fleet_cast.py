"""Who plays in the demo: its devices with what should become of them, their classes, and the releases for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from firmwarden.cli.demo.classes import DFU, MDFU, SERIAL
from firmwarden.cli.demo.role import NEW, OLD, Role
from firmwarden.simulate.dfu.kinds import Kind, make_update
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

IMAGE_SIZE: Final = 64 * 1024

_PART: Final = "stm32l476"
_HALF_OF_THE_GRANULES: Final = IMAGE_SIZE // 8 // 2


PANELS: Final = (
    Role(name="panel-0001", story="healthy"),
    Role(
        name="panel-0002",
        story="its cable is pulled and its power lost half-way, for a moment",
        fault="cut@rx=33000,back=1,power=lost",
        attempts=2,
    ),
    Role(
        name="panel-0003",
        story="its flash is worn out: it refuses a page and says so",
        fault="abort@chunk=90,cause=write-error,times=always",
        ends="failed",
        runs=None,
        cause="write-error",
    ),
    Role(name="panel-0004", story="healthy, on a noisy line", fault="corrupt@p=0.02"),
)
MODULES: Final = (
    Role(name="io-module-0001", story="healthy, over TCP"),
    Role(
        name="io-module-0002", story="over TCP; restarts in the middle", fault="reboot@chunk=200", attempts=2
    ),
)
METERS: Final = (
    Role(
        name="meter-0001",
        story="an STM32L476 on USB, with BFB2 set; its power fails half-way, for a moment",
        options="BFB2 = 1",
        fault=f"power@program={_HALF_OF_THE_GRANULES},back=1",
        attempts=2,
    ),
    Role(
        name="meter-0002",
        story="the same without BFB2: a power cut would brick it",
        ends="queued",
        runs=OLD,
        waits="failsafe",
        attempts=0,
    ),
)
CAST: Final = (*PANELS, *MODULES, *METERS)


def simulated_usb(report: Path) -> str:
    """Describe the devices on the USB."""
    return f"report = {json.dumps(str(report))}\n" + "".join(
        f"""
[[device]]
name = "{role.name}"
port = "{number}"
part = "{_PART}"
version = "{OLD}"
size = {IMAGE_SIZE}
options = {{ {role.options} }}
faults = {json.dumps([role.fault] if role.fault else [])}
"""
        for number, role in enumerate(METERS, 1)
    )


def meter_ports() -> dict[str, str]:
    """Return the names of the devices on the USB by where the daemon sees them."""
    return {f"usb-sim-{number}": role.name for number, role in enumerate(METERS, 1)}


def classes(place: Path, endpoints: Iterable[str]) -> str:
    """Write the classes for the configuration.

    Args:
        place: of the ports.
        endpoints: HOST:PORT of each module.
    """
    tcp = ", ".join(f'"{address}"' for address in endpoints)
    return f"""\
[[device]]
name = "front-panel"
match = {{ path = "{place / "ports"}/panel-*" }}
{SERIAL}
[[device]]
name = "io-module"
match = {{ tcp = [{tcp}] }}
{MDFU}
[[device]]
name = "meter"
{DFU}"""


def releases() -> dict[str, bytes]:
    """Make an image of the new version for each class."""
    (meter,) = make_update(PARTS[_PART], Kind.ROM, NEW, size=IMAGE_SIZE)
    return {
        "front-panel": make_update_file(PROFILES["generic"], NEW, size=IMAGE_SIZE),
        "io-module": make_update_file(PROFILES["dspic"], NEW, size=IMAGE_SIZE),
        "meter": meter.data,
    }
