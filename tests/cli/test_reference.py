"""The reference pages name every command, option, route and status there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from firmwarden.cli.root import SECTIONS
from firmwarden.exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"
CLI = (REFERENCE / "cli.md").read_text(encoding="utf-8")
API = (REFERENCE / "api.md").read_text(encoding="utf-8")


def options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter.opts[0]


def test_every_command_and_option_is_documented() -> None:
    commands = [command for section in SECTIONS.values() for command in section]
    assert [each.name for each in commands if f"`firmwarden {each.name}" not in CLI] == []
    assert sorted({each for command in commands for each in options(command) if each not in CLI}) == []
    documented = set(re.findall(r"`firmwarden ([a-z-]+)", CLI))
    assert documented == {command.name for command in commands}


def test_every_exit_status_is_documented() -> None:
    assert [int(row) for row in re.findall(r"^\| (\d+) \| ", CLI, re.MULTILINE)] == list(ExitStatus)
