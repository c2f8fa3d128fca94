"""What the code logs is in the catalogue: its name, its level and its keys."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import firmwarden
from firmwarden.events import CATALOGUE, LogEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE: Final = Path(firmwarden.__file__).parent
TWO_LEVELS: Final = {LogEvent.DAEMON_STOPPING, LogEvent.LIBRARY_TROUBLE}
"""Their entries say when which."""
LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
}


def mentions() -> Iterator[tuple[LogEvent, str | None, set[str]]]:
    """Where the code names an event: with the level and the keys where it is a call of a logger."""
    for path in set(CODE.rglob("*.py")) - {CODE / "events.py"}:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=method),
                    args=[ast.Attribute(value=ast.Name(id="LogEvent"), attr=name)],
                    keywords=keywords,
                ):
                    keys = {each.arg for each in keywords if each.arg is not None}
                    yield LogEvent[name], LEVELS.get(method), keys - {"exc_info"}
                case ast.Attribute(value=ast.Name(id="LogEvent"), attr=name) if name in LogEvent.__members__:
                    yield LogEvent[name], None, set()


def test_every_event_is_in_the_catalogue_and_in_the_code() -> None:
    assert set(CATALOGUE) == set(LogEvent)
    elsewhere = {event for event, _, _ in mentions()}
    assert elsewhere == set(LogEvent)


def test_what_is_logged_is_what_the_catalogue_says() -> None:
    calls = [call for call in mentions() if call[1] is not None]
    assert len(calls) >= len(LogEvent) - 9  # those that are named in one place and logged in another
    for event, level, keys in calls:
        assert level == CATALOGUE[event].level or event in TWO_LEVELS, event
        assert keys <= set(CATALOGUE[event].keys), event
