"""The live screen: a bar for each device, events above them.  Needs rich, the extra ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from firmwarden.cli.screen import COLOURS
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from rich.console import Console


class BarScreen:
    """Bars that live until their device is done."""

    def __init__(self, console: Console | None = None) -> None:
        # No markup anywhere: devices and files choose some of the text.
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[step]}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def line(self, text: str, level: str) -> None:
        """Print an event above the bars."""
        self._bars.console.print(Text(text, style=COLOURS.get(level, "")))

    def progress(self, device: str, step: str, done: int, total: int) -> None:
        """Move a device's bar; the first time, make it."""
        if device not in self._tasks:
            self._tasks[device] = self._bars.add_task(printable(device), total=None, step=step)
        self._bars.update(self._tasks[device], completed=done, total=total or None, step=printable(step))

    def ended(self, device: str) -> None:
        """Take the bar away."""
        task = self._tasks.pop(device, None)
        if task is not None:
            self._bars.remove_task(task)
