"""What the store says of all devices together, as one answer or one wish needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.service.naming import in_order
from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmwarden.model import Device, DeviceId, Hold, Job, Latch, Probation, Release
    from firmwarden.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read in one transaction."""

    devices: list[Device]
    """As a person looks for them."""
    jobs: dict[DeviceId, Job]
    """The open job of each device, else its last one."""
    latches: list[Latch]
    """The active ones."""
    holds: list[Hold]
    probations: dict[DeviceId, Probation]

    def latches_on(self, device: Device, releases: Sequence[Release]) -> list[Latch]:
        """The latches that may stop a device: on itself, and on images that it was given last or might be given.

        What it was only meant to be given, before that was called back or withdrawn, stops it no more, nor does what it
        was given before it came to run what is newer.

        Args:
            device: in question.
            releases: the accepted releases of its class that it might be given.
        """
        job = self.jobs.get(device.id)
        given = (
            job is not None and job.attempts and not has_outrun(device, VersionTag(job.version, job.sequence))
        )
        images = {release.image for release in releases} | ({job.image} if job and given else set())
        return [
            latch
            for latch in self.latches
            if latch.device in {None, device.id} and (latch.image is None or latch.image in images)
        ]


def has_outrun(device: Device, version: VersionTag) -> bool:
    """Whether a device runs what is newer."""
    if device.running_version is None or device.complete is False:
        return False
    return compare(version, VersionTag(device.running_version, device.running_sequence)) == -1


def gather(ledger: Ledger) -> Facts:
    """Read the facts."""
    devices = sorted(ledger.devices(), key=in_order)
    jobs = {job.device: job for job in (*ledger.newest_jobs(), *ledger.open_jobs())}
    probations = {probation.device: probation for probation in ledger.probations()}
    return Facts(devices, jobs, ledger.latches(), ledger.holds(), probations)
