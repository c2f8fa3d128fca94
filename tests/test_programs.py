"""Programs of an operator: whatever they do, they end and say little."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.programs import SAID_AT_MOST, run_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def test_a_program_that_succeeds_has_nothing_to_say() -> None:
    assert await run_program(python("print('all well')"), timeout_s=20) == ""


async def test_a_program_gets_its_input_and_environment(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"import os, sys; open({str(told)!r}, 'w').write(os.environ['WHERE'] + sys.stdin.read())"
    assert await run_program(python(program), timeout_s=20, text=b" in", extra_env={"WHERE": "here"}) == ""
    assert told.read_text() == "here in"


async def test_a_program_need_not_read_its_input() -> None:
    assert await run_program(python("pass"), timeout_s=20, text=b"x" * 1_000_000) == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_program_that_fails_is_quoted(stream: str) -> None:
    wrong = await run_program(
        python(f"import sys; print('no relay', file=sys.{stream}); sys.exit(3)"), timeout_s=20
    )
    assert wrong == "exit status 3: no relay"


async def test_a_program_that_is_not_there_is_told() -> None:
    assert await run_program(["/nowhere/relay"], timeout_s=20) == "cannot be run: No such file or directory"


async def test_only_the_end_of_much_output_is_kept() -> None:
    wrong = await run_program(
        python("import sys; print('x' * 5_000_000 + ' last'); sys.exit(1)"), timeout_s=20
    )
    assert wrong.endswith("xxx last")
    assert len(wrong) <= len("exit status 1: ") + SAID_AT_MOST


async def test_inv6_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    child = f"import time\nwhile True:\n open({str(beats)!r}, 'a').write('.')\n time.sleep(0.02)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert await run_program(python(program), timeout_s=1.5) == "took longer than 1.5 s and was ended"
    beaten = beats.stat().st_size
    assert beaten > 0
    await anyio.sleep(0.3)
    assert beats.stat().st_size == beaten


async def test_what_a_program_leaves_running_is_not_waited_for() -> None:
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'])"
    with anyio.fail_after(2.5):
        assert await run_program(python(program), timeout_s=20) == ""
