"""What a person may say of a rollout: that it goes on, or that the release is called back.

Calling back latches the image for every unit, with the cause ``recalled``; that units which run it go back to what
they kept well with before is ``going_back``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmwarden.errors import Refused
from firmwarden.model import Cause, CauseCode, LatchScope, RolloutState
from firmwarden.service.desired import newest_first, tag
from firmwarden.service.rollout import Stage, resumed
from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmwarden.model import ClassName, Release
    from firmwarden.service.rollout import Progress
    from firmwarden.store.ledger import Ledger

_CAN_GO_ON = frozenset({RolloutState.STOPPED, RolloutState.RECALLED})


def resume(
    ledger: Ledger, device_class: ClassName, progress: Sequence[Progress], *, who: str, now: float
) -> list[str]:
    """Let what stopped in a class go on, and return the versions.

    Args:
        ledger: of the open transaction.
        device_class: whose rollouts are meant.
        progress: of every rollout that is wanted now.
        who: the person.
        now: wall clock.

    Raises:
        Refused: nothing has stopped, or a latch would stop it again.
    """
    current = {each.rollout.image: each for each in progress if each.rollout.device_class == device_class}
    found = [
        rollout
        for rollout in ledger.rollouts()
        if rollout.device_class == device_class and rollout.image in current and rollout.state in _CAN_GO_ON
    ]
    if not found:
        raise Refused(f"no rollout of {device_class} has stopped; `firmwarden rollout` shows how they stand")
    latched = {latch.image for latch in ledger.latches() if latch.scope is LatchScope.IMAGE}
    for rollout in found:
        if rollout.image in latched:
            raise Refused(
                f"the image of {rollout.version} is latched; `firmwarden clear {rollout.image[:12]}` first"
            )
        stands = current[rollout.image]
        failed = stands.count(Stage.FAILED)
        ledger.keep_rollout(resumed(rollout, failed=failed, tried=stands.tried, who=who, now=now))
    return [rollout.version for rollout in found]


def recall(
    ledger: Ledger,
    device_class: ClassName,
    releases: Sequence[Release],
    *,
    reason: str,
    who: str,
    now: float,
) -> list[Release]:
    """Call the newest release of a class back, and return it: by each of its images where it has several.

    Args:
        ledger: of the open transaction.
        device_class: whose release is meant.
        releases: the accepted releases of the class.
        reason: one line, for whoever wonders.
        who: the person.
        now: wall clock.

    Raises:
        Refused: there is none, or it was called back already.
    """
    if not releases:
        raise Refused(f"no release of {device_class} is in the firmware directory")
    newest = newest_first(releases)[0]
    meant = [release for release in releases if tag(release) == tag(newest)]
    set_before = {latch.image: latch for latch in ledger.latches() if latch.scope is LatchScope.IMAGE}
    if all(
        release.image in set_before and set_before[release.image].cause.code is CauseCode.RECALLED
        for release in meant
    ):
        raise Refused(f"{newest.version} was called back already")
    cause = Cause(code=CauseCode.RECALLED, detail=f"called back by {who}: {reason}")
    for release in meant:
        if release.image in set_before:
            # With the cause that it had, units that run it would stay with it.
            ledger.lift(set_before[release.image].id, who, now)
        ledger.latch(LatchScope.IMAGE, device=None, image=release.image, cause=cause, attempt=None, now=now)
    images = {release.image for release in meant}
    for rollout in ledger.rollouts():
        if rollout.device_class == device_class and rollout.image in images:
            ledger.keep_rollout(
                replace(rollout, state=RolloutState.RECALLED, soaks_since=None, changed_by=who, reason=reason)
            )
    return meant


def overlooked(ledger: Ledger, recalled: Release) -> list[str]:
    """Return the versions newer than what was just called back that units were given and run.

    Whoever takes a bad release out of the directory first, and then calls the newest one back, has called back another.
    """
    called_back = {latch.image for latch in ledger.latches() if latch.cause.code is CauseCode.RECALLED}
    return sorted(
        {
            device.running_version
            for device in ledger.devices()
            if device.device_class == recalled.device_class
            and device.running_version is not None
            and device.running_image is not None
            and device.running_image not in called_back
            and (compare(VersionTag(device.running_version, device.running_sequence), tag(recalled)) or 0) > 0
        }
    )
