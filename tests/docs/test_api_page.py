"""The reference of the API: its tables are the code's, its figures too, and its commands work."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.control import connection, stream, upload
from firmwarden.control.operations import LISTED, LISTED_AT_MOST
from firmwarden.control.requests import BODY_LIMIT, TEXT_LIMIT
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST
from firmwarden.service import pulse
from firmwarden.service.feed import RING
from support.api_page import PAGE, render
from support.drop import manifest_of
from support.memory_desk import MemoryDesk
from support.pages import fenced
from support.served import served

if TYPE_CHECKING:
    from pathlib import Path

TEXT: Final = PAGE.read_text(encoding="utf-8")

COMMANDS: Final = [
    line
    for block in fenced("sh")
    if block.page == PAGE
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines()
]


def test_the_tables_are_what_the_code_says() -> None:
    assert render(TEXT) == TEXT, "docs/reference/api.md is out of date: `make docs` writes its tables anew"


def test_no_cell_breaks_its_table() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert {row.count("|") for row in rows} <= {4}


def test_figures_are_those_of_the_code() -> None:
    for figure in (
        f"{BODY_LIMIT // 1024} KiB at most",
        f"1 to {TEXT_LIMIT} printable",
        f"from 1 to {LISTED_AT_MOST}, and {LISTED} if left out",
        f"every {stream.HEARTBEAT_S:.0f} seconds",
        f"nothing for {connection.STALL_S:.0f} seconds",
        f"the last {RING}",
        f"longer than {pulse.ANSWER_S:.0f} seconds",
        f"at most {LARGEST_IMAGE >> 20} MiB and a manifest {LARGEST_MANIFEST >> 10} KiB",
        f"of {upload.UPLOAD_S / 60:.0f} minutes at most",
    ):
        assert figure in " ".join(TEXT.split()), figure


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_the_page_works(command: str, tmp_path: Path) -> None:
    image = b"firmware" * 100
    desk = MemoryDesk()
    desk.shelf.clear()
    (tmp_path / "front-panel-2.4.0.img").write_bytes(image)
    (tmp_path / "front-panel-2.4.0.toml").write_bytes(manifest_of(image, device="front-panel"))
    with served(desk, tmp_path / "control.sock") as api:
        assert "/run/firmwarden/control.sock" in command
        line = command.replace("/run/firmwarden/control.sock", str(api.path))
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=10, check=True
        )
    answer = json.loads(done.stdout)
    assert "detail" not in answer
    assert answer


def test_every_command_is_tried() -> None:
    assert len(COMMANDS) == TEXT.count("curl -")
