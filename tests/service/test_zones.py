"""Time zones by name, and the machine's, which may be set to another while Firmwarden runs."""

from __future__ import annotations

import os
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from firmwarden.service import zones
from firmwarden.service.zones import machine_zone, zone_named

SUMMER = datetime(2026, 7, 1, 12, tzinfo=UTC)


def offset(zone: object) -> timedelta | None:
    assert zone is None or hasattr(zone, "utcoffset")
    return SUMMER.astimezone(zone).utcoffset()  # type: ignore[arg-type]


def database() -> Path:
    """The system's zone files."""
    for each in zoneinfo.TZPATH:
        if (Path(each) / "Europe" / "Berlin").exists():
            return Path(each)
    pytest.skip("this machine has no zone files")


def test_a_zone_goes_by_its_name() -> None:
    assert offset(zone_named("Europe/Berlin")) == timedelta(hours=2)


@pytest.mark.parametrize(
    "name", ["Europe/Atlantis", "Europe", "../etc/passwd", "/etc/localtime", "CEST", "", "\0", "x" * 500]
)
def test_inv8_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        zone_named(name)


def test_a_machine_without_zone_files_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "available_timezones", set)
    with pytest.raises(ValueError, match="install tzdata"):
        zone_named("Europe/Atlantis")


def test_the_machines_zone_is_read_anew_at_each_use(tmp_path: Path) -> None:
    localtime, other = tmp_path / "localtime", tmp_path / "other"
    localtime.symlink_to(database() / "Europe" / "Berlin")
    assert offset(machine_zone(localtime)) == timedelta(hours=2)
    # As timedatectl(1) does it.
    other.symlink_to(database() / "Asia" / "Tokyo")
    os.replace(other, localtime)  # noqa: PTH105 - of the link
    assert offset(machine_zone(localtime)) == timedelta(hours=9)


def test_a_machine_without_a_zone_has_utc(tmp_path: Path) -> None:
    assert machine_zone(tmp_path / "localtime") is UTC
    (tmp_path / "localtime").write_text("nonsense")
    assert machine_zone(tmp_path / "localtime") is UTC
    assert isinstance(machine_zone(database() / "Europe" / "Berlin"), ZoneInfo)
