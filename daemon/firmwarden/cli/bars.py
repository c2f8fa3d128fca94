"""The live screen: a bar for each device, events above them.  Needs rich, the extra ``cli``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich import get_console
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from firmwarden.cli.screen import COLOURS, STEPS
from firmwarden.service.measures import numbers_by_value, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

LINGERS_S: Final = 3.0
"""How long a bar that is over is still shown, so that the others do not jump while one looks at them."""

LEFT_FOR_EVENTS: Final = 5
"""Lines of the terminal without bars: what is printed above them has to be seen for a moment too."""


class BarScreen:
    """Bars that live until their device is done, and a moment longer."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = _Bars(console)
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, str] = {}
        self._over: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def line(self, text: str, level: str) -> None:
        """Print an event above the bars: one line of what is no news for anybody, all of what somebody should see."""
        shown = Text(text, style=COLOURS.get(level, ""))
        cut = level not in COLOURS
        self._bars.console.print(shown, no_wrap=cut, overflow="ellipsis" if cut else None)

    def progress(self, device: str, step: str, done: int, total: int) -> None:
        """Move a device's bar; the first time, make it."""
        if device not in self._tasks:
            if device in self._over:
                self._bars.drop(self._over.pop(device))
            self._tasks[device] = self._bars.add_task(printable(device), total=None, step="", over_at=None)
        task = self._tasks[device]
        if self._steps.get(device) != step:
            self._steps[device] = step
            doing = STEPS.get(step, printable(step))
            if total:  # such a step has a rate of its own; in another the bar stays where it was
                self._bars.reset(task, total=total, step=doing, over_at=None)
            else:
                self._bars.update(task, step=doing)
        if total:
            self._bars.update(task, completed=done, total=total)

    def ended(self, device: str, how: str = "") -> None:
        """Say how it ended where the step was, and take the bar away in a moment; without a word, at once."""
        task = self._tasks.pop(device, None)
        self._steps.pop(device, None)
        if task is not None and how:
            self._bars.update(task, step=how, over_at=time.monotonic())
            self._over[device] = task
        elif task is not None:
            self._bars.drop(task)


class _Bars(Progress):
    def __init__(self, console: Console | None) -> None:
        self._where = console or get_console()  # the base class draws before it has one
        # No markup anywhere: devices and files choose some of the text.
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=32)),
            TextColumn("{task.fields[step]}", markup=False, table_column=Column(no_wrap=True, min_width=10)),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            _Rate(table_column=Column(no_wrap=True, justify="right", min_width=10)),
            _Left(compact=True, table_column=Column(no_wrap=True, min_width=5)),
            console=self._where,
            expand=True,
            transient=True,
        )

    def drop(self, task: TaskID) -> None:
        """Take a bar away, if it is still there."""
        if task in self.task_ids:
            self.remove_task(task)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Draw as many bars as there is room for, and say how many more there are."""
        now = time.monotonic()
        for task in self.tasks:
            if _is_over(task) and now - task.fields["over_at"] > LINGERS_S:
                self.drop(task.id)
        tasks = sorted(self.tasks, key=_by_label)
        room = max(self._where.height - LEFT_FOR_EVENTS, 1)
        shown = tasks if len(tasks) <= room else tasks[: room - 1]
        # Room for the ^C that a terminal echoes: on the next line it would be in the way of wiping the bars out.
        yield Constrain(self.make_tasks_table(shown), self._where.width - len("^C"))
        if len(shown) < len(tasks):
            yield Text(f"and {len(tasks) - len(shown)} more")


class _Rate(ProgressColumn):
    """Bytes of the image in a second."""

    def render(self, task: Task) -> Text:
        if task.speed is None or task.finished or _is_over(task):
            return Text("")
        return Text(f"{task.speed / 1024:.1f} KiB/s", style="progress.data.speed")


class _Left(TimeRemainingColumn):
    """How long it will take at this rate."""

    def render(self, task: Task) -> Text:
        return Text("") if task.finished or _is_over(task) else super().render(task)


def _by_label(task: Task) -> tuple[list[tuple[int, str]], str]:
    """In the order in which units stand on a rack, and `firmwarden devices` has them."""
    device, _, label = task.description.partition(" (")
    return numbers_by_value(label or device), device


def _is_over(task: Task) -> bool:
    return task.fields["over_at"] is not None
