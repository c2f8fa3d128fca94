"""Text for terminals of any width: aligned tables, paragraphs, times of day."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from firmwarden.service.measures import INSTANT, ago, ahead, is_instant, local, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

PROSE_WIDTH: Final = 88
"""Longer lines are hard to read, however wide the terminal is."""

_NARROWEST: Final = 24
"""Text is not wrapped to less; below it a line that the terminal breaks reads better than a column of syllables."""

_BELOW: Final = " " * 4
"""Before text of a table's last column that stands below its row."""


_GAP: Final = "  "
_GLUE: Final = "\0"
"""Not printable, so it cannot be in the text."""


def on_terminal() -> bool:
    """Tell whether somebody looks at the output; it may also be closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def width() -> int | None:
    """Return the terminal's width; None where output goes elsewhere and lines are for programs."""
    return shutil.get_terminal_size().columns if on_terminal() or "COLUMNS" in os.environ else None


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, fit: int | None) -> list[str]:
    """Align rows in columns; a column that is empty throughout is left out.

    The last column wraps to ``fit``; where it has less than half of that, long text goes below its row.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    kept = [index for index in range(len(headings)) if index == 0 or any(row[index] for row in cells)]
    lines = [[headings[index] for index in kept], *([row[index] for index in kept] for row in cells)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(kept) - 1)]
    indent = sum(widths) + len(_GAP) * len(widths)
    out = []
    for number, (*first, last) in enumerate(lines):
        head = "".join(f"{cell:{size}}{_GAP}" for cell, size in zip(first, widths, strict=True))
        if fit is None or number == 0 or len(last) <= fit - indent:
            out.append((head + last).rstrip())
        elif fit - indent < fit / 2:
            out += [head.rstrip(), *_wrap(last, max(fit, _NARROWEST), _BELOW, _BELOW)]
        else:
            out += _wrap(last, max(fit, indent + _NARROWEST), head, " " * indent) or [head.rstrip()]
    return out


def paragraph(text: str, *, indent: str = "", first: str | None = None) -> list[str]:
    """Wrap prose; ``first`` begins the first line in place of the indent."""
    room = max(min(width() or PROSE_WIDTH, PROSE_WIDTH), len(indent) + _NARROWEST)
    return _wrap(printable(text), room, indent if first is None else first, indent)


def clock_time(instant: str) -> str:
    """Return the local time of day of an instant."""
    return f"{local(instant):%H:%M:%S}"


def day_and_time(instant: str) -> str:
    """Return the local date and time of an instant."""
    return f"{local(instant):%Y-%m-%d %H:%M:%S}"


def at(instant: str, now: datetime) -> str:
    """Say when something was or will be: by the local clock, and how long ago or how soon that is."""
    then = datetime.fromisoformat(instant)
    same_day = local(instant).date() == now.astimezone().date()
    clock = clock_time(instant) if same_day else day_and_time(instant)
    return f"{clock} ({ahead(instant, now) if then > now else ago(instant, now)})"


def with_local_times(text: str, now: datetime) -> str:
    """Say the instants of a text, which programs read too, as a person does."""
    return INSTANT.sub(lambda found: at(found[0], now) if is_instant(found[0]) else found[0], text)


def utc_now() -> datetime:
    """Return this instant; the one place where the command line reads the clock."""
    return datetime.now(UTC)


def _wrap(text: str, room: int, first: str = "", indent: str = "") -> list[str]:
    """Wrap text, keeping each command in backticks on one line, where it can be copied from."""
    glued = re.sub("`[^`]*`", lambda command: command[0].replace(" ", _GLUE), text)
    lines = textwrap.wrap(
        glued,
        room,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]
