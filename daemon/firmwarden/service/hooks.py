"""Tells an operator's program about an outcome, on its standard input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from firmwarden.events import LogEvent
from firmwarden.programs import run_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command and how long it may take."""

    command: Sequence[str]
    """Program and arguments; no shell in between."""
    timeout_s: float = 30.0


async def run_hook(hook: Hook, message: Mapping[str, object], *, device: str) -> None:
    """Run ``hook`` with ``message`` as one line of JSON on its standard input.

    A hook cannot change what happened: its failure is logged and nothing else.
    """
    text = (json.dumps(message) + "\n").encode()
    detail = await run_program(hook.command, timeout_s=hook.timeout_s, text=text)
    if detail:
        log.warning(LogEvent.HOOK_FAILED, device=device, hook=hook.command[0], detail=detail)
