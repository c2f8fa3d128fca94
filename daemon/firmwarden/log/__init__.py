"""Sets up structured logging, once, for the whole process.

JSON lines on stderr, plain text when stderr is a terminal, and entries with fields when the journal reads it.  Every
log event also goes to the feed, where the control API's event stream and the live views read it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

from firmwarden.events import LogEvent
from firmwarden.log import journald
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
        publish: gets every written event as plain data; called in the thread that logs.
        journal: the journal's socket, for a stream that it reads.
    """
    stream = sys.stderr if stream is None else stream
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if publish is not None:
        processors.append(_Publisher(publish))
    if stream.isatty():
        # https://no-color.org
        colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        processors += [
            _common_first,
            _short,
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, sort_keys=False),
        ]
    else:
        processors += [structlog.processors.format_exc_info, _common_first]
        if journald.is_behind(stream, os.environ):
            processors.append(_ToJournal(stream, journal))
        processors.append(structlog.processors.JSONRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Unfailing(stream))),
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


def _drop(_logger: WrappedLogger, _name: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


class _Unfailing:
    """Where lines go.  A log that cannot be written (a full disk, a closed terminal or pipe) must not end updates."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


_PRIORITIES: Final = {"error": "3", "warning": "4", "info": "6", "debug": "7"}
"""syslog(3)"""


class _ToJournal:
    """Hands events to the journal.  What that does not take goes on to be a line, if the stream takes it at once.

    The stream ends at the journal as well: to write where it is stuck would stop every update (invariant 6).
    """

    def __init__(self, stream: TextIO, address: str) -> None:
        self._stream = stream
        self._address = address
        self._lost = 0

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if journald.send(_fields(event), self._address):
            lost, self._lost = self._lost, 0
            if lost:
                structlog.get_logger().warning(LogEvent.EVENTS_LOST, count=lost)
            raise structlog.DropEvent
        if not self._takes_a_line():
            self._lost += 1
            raise structlog.DropEvent
        return event

    def _takes_a_line(self) -> bool:
        poll = select.poll()
        with suppress(OSError, ValueError):
            poll.register(self._stream, select.POLLOUT)
            return poll.poll(0) == [(self._stream.fileno(), select.POLLOUT)]
        return False


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
