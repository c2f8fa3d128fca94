"""What the pages show of other programs, these understand: shell, make, curl, systemd, the journal, Prometheus."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml  # type: ignore[import-untyped]

from firmwarden.control.access import Rules
from firmwarden.control.metrics import METRICS
from firmwarden.control.problems import TITLES
from firmwarden.control.token import read_token
from firmwarden.events import CATALOGUE, LogEvent
from support.memory_desk import MemoryDesk
from support.pages import DOCS, ROOT, Shown, block_after, fenced, inline
from support.programs import program
from support.served import MINE, served

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW_TO: Final = DOCS / "how-to"
SCRIPTS: Final = list(fenced("sh"))
TOKEN: Final = "a-token-of-some-length"


def lines_of(program: str) -> Iterator[Shown]:
    """Yield each command of a program that a page has in a block."""
    for block in SCRIPTS:
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            if line.startswith(f"{program} "):
                yield Shown(block.page, line)


def run(command: str, directory: Path, **variables: str) -> str:
    for other in {"curl", "journalctl", "minisign", "promtool"} & set(command.split()):
        program(other)
    here = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=directory,
        env={**os.environ, "PATH": here, **variables},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- shell -----------------------------------------------------------------------------------------------


def test_a_shell_can_read_every_block() -> None:
    assert len(SCRIPTS) > 60
    for block in SCRIPTS:
        done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block


def test_make_has_every_target_that_is_shown() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    shown = {line.text.split()[1] for line in lines_of("make")}
    for text in (each.text for each in inline() if each.text.startswith("make ")):
        shown |= {word for word in text.split()[1:] if re.fullmatch(r"[a-z-]+", word)}
    assert len(shown) > 5
    assert shown <= targets


def test_every_file_of_the_repository_that_is_shown_is_there() -> None:
    of_ours = re.compile(r"(?<![\w/.-])((?:systemd|config|docs|debian)/[\w./-]+\w|requirements[\w-]*\.lock)")
    named = {name for block in SCRIPTS for name in of_ours.findall(block.text)}
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_unit_that_is_shown_is_there() -> None:
    named = set(re.findall(r"\bfirmwarden\.(?:service|socket)\b", "".join(block.text for block in SCRIPTS)))
    assert named == {"firmwarden.service", "firmwarden.socket"}
    assert all((ROOT / "systemd" / name).exists() for name in named)


def test_the_program_that_presses_the_button_speaks_to_the_port(tmp_path: Path) -> None:
    script = tmp_path / "press-boot"
    page = HOW_TO / "add-a-way-into-the-loader.md"
    script.write_text(block_after(page, "## First: a program of yours", "sh"))
    device, port = pty.openpty()
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(os.read(device, 100)))
    listener.start()
    try:
        run(f"sh {script}", tmp_path, FIRMWARDEN_PORT=os.ttyname(port))
        listener.join(10)
    finally:
        os.close(port)
        os.close(device)
    assert heard == [b"bootloader\r\n"]


def test_completion_is_loaded(tmp_path: Path) -> None:
    block = block_after(DOCS / "reference" / "cli.md", "## Completion and manual pages", "sh")
    bash, *others = block.splitlines()
    assert "firmwarden" in run(f"{bash}\ncomplete -p firmwarden", tmp_path)
    for line in others:
        made = re.search(r"_FIRMWARDEN_COMPLETE=(zsh|fish)_source firmwarden", line)
        assert made is not None
        assert "compdef" in (text := run(made[0], tmp_path)) or "complete" in text


@pytest.mark.parametrize(
    ("page", "heading"),
    [("run-as-a-service.md", "## A token"), ("who-may-do-what.md", "## Over TCP")],
)
def test_the_token_that_is_made_is_one(page: str, heading: str, tmp_path: Path) -> None:
    made = re.search(r"sh -c '(.+)'", block_after(HOW_TO / page, heading, "sh"))
    assert made is not None
    run(made[1].replace("/etc/credstore", str(tmp_path)), tmp_path)
    assert len(read_token(tmp_path / "firmwarden.token")) > 24


# --- curl ------------------------------------------------------------------------------------------------


# Those of the API's page, and those that send a release, are in test_api_page.py.
ASKED: Final = [each for each in lines_of("curl") if each.page.parent == HOW_TO and "--form" not in each.text]


@pytest.mark.parametrize("shown", ASKED, ids=str)
def test_what_is_asked_with_curl_is_answered(shown: Shown, tmp_path: Path) -> None:
    with served(MemoryDesk(), tmp_path / "api", rules=Rules(act_group=MINE, token=TOKEN), tcp=True) as api:
        command = shown.text.replace("/run/firmwarden/control.sock", str(api.path))
        command = command.replace("127.0.0.1:8642", f"127.0.0.1:{api.port}")
        assert run(f"{command} --fail", tmp_path, TOKEN=TOKEN)


# --- systemd and the journal -------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", list(fenced("ini")), ids=str)
def test_systemd_understands_a_change_to_the_units(shown: Shown, tmp_path: Path) -> None:
    unit = "firmwarden.socket" if "[Socket]" in shown.text else "firmwarden.service"
    for each in ("firmwarden.service", "firmwarden.socket"):
        text = (ROOT / "systemd" / each).read_text(encoding="utf-8")
        (tmp_path / each).write_text(text.replace("ExecStart=firmwarden", f"ExecStart={sys.executable}"))
    change = tmp_path / f"{unit}.d" / "change.conf"
    change.parent.mkdir()
    change.write_text(shown.text)

    told = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", tmp_path / unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line for line in told.stderr.splitlines() if "change.conf" in line] == []


@pytest.mark.parametrize("shown", list(lines_of("journalctl")), ids=str)
def test_the_journal_can_be_asked_like_that(shown: Shown, tmp_path: Path) -> None:
    run(shown.text.replace("journalctl", f"journalctl --directory={tmp_path}", 1), tmp_path)
    fields = {"EVENT", *(key.upper() for entry in CATALOGUE.values() for key in entry.keys)}
    assert set(re.findall(r"\bFIRMWARDEN_(\w+)", shown.text)) <= fields
    assert set(re.findall(r"FIRMWARDEN_EVENT=(\S+)", shown.text)) <= set(LogEvent)


# --- data --------------------------------------------------------------------------------------------------


def test_what_is_shown_as_json_is_json() -> None:
    shown = {str(each.page.relative_to(DOCS)): json.loads(each.text) for each in fenced("json")}
    event = shown["reference/events.md"]
    assert event.keys() <= {"timestamp", "level", "event", *CATALOGUE[event["event"]].keys}
    problem = shown["reference/api.md"]
    assert TITLES[problem["status"]] == problem["title"]


@pytest.mark.parametrize("shown", list(fenced("yaml")), ids=str)
def test_prometheus_takes_the_alert(shown: Shown, tmp_path: Path) -> None:
    rules = yaml.safe_load(shown.text)
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}))  # JSON is YAML
    run(f"promtool check rules {file}", tmp_path)
    assert set(re.findall(r"\bfirmwarden_\w+", shown.text)) <= {metric.name for metric in METRICS}
