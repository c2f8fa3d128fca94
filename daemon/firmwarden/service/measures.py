"""Values in words, as the command line and the status page tell them: how long, how long ago, how much."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

IMAGE_SHOWN: Final = 12
"""Digits of an image's hash: enough to name it, as with Git."""

INSTANT: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
"""What looks like an instant in a sentence; ``is_instant`` tells whether it is one."""


def printable(value: object) -> str:
    """Return text that cannot act on a terminal, or turn around what stands beside it on a page.

    Devices, files and people choose some of what is shown.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def numbers_by_value(text: str) -> list[tuple[int, str]]:
    """Return text in pieces that sort as a person would: slot-9 before slot-10."""
    return [(int(number or 0), rest) for number, rest in re.findall(r"([0-9]+)|([^0-9]+)", text)]


def duration(seconds: float) -> str:
    """Say a duration in the largest unit that tells enough of it."""
    for unit, size, enough in (("day", 86_400, 36 * 3600), ("hour", 3600, 90 * 60), ("minute", 60, 90)):
        if seconds >= enough:
            return _count(round(seconds / size), unit)
    return "less than a second" if seconds < 1 else _count(round(seconds), "second")


def ago(instant: str, now: datetime) -> str:
    """Say how long ago something was."""
    seconds = (now - datetime.fromisoformat(instant)).total_seconds()
    if seconds < 0:
        return f"at {instant}, which is in the future: the clock was or is wrong"
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def ahead(instant: str, now: datetime) -> str:
    """Say how soon something will be."""
    seconds = (datetime.fromisoformat(instant) - now).total_seconds()
    return "now" if seconds < 1 else f"in {duration(seconds)}"


def is_instant(text: str) -> bool:
    """Tell whether text is an instant: what a device says may only look like one."""
    try:
        return INSTANT.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def local(instant: str) -> datetime:
    """Return an instant by the clock and zone of this machine."""
    told = datetime.fromisoformat(instant)
    try:
        return told.astimezone()
    except OverflowError:  # a wild clock at the end of the calendar, and a zone beyond it
        return told


def between(start: str, end: str) -> str:
    """Say how long something took."""
    return duration(max((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 0.0))


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


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
