"""What holds for the repository as a whole and no other tool looks at."""

import re
import tomllib
from pathlib import Path

import firmwarden

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_daemon_is_a_source_root_and_not_a_package() -> None:
    # A package named `daemon` exists on the index and would be shadowed.
    assert [path.name for path in (ROOT / "daemon").iterdir() if path.suffix != ".egg-info"] == ["firmwarden"]


def test_the_core_stays_at_most_fourteen_dependencies() -> None:
    assert len(PROJECT["dependencies"]) <= 14


def test_version_is_stated_once_more_only_where_the_package_needs_it() -> None:
    assert firmwarden.__version__ == PROJECT["version"]


def test_locks_name_no_place_to_fetch_from() -> None:
    # Whoever installs chooses the index; the hashes say that what comes is what was meant.
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert not [
            line for line in text.splitlines() if "://" in line or "index-url" in line or "file:" in line
        ]


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (document.relative_to(ROOT), target)
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert links
    assert not [
        (str(document), target)
        for document, target in links
        if not (ROOT / document).parent.joinpath(target).exists()
    ]
