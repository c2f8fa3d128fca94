"""What the commands that run simulated devices have in common: where they listen, what they tell, when they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import click

from firmwarden.simulate.fault_text import BadFault

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_HIGHEST_PORT: Final = 0xFFFF
_READ_SIZE: Final = 4096


def read_endpoint(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """Read ``[HOST]:PORT``; the host is the loopback unless it is said."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise click.BadParameter(f"{text!r} is not [HOST]:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def read_faults(
    parse: Callable[[str], T],
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[tuple[int | None, T], ...]]:
    """Return what reads ``[NUMBER:]FAULT``: faults, each with the number of its device, or None for all."""

    def read(text: str) -> tuple[int | None, T]:
        number, colon, fault = text.partition(":")
        try:
            if colon and number.isdecimal():
                return int(number), parse(fault)
            return None, parse(text)
        except BadFault as exc:
            raise click.BadParameter(str(exc)) from exc

    return lambda _ctx, _param, texts: tuple(map(read, texts))


def print_event(event: dict[str, object]) -> None:
    """Write one JSON object in a line."""
    line = (json.dumps(event) + "\n").encode()
    stdout = sys.stdout.fileno()
    # "ready" is waited for; what comes later must not stop the devices when nobody reads it.
    if event["event"] == "ready" or select.select([], [stdout], [], 0)[1]:
        with contextlib.suppress(BrokenPipeError):
            os.write(stdout, line)


def stop_event(*, with_stdin: bool, told: Callable[[str], None] = lambda _line: None) -> asyncio.Event:
    """Return what is set by SIGTERM or SIGINT, or by the end of standard input.

    Args:
        with_stdin: its end counts.
        told: is given each line of it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_stdin:
        _watch_stdin(loop, stop, told)
    return stop


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, told: Callable[[str], None]) -> None:
    stdin = sys.stdin.fileno()
    begun = b""

    def readable() -> None:
        nonlocal begun
        data = os.read(stdin, _READ_SIZE)
        if not data:
            loop.remove_reader(stdin)
            stop.set()
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            told(line.decode(errors="replace"))

    try:
        loop.add_reader(stdin, readable)
    except PermissionError as exc:
        raise click.UsageError("--stop-with-stdin needs a pipe or a terminal as standard input") from exc
