"""What the log looks like, and that everything ends up in it."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import socket
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import structlog

from firmwarden import log
from firmwarden.events import LogEvent
from firmwarden.log import journald
from support.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO, TextIO


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


def test_who_watches_is_told_of_what_is_not_written() -> None:
    published: list[dict[str, object]] = []
    stream = io.StringIO()
    log.configure("error", stream=stream, publish=published.append)
    structlog.get_logger().info(LogEvent.JOB_CREATED)
    structlog.get_logger().debug(LogEvent.JOB_WAITING)
    assert (stream.getvalue(), [event["event"] for event in published]) == ("", ["job-created"])


@pytest.fixture
def unread() -> Iterator[tuple[TextIO, BinaryIO]]:
    """A pipe that nobody reads: our end and the other."""
    theirs, ours = os.pipe()
    with os.fdopen(ours, "w") as stream, os.fdopen(theirs, "rb", buffering=0) as reader:
        yield stream, reader


def test_inv6_a_pipe_that_nobody_reads_stops_nothing_and_what_is_lost_is_counted(
    unread: tuple[TextIO, BinaryIO],
) -> None:
    stream, reader = unread
    log.configure(stream=stream)
    logger = structlog.get_logger()
    # Longer than what a pipe takes at once: the last of them is cut by the end of what it takes.
    told = 200
    for job in range(told):
        logger.info(LogEvent.JOB_CREATED, job=job, detail="x" * 5000)
    os.set_blocking(reader.fileno(), False)
    text = b""
    while piece := reader.read(1 << 16):
        text += piece
    logger.info(LogEvent.JOB_CREATED, job=told)
    text += reader.read(1 << 16) or b""
    *written, lost, last = [json.loads(line) for line in text.splitlines()]
    assert [line["job"] for line in written] == list(range(len(written)))
    assert (lost["event"], lost["count"] + len(written)) == ("events-lost", told)
    assert 0 < len(written) < told
    assert last["job"] == told


def test_inv6_a_terminal_in_ctrl_s_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as reader:
        log.configure(stream=stream)
        termios.tcflow(slave, termios.TCOOFF)
        for job in range(2000):
            structlog.get_logger().info(LogEvent.JOB_CREATED, job=job)
        termios.tcflow(slave, termios.TCOON)
        structlog.get_logger().info(LogEvent.JOB_CREATED, job=7)
        text = b""
        while b"job=7\r\n" not in text:
            text += reader.read(1 << 16)
        lost, last = text.decode().splitlines()
        assert lost.endswith("count=2000")
        assert "events-lost" in lost
        assert "job-created" in last


def test_inv6_a_terminal_that_nobody_reads_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as reader:
        log.configure(stream=stream)
        assert os.get_blocking(slave), "it is the shell's too"
        told = 2000
        for job in range(told):
            structlog.get_logger().info(LogEvent.JOB_CREATED, job=job)
        os.set_blocking(master, False)
        text = b""
        while b"job=2000\r\n" not in text:
            while (piece := reader.read(1 << 16)) is not None:
                text += piece
            structlog.get_logger().info(LogEvent.JOB_CREATED, job=told)
        *written, lost, _ = text.decode().split("job=2000\r\n")[0].splitlines()
        assert 0 < len(written) < told
        assert all(line.endswith(f" job={job}") for job, line in enumerate(written))
        assert lost.endswith(f"count={told - len(written)}")


def test_a_pipe_whose_reader_is_gone_stops_nothing(unread: tuple[TextIO, BinaryIO]) -> None:
    stream, reader = unread
    log.configure(stream=stream)
    reader.close()
    structlog.get_logger().error(LogEvent.STORE_FAILED, detail="full")


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "full"), ValueError("closed")])
def test_a_log_that_cannot_be_written_stops_nothing(trouble: Exception) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise trouble

        def flush(self) -> None:
            raise trouble

    published: list[dict[str, object]] = []
    log.configure(stream=Gone(), publish=published.append)
    structlog.get_logger().error(LogEvent.STORE_FAILED, detail="full")
    assert [event["event"] for event in published] == ["store-failed"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_line_begins_with_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    log.configure(stream=(stream := Terminal()))
    structlog.get_logger().info(
        LogEvent.JOB_WAITING, until=None, detail="held: \x1b[2J", image="ab" * 32, job=7, device="k3f9q2"
    )
    time, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert rest == (
        "[info     ] job-waiting              device=k3f9q2 job=7 detail='held: \\\\x1b[2J' image=abababababab\n"
    )


@pytest.mark.parametrize("said", ["2.0\x1b[2J", "\x1b]0;x\x07 y", "a\rb", "\u202eexe.bin"])
def test_nothing_that_a_device_said_acts_on_the_terminal(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    log.configure(stream=(stream := Terminal()))
    structlog.get_logger().info(LogEvent.JOB_WAITING, device=said, detail=said)
    assert stream.getvalue().removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    log.configure(stream=(stream := Terminal()))
    structlog.get_logger().info(LogEvent.DAEMON_READY)
    assert "daemon-ready" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


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
    logging.getLogger("asyncio").log(level, "it %s", "broke")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["library"], line["detail"]) == (
        "library-trouble",
        told,
        "asyncio",
        "it broke",
    )


def test_a_command_that_shows_events_itself_writes_none(capsys: pytest.CaptureFixture[str]) -> None:
    published: list[dict[str, object]] = []
    log.publish_only(published.append)
    structlog.get_logger().info(LogEvent.JOB_CREATED, job=7)
    assert [event["event"] for event in published] == ["job-created"]
    assert capsys.readouterr() == ("", "")


# --- under the journal


class UnderJournal:
    """Standard error as a service has it: the journal reads it, line by line, and has a socket beside."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.stream = self.ours.makefile("w")

    def lines(self) -> list[dict[str, object]]:
        """What came as lines."""
        try:
            return [json.loads(line) for line in self.theirs.recv(1 << 20).splitlines()]
        except BlockingIOError:
            return []

    def stop_taking_lines(self) -> None:
        with suppress(BlockingIOError):
            while self.ours.send(b"x" * 4096, socket.MSG_DONTWAIT):
                pass

    def stop_taking_entries(self) -> None:
        while journald.send({"MESSAGE": "x"}, self.journal.address):
            pass


