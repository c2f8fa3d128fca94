"""``firmwarden demo`` as ``make demo`` runs it: to its end, and broken off."""

from __future__ import annotations

import os
import re
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from support.gateway import PROGRAM
from support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

BARE = {"COLUMNS": "200"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Process]:
    process = Process("demo", *PROGRAM, "demo", env={**BARE, "TMPDIR": str(tmp_path)})
    yield process
    process.close()


def left(place: Path) -> list[str]:
    """List the files in a place, and the processes that were told of it."""
    found = [str(path) for path in place.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if str(place) in command and int(process.name) != os.getpid():
            found.append(command)
    return found


def test_it_shows_every_kind_of_end_and_leaves_nothing(demo: Process, tmp_path: Path) -> None:
    assert demo.wait(60.0) == 0
    text = "\n".join(demo.lines)
    assert re.search(r"^panel-0002  .* tried again in ", text, re.MULTILINE)
    assert len(re.findall(r" updated: the application says that it is 2\.0\.0$", text, re.MULTILINE)) == 6
    assert re.search(r"^meter-0001  link-lost at 50 %: .* tried again in ", text, re.MULTILINE)
    assert re.search(r"^meter-0002  waits: the device does not have BFB2=1", text, re.MULTILINE)
    assert "It is stopped" in text
    assert re.search(r"Every device ended as it should, in \d+ seconds\.$", text)
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rack_is_updated_with_care(tmp_path: Path) -> None:
    """A bad image, a bad unit, a stolen port, a window that closes on the way, a kill and an ill canary."""
    demo = Process("demo", *PROGRAM, "demo", "--scenario", "rack", env={**BARE, "TMPDIR": str(tmp_path)})
    with closing(demo):
        assert demo.wait(270.0) == 0, "\n".join(demo.lines)
    text = "\n".join(demo.lines)
    for told in (
        r"^io-module 2\.0\.0  goes no further: . of 2 devices failed",
        r"^panel-0004  write-error: .*; not tried again$",
        r"^panel-0007  waits: panels/panel-0007 is held by ",
        r"^The daemon was killed in the middle",
        r"^meter-000\d  waits: no window of its class is open",
        r"^sensor-000\d  is not well with it: ",
        r"^sensor 2\.0\.0  goes no further: ",
        r"^front-panel 2\.0\.0  is out: 9 keep well with it, 1 failed$",
    ):
        assert re.search(told, text, re.MULTILINE), told
    assert re.search(r"Every device ended as it should, in .*\.$", text)
    assert left(tmp_path) == []


def test_it_lingers_on_request_with_a_status_page(tmp_path: Path) -> None:
    demo = Process("demo", *PROGRAM, "demo", "--linger", env={**BARE, "TMPDIR": str(tmp_path)})
    with closing(demo):
        demo.until(
            lambda: any("until you press Ctrl-C" in line for line in demo.lines),
            "that it lingers",
            timeout_s=60.0,
        )
        address = next(line.split()[-1] for line in demo.lines if line.startswith("The status page: "))
        with urlopen(address, timeout=5.0) as page:
            assert "panel-0003" in page.read().decode()
        assert demo.stop(signal.SIGINT) == 0
    assert demo.lines[-1] == "Every device ended as it should."
    assert left(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_broken_off_it_leaves_nothing_either(demo: Process, tmp_path: Path, number: signal.Signals) -> None:
    demo.until(lambda: any("  write " in line for line in demo.lines), "an update under way")
    assert demo.stop(number) == 128 + number
    assert demo.lines[-1].startswith("Interrupted: ") is (number != signal.SIGHUP)
    assert "Traceback" not in "\n".join(demo.lines)
    assert left(tmp_path) == []
