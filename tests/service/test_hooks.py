"""Hooks of the operator, as real processes: what they get, and that none of them can do harm."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.service.hooks import Hook, run_hook

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]

MESSAGE = {"event": "update-finished", "outcome": "succeeded", "device": "unit"}


def python(program: str, *arguments: object) -> Hook:
    return Hook(command=(sys.executable, "-c", program, *map(str, arguments)), timeout_s=20.0)


async def failure(hook: Hook, logs: list[MutableMapping[str, Any]]) -> str:
    """Run a hook and return what the log says of it, or nothing."""
    await run_hook(hook, MESSAGE, device="unit")
    if not logs:
        return ""
    (entry,) = logs
    assert (entry["event"], entry["device"], entry["hook"]) == ("hook-failed", "unit", hook.command[0])
    detail = entry["detail"]
    assert isinstance(detail, str)
    return detail


async def test_a_hook_gets_the_outcome_as_one_line_of_json(
    logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> None:
    got = tmp_path / "got"
    hook = python("import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", got)
    assert await failure(hook, logs) == ""
    assert json.loads(got.read_text()) == MESSAGE
    assert got.read_text().count("\n") == 1


async def test_a_hook_that_fails_is_told_and_nothing_more(logs: list[MutableMapping[str, Any]]) -> None:
    hook = python("import sys; print('no route to the mail server', file=sys.stderr); sys.exit(3)")
    detail = await failure(hook, logs)
    assert "exit status 3" in detail
    assert "no route to the mail server" in detail


async def test_a_hook_that_is_not_there(logs: list[MutableMapping[str, Any]]) -> None:
    assert "No such file" in await failure(Hook(command=("/nowhere/notify",)), logs)


async def test_inv6_a_hook_that_hangs_is_killed_in_its_time(
    logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    hook = Hook(command=(sys.executable, "-c", program, str(pid)), timeout_s=0.5)
    began = anyio.current_time()
    assert "0.5 s" in await failure(hook, logs)
    assert anyio.current_time() - began < 10.0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_hook_dies_with_the_service(logs: list[MutableMapping[str, Any]], tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    with anyio.fail_after(20.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: run_hook(python(program, pid), MESSAGE, device="unit"))
            while not pid.exists() or not pid.read_text():  # noqa: ASYNC110  another process
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert logs == []