@pytest.fixture
def under_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnderJournal]:
    made = UnderJournal(Journal(str(tmp_path / "journal")))
    with made.journal.socket, made.ours, made.theirs, made.stream:
        about = os.fstat(made.ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        log.configure("debug", stream=made.stream, journal=made.journal.address)
        yield made


def test_the_journal_gets_every_key_as_a_field(under_journal: UnderJournal) -> None:
    with structlog.contextvars.bound_contextvars(device="k3f9q2", job=7, attempt=21, release="2.4.0"):
        structlog.get_logger().warning(
            LogEvent.ATTEMPT_FAILED,
            cause="link-lost",
            detail='/dev/ttyUSB0: "hung up"',
            offset=None,
            next="retry",
            retry_in_s=2.1,
            image="ab" * 32,
        )
    assert under_journal.journal.entries() == [
        {
            "MESSAGE": (
                "attempt-failed device=k3f9q2 job=7 attempt=21 release=2.4.0 cause=link-lost "
                r'detail="/dev/ttyUSB0: \"hung up\"" next=retry retry_in_s=2.1 image=abababababab'
            ),
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "firmwarden",
            "MESSAGE_ID": journald.message_id("attempt-failed"),
            "FIRMWARDEN_EVENT": "attempt-failed",
            "FIRMWARDEN_DEVICE": "k3f9q2",
            "FIRMWARDEN_JOB": "7",
            "FIRMWARDEN_ATTEMPT": "21",
            "FIRMWARDEN_RELEASE": "2.4.0",
            "FIRMWARDEN_CAUSE": "link-lost",
            "FIRMWARDEN_DETAIL": '/dev/ttyUSB0: "hung up"',
            "FIRMWARDEN_NEXT": "retry",
            "FIRMWARDEN_RETRY_IN_S": "2.1",
            "FIRMWARDEN_IMAGE": "ab" * 32,
        }
    ]
    assert under_journal.lines() == []


@pytest.mark.parametrize(
    ("level", "priority"), [("error", "3"), ("warning", "4"), ("info", "6"), ("debug", "7")]
)
def test_levels_are_priorities(under_journal: UnderJournal, level: str, priority: str) -> None:
    getattr(structlog.get_logger(), level)(LogEvent.DAEMON_STOPPED)
    (entry,) = under_journal.journal.entries()
    assert entry["PRIORITY"] == priority


def test_a_traceback_is_a_field_of_its_own(under_journal: UnderJournal) -> None:
    try:
        int("no")
    except ValueError:
        structlog.get_logger().exception(LogEvent.WORKER_CRASHED, detail="no")
    (entry,) = under_journal.journal.entries()
    assert entry["MESSAGE"] == "worker-crashed detail=no"
    assert entry["FIRMWARDEN_EXCEPTION"].startswith("Traceback (most recent call last):\n")
    assert entry["FIRMWARDEN_EXCEPTION"].endswith("ValueError: invalid literal for int() with base 10: 'no'")


def test_nothing_in_an_entry_reaches_a_terminal_and_its_message_is_one_line(
    under_journal: UnderJournal,
) -> None:
    hostile = "\x1b[2J\n\u009b31m\u2028\udcff"
    structlog.get_logger().info(LogEvent.RELEASE_REFUSED, manifest="", reason=hostile, problems=[hostile, 7])
    (entry,) = under_journal.journal.entries()
    assert entry["MESSAGE"].isprintable()
    assert entry["MESSAGE"].startswith('release-refused manifest="" reason="')
    assert entry["FIRMWARDEN_REASON"] == "\\x1b[2J\n\\x9b31m\\u2028\\udcff"
    assert json.loads(entry["FIRMWARDEN_PROBLEMS"]) == [hostile, 7]
    assert all(line.isprintable() for value in entry.values() for line in value.split("\n"))


def test_inv6_a_journal_that_is_stuck_stops_nothing_and_what_is_lost_is_counted(
    under_journal: UnderJournal,
) -> None:
    logger = structlog.get_logger()
    under_journal.stop_taking_entries()
    logger.info(LogEvent.JOB_CREATED, job=1)
    assert [line["job"] for line in under_journal.lines()] == [1]
    under_journal.stop_taking_lines()
    for job in (2, 3, 4):
        logger.info(LogEvent.JOB_CREATED, job=job)
    assert under_journal.journal.entries()
    logger.info(LogEvent.JOB_CREATED, job=5)
    assert [entry["MESSAGE"] for entry in under_journal.journal.entries()] == [
        "job-created job=5",
        "events-lost count=3",
    ]
    logger.info(LogEvent.JOB_CREATED, job=6)
    assert [entry["MESSAGE"] for entry in under_journal.journal.entries()] == ["job-created job=6"]


def test_a_journal_that_is_gone_stops_nothing(under_journal: UnderJournal) -> None:
    under_journal.journal.socket.close()
    under_journal.theirs.close()
    structlog.get_logger().error(LogEvent.STORE_FAILED, detail="full")


def test_a_stream_that_goes_elsewhere_gets_lines(under_journal: UnderJournal) -> None:
    stream = io.StringIO()
    log.configure(stream=stream, journal=under_journal.journal.address)
    structlog.get_logger().info(LogEvent.JOB_CREATED, job=7)
    assert [line["job"] for line in lines(stream)] == [7]
    assert under_journal.journal.entries() == []
