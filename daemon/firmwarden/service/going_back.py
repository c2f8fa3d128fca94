"""To which image a unit goes back by itself, and from which.  Pure.

A unit goes back from an image that a person called back, and, where its class says ``roll_back = true``, from one with
which it did not keep well; also where an update to what was called back has left it without a complete image, and
nothing else is offered.  It goes back to the last image with which it kept well.  That is one more update, with all
that keeps updates from running and all budgets; anti-rollback is not asked, for the unit itself was confirmed with it.

It goes back once.  A unit that does not keep well with its good image either is left alone until something newer comes:
what ails it is not what it was given.  The good image before that is for one that was called back.

Who pinned a unit chose for it; it stays where it is, and its latch says why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmwarden.model import CauseCode, LatchScope, Release
from firmwarden.service.desired import latched_on, tag
from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmwarden.model import Device, GoodImage, ImageHash, Latch
    from firmwarden.service.desired import ClassPolicy, Desired


def going_back(device: Device, wanted: Desired, latches: Sequence[Latch], policy: ClassPolicy) -> Desired:
    """Say what ``device`` should be given when it may not stay with what it is known to run.

    Args:
        device: as the store knows it.
        wanted: what it should be given otherwise.
        latches: every active latch.
        policy: of its class.
    """
    if any(latch.scope is LatchScope.DEVICE for latch in latched_on(device, latches)):
        return wanted
    latch = _called_off(device, latches, roll_back=policy.roll_back)
    if latch is None:
        return _made_whole(device, wanted, latches)
    holds_it = device.complete is not False
    if latch.cause.code is CauseCode.UNHEALTHY and device.running_image in device.good_images and holds_it:
        return _left_alone(device, wanted)
    recalled = latch.cause.code is CauseCode.RECALLED
    why = f"{device.running_version} {'was called back' if recalled else 'did not keep well on it'}"
    good = way_back(device, latches)
    if good is not None:
        reason = f"{good.version} is what it kept well with before, and {why}"
        return replace(wanted, release=good, reason=reason, settled=False, stuck=False)
    if wanted.release is not None:
        return wanted
    return replace(wanted, reason=f"{why}, and nothing is known to which it could go back", settled=False)


def _left_alone(device: Device, wanted: Desired) -> Desired:
    """Let a unit that is ill with its good image have what is newer, and nothing else."""
    running = VersionTag(device.running_version or "", device.running_sequence)
    if wanted.release is not None and (compare(tag(wanted.release), running) or 0) > 0:
        return wanted
    why = f"{device.running_version} did not keep well on it, with which it did before: it is left alone"
    return replace(wanted, release=None, reason=why, settled=False)


def _made_whole(device: Device, wanted: Desired, latches: Sequence[Latch]) -> Desired:
    """Let a unit that an update left without a complete image go back when a person called that update back."""
    stopped = wanted.stopped
    if (
        device.complete is not False
        or device.pinned is not None
        or wanted.release is not None
        or stopped is None
    ):
        return wanted
    recalled = any(
        latch.cause.code is CauseCode.RECALLED and _stops(latch, device, stopped.image) for latch in latches
    )
    good = way_back(device, latches) if recalled else None
    if good is None:
        return wanted
    why = f"it holds no complete image, and {stopped.version} was called back"
    reason = f"{good.version} is what it kept well with before, {why}"
    return replace(wanted, release=good, reason=reason, stuck=False)


def _called_off(device: Device, latches: Sequence[Latch], *, roll_back: bool) -> Latch | None:
    """Return the latch for which a unit may not stay with what it is known to run."""
    if device.running_image is None or device.pinned is not None:
        return None
    from_what = {CauseCode.RECALLED, *([CauseCode.UNHEALTHY] if roll_back else [])}
    return next(
        (
            latch
            for latch in latches
            if latch.cause.code in from_what and _stops(latch, device, device.running_image)
        ),
        None,
    )


def way_back(device: Device, latches: Sequence[Latch]) -> Release | None:
    """Return what a unit goes back to; None where no good image is known, or a latch keeps it from it."""
    called_back = {latch.image for latch in latches if latch.scope is LatchScope.IMAGE}
    for good in filter(None, (device.good, device.good_before)):
        if good.image in called_back:
            continue
        runs_it = good.image == device.running_image and device.complete is not False
        if runs_it or any(_stops(latch, device, good.image) for latch in latches):
            return None
        return _release(device, good)
    return None


def _stops(latch: Latch, device: Device, image: ImageHash) -> bool:
    of_pair = latch.scope is LatchScope.PAIR and latch.device == device.id
    return latch.image == image and (latch.scope is LatchScope.IMAGE or of_pair)


def _release(device: Device, good: GoodImage) -> Release:
    """The release as which it was given; its manifest may be gone."""
    return Release(
        device_class=device.device_class,
        version=good.version,
        sequence=good.sequence,
        image=good.image,
        size=good.size,
        manifest="",
    )
