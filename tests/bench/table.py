"""What a bench found, as rows of one table."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_HEADINGS: Final = ("figure", "ours", "pymdfu", "value", "at most", "goal", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure."""

    figure: str
    ours: str
    theirs: str = ""
    value: float | None = None
    """What is judged, mostly ours divided by theirs; None where nothing is asked for."""
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    goal: float | None = None
    """An ambition beyond what is asked for, on the same side."""

    @property
    def verdict(self) -> str:
        """Whether the figure was reached."""
        limit = self.at_most if self.at_most is not None else self.at_least
        if self.value is None or limit is None:
            return ""
        if not self._within(limit):
            return "NOT REACHED"
        if self.goal is None:
            return "reached"
        return "reached, goal too" if self._within(self.goal) else "reached, goal NOT REACHED"

    def _within(self, limit: float) -> bool:
        assert self.value is not None
        return self.value <= limit if self.at_most is not None else self.value >= limit

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return (
            self.figure,
            self.ours,
            self.theirs,
            self._number(self.value),
            f"{sign} {self._number(limit)}" if limit is not None else "",
            self._number(self.goal),
            self.verdict,
        )

    def _number(self, value: float | None) -> str:
        return "" if value is None else f"{value:.3g}{self.unit}"


def lines(rows: list[Row]) -> list[str]:
    """Return the table in Markdown, in columns for the eye."""
    table = [_HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADINGS))]
    text = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
        for cells in table
    ]
    return [text[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *text[1:]]


def machine() -> str:
    """Say where the bench ran."""
    memory_kib = int(Path("/proc/meminfo").read_text("ascii").partition("MemTotal:")[2].split()[0])
    return (
        f"{os.cpu_count()} cores, {memory_kib / 1024**2:.0f} GiB, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, pymdfu {version('pymdfu')}; "
        f"load average at the start {os.getloadavg()[0]:.1f}."
    )
