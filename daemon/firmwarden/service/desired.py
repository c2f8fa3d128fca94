"""What a device should run: the newest release of its class that is allowed and not latched for it.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from typing import TYPE_CHECKING, Literal

from firmwarden.model import CauseCode, LatchScope
from firmwarden.service.floor import below_in_words, may_be_given, may_go_back
from firmwarden.service.policy import Budgets
from firmwarden.service.windows import Timetable
from firmwarden.versions import VersionTag, compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from firmwarden.drivers.base import PlannedStep
    from firmwarden.model import Device, Latch, Release
    from firmwarden.service.conditions import Condition
    from firmwarden.service.health import HealthRule
    from firmwarden.service.inhibitors import Inhibitor
    from firmwarden.service.port_owner import Owner
    from firmwarden.service.rollout import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPolicy:
    """What the configuration of a class says of when and what, not of how."""

    name: str
    parallel: int | None = None
    require_signature: bool = True
    """Whether its releases have to be signed; those who ask are told where they have not."""
    rollout: Rule | None = None
    """To how many at once a release goes; None: to all."""
    allow_downgrade: bool = False
    unknown: Literal["update", "hold"] = "update"
    health: HealthRule | None = None
    """What its units have to show after an update; None: the confirmation is enough."""
    roll_back: bool = False
    """Whether a unit that does not keep well goes back by itself."""
    budgets: Budgets = field(default_factory=Budgets)
    settles_s: float = 0.0
    """How long after an attempt a unit may still come and go of itself, back from its loader.  That is no plug of a
    person's; taken for one it would be tried, or asked, for ever."""
    doubt: str = ""
    """Why what the class relies on when the power fails is not to be relied on; until that is mended nothing is written
    to its units.  What only a unit shows is its driver's to find out."""
    provision: str = ""
    """The command that sets, on a unit in its loader at ``{topology}``, what the class relies on; empty where there is
    none."""
    power_cuts: tuple[PlannedStep, ...] = ()
    """What a power cut would leave, phase by phase; empty where its driver has no table of that."""
    unprotected: tuple[PlannedStep, ...] = ()
    """The same of a unit that does not have what the class relies on."""
    hand_over: Owner | None = None
    """Who is stopped while a unit is spoken to."""
    timetable: Timetable = field(default_factory=Timetable)
    """When updates may start."""
    inhibitor: Inhibitor | None = None
    """The file that keeps updates from starting."""
    condition: Condition | None = None
    """What is asked before each start."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The release that a device should be given, or None, and why, one sentence for a person."""

    release: Release | None
    reason: str
    settled: bool = False
    """True when there is nothing to do because the device runs what it should."""
    stuck: bool = False
    """True when the device waits in its loader, and there is nothing to be given to it that would start it."""
    stopped: Release | None = None
    """What it would be given, were it not for a latch."""
    older: Release | None = None
    """What it would be given, were it not older than what it has been."""


def tag(release: Release) -> VersionTag:
    """The rank of a release."""
    return VersionTag(release.version, release.sequence)


def newest_first(releases: Iterable[Release]) -> list[Release]:
    """Order the releases of one class; intake admits only releases that can be compared."""
    return sorted(releases, key=cmp_to_key(_order), reverse=True)


def _order(one: Release, other: Release) -> int:
    return compare(tag(one), tag(other)) or 0


def latched_on(device: Device, latches: Iterable[Latch]) -> list[Latch]:
    """The latches that concern a device, whatever the image."""
    return [latch for latch in latches if latch.device == device.id]


def desired(
    device: Device,
    releases: Sequence[Release],
    latches: Sequence[Latch],
    policy: ClassPolicy,
    *,
    may_be_erased: bool = False,
) -> Desired:
    """Say what ``device`` should be given.

    Args:
        device: as the store knows it.
        releases: the accepted releases of its class.
        latches: every active latch.
        policy: of its class.
        may_be_erased: a refused update may have erased what the device ran, and put nothing in its place.
    """
    found = _desired(device, releases, latches, policy, may_be_erased=may_be_erased)
    if not latches:
        return found
    otherwise = _desired(device, releases, (), policy, may_be_erased=may_be_erased).release
    return found if otherwise == found.release else replace(found, stopped=otherwise)


