"""Runs an operator's program, bounded in time and in what it says."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import Process

SAID_AT_MOST: Final = 400
"""Bytes kept of what a program says: the last ones, where complaints are, and the first."""

LAST_WORDS_S: Final = 0.5
"""How long output is read on after the program has ended."""


class Heard(NamedTuple):
    """What became of a program."""

    wrong: str
    """Empty when it succeeded."""
    said: str
    """The end of it."""
    first: str = ""
    """The first line of it."""
    status: int | None = None
    """Its exit status; None where it did not come to an end of its own."""
    started: bool = True
    """False where there is no such program, or it may not be run."""


async def run_program(
    argv: Sequence[str], *, timeout_s: float, text: bytes = b"", extra_env: Mapping[str, str] | None = None
) -> str:
    """Run a program and return what went wrong, nothing when it succeeded; see ``hear_program``."""
    return (await hear_program(argv, timeout_s=timeout_s, text=text, extra_env=extra_env)).wrong


async def hear_program(
    argv: Sequence[str], *, timeout_s: float, text: bytes = b"", extra_env: Mapping[str, str] | None = None
) -> Heard:
    """Run a program and return what went wrong and what it said.

    One that outlives its time, or the caller's cancellation, is killed with all that it started.

    Args:
        argv: the program and its arguments; no shell in between.
        timeout_s: how long it may take.
        text: for its standard input.
        extra_env: added to our own environment.
    """
    try:
        process = await anyio.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(extra_env or {})},
            start_new_session=True,
        )
    except OSError as exc:
        return Heard(f"cannot be run: {exc.strerror}", "", started=False)
    except ValueError as exc:  # a serial number from the USB may hold what no environment can
        return Heard(f"cannot be run: {exc}", "", started=False)
    said, first = bytearray(), bytearray()
    try:
        with anyio.move_on_after(timeout_s) as limit:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_write, process, text)
                tasks.start_soon(_read, process, said, first)
                await process.wait()
                # What it left running may keep the pipes open for ever.
                tasks.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it ended by itself just now
                os.killpg(process.pid, signal.SIGKILL)  # its own session, so its own group
        # It is dead or dies now.  A cancelled wait would make anyio kill it once more, and the library looks for it
        # before it does so, and so takes its exit status from whoever waits for that.
        with anyio.CancelScope(shield=True):
            await process.aclose()
    last = said.decode(errors="replace").strip()
    if limit.cancelled_caught:
        return Heard(f"took longer than {timeout_s:g} s and was ended", last)
    status = process.returncode
    wrong = "" if status == 0 else f"exit status {status}" + (f": {last}" if last else "")
    return Heard(wrong, last, first.decode(errors="replace").strip().partition("\n")[0].rstrip(), status)


async def _write(process: Process, text: bytes) -> None:
    if process.stdin is not None:
        # A program need not care for its input: it may end without reading.
        with suppress(anyio.BrokenResourceError, OSError):
            await process.stdin.send(text)
        await process.stdin.aclose()


async def _read(process: Process, said: bytearray, first: bytearray) -> None:
    if process.stdout is not None:
        async for chunk in process.stdout:
            first += chunk[: SAID_AT_MOST - len(first)]
            said += chunk
            del said[:-SAID_AT_MOST]
