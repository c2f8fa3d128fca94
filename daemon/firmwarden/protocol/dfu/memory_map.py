"""DfuSe memory maps: the string in which a device tells which memory an alternate setting is.

An example, from an STM32F405: ``@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg``.  That is a name, then
for each region its address and its sectors: how many, how large, in which unit, and what may be done with
them.  ::

    layout  = "@" name { "/" address "/" sector { "," sector } }
    sector  = count "*" size [ " " | "B" | "K" | "M" ] ( "a" .. "g" )

The letter's low three bits say readable, erasable and writable.

What is read here decides which pages are erased, so whatever does not follow the grammar to its last character
is refused.  Deviations that are known to be harmless are allowed by name: blanks around the parts, which ROMs
strew freely; no unit, which means bytes; and the "Device Feature" memory, which old ROMs call erasable and ST
later corrected to readable and writable.

Source: ST UM0424, 10.3.2; AN3156; dfu-util 0.11 and the ROMs of STM32F4, L4, U5 and GD32VF103 for what they send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Flag, unique
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

from firmwarden.protocol.dfu.segments import ADDRESS_SPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UNITS: Final = {"": 1, " ": 1, "B": 1, "K": 1 << 10, "M": 1 << 20}
_UNIT_LETTERS: Final = ((1 << 20, "M"), (1 << 10, "K"))
_LARGEST_NUMBER: Final = 9999
"""Four digits are what ST writes; with five, a hostile string could ask for pages by the million."""

_NAME: Final = re.compile(r"@([^/]*)")
_REGION: Final = re.compile(r"/ *0x([0-9A-Fa-f]{1,8}) */([^/]+)")
_SECTORS: Final = re.compile(r" *(\d{1,5})\*(\d{1,5})([BKM ]?)([a-g]) *", re.ASCII)

_TYPE_BASE: Final = 0x60
_FEATURE: Final = "Device Feature"


class MalformedMap(ValueError):
    """The string is no memory map."""


@unique
class Access(Flag):
    """What may be done with a sector."""

    READ = 1
    ERASE = 2
    WRITE = 4


@dataclass(frozen=True, slots=True)
class Sector:
    """What an erase command erases."""

    address: int
    size: int
    access: Access

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class SectorRun:
    """Sectors of one kind in a row."""

    count: int
    size: int
    """Of each, in bytes."""
    access: Access

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 1 or not self.access:
            raise ValueError(f"{self.count} sectors of {self.size} bytes, access {self.access}")


@dataclass(frozen=True, slots=True)
class Region:
    """Sectors without a gap between them."""

    address: int
    runs: tuple[SectorRun, ...]

    def __post_init__(self) -> None:
        if not self.runs or self.address < 0 or self.end > ADDRESS_SPACE:
            raise ValueError(f"a region from 0x{self.address:x} to 0x{self.end:x}")

    @property
    def end(self) -> int:
        """The address behind the last sector."""
        return self.address + sum(run.count * run.size for run in self.runs)

    def sectors(self, start: int = 0, end: int = ADDRESS_SPACE) -> Iterator[Sector]:
        """Yield the sectors that have a byte from `start` on and before `end`, in ascending order."""
        if start >= end:
            return
        address = self.address
        for run in self.runs:
            run_end = address + run.count * run.size
            first = max(0, (start - address) // run.size)
            last = min(run.count, -((address - end) // run.size))
            for index in range(first, last):
                yield Sector(address + index * run.size, run.size, run.access)
            address = run_end


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """One memory of a device."""

    name: str
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        if "/" in self.name or self.name != self.name.strip():
            raise ValueError(f"a memory cannot be called {self.name!r}")
        ends = sorted((region.address, region.end) for region in self.regions)
        if not ends or any(end > start for (_, end), (start, _) in pairwise(ends)):
            raise ValueError("no region, or two regions with a byte in common")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a layout string; raises MalformedMap, with the column, when it does not follow the grammar."""
        name = _NAME.match(text)
        if name is None:
            raise MalformedMap(f"a memory map begins with @, this one with {text[:1]!r}")
        title = name[1].strip()
        access = Access.READ | Access.WRITE if title == _FEATURE else None
        regions = []
        column = name.end()
        while column < len(text):
            region = _REGION.match(text, column)
            if region is None:
                raise MalformedMap(f"column {column}: no region begins with {text[column : column + 12]!r}")
            runs = tuple(_runs(region[2], region.start(2), access))
            try:
                regions.append(Region(int(region[1], 16), runs))
            except ValueError as exc:
                raise MalformedMap(f"column {column}: {exc}") from exc
            column = region.end()
        try:
            return cls(title, tuple(regions))
        except ValueError as exc:
            raise MalformedMap(str(exc)) from exc

    def encode(self) -> str:
        """Return the string, as ST writes it.

        Raises:
            ValueError: a number of sectors or a size has no place in it.
        """
        return f"@{self.name}" + "".join(
            f"/0x{region.address:08X}/{','.join(_run_text(run) for run in region.runs)}"
            for region in self.regions
        )

    def sectors(self, start: int = 0, end: int = ADDRESS_SPACE) -> tuple[Sector, ...]:
        """Return the sectors that have a byte from `start` on and before `end`, in ascending order."""
        return tuple(
            sector
            for region in sorted(self.regions, key=lambda each: each.address)
            for sector in region.sectors(start, end)
        )

    def allows(self, start: int, end: int, access: Access) -> bool:
        """Tell whether all bytes from `start` on and before `end` exist and give `access`."""
        reached = start
        for sector in self.sectors(start, end):
            if sector.address > reached or access not in sector.access:
                return False
            reached = sector.end
        return reached >= end

    def touched(self, spans: Iterable[tuple[int, int]]) -> tuple[Sector, ...]:
        """Return every sector that has a byte in one of the spans (start, end), once, in ascending order."""
        found = {sector for start, end in spans for sector in self.sectors(start, end)}
        return tuple(sorted(found, key=lambda sector: sector.address))


def _runs(text: str, column: int, access: Access | None) -> Iterator[SectorRun]:
    for part in text.split(","):
        match = _SECTORS.fullmatch(part)
        if match is None:
            raise MalformedMap(f"column {column}: {part[:20]!r} tells no sectors")
        count, size = int(match[1]), int(match[2])
        if max(count, size) > _LARGEST_NUMBER:
            raise MalformedMap(f"column {column}: {part[:20]!r}: more than {_LARGEST_NUMBER}")
        try:
            yield SectorRun(count, size * _UNITS[match[3]], access or Access(ord(match[4]) - _TYPE_BASE))
        except ValueError as exc:
            raise MalformedMap(f"column {column}: {exc}") from exc
        column += len(part) + 1


def _run_text(run: SectorRun) -> str:
    factor, unit = next(
        ((factor, unit) for factor, unit in _UNIT_LETTERS if run.size % factor == 0), (1, " ")
    )
    size = run.size // factor
    if max(run.count, size) > _LARGEST_NUMBER:
        raise ValueError(f"{run.count} sectors of {run.size} bytes cannot be written in a memory map")
    return f"{run.count:02d}*{size:03d}{unit}{chr(_TYPE_BASE + run.access.value)}"
