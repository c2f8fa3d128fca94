"""Values in words, for terminals of any width: ages, sizes, aligned tables, paragraphs."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PROSE_WIDTH: Final = 88
"""Longer lines are hard to read, however wide the terminal is."""

IMAGE_SHOWN: Final = 12
"""Digits of an image's hash: enough to name it, as with Git."""

_NARROWEST: Final = 24
"""Text is not wrapped to less; below it a line that the terminal breaks reads better than a column of syllables."""

_BELOW: Final = " " * 4
"""Before text of a table's last column that stands below its row."""

_GAP: Final = "  "
_GLUE: Final = "\0"
"""Not printable, so it cannot be in the text."""


def printable(value: object) -> str:
    """Return text that cannot act on the terminal: devices, files and people choose some of what is shown."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(value)
    )


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


def duration(seconds: float) -> str:
    """Say a duration in the largest unit that tells enough of it."""
    for unit, size, enough in (("day", 86_400, 36 * 3600), ("hour", 3600, 90 * 60), ("minute", 60, 90)):
        if seconds >= enough:
            return _count(round(seconds / size), unit)
    return _count(round(seconds), "second")


def ago(instant: str, now: datetime) -> str:
    """Say how long ago something was."""
    seconds = (now - _parse(instant)).total_seconds()
    if seconds < 0:
        return f"at {instant}, which is in the future: the clock was or is wrong"
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def ahead(instant: str, now: datetime) -> str:
    """Say how soon something will be."""
    seconds = (_parse(instant) - now).total_seconds()
    return "now" if seconds < 1 else f"in {duration(seconds)}"


def between(start: str, end: str) -> str:
    """Say how long something took."""
    return duration(max((_parse(end) - _parse(start)).total_seconds(), 0.0))


def clock_time(instant: str) -> str:
    """Return the local time of day of an instant."""
    return f"{_parse(instant).astimezone():%H:%M:%S}"


def day_and_time(instant: str) -> str:
    """Return the local date and time of an instant."""
    return f"{_parse(instant).astimezone():%Y-%m-%d %H:%M:%S}"


def size(count: int) -> str:
    """Say a number of bytes; small ones exactly."""
    if count < 10_240:  # noqa: PLR2004 - ten of the unit
        return f"{count} bytes"
    return f"{count / 1024:.0f} KiB" if count < 10 * 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def share(done: int, total: int) -> str:
    """Say what part of a whole is done; nothing where there is no whole."""
    return f"{100 * done // total} %" if total else ""


def how_far(step: str, done: int, total: int) -> str:
    """Say what is being done, and how much of it where that is a matter of bytes."""
    return f"{step} {share(done, total)}".rstrip() if step == "write" else step


def raw_bytes(digits: str) -> str:
    """Return hexadecimal digits in pairs, as protocol analysers show them."""
    return " ".join(digits[index : index + 2] for index in range(0, len(digits), 2))


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


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _parse(instant: str) -> datetime:
    return datetime.fromisoformat(instant)
