"""Sets up structured logging, once, for the whole process.

JSON lines on stderr, plain text when stderr is a terminal, and entries with fields when the journal reads it.  Every
log event also goes to the feed, where the control API's event stream and the live views read it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

from firmwarden.events import LogEvent
from firmwarden.log import journald
from firmwarden.log.lines import Lines
from firmwarden.service.measures import IMAGE_SHOWN, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger


def configure(
    level: str = "info",
    *,
    stream: TextIO | None = None,
    publish: Callable[[dict[str, object]], None] | None = None,
    journal: str = journald.SOCKET,
) -> None:
    """Configure structlog.

    Args:
        level: the least level that is written: debug, info, warning or error.
        stream: where lines go; stderr by default.
        publish: gets every event of level info and above as plain data, written or not, and those of level debug where
            these are written; called in the thread that logs.
        journal: the journal's socket, for a stream that it reads.
    """
    stream = sys.stderr if stream is None else stream
    lines = Lines(stream)
    least = getattr(logging, level.upper())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if publish is not None:
        processors.append(_Publisher(publish))
    processors.append(_Least(least))
    if stream.isatty():
        # https://no-color.org
        colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        processors += [
            _Delivery(lines, None),
            _common_first,
            _short,
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, sort_keys=False),
        ]
    else:
        processors += [
            structlog.processors.format_exc_info,
            _common_first,
            _Delivery(lines, journal if journald.is_behind(stream, os.environ) else None),
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(min(least, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", lines)),
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


def publish_only(publish: Callable[[dict[str, object]], None]) -> None:
    """Configure structlog for a command that shows events itself: nothing is written."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Publisher(publish),
            _drop,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )


_FIRST: Final = ("timestamp", "level", "event", "device", "job", "attempt", "release")


def _common_first(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Begin every line alike, for those who read them without a tool."""
    return {key: event.pop(key) for key in _FIRST if key in event} | dict(event)


def _short(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Leave out what a person who looks on does not need: parts of a second, keys that say nothing, most of a hash.

    And what would act on the terminal: the renderer quotes text only where there are spaces in it.
    """
    shown = {
        key: printable(value) if isinstance(value, str) else value
        for key, value in event.items()
        if value is not None
    }
    shown["timestamp"] = f"{shown['timestamp'][:19]}Z"
    if "image" in shown:
        shown["image"] = shown["image"][:IMAGE_SHOWN]
    return shown


class _Least:
    """Lets nothing below a level be written.  Who watches is told of it all the same."""

    def __init__(self, level: int) -> None:
        self._level = level

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if logging.getLevelName(str(event["level"]).upper()) < self._level:
            raise structlog.DropEvent
        return event


def _drop(_logger: WrappedLogger, _name: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


_PRIORITIES: Final = {"error": "3", "warning": "4", "info": "6", "debug": "7"}
"""syslog(3)"""


class _Delivery:
    """Hands events to the journal, or on to be a line, and counts those that nobody takes.

    Standard error of a service ends at the journal as well, so a line is tried where an entry is not taken.
    """

    def __init__(self, lines: Lines, journal: str | None) -> None:
        self._lines = lines
        self._journal = journal
        self._lost = 0

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if self._journal is not None and journald.send(_fields(event), self._journal):
            self._tell_what_was_lost()
            raise structlog.DropEvent
        if not self._lines.takes_more():
            self._lost += 1
            raise structlog.DropEvent
        if self._journal is None:
            self._tell_what_was_lost()
        return event

    def _tell_what_was_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            structlog.get_logger().warning(LogEvent.EVENTS_LOST, count=lost)


def _fields(event: Mapping[str, object]) -> dict[str, str]:
    """What the journal keeps of an event: a line for people, and every key by itself."""
    told = {key: _text(value) for key, value in event.items() if value is not None}
    name = told.pop("event")
    fields = {
        "PRIORITY": _PRIORITIES[told.pop("level")],
        "SYSLOG_IDENTIFIER": "firmwarden",
        "MESSAGE_ID": journald.message_id(name),
        "FIRMWARDEN_EVENT": name,
        **{f"FIRMWARDEN_{key.upper()}": text for key, text in told.items() if key != "timestamp"},
    }
    words = [
        f"{key}={_quoted(text[:IMAGE_SHOWN] if key == 'image' else text)}"
        for key, text in told.items()
        if key not in {"timestamp", "exception"}
    ]
    return {"MESSAGE": " ".join((name, *words)), **fields}


def _text(value: object) -> str:
    """Write a value as text that does nothing to the terminal on which journalctl shows it; lines stay lines."""
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return "\n".join(map(printable, text.split("\n")))


def _quoted(text: str) -> str:
    """Write a value so that the next one can be told from it, on the same line."""
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n') else text


class _Libraries(logging.Handler):
    """Makes events of what libraries log, so that their trouble is in the same lines as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        tell = logger.error if record.levelno >= logging.ERROR else logger.warning
        tell(
            LogEvent.LIBRARY_TROUBLE,
            library=record.name,
            detail=record.getMessage(),
            exc_info=record.exc_info or None,
        )


class _Publisher:
    """Hands a copy of each event on, without the traceback, which is for the log alone."""

    def __init__(self, publish: Callable[[dict[str, object]], None]) -> None:
        self._publish = publish

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        self._publish({key: value for key, value in event.items() if key != "exc_info"})
        return event
