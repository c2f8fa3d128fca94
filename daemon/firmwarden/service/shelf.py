"""The releases that lie in the firmware directory: which are accepted, which are refused and why.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cmp_to_key
from typing import TYPE_CHECKING

from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmwarden.model import ClassName, Device, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRelease:
    """A manifest that does not count, or not yet."""

    manifest: str
    """Its file name."""
    reason: str
    """What is wrong and where, for a person."""
    since: float
    """The instant at which it was first refused for this reason."""
    device_class: ClassName | None = None
    version: str | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What one scan of the firmware directory found."""

    releases: tuple[Release, ...] = ()
    """Accepted, by the names of their manifests; within a class any two can be compared and no two are equal."""
    refused: tuple[RefusedRelease, ...] = ()
    problem: str = ""
    """Why the directory could not be looked through; the rest is then what the last good scan found."""


def would_be_news(device: Device, refused: RefusedRelease) -> bool:
    """Whether a device might be given a refused release of its class if that were in order.

    What is not newer than what it runs would not be, unless a person pinned it to that.
    """
    if refused.version is None or device.running_version is None:
        return True
    if refused.version == device.running_version:
        return False
    if device.complete is False or refused.version == device.pinned:
        return True
    order = compare(
        VersionTag(refused.version, refused.sequence),
        VersionTag(device.running_version, device.running_sequence),
    )
    return order is None or order > 0


def misfits(releases: Iterable[Release]) -> dict[str, str]:
    """Find the releases that keep a class from having one order.

    Returns:
        For each manifest that must be refused, the reason.
    """
    refused: dict[str, str] = {}
    by_class: dict[str, list[Release]] = {}
    for release in sorted(releases, key=lambda release: release.manifest):
        by_class.setdefault(release.device_class, []).append(release)
    for of_class in by_class.values():
        refused.update(_without_sequence(of_class))
        left = [release for release in of_class if release.manifest not in refused]
        for equals in (*_by_version(left), *_by_rank(left)):
            refused.update(_contradictions(equals))
    return refused


def _without_sequence(of_class: list[Release]) -> Iterator[tuple[str, str]]:
    """Where one has a sequence all need one: a mixed crowd has no order."""
    having = [release.manifest for release in of_class if release.sequence is not None]
    for release in of_class:
        if having and release.sequence is None:
            yield (
                release.manifest,
                f"has no sequence, so it cannot be compared with {having[0]}, which has one",
            )


def _by_version(releases: list[Release]) -> Iterator[list[Release]]:
    groups: dict[str, list[Release]] = {}
    for release in releases:
        groups.setdefault(release.version, []).append(release)
    yield from groups.values()


def _by_rank(releases: list[Release]) -> Iterator[list[Release]]:
    group: list[Release] = []
    for release in sorted(releases, key=cmp_to_key(_order)):
        if group and _order(group[0], release) != 0:
            yield group
            group = []
        group.append(release)
    yield group


def _order(one: Release, other: Release) -> int:
    return compare(VersionTag(one.version, one.sequence), VersionTag(other.version, other.sequence)) or 0


def _contradictions(equals: list[Release]) -> Iterator[tuple[str, str]]:
    """Of releases that claim the same place: one image is a duplicate, several are a riddle."""
    first = equals[0]
    another = next((other for other in equals if other.image != first.image), None)
    for release in equals:
        other = another if release.image == first.image else first
        if other is not None:
            yield release.manifest, f"{_alike(release, other)}, but another image"
        elif release is not first:
            yield release.manifest, f"{_alike(release, first)}, and the same image"


def _alike(release: Release, other: Release) -> str:
    what = "version" if release.version == other.version else "rank"
    return f"has the same {what} as {other.manifest} ({other.version})"
