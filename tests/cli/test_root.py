"""The list of commands, and how little it takes to start one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from firmwarden import __version__
from firmwarden.cli import main
from support import signing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from support.served import Served

    Run = Callable[..., Result]

COMMANDS = [
    "run",
    "check",
    "hand-back",
    "backup",
    "restore",
    "update",
    "info",
    "plan",
    "provision",
    "keygen",
    "sign",
    "bundle",
    "verify",
    "status",
    "devices",
    "releases",
    "jobs",
    "history",
    "rollout",
    "why",
    "watch",
    "retry",
    "clear",
    "cancel",
    "hold",
    "unhold",
    "pin",
    "adopt",
    "forget",
    "resume",
    "recall",
    "demo",
    "simulate",
]
HEAVY = {
    "pydantic",
    "starlette",
    "uvicorn",
    "structlog",
    "serial",
    "anyio",
    "asyncio",
    "sqlite3",
    "rich",
    "pyudev",
    "cryptography",
}


def test_help_lists_every_command(run_alone: Run) -> None:
    text = run_alone("--help").stdout
    assert re.findall(r"^  ([a-z][a-z-]+)  ", text, re.MULTILINE) == COMMANDS
    assert "..." not in text.partition("Options:")[2]  # nothing is cut off


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run_alone: Run, command: str) -> None:
    assert run_alone(command, "-h").stdout.startswith(f"Usage: firmwarden {command} ")


@pytest.mark.parametrize("command", ["", *COMMANDS, "simulate mdfu", "simulate dfu"])
def test_help_fits_a_terminal_of_the_usual_width(command: str) -> None:
    text = CliRunner().invoke(main, [*command.split(), "--help"], env={"COLUMNS": "80"}).stdout
    assert max(map(len, text.splitlines())) <= 80


def test_the_version(run_alone: Run) -> None:
    assert run_alone("--version").stdout == f"firmwarden {__version__}\n"


@pytest.mark.parametrize(
    "command", ["--help", "status", "why panel-1", "devices --json", "plan", "update --help"]
)
def test_it_starts_with_click_and_the_standard_library(api: Served, command: str) -> None:
    script = f"""
import sys
from firmwarden.cli import main
try:
    main({command.split()!r})
except SystemExit as exc:
    assert not exc.code, exc.code
print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "FIRMWARDEN_SOCKET": str(api.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout
    assert result.stderr == "[]\n"


def test_check_says_what_a_good_configuration_means(run_alone: Run, tmp_path: Path) -> None:
    config = tmp_path / "firmwarden.toml"
    config.write_text("""
[firmwarden]
socket = "/run/firmwarden/lab.sock"
[[device]]
name = "front-panel"
driver = "mdfu"
match = { usb = "04d8:000a", serial = "P*" }
[[device]]
name = "lamp"
driver = "mdfu"
identity = "port"
match = { tcp = ["10.0.0.1:5559", "[::1]:5559"] }
""")
    result = run_alone("check", "--config", str(config))
    assert result.exit_code == 0
    assert "The configuration is good." in result.stdout
    assert "/run/firmwarden/lab.sock" in result.stdout
    panel, lamp = result.stdout.partition("\n\n")[2].splitlines()[1:3]
    assert panel.split() == ["front-panel", "mdfu", "port", "usb", "04d8:000a,", "serial", "P*"]
    assert lamp.split() == ["lamp", "mdfu", "port", "tcp", "10.0.0.1:5559,", "[::1]:5559"]

    config.write_text("[firmwarden]\n")
    assert "no device would ever be updated" in run_alone("check", "--config", str(config)).stdout


def test_check_says_who_may_sign(run_alone: Run, tmp_path: Path) -> None:
    config = tmp_path / "firmwarden.toml"

    def key(number: int, classes: str, more: str = "") -> str:
        public = signing.key(number).public.encode()
        return f'[[key]]\nname = "key-{number}"\npublic = "{public}"\nclasses = {classes}\n{more}\n'

    classes = (
        f'[[device]]\nname = "{name}"\ndriver = "mdfu"\nmatch = {{ path = "/dev/{name}" }}\n{more}\n'
        for name, more in (("panel", ""), ("pump", ""), ("lab", "require_signature = false"))
    )
    keys = (key(1, '["panel"]'), key(2, '["panel", "lab"]'), key(3, '["*"]', "revoked = true"))
    config.write_text("".join((*keys, *classes)))
    told = " ".join(run_alone("check", "--config", str(config)).stdout.split())
    assert "- panel: signed with key-1 or key-2." in told
    assert "- pump: none, because they have to be signed and no [[key]] may do it." in told
    assert "- lab: signed or not, so whoever can write to the firmware directory decides" in told


def test_check_says_what_a_power_cut_would_do_to_a_dfu_device(run_alone: Run, tmp_path: Path) -> None:
    config = tmp_path / "firmwarden.toml"
    config.write_text("""
[[device]]
name = "meter"
driver = "dfu"
match = { usb = "1209:0001", port = "usb-*-1.4" }
part = "STM32L476RG"
failsafe = "bfb2"
image_address = 0x08000000

[[device]]
name = "lamp"
driver = "dfu"
match = { usb = "1209:0002" }
part = "STM32F072RB"
image_format = "dfuse"
""")
    told = " ".join(run_alone("check", "--config", str(config)).stdout.split())
    assert "meter dfu port usb 1209:0001, port usb-*-1.4" in told
    assert "- meter: without an image the device comes up in its ROM's loader." in told
    assert "- lamp: its updates wait, because nobody said what protects it when the power fails" in told


def test_inv8_check_prints_every_problem(run_alone: Run, tmp_path: Path) -> None:
    config = tmp_path / "firmwarden.toml"
    config.write_text('[firmwarden]\nparalel = 3\nlog_level = "loud"\n')
    result = run_alone("check", "--config", str(config))
    assert result.exit_code == 1
    assert f"{config}:2" in result.stdout
    assert f"{config}:3" in result.stdout
    assert "is refused whole, for these 2 problems." in " ".join(result.stderr.split())


@pytest.mark.parametrize(("wish", "coloured"), [("", True), ("1", False)])
def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, wish: str, coloured: bool) -> None:
    @click.command()
    def shout() -> None:
        click.secho("help", fg="red")

    monkeypatch.setitem(main.commands, "shout", shout)
    result = CliRunner().invoke(main, ["shout"], env={"NO_COLOR": wish}, color=True)
    assert ("\x1b[31m" in result.stdout) is coloured
