"""What every command against the running daemon has in common: its options and what happens on an error."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from firmwarden.cli.client import Client, Problem, Unreachable, find_socket
from firmwarden.cli.text import paragraph, utc_now, with_local_times
from firmwarden.errors import FirmwardenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def examples(*lines: str) -> str:
    """Return what stands below the options in a command's help."""
    # click leaves the lines of a paragraph as they are after this character.
    return "\n".join(("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


class Output:
    """Prints an answer, as text or as JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def records(self, records: Iterable[Mapping[str, Any]], lines: Callable[[], Iterable[str]]) -> None:
        """Print the records as JSON lines, or else the text that ``lines`` makes of them."""
        for line in map(as_line, records) if self.as_json else lines():
            click.echo(line)

    def done(self, sentence: str) -> None:
        """Print what was done."""
        self.records([{"done": sentence}], lambda: paragraph(with_local_times(sentence, utc_now())))

    def fail(self, problem: FirmwardenError, status: int = 1) -> NoReturn:
        """Print what went wrong, in the daemon's words where it answered, and leave."""
        match problem:
            case Problem(kind=kind):
                pass
            case Unreachable():
                kind = "unreachable"
            case _:
                kind = "failed"
        if self.as_json:
            click.echo(as_line({"event": "error", "type": kind, "detail": str(problem)}))
        else:
            click.echo("\n".join(paragraph(str(problem), first="firmwarden: ")), err=True)
        sys.exit(status)


def as_line(record: Mapping[str, Any]) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(", ", ": "))


def client_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its client and output, and turn what the client raises into a message and exit status 1."""

    @json_option
    @click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path, readable=False),
        help="The daemon's socket.  [default: FIRMWARDEN_SOCKET, or as the configuration says]",
    )
    @click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),
        help="Find the daemon's socket in this configuration.",
    )
    @functools.wraps(command)
    def wrapper(
        *, as_json: bool, socket_path: Path | None, config: Path | None, **parameters: object
    ) -> None:
        output = Output(as_json=as_json)
        try:
            command(Client(find_socket(socket_path, config)), output, **parameters)
        except FirmwardenError as exc:
            output.fail(exc)

    return wrapper
