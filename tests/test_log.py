"""What the log looks like, and that everything ends up in it."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from firmwarden import log
from firmwarden.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_is_json_and_begins_alike() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    with structlog.contextvars.bound_contextvars(device="abc"):
        structlog.get_logger().info(LogEvent.JOB_CREATED, job=7)
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["event"], line["device"], line["job"]) == ("job-created", "abc", 7)


def test_the_level_leaves_lesser_events_out() -> None:
    stream = io.StringIO()
    log.configure("warning", stream=stream)
    structlog.get_logger().info(LogEvent.JOB_CREATED)
    structlog.get_logger().warning(LogEvent.JOB_WAITING)
    assert [line["event"] for line in lines(stream)] == ["job-waiting"]


def test_what_is_written_is_published_without_its_traceback() -> None:
    published: list[dict[str, object]] = []
    stream = io.StringIO()
    log.configure(stream=stream, publish=published.append)
    try:
        int("no")
    except ValueError:
        structlog.get_logger().exception(LogEvent.WORKER_CRASHED, detail="no")
    (line,), (event,) = lines(stream), published
    assert "ValueError: invalid literal" in str(line["exception"])
    assert event["event"] == "worker-crashed"
    assert "exc_info" not in event


@pytest.mark.parametrize(("level", "told"), [(logging.WARNING, "warning"), (logging.ERROR, "error")])
def test_libraries_log_in_the_same_lines(level: int, told: str) -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    logging.getLogger("uvicorn.error").log(level, "it %s", "broke")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["library"], line["detail"]) == (
        "library-trouble",
        told,
        "uvicorn.error",
        "it broke",
    )


def test_a_command_that_shows_events_itself_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    published: list[dict[str, object]] = []
    log.publish_only(published.append)
    structlog.get_logger().info(LogEvent.JOB_CREATED, job=7)
    assert [event["event"] for event in published] == ["job-created"]
    assert capsys.readouterr() == ("", "")
