"""Starting fast is not importing: what a command does not use stays out, whatever else imports."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "firmwarden.cli",
            {
                "anyio",
                "asyncio",
                "cryptography",
                "http",
                "pydantic",
                "rich",
                "sqlite3",
                "structlog",
                "tomllib",
            },
        ),
        (
            "firmwarden.app.once",
            {"cryptography", "pydantic", "pyudev", "rich", "starlette", "tomli", "usb", "uvicorn"},
        ),
        ("firmwarden.app.named_usb", {"pydantic", "pyudev", "rich", "starlette", "tomli", "uvicorn"}),
        ("firmwarden.app.daemon", {"cryptography", "rich"}),
    ],
)
def test_a_start_leaves_out_what_it_does_not_use(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    # Not in this process: pytest and other tests have imported nearly everything.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert unwanted.isdisjoint(done.stdout.split())


def test_rich_is_there_for_those_who_show_bars() -> None:
    code = "import firmwarden.app.once, firmwarden.cli.bars, structlog; print(structlog.dev.rich)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
