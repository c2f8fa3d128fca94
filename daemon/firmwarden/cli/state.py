"""The state of the daemon as one file: taken out, and put back."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firmwarden.cli.client_command import Output, json_option
from firmwarden.cli.daemon import config_option
from firmwarden.cli.text import paragraph
from firmwarden.errors import FirmwardenError, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from firmwarden.app.backup import BackedUp
    from firmwarden.app.restore import Restored

_file = click.Path(path_type=Path, allow_dash=True, readable=False)


@click.command()
@click.argument("file", type=_file)
@config_option
@json_option
def backup(file: Path, config: Path, *, as_json: bool) -> None:
    """Copy the state to FILE, also while the daemon runs.

    In it are devices, history, latches and wear, and the images that they need; neither the configuration nor the
    firmware directory. `-` is the standard output.
    """
    from firmwarden.app.backup import back_up, write_backup

    output = Output(as_json=as_json)
    with _failing(output):
        state_dir = _state_dir(config)
        if str(file) != "-":
            made = back_up(state_dir, file)
            output.records([_backed_up(file, made)], lambda: _say_backed_up(file, made))
            return
        if sys.stdout.isatty():
            raise Refused("a backup is no text for a terminal; name a file, or send the output to one")
        write_backup(state_dir, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@click.command()
@click.argument("file", type=_file)
@config_option
@json_option
def restore(file: Path, config: Path, *, as_json: bool) -> None:
    """Put the state from FILE in the place of the present one.

    The daemon must not run. The present state is kept as a backup of its own, and what it knows of worn flash,
    latches and what devices run still counts. `-` is the standard input.
    """
    from firmwarden.app.archive import BadBackup
    from firmwarden.app.restore import restore as app

    output = Output(as_json=as_json)
    with _failing(output):
        state_dir = _state_dir(config)
        who = _who()
        try:
            with _opened(file) as source:
                done = app(state_dir, source, who=who)
        except BadBackup as exc:
            raise BadBackup(f"{file} is refused: {exc}; nothing was changed") from exc
    output.records([_restored(done)], lambda: _say_restored(done))


@contextmanager
def _failing(output: Output) -> Iterator[None]:
    try:
        yield
    except FirmwardenError as exc:
        output.fail(exc)
    except OSError as exc:
        name = "" if exc.filename is None else f"{exc.filename}: "
        output.fail(FirmwardenError(f"{name}{exc.strerror or exc}; nothing was changed"))


def _state_dir(config: Path) -> Path:
    from firmwarden.config import load

    return load(config).settings.state_dir


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
    else:
        with file.open("rb") as source:
            yield source


def _who() -> str:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # e.g. a user of a container
        name = f"uid {uid}"
    behind = os.environ.get("SUDO_USER", "") if uid == 0 else ""
    return f"{name} (sudo: {behind})" if behind.isprintable() and behind else name


def _backed_up(file: Path, made: BackedUp) -> dict[str, Any]:
    return {
        "event": "backup-finished",
        "file": str(file),
        "devices": made.devices,
        "images": len(made.contents.images),
        "missing_images": sorted(made.missing),
        "schema_version": made.contents.schema_version,
        "made_at": made.contents.made_at,
    }


def _say_backed_up(file: Path, made: BackedUp) -> Iterator[str]:
    images = len(made.contents.images)
    yield from paragraph(
        f"{file} has the state of {_count(made.devices, 'device')} and {_count(images, 'image')}."
    )
    if made.missing:
        yield from paragraph(
            f"{_count(len(made.missing), 'image')} to which the state refers could not be had; what the firmware "
            "directory has is taken from there again."
        )


def _restored(done: Restored) -> dict[str, Any]:
    settled = done.settled
    return {
        "event": "restore-finished",
        "made_at": done.contents.made_at,
        "host": done.contents.host,
        "devices": settled.devices,
        "not_known": settled.not_known,
        "closed_jobs": settled.closed,
        "stopped_rollouts": list(settled.stopped),
        "kept_latches": settled.latches,
        "kept_erases": settled.erases,
        "aside": None if done.aside is None else str(done.aside),
    }


def _say_restored(done: Restored) -> Iterator[str]:
    settled = done.settled
    yield from paragraph(f"Restored {done.contents.made}: {_count(settled.devices, 'device')}.")
    if settled.not_known:
        yield from paragraph(
            f"What {settled.not_known} of them run{'s' if settled.not_known == 1 else ''} is not known any more: "
            "devices went on since, and nobody knows how. Such a device counts as old and is given the newest "
            'release, unless its class says `unknown = "hold"`.',
            first="- ",
            indent="  ",
        )
    if settled.closed:
        yield from paragraph(
            f"Closed {_count(settled.closed, 'job')} that waited or ran then.", first="- ", indent="  "
        )
    if settled.stopped:
        commands = ", ".join(f"`firmwarden resume {name}`" for name in settled.stopped)
        yield from paragraph(
            f"Stopped what was being rolled out: look at `firmwarden rollout`, then {commands}.",
            first="- ",
            indent="  ",
        )
    if settled.latches or settled.erases:
        yield from paragraph(
            f"Kept of what came to be since the backup: {_count(settled.latches, 'latch')} and "
            f"{_count(settled.erases, 'start')} of an erase.",
            first="- ",
            indent="  ",
        )
    if done.aside is None:
        yield from paragraph(
            "There was no state before. What came to be since the backup, worn flash and latches too, is lost.",
            first="- ",
            indent="  ",
        )
    else:
        yield from paragraph(f"The state of before is in {done.aside}.", first="- ", indent="  ")


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
