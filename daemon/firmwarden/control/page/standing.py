"""Where a device stands, for whoever looks at many: what needs a person comes first.  Pure."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import TYPE_CHECKING

from firmwarden.model import JobState, WaitKind
from firmwarden.service.picture import for_a_person

if TYPE_CHECKING:
    from firmwarden.service.views import DeviceView


@unique
class Standing(StrEnum):
    """Groups of devices, in the order in which they are shown; the values stand in addresses."""

    NEEDS_YOU = "needs-you"
    UPDATING = "updating"
    WAITING = "waiting"
    UP_TO_DATE = "up-to-date"
    AWAY = "away"

    @property
    def heading(self) -> str:
        """What stands above them."""
        return self.value.replace("-", " ").capitalize()


def standing_of(device: DeviceView) -> Standing:
    """Say where a device stands; what matters most decides, as in ``state_of_device``."""
    job = device["job"]
    state = None if job is None else JobState(job["state"])
    if state is JobState.RUNNING:
        return Standing.UPDATING
    if device["conflict"] is not None:
        return Standing.NEEDS_YOU
    if job is not None and state in {JobState.QUEUED, JobState.UNKNOWN}:
        wait = job["wait"]
        stuck = wait is not None and for_a_person(WaitKind(wait["kind"]), ends=wait["until"] is not None)
        return Standing.NEEDS_YOU if stuck else Standing.WAITING
    given_up = job is not None and state is JobState.FAILED and device["running_version"] != job["version"]
    if device["latched"] or given_up or device["complete"] is False:
        return Standing.NEEDS_YOU
    if not device["present"]:
        return Standing.AWAY
    up_to_date = device["desired_version"] in {None, device["running_version"]}
    return Standing.UP_TO_DATE if up_to_date else Standing.WAITING
