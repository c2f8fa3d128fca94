"""Tells rollouts in the views' words.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.service.rollout import Stage, standing, way_on
from firmwarden.service.telling import instant, instant_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.model import Device, DeviceId
    from firmwarden.service.rollout import Progress
    from firmwarden.service.views import RolloutMemberView, RolloutView


def rollout_view(progress: Progress) -> RolloutView:
    """Tell how far a release has come."""
    rollout = progress.rollout
    return {
        "device_class": rollout.device_class,
        "version": rollout.version,
        "image": rollout.image,
        "state": rollout.state.value,
        "standing": standing(progress),
        "until": instant_or_none(progress.until),
        "next": way_on(progress),
        "wave": progress.wave,
        "waves": progress.rule.last,
        "places": progress.places,
        "devices": len(progress.members),
        "tried": progress.tried,
        "well": progress.count(Stage.GOOD),
        "failed": progress.count(Stage.FAILED),
        "began_at": instant(rollout.began_at),
        "wave_at": instant(rollout.wave_at),
        "changed_by": rollout.changed_by,
        "reason": rollout.reason,
    }


def member_views(progress: Progress, devices: Mapping[DeviceId, Device]) -> list[RolloutMemberView]:
    """Tell who is in it: first those that were given it, then in the order in which the others will be."""
    turns = progress.turns()
    by_turn = sorted(
        progress.members,
        key=lambda member: (
            turns.get(member.device, 0),
            member.stage in {Stage.WAITING, Stage.OUT},
            member.since,
            member.device,
        ),
    )
    return [
        {
            "device": member.device,
            "label": devices[member.device].label,
            "version": progress.rollout.version,
            "stage": member.stage.value,
            "wave": turns.get(member.device),
            "present": member.here,
        }
        for member in by_turn
        if member.device in devices
    ]
