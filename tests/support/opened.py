"""Which files this process opens."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_opened: list[str] | None = None


def _note_open(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_open)


@contextmanager
def opened_below(directory: Path) -> Iterator[list[str]]:
    """Collect the names of files that this process opens in a directory."""
    global _opened  # noqa: PLW0603 - an audit hook stays for the life of the process
    names: list[str] = []
    _opened = []
    try:
        yield names
    finally:
        names += [Path(name).name for name in _opened if Path(name).parent == directory]
        _opened = None
