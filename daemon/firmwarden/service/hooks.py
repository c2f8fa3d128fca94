"""Runs an operator's command with an outcome on its standard input, bounded in time and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from firmwarden.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import Process

log = structlog.get_logger()

SHOWN: Final = 400
"""Bytes of a failed hook's output that go to the log."""
LAST_WORDS_S: Final = 0.5
"""How long output is read on after the command has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command and how long it may take."""

    command: Sequence[str]
    """Program and arguments; no shell in between."""
    timeout_s: float = 30.0


async def run_hook(hook: Hook, message: Mapping[str, object], *, device: str) -> None:
    """Run ``hook`` with ``message`` as one line of JSON on its standard input.

    A hook cannot change what happened: its failure is logged and nothing else.  One that outlives its time, or the
    caller's cancellation, is killed with all that it started.
    """
    detail = await _run(hook, (json.dumps(message) + "\n").encode())
    if detail:
        log.warning(LogEvent.HOOK_FAILED, device=device, hook=hook.command[0], detail=detail)


async def _run(hook: Hook, text: bytes) -> str:
    """Run it and tell what went wrong, or nothing."""
    try:
        process = await anyio.open_process(
            list(hook.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        return str(exc)
    said = bytearray()
    try:
        with anyio.move_on_after(hook.timeout_s) as limit:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_write, process, text)
                tasks.start_soon(_read, process, said)
                await process.wait()
                # What it left running may keep the pipes open for ever.
                tasks.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session, so its own group
        await process.aclose()
    if limit.cancelled_caught:
        return f"took longer than {hook.timeout_s:g} s and was ended"
    if process.returncode == 0:
        return ""
    last = said.decode(errors="replace").strip()
    return f"exit status {process.returncode}" + (f": {last}" if last else "")


async def _write(process: Process, text: bytes) -> None:
    if process.stdin is not None:
        # A command need not care what happened: it may end without reading.
        with suppress(anyio.BrokenResourceError, OSError):
            await process.stdin.send(text)
        await process.stdin.aclose()


async def _read(process: Process, said: bytearray) -> None:
    """Keep the end of what it says."""
    if process.stderr is not None:
        async for chunk in process.stderr:
            said += chunk
            del said[:-SHOWN]
