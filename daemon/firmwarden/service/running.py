"""What a unit is known to run by the word of a person, or of its own application.

An application may tell its version in the descriptors that every scan reads.  Its word counts as far as it goes: it
says what runs, not that an update which was cut is whole, and nothing about what an attempt under way will find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.model import Phase
from firmwarden.service.desired import tag
from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firmwarden.drivers.dfu_settings import VersionSource
    from firmwarden.model import Attempt, Device, ImageHash, Job, Release, UsbFacts
    from firmwarden.store.ledger import Ledger

_WHERE: Final[Mapping[str, str]] = {
    "product": "product string",
    "serial": "serial number",
    "revision": "device revision",
    "manufacturer": "manufacturer string",
}


@dataclass(frozen=True, slots=True)
class OwnWord:
    """What an application tells of itself."""

    version: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Running:
    """What a unit runs and how we know, as it is recorded."""

    version: str | None
    sequence: int | None
    image: ImageHash | None
    evidence: str


def own_word(source: VersionSource, facts: UsbFacts) -> OwnWord | None:
    """Read what an application tells; None where that is no version."""
    version = source.read(facts)
    if version is None:
        return None
    return OwnWord(version, f"its {_WHERE[source.field]} says {version}")


def named(version: str, releases: Sequence[Release], evidence: str) -> Running:
    """Take a version for that of the release that has it, where one of its class does."""
    release = next((release for release in releases if release.version == version), None)
    if release is None:
        return Running(version, None, None, evidence)
    return Running(version, release.sequence, release.image, evidence)


def has_rank(running: Running, releases: Sequence[Release]) -> bool:
    """Whether a version is older or newer than each of the releases, or the same."""
    version = VersionTag(running.version or "", running.sequence)
    return all(compare(tag(release), version) is not None for release in releases)


def record(ledger: Ledger, device: Device, running: Running, now: float) -> Device:
    """Record what a unit runs; it then holds a complete image."""
    return ledger.set_running(
        device.id,
        version=running.version,
        sequence=running.sequence,
        image=running.image,
        evidence=running.evidence,
        now=now,
    )


def take_word(
    ledger: Ledger, device: Device, word: OwnWord, *, job: Job | None, releases: Sequence[Release], now: float
) -> Device:
    """Record what an application tells, where that is something else than what is recorded.

    Args:
        ledger: of an open transaction.
        device: as the store knows it; neither attempt nor question may be under way, nor its outcome unknown.
        word: what its application tells.
        job: that waits for it.
        releases: the accepted ones of its class.
        now: wall clock.
    """
    running = _rank(device, word, releases)
    if device.complete and running == _recorded(device):
        return device
    if device.complete is False or _goes_on(ledger.unfinished(device.id), job):
        return device
    return record(ledger, device, running, now)


def _rank(device: Device, word: OwnWord, releases: Sequence[Release]) -> Running:
    """Say what a word means among the releases.

    What has no rank among them would wait for ever to be compared, with nobody there to see it; so it is not known,
    and the class says what follows from that.
    """
    for running in _meanings(device, word, releases):
        if has_rank(running, releases):
            return running
    return Running(None, None, None, f"{word.evidence}, and how that ranks among the releases is not known")


def _meanings(device: Device, word: OwnWord, releases: Sequence[Release]) -> Iterator[Running]:
    if device.running_version == word.version:
        yield _recorded(device)
    yield named(word.version, releases, word.evidence)


def _recorded(device: Device) -> Running:
    return Running(
        device.running_version, device.running_sequence, device.running_image, device.running_evidence
    )


def _goes_on(unfinished: Attempt | None, job: Job | None) -> bool:
    """Whether only a further attempt can tell: flash that a cut left half written may read well today."""
    if unfinished is None:
        return False
    return unfinished.phase is Phase.WRITING or (job is not None and job.image == unfinished.image)
