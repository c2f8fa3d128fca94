"""The journal knows what our entries mean, and its own tool finds nothing wrong with that."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from firmwarden.events import CATALOGUE
from firmwarden.log.journald import message_id
from support.programs import program
from support.reference_pages import CATALOGUE_FILE, render_catalogue

if TYPE_CHECKING:
    from pathlib import Path


def test_the_catalogue_is_what_the_code_says() -> None:
    written = CATALOGUE_FILE.read_text(encoding="utf-8")
    assert written == render_catalogue(), (
        "systemd/firmwarden.catalog is out of date: `make docs` writes it anew"
    )


def test_journalctl_takes_it_and_knows_what_asks_for_somebody(tmp_path: Path) -> None:
    for directory in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/catalog" / CATALOGUE_FILE.name).write_bytes(CATALOGUE_FILE.read_bytes())

    def journalctl(*arguments: str) -> str:
        command = [program("journalctl"), f"--root={tmp_path}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        assert done.stderr == ""
        return done.stdout

    journalctl("--update-catalog")
    known = {line.split()[0] for line in journalctl("--list-catalog").splitlines()}
    assert known == {message_id(event) for event, entry in CATALOGUE.items() if entry.act != "nobody"}


def test_it_asks_for_fields_that_entries_have() -> None:
    for entry in render_catalogue().split("\n-- ")[1:]:
        event = next(event for event in CATALOGUE if entry.startswith(message_id(event)))
        fields = {f"FIRMWARDEN_{key.upper()}" for key in CATALOGUE[event].keys}
        assert set(re.findall(r"@(\w+)@", entry)) <= fields, event
