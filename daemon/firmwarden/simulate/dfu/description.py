"""Simulated USB devices as a user describes them: a TOML file, or the options of a command, which mean the same.

    report = "devices.json"

    [[device]]
    name = "meter-0001"
    port = "1"
    part = "stm32l476"
    options = { BFB2 = 1 }
    version = "1.0.0"
    faults = ["power@program=1000,back=1"]

What is described becomes `DfuSettings`, and a port of the bus to plug the device into.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

from firmwarden.simulate.dfu.faults import parse_fault
from firmwarden.simulate.dfu.firmware import Firmware
from firmwarden.simulate.dfu.image import SMALLEST
from firmwarden.simulate.dfu.kinds import Kind, loader_of, make_update
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.dfu.settings import DfuSettings
from firmwarden.toml.document import BadToml, read_toml
from firmwarden.toml.keys import Table
from firmwarden.toml.values import Flag, Text, choice, reader, text_that, whole

_LARGEST: Final = 16 << 20
_SLOWEST: Final = 1000.0
_PORT: Final = re.compile(r"[1-9][0-9]?(?:\.[1-9][0-9]?){0,5}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


def _part(value: str) -> str:
    if value not in PARTS:
        raise ValueError(f"there are {', '.join(PARTS)}")
    return value


def read_port(value: str) -> tuple[int, ...]:
    """Read a port, ``1`` or ``1.4`` behind a hub; raises ValueError for anything else."""
    if not _PORT.fullmatch(value):
        raise ValueError(f"{value!r} is no port")
    return tuple(map(int, value.split(".")))


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError
    return value


def _fault(value: str) -> str:
    parse_fault(value)
    return value


def _options(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - readers have one error
    for each in value.values():
        if not isinstance(each, int) or isinstance(each, bool):
            raise ValueError(f"{each!r} is no number")  # noqa: TRY004 - as above
    return value


def _factor(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _SLOWEST:
        raise ValueError
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedDevice(Table):
    """The ``[[device]]`` table."""

    name: Annotated[str, text_that("letters, digits, dots, dashes and underscores", _name)]
    port: Annotated[tuple[int, ...], text_that('a port such as "1", or "1.4" behind a hub', read_port)]
    part: Annotated[str, text_that("the name of a part", _part)] = "stm32l476"
    kind: Annotated[Kind, choice(Kind)] = Kind.ROM
    version: Text | None = None
    """Installed; none: nothing is."""
    size: Annotated[int, whole(SMALLEST, _LARGEST)] = 16 << 10
    """Bytes of what is installed."""
    serial: Text | None = None
    """Of the application and of a loader of its own; none: the ROM's."""
    rom_serial: Text | None = None
    """None: from a number that is unique to the chip."""
    options: Annotated[dict[str, int], reader("a table of option bytes and their values", _options)] = field(
        default_factory=dict
    )
    """Option bytes that are not as the vendor delivers them."""
    self_powered: Flag = False
    crystal: Flag = True
    flash_time: Annotated[float, reader(f"a number from 0 to {_SLOWEST:.0f}", _factor)] = 1.0
    """Factor on the time that the flash takes."""
    faults: tuple[Annotated[str, text_that("a fault", _fault)], ...] = ()
    seed: Annotated[int, whole(0, (1 << 63) - 1)] = 0

    def settings(self) -> DfuSettings:
        """Return what is to be simulated.

        Raises:
            ValueError: the part has no such option bytes, or no room for what is installed.
        """
        part = PARTS[self.part]
        part.options.factory(self.options)
        loader = loader_of(part, self.kind)
        known = () if loader is None else (loader,)
        installed: tuple[Firmware, ...] = known
        if self.version is not None:
            update = make_update(part, self.kind, self.version, size=self.size)
            installed += (Firmware(name=self.name, segments=update, entry=update[-1].address),)
        return DfuSettings(
            part=part,
            name=self.name,
            known=known,
            installed={1: installed},
            factory=self.options,
            serial=self.rom_serial,
            product_serial=self.serial,
            crystal=self.crystal,
            self_powered=self.self_powered,
            flash_time=self.flash_time,
            faults=tuple(map(parse_fault, self.faults)),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedBus(Table):
    """The whole file."""

    device: tuple[DescribedDevice, ...]
    report: Annotated[Path, text_that("the name of a file", Path)] | None = None
    """It always tells the state of all devices; as read, from the directory of this one."""


def read_bus(path: Path) -> DescribedBus:
    """Read a file.

    Raises:
        BadToml: with every fault, each with line and key.
        OSError: it cannot be read.
    """
    document = read_toml(path.read_bytes(), path.name)
    bus = document.check(DescribedBus, document.data)
    problems: list[str] = []
    for number, device in enumerate(bus.device):
        others = bus.device[:number]
        twice = [
            key for key in ("name", "port") if getattr(device, key) in {getattr(each, key) for each in others}
        ]
        problems += [document.problem(("device", number, key), "another device has it") for key in twice]
        try:
            device.settings()
        except ValueError as exc:
            problems.append(document.problem(("device", number), str(exc)))
    if problems:
        raise BadToml(*problems)
    return bus if bus.report is None else replace(bus, report=path.parent / bus.report)
