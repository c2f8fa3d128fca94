"""The command: plays a scenario in a directory of its own, and says what was not as it should be."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from firmwarden.cli.demo.fleet import Fleet
from firmwarden.cli.demo.rack import Rack
from firmwarden.cli.demo.stage import Stage
from firmwarden.cli.screen import speak_to_nobody
from firmwarden.service.measures import duration, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCENARIOS: Final[Mapping[str, type[Fleet | Rack]]] = {"fleet": Fleet, "rack": Rack}


@click.command()
@click.option("--linger", is_flag=True, help="Let everything run on afterwards, until Ctrl-C.")
@click.option(
    "--scenario",
    type=click.Choice(tuple(_SCENARIOS)),
    default="fleet",
    show_default=True,
    help="What is played.",
)
def demo(*, linger: bool, scenario: str) -> None:
    """Watch the real daemon update simulated devices.

    The fleet is eight devices that go wrong in every way, and takes half a minute.  The rack is twenty-four to which a
    release goes with care, in about two minutes: a canary that does not keep well goes back, and a window closes on
    the way.

    Exits with 0 only if every device ended as it should.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        place = Path(tempfile.mkdtemp(prefix="firmwarden-demo-"))
    except OSError as exc:
        raise click.ClickException(f"There is no directory for temporary files: {exc.strerror}.") from exc
    started = time.monotonic()
    kept = False
    try:
        faults = _SCENARIOS[scenario](Stage(place)).run(linger=linger)
        kept = bool(faults)
    except click.ClickException:
        kept = True
        raise
    except SystemExit:
        click.echo("Interrupted: the daemon and the devices are stopped, and nothing of them is left.")
        raise
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
    for fault in faults:
        click.secho(printable(f"Not as it should be: {fault}"), fg="red")
    if faults:
        click.echo(f"Everything is left in {place}; the daemon's log is daemon.log.")
        sys.exit(1)
    ended = "Every device ended as it should"
    click.echo(f"{ended}." if linger else f"{ended}, in {duration(time.monotonic() - started)}.")


def _interrupted(number: int, _frame: object) -> NoReturn:
    """Leave by way of everything that ends a process or removes a file; once is enough."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        speak_to_nobody()  # the terminal is gone
    sys.exit(128 + number)
