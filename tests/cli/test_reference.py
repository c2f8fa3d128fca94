"""The reference pages name every command, option, route and status there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from starlette.routing import Mount, Route

from firmwarden.cli.root import SECTIONS
from firmwarden.control import connection, stream
from firmwarden.control.app import make_app
from firmwarden.control.operations import LISTED, LISTED_AT_MOST
from firmwarden.control.problems import TITLES
from firmwarden.control.requests import BODY_LIMIT, TEXT_LIMIT
from firmwarden.exit_status import ExitStatus
from firmwarden.service.feed import RING
from support.memory_desk import MemoryDesk

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
    documented = set(re.findall(r"`firmwarden ([a-z]+)", CLI))
    assert documented == {command.name for command in commands}


def test_every_exit_status_is_documented() -> None:
    assert [int(row) for row in re.findall(r"^\| (\d+) \| ", CLI, re.MULTILINE)] == list(ExitStatus)


def test_every_route_is_documented() -> None:
    app = make_app(MemoryDesk(), anyio.Event())
    routes = set()
    (mount,) = (each for each in app.routes if isinstance(each, Mount) and each.path == "/v1")
    for route in mount.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{device:path}", "DEVICE").replace("{job}", "JOB")
        routes |= {f"{method} {mount.path}{path}" for method in (route.methods or set()) - {"HEAD"}}
    assert set(re.findall(r"`((?:GET|POST|DELETE) [^?`]*)", API)) == routes


def test_every_problem_is_documented() -> None:
    documented = re.findall(r"^\| (\d+) \| `([a-z-]+)`", API, re.MULTILINE)
    assert documented == [(str(status), title.lower().replace(" ", "-")) for status, title in TITLES.items()]


def test_figures_are_those_of_the_code() -> None:
    for figure in (
        f"{BODY_LIMIT // 1024} KiB",
        f"1 to {TEXT_LIMIT} printable",
        f"from 1 to {LISTED_AT_MOST}, and {LISTED} if left out",
        f"every {stream.HEARTBEAT_S:.0f} seconds",
        f"nothing for {connection.STALL_S:.0f} seconds",
        f"last {RING}",
    ):
        assert figure in " ".join(API.split()), figure