def _desired(
    device: Device,
    releases: Sequence[Release],
    latches: Sequence[Latch],
    policy: ClassPolicy,
    *,
    may_be_erased: bool,
) -> Desired:
    for latch in latched_on(device, latches):
        if latch.scope is LatchScope.DEVICE:
            return Desired(None, f"the device is latched: {latch.cause.code.value}")
    if not releases:
        return Desired(None, "no release of its class is in the firmware directory")
    release, why = _pick(device, releases, latches)
    if release is None:
        return Desired(None, why)
    if not may_be_given(device, release):
        return Desired(None, f"{why}, {below_in_words(device, release)}", older=release)
    if may_be_erased and device.running_image == release.image:
        return Desired(release, f"{why}, and a refused update may have erased it")
    return _against_running(device, release, why, policy, newest=_newest_offered(releases, latches))


def waiting_in_loader(
    device: Device, wanted: Desired, releases: Sequence[Release], latches: Sequence[Latch]
) -> Desired:
    """Say what ``device`` should be given when it waits in its loader and what is new is not for it.

    Args:
        device: as the store knows it.
        wanted: what it should be given if it ran; there is no job for that.
        releases: the accepted releases of its class; none where what it holds is not to be started.
        latches: every active latch.
    """
    for release in releases:
        if release.image != device.running_image or not may_be_given(device, release):
            continue
        if not _is_latched(device, release, latches):
            return Desired(release, f"{release.version} is what it holds, and it waits in its loader")
    if wanted.release is not None:
        return wanted
    reason = f"it waits in its loader; by what is recorded, {wanted.reason}"
    return replace(wanted, reason=reason, settled=False, stuck=True)


def _pick(
    device: Device, releases: Sequence[Release], latches: Sequence[Latch]
) -> tuple[Release | None, str]:
    """The release that is wanted, before looking at what the device runs; the newest where none may be given."""
    if device.pinned is not None:
        pinned = [release for release in releases if release.version == device.pinned]
        if not pinned:
            return None, f"it is pinned to {device.pinned}, which is not in the firmware directory"
        if _is_latched(device, pinned[0], latches):
            return None, f"it is pinned to {device.pinned}, which is latched for it"
        return pinned[0], f"it is pinned to {device.pinned}"
    free = [release for release in newest_first(releases) if not _is_latched(device, release, latches)]
    if not free:
        return None, "every release of its class is latched for it"
    first = next((release for release in free if may_be_given(device, release)), free[0])
    if first is not free[0]:
        return first, f"{first.version} is the newest release that may be given to it"
    if len(free) < len(releases) and tag(first) != tag(newest_first(releases)[0]):
        return first, f"{first.version} is the newest release that is not latched for it"
    return first, f"{first.version} is the newest release of its class"


def _newest_offered(releases: Sequence[Release], latches: Sequence[Latch]) -> Release:
    """The newest release that nobody called back."""
    called_back = {latch.image for latch in latches if latch.cause.code is CauseCode.RECALLED}
    found = newest_first(releases)
    return next((release for release in found if release.image not in called_back), found[0])


def _is_latched(device: Device, release: Release, latches: Sequence[Latch]) -> bool:
    return any(
        latch.image == release.image
        and (
            latch.scope is LatchScope.IMAGE or (latch.scope is LatchScope.PAIR and latch.device == device.id)
        )
        for latch in latches
    )


def _against_running(
    device: Device, release: Release, why: str, policy: ClassPolicy, *, newest: Release
) -> Desired:
    """Compare the wanted release with what the device is known to run."""
    if device.complete is False:
        return Desired(release, f"{why}, and the device holds no complete image")
    if device.running_version is None:
        if policy.unknown == "hold":
            return Desired(None, "what it runs is not known, and its class holds such devices")
        return Desired(release, f"{why}, and what it runs is not known")
    if device.running_image == release.image:
        return Desired(None, f"{why}, and the device runs it", settled=True)
    order = compare(tag(release), VersionTag(device.running_version, device.running_sequence))
    if order is None:
        return Desired(None, f"{release.version} and the running {device.running_version} cannot be compared")
    if order == 0:
        return Desired(None, f"{why}, and the device runs that version", settled=True)
    if order > 0 or policy.allow_downgrade:
        return Desired(release, why)
    older = f"{release.version} is older than the running {device.running_version}"
    if not may_go_back(device, release):
        return Desired(None, f"{older}, and its class allows no downgrade", older=release)
    if device.pinned is None and tag(newest) != tag(release):
        # Else a latch on what is newer, set by one that refused it, would take from all others what they run well.
        return Desired(None, f"{older}, and follows it only when nothing newer is offered", older=release)
    return Desired(release, why)
