"""Runs an operator's command with an outcome on its standard input, bounded in time and output."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from firmwarden.events import LogEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = structlog.get_logger()

SHOWN: Final = 400
"""Characters of a failed hook's output that go to the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command and how long it may take."""

    command: Sequence[str]
    """Program and arguments; no shell in between."""
    timeout_s: float = 30.0


async def run_hook(hook: Hook, message: Mapping[str, object], *, device: str) -> None:
    """Run ``hook`` with ``message`` as one line of JSON on its standard input.

    A hook cannot change what happened: its failure is logged and nothing else.  One that outlives its time, or the
    caller's cancellation, is killed.
    """
    text = json.dumps(message) + "\n"
    try:
        with anyio.fail_after(hook.timeout_s):
            done = await anyio.run_process(
                list(hook.command),
                input=text.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                start_new_session=True,
            )
    except TimeoutError:
        detail = f"took longer than {hook.timeout_s:g} s and was ended"
    except OSError as exc:
        detail = str(exc)
    else:
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip()[-SHOWN:]
        detail = f"exit status {done.returncode}" + (f": {said}" if said else "")
    log.warning(LogEvent.HOOK_FAILED, device=device, hook=hook.command[0], detail=detail)
