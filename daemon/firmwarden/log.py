"""Sets up structured logging, once, for the whole process.

JSON lines on stderr, or a plain console rendering when stderr is a terminal.  Every log event also goes to the
feed, where the control API's event stream and the live views read it.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import structlog

from firmwarden.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger


def configure(
    level: str = "info",
    *,
    stream: TextIO | None = None,
    publish: Callable[[dict[str, object]], None] | None = None,
) -> None:
    """Configure structlog.

    Args:
        level: the least level that is written: debug, info, warning or error.
        stream: where lines go; stderr by default.
        publish: gets every written event as plain data; called in the thread that logs.
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
        processors.append(structlog.dev.ConsoleRenderer(colors=True, pad_event_to=24))
    else:
        processors += [
            structlog.processors.format_exc_info,
            _common_first,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
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


_FIRST = ("timestamp", "level", "event", "device", "job", "attempt", "release")


def _common_first(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Begin every line alike, for those who read them without a tool."""
    return {key: event.pop(key) for key in _FIRST if key in event} | dict(event)


def _drop(_logger: WrappedLogger, _name: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


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
