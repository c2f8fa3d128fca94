"""``watch`` as a process of its own beside a daemon, and its two screens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from io import StringIO
from typing import IO, TYPE_CHECKING, Any

import pytest
from rich.console import Console

from firmwarden.cli.bars import BarScreen
from firmwarden.cli.client import Client
from firmwarden.cli.screen import PlainScreen, open_screen
from firmwarden.cli.watch import Names, event_line, show
from support.memory_desk import IMAGE_B, a_device, a_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import FeedItem
    from support.memory_desk import MemoryDesk
    from support.served import Served

FAILED = {
    "event": "attempt-failed",
    "level": "warning",
    "timestamp": "2026-03-01T12:00:00Z",
    "device": "panel-1",
    "job": 7,
    "cause": "link-lost",
    "detail": "it vanished",
    "retry_in_s": None,
}


@contextmanager
def watching(api: Served, desk: MemoryDesk, *options: str) -> Iterator[subprocess.Popen[str]]:
    script = "from firmwarden.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "watch", "--socket", str(api.path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TZ": "UTC"},
    ) as process:
        while api.call(lambda: desk.readers) == 0:
            assert process.poll() is None
        yield process
        process.kill()


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().rstrip("\n")


def publish(api: Served, desk: MemoryDesk, kind: str, data: dict[str, Any]) -> None:
    api.call(partial(desk.publish, kind, **data))  # type: ignore[arg-type]


def test_lines_while_it_happens(api: Served, desk: MemoryDesk) -> None:
    running = {"step": "write", "done": 10, "total": 100}
    desk.fleet["panel-1"] = a_device(job=a_job(state="running", progress=running))
    with watching(api, desk) as process:
        assert line(process.stdout) == "panel-1  write 10 %"
        for done in (15, 20):
            publish(api, desk, "progress", {"device": "panel-1", "step": "write", "done": done, "total": 100})
        assert line(process.stdout) == "panel-1  write 20 %"
        publish(api, desk, "log", FAILED)
        assert line(process.stdout) == (
            "12:00:00  panel-1  attempt-failed: it vanished  job=7 cause=link-lost"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        assert line(process.stderr) == ""


def test_json_passes_the_feed_on(api: Served, desk: MemoryDesk) -> None:
    with watching(api, desk, "--json") as process:
        publish(api, desk, "log", FAILED)
        assert json.loads(line(process.stdout)) == {"id": 1, "kind": "log", "data": FAILED}


def test_the_daemon_is_stopped_meanwhile(api: Served, desk: MemoryDesk) -> None:
    with watching(api, desk) as process:
        api.stop()
        assert process.wait(5) == 1
        assert "The daemon was stopped" in line(process.stderr)


def test_it_goes_on_where_it_was_after_being_cut_off(
    api: Served, desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmwarden.control.connection.STALL_S", 0.05)
    with watching(api, desk, "--json") as process:
        publish(api, desk, "log", FAILED)
        line(process.stdout)
        # Stopped, it does not read, and is cut off.
        process.send_signal(signal.SIGSTOP)
        published = 1
        while api.call(lambda: desk.readers) == 1:
            for _ in range(10):
                publish(api, desk, "log", {**FAILED, "detail": "x" * 10_000})
            published += 10
        process.send_signal(signal.SIGCONT)
        ids: list[int] = []
        while not ids or ids[-1] != published:
            ids.append(json.loads(line(process.stdout))["id"])
    assert ids == sorted(set(ids))


def item(kind: str, **data: object) -> FeedItem:
    return {"id": 1, "kind": kind, "data": data}  # type: ignore[typeddict-item]


PROGRESS = item("progress", device="panel-1", step="write", done=50, total=100)


def test_a_new_attempt_is_shown_from_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen()
    for each in (PROGRESS, PROGRESS, item("log", **FAILED), PROGRESS):
        show(each, screen, str)
    assert [text.split()[0] for text in capsys.readouterr().out.splitlines()] == [
        "panel-1",
        "12:00:00",
        "panel-1",
    ]


@pytest.mark.parametrize(
    ("restarted", "shown"),
    [(False, "... 17 missed here\n"), (True, "... 17 missed here, after a restart of the daemon\n")],
)
def test_a_gap_is_said(capsys: pytest.CaptureFixture[str], restarted: bool, shown: str) -> None:
    show(item("gap", missed=17, restarted=restarted), PlainScreen(), str)
    assert capsys.readouterr().out == shown


def bars(*items: FeedItem, height: int = 50) -> str:
    """Return what a terminal is sent for these items; the last frame shows how it stands at the end."""
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=height, _environ={})
    with BarScreen(console) as screen:
        for each in items:
            show(each, screen, str)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


ENTER = item("progress", device="panel-1", step="enter", done=0, total=0)


def test_bars_say_what_their_devices_do() -> None:
    assert "panel-1 entering" in bars(ENTER)
    assert "panel-1 writing" in bars(ENTER, PROGRESS)
    assert "50%" in bars(ENTER, PROGRESS)
    # A step without bytes leaves the bar where it was.
    leaving = item("progress", device="panel-1", step="leave", done=0, total=0)
    assert re.search(r"panel-1 starting .*50%", bars(PROGRESS, leaving))


def test_a_bar_that_is_over_says_how_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = item("log", **FAILED)
    assert re.search(r"panel-1 failed .*50%", bars(PROGRESS, failed))
    monkeypatch.setattr("firmwarden.cli.bars.LINGERS_S", -1.0)
    assert "panel-1 failed" not in bars(PROGRESS, failed)


def test_more_bars_than_lines_are_counted() -> None:
    many = [item("progress", device=f"panel-{n}", step="write", done=1, total=2) for n in range(24)]
    last_frame = bars(*many, height=20).rpartition("panel-0 ")[2]
    assert "panel-13 " in last_frame
    assert "panel-14 " not in last_frame
    assert "and 10 more" in last_frame
    assert "more" not in bars(*many, height=30)
    # A ^C that the terminal echoes at the end must not begin a line that nobody wipes out.
    assert max(map(len, last_frame.splitlines())) <= 98


def test_bars_stand_in_the_order_of_the_rack() -> None:
    names = {"k3": "k3 (slot-10)", "q8": "q8 (slot-9)"}
    out = StringIO()
    with BarScreen(Console(file=out, force_terminal=True, width=100, _environ={})) as screen:
        for device in names:
            show(item("progress", device=device, step="write", done=1, total=2), screen, names.__getitem__)
    assert re.search(r"q8 \(slot-9\).*k3 \(slot-10\)", out.getvalue(), re.DOTALL)


def test_without_rich_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmwarden.cli.screen.on_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with open_screen() as screen:
        assert isinstance(screen, BarScreen)
    monkeypatch.delitem(sys.modules, "firmwarden.cli.bars")
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with open_screen() as screen:
        assert isinstance(screen, PlainScreen)


def test_a_device_is_shown_by_its_label_too(api: Served, desk: MemoryDesk) -> None:
    desk.fleet["panel-1"]["label"] = "north wall"
    names = Names(Client(api.path))
    assert names("panel-1") == "panel-1 (north wall)"
    assert names("lamp-2") == "lamp-2"
    desk.fleet["new-3"] = a_device(id="new-3", label="lab")
    assert names("new-3") == "new-3 (lab)"
    assert names("gone-4") == "gone-4"
    api.stop()
    assert names("late-5") == "late-5"


def test_bars_show_text_and_not_markup() -> None:
    shown = bars(
        item("progress", device="[red]panel", step="write", done=1, total=2),
        item("log", event="job-created", timestamp="2026-03-01T12:00:00Z", detail="[bold]"),
    )
    assert "[red]panel" in shown
    assert "firmwarden  job-created: [bold]" in shown


def test_an_image_is_shown_by_the_beginning_of_its_hash() -> None:
    shown = event_line({"event": "job-created", "timestamp": "2026-03-01T12:00:00Z", "image": IMAGE_B})
    assert shown.endswith(f"job-created  image={IMAGE_B[:12]}")


def test_an_event_line_says_why_before_the_rest() -> None:
    refused = {"event": "release-refused", "manifest": "a.toml", "reason": "waits for a.img"}
    shown = event_line({**refused, "timestamp": "2026-03-01T12:00:00Z"})
    assert shown.endswith("firmwarden  release-refused: waits for a.img  manifest=a.toml")


def test_an_event_line_cannot_act_on_the_terminal() -> None:
    assert "\x1b" not in event_line({**FAILED, "detail": "\x1b[2J"})
