"""The reference of the API: its tables are the code's, its figures too, and its commands work."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from firmwarden.control import connection, stream, upload
from firmwarden.control.access import Rules
from firmwarden.control.operations import LISTED, LISTED_AT_MOST
from firmwarden.control.requests import BODY_LIMIT, TEXT_LIMIT
from firmwarden.images.bundle import Packed, pack
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST, parse_manifest
from firmwarden.service import pulse
from firmwarden.service.feed import RING
from support.api_page import PAGE, render
from support.drop import manifest_of
from support.memory_desk import MemoryDesk
from support.pages import DOCS, block_after, fenced
from support.programs import program
from support.served import MINE, served

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


@pytest.fixture
def desk(tmp_path: Path) -> MemoryDesk:
    """A desk that has not got the release that lies beside it."""
    image = b"firmware" * 100
    manifest = manifest_of(image, device="front-panel", image="front-panel-2.4.0.img")
    (tmp_path / "front-panel-2.4.0.img").write_bytes(image)
    (tmp_path / "front-panel-2.4.0.toml").write_bytes(manifest)
    (tmp_path / "front-panel-2.4.0.toml.minisig").write_bytes(b"signature")
    release = Packed(
        name="spring.toml",
        manifest=parse_manifest(manifest, "spring.toml"),
        content=manifest,
        signature=None,
        image=image,
    )
    (tmp_path / "spring.fwz").write_bytes(pack([release]))
    desk = MemoryDesk()
    desk.shelf.clear()
    return desk


def run(command: str, directory: Path, **variables: str) -> Any:  # noqa: ANN401 (JSON)
    program("curl")
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_the_page_works(command: str, desk: MemoryDesk, tmp_path: Path) -> None:
    assert "/run/firmwarden/control.sock" in command
    with served(desk, tmp_path / "control.sock") as api:
        answer = run(command.replace("/run/firmwarden/control.sock", str(api.path)), tmp_path)
    assert "detail" not in answer
    assert answer


def test_a_release_is_sent_over_tcp_as_the_how_to_shows(desk: MemoryDesk, tmp_path: Path) -> None:
    page = DOCS / "how-to" / "release-a-firmware.md"
    command = block_after(page, "## Send it from elsewhere", "sh")
    rules = Rules(act_group=MINE, token="a-token-of-some-length")
    with served(desk, tmp_path / "control.sock", rules=rules, tcp=True) as api:
        here = command.replace("gateway-7.local:8642", f"127.0.0.1:{api.port}")
        answer = run(here, tmp_path, TOKEN="a-token-of-some-length")
    assert answer == desk.shelf[-1]
    assert desk.actions[0]["who"] == "token from 127.0.0.1"


def test_every_command_is_tried() -> None:
    assert len(COMMANDS) == TEXT.count("curl -")
