"""What is deleted when the package is purged, in a mount namespace where nothing of the machine can be."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

POSTRM: Final = Path(__file__).parents[2] / "debian" / "firmwarden.postrm"
STATE: Final = "/var/lib/firmwarden"
OTHER: Final = "/var/lib/other"
"""A file system of its own."""
SAME: Final = "/var/lib/same"
"""A directory of the file system that has the state."""
_EVERYTHING: Final = f"""
set -eu
for each in /etc /run /var/lib; do mount -t tmpfs none $each; done
mkdir {OTHER} && mount -t tmpfs none {OTHER}
for each in {OTHER} {SAME}; do mkdir -p $each/empty && touch $each/release.img; done
mkdir -p /etc/firmwarden/devices.d /run/firmwarden {STATE}/firmware/share {STATE}/images
touch /etc/firmwarden/firmwarden.toml {STATE}/firmwarden.db {STATE}/images/0123 "{STATE}/firmware/.two
lines"
"""
_LIST: Final = "find /etc/firmwarden* /run/firmwarden* /var/lib/* 2>/dev/null || true"


def purged(first: str = "") -> set[str]:
    """Purge a machine that has everything, and list what is left."""
    script = f"{_EVERYTHING}\n{first}\nsh {POSTRM} purge\n{_LIST}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and "unshare: " in done.stderr:
        pytest.skip(f"no namespace may be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()}


def holding(*places: str) -> set[str]:
    return {f"{place}/{name}" for place in places for name in ("empty", "release.img")}


def test_all_of_it_goes() -> None:
    assert purged() == {OTHER, SAME} | holding(OTHER, SAME)


@pytest.mark.parametrize("place", [STATE, "/etc/firmwarden"])
def test_a_directory_that_is_a_mount_point_is_emptied(place: str) -> None:
    left = purged(f"mount -t tmpfs none {place}; touch {place}/x")
    assert left - {place} == {OTHER, SAME} | holding(OTHER, SAME)


@pytest.mark.parametrize("mounted", [OTHER, SAME])
@pytest.mark.parametrize("below", ["firmware", "firmware/share"])
def test_what_is_mounted_below_is_left_alone(mounted: str, below: str) -> None:
    place = f"{STATE}/{below}"
    left = purged(f"mount --bind {mounted} {place}")
    empty = {STATE, f"{STATE}/firmware", f"{STATE}/images"}
    assert left == {OTHER, SAME, place} | empty | holding(OTHER, SAME, place)


def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed() -> None:
    # Whoever runs as the daemon's user may swap a directory of it at any instant.  The worst one is here: what is in
    # it is found, and not yet deleted.
    swapped = f"{STATE}/firmware/swapped"
    left = purged(f"""
mkdir -p {swapped}/empty && touch {swapped}/release.img
cp "$(command -v rm)" /run/rm
cat >/run/swap <<end
#!/bin/sh
case "\\$*" in *release.img*) mv {swapped} {swapped}-away && ln -s {SAME} {swapped} ;; esac
exec /run/rm "\\$@"
end
chmod +x /run/swap && mount --bind /run/swap "$(command -v rm)"
""")
    assert f"{swapped}-away/release.img" not in left
    assert left >= holding(SAME)


def test_a_path_that_has_the_current_directory_keeps_nothing() -> None:
    assert purged('export PATH="$PATH:"') == purged()
