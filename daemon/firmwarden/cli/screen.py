"""Where a running update is shown: bars on a terminal that has rich, lines everywhere else."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final, Protocol

import click

from firmwarden.cli.text import on_terminal
from firmwarden.service.measures import how_far, printable

COLOURS: Final = {"warning": "yellow", "error": "red"}
"""Levels say who acts: yellow is for whoever is curious, red is for somebody to look at."""


STEPS: Final = {
    "probe": "looking",
    "enter": "entering",
    "write": "writing",
    "verify": "verifying",
    "leave": "starting",
    "confirm": "confirming",
}
"""What a device is doing, beside its bar."""


class Screen(Protocol):
    """Where events and progress are shown."""

    def line(self, text: str, level: str) -> None:
        """Show an event."""

    def progress(self, device: str, step: str, done: int, total: int) -> None:
        """Show how far a device is."""

    def ended(self, device: str, how: str = "") -> None:
        """Take note that a device is no longer being updated, and how that ended in a word."""


class PlainScreen:
    """Lines, for pipes and for terminals without rich."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, int]] = {}

    def line(self, text: str, level: str) -> None:
        """Print an event; in colour on a terminal, by who should look at it."""
        click.secho(text, fg=COLOURS.get(level))

    def progress(self, device: str, step: str, done: int, total: int) -> None:
        """Print each step once, and each tenth of one that has a length."""
        now = (step, 10 * done // total if total else 0)
        if self._shown.get(device) != now:
            self._shown[device] = now
            click.echo(printable("  ".join(filter(None, (device, how_far(step, done, total))))))

    def ended(self, device: str, how: str = "") -> None:  # noqa: ARG002 - the event that says so is a line
        """Forget what was shown, for the next attempt."""
        self._shown.pop(device, None)


def open_screen() -> AbstractContextManager[Screen]:
    """Return the best screen for where the output goes."""
    # A dumb terminal cannot go back to a line that it has shown.
    if not on_terminal() or os.environ.get("TERM") == "dumb":
        return nullcontext(PlainScreen())
    try:
        from firmwarden.cli.bars import BarScreen
    except ImportError:
        return nullcontext(PlainScreen())
    return BarScreen()


def speak_to_nobody() -> None:
    """Send to nowhere what is still said, for work that must not end because nobody reads of it any more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
