"""Who plays in the rack: twenty-four devices of four classes, the releases for them, and what should become of each."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from firmwarden.cli.demo.classes import DFU, MDFU, SERIAL
from firmwarden.cli.demo.role import OLD, Role
from firmwarden.simulate.dfu.kinds import Kind, make_update
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

BETWEEN: Final = "1.5.0"
"""What the sensors get first: only what was seen to keep well is gone back to."""
IMAGE_SIZE: Final = 48 * 1024
METER_IMAGE_SIZE: Final = 2 * IMAGE_SIZE
"""Four seconds of writing: a window of eight closes upon the second or the third of four."""

_PART: Final = "stm32l476"

STOLEN: Final = "panel-0007"


def _crowd(name: str, count: int, usual: Role, *others: Role) -> tuple[Role, ...]:
    named = {role.name: role for role in others}
    return tuple(
        named.get(each, replace(usual, name=each)) for each in (f"{name}-{n:04}" for n in range(1, count + 1))
    )


PANELS: Final = _crowd(
    "panel",
    10,
    Role(name="", story="healthy"),
    Role(
        name="panel-0004",
        story="its flash is worn out: it refuses a page and says so",
        fault="abort@chunk=90,cause=write-error,times=always",
        ends="failed",
        cause="write-error",
        runs=None,
    ),
    Role(name=STOLEN, story="another process has its port, for a while"),
)
MODULES: Final = _crowd(
    "io-module",
    6,
    Role(
        name="",
        story="over TCP; the image for it is bad",
        ends="queued",
        waits="canary",
        attempts=0,
        runs=OLD,
    ),
)
METERS: Final = _crowd("meter", 4, Role(name="", story="an STM32L476 on USB, updated at night only"))
SENSORS: Final = _crowd(
    "sensor",
    4,
    Role(
        name="",
        story="its new firmware makes it ill",
        ends="queued",
        waits="canary",
        attempts=0,
        runs=BETWEEN,
    ),
)
CAST: Final = (*PANELS, *MODULES, *METERS, *SENSORS)

CANARIES: Final = 2
"""Of the panels, and of the modules.  Of the sensors there is one."""


def canary_module(role: Role) -> Role:
    """Say what should become of a module that the release is tried at."""
    return replace(role, ends="failed", waits=None, cause="image-invalid", attempts=1, runs=None)


def canary_sensor(role: Role) -> Role:
    """Say what should become of the sensor that the release is tried at: it goes back."""
    return replace(role, ends="succeeded", waits=None, cause="unhealthy", attempts=1)


def meter_too_late(role: Role) -> Role:
    """Say what should become of a meter whose turn had not come when the window closed."""
    return replace(role, ends="queued", waits="window", attempts=0, runs=OLD)


def simulated_usb(report: Path) -> str:
    """Describe the meters."""
    return f"report = {json.dumps(str(report))}\n" + "".join(
        f"""
[[device]]
name = "{role.name}"
port = "{number}"
part = "{_PART}"
version = "{OLD}"
size = {METER_IMAGE_SIZE}
options = {{ BFB2 = 1 }}
"""
        for number, role in enumerate(METERS, 1)
    )


def meter_ports() -> dict[str, str]:
    """Return the names of the meters by where the daemon sees them."""
    return {f"usb-sim-{number}": role.name for number, role in enumerate(METERS, 1)}


def classes(place: Path, endpoints: Iterable[str], closing: datetime | None = None) -> str:
    """Write the classes for the configuration.

    Args:
        place: of the ports.
        endpoints: HOST:PORT of each module.
        closing: when the window of the meters closes, a whole minute of UTC; without it, they have none.
    """
    tcp = ", ".join(f'"{address}"' for address in endpoints)
    window = ""
    if closing is not None:
        opening = closing - timedelta(hours=6)
        window = f'windows = ["Mon-Sun {opening:%H:%M}-{closing:%H:%M}"]\ntime_zone = "UTC"\n'
    return f"""\
[[device]]
name = "front-panel"
match = {{ path = "{place / "panels"}/panel-*" }}
rollout = {{ first = {CANARIES}, soak = "2s", waves = [50, 100], stop_at = 50 }}
{SERIAL}
[[device]]
name = "io-module"
match = {{ tcp = [{tcp}] }}
rollout = {{ first = {CANARIES}, soak = "2s" }}
{MDFU}
[[device]]
name = "meter"
parallel = 1
{window}{DFU}
[[device]]
name = "sensor"
match = {{ path = "{place / "sensors"}/sensor-*" }}
rollout = {{ first = 1, soak = "1s" }}
health = {{ soak = "2s", query = {{ send = "STATUS?\\n", expect = "WELL" }} }}
roll_back = true
{SERIAL}"""


def image(device_class: str, version: str) -> bytes:
    """Make an image for a class."""
    if device_class == "meter":
        (made,) = make_update(PARTS[_PART], Kind.ROM, version, size=METER_IMAGE_SIZE)
        return made.data
    profile = PROFILES["dspic" if device_class == "io-module" else "generic"]
    return make_update_file(profile, version, size=IMAGE_SIZE)


def bad_image(version: str) -> bytes:
    """Make an image that is for the modules by its manifest, and for another product by itself."""
    profile = PROFILES["dspic"]
    return make_update_file(replace(profile, device_id=profile.device_id + 1), version, size=IMAGE_SIZE)
