"""What the API needs of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.service.figures import FiguresView
    from firmwarden.service.views import (
        AttemptView,
        DeviceView,
        DeviceWearView,
        FeedItem,
        HealthView,
        HistoryView,
        JobView,
        LatchView,
        PlanView,
        ReadyView,
        ReleaseView,
        RolloutMemberView,
        RolloutView,
        StatusView,
        WaitingView,
        WhyView,
    )


class Desk(Protocol):
    """Answers questions about the service and takes a person's wishes.

    A device is named by its id, by an unambiguous beginning of it, or by its label.  Every method that takes a name
    raises ``NotFound`` when nothing has it and ``Refused`` when several have it; the message names them.

    An action is done as a whole or not at all.  It returns one sentence: what was done and what follows.  It
    raises ``Refused`` with what to do instead.
    """

    async def status(self) -> StatusView:
        """Say how the service is as a whole."""

    async def health(self) -> HealthView:
        """Give a sign of life within a bounded time, or raise ``Unavailable`` or ``StoreError``."""

    async def ready(self) -> ReadyView:
        """Say that the first scans are done, or raise ``Unavailable``."""

    async def devices(self) -> list[DeviceView]:
        """List every known device."""

    async def releases(self) -> list[ReleaseView]:
        """List every manifest in the firmware directory, refused ones with the reason."""

    async def rollouts(self) -> list[RolloutView]:
        """List how far each release has come, where its class goes in waves."""

    async def rollout(self, device_class: str) -> list[RolloutMemberView]:
        """List the devices in the rollouts of a class, or raise ``NotFound``."""

    async def jobs(self, limit: int) -> list[JobView]:
        """List the newest jobs, newest first."""

    async def attempts(self, device: str | None, limit: int) -> list[AttemptView]:
        """List the newest attempts, of one device or of all, newest first."""

    async def latches(self) -> list[LatchView]:
        """List the latches that are set."""

    async def waits(self) -> list[WaitingView]:
        """List the jobs that wait, each with what for."""

    async def wear(self) -> list[DeviceWearView]:
        """List for each device the starts of an erase beside their budgets."""

    async def history(self, device: str | None, limit: int) -> HistoryView:
        """List the newest attempts and actions, of one device or of all, newest first."""

    async def why(self, device: str) -> WhyView:
        """Tell everything known about one device's state of affairs."""

    async def plan(self) -> list[PlanView]:
        """Say for each device what would happen now, and why not."""

    async def figures(self) -> FiguresView:
        """Say how things stand in numbers, or raise ``Unavailable`` within a bounded time."""

    async def retry(self, device: str, *, who: str) -> str:
        """Try again now.  Afterwards ``why(device)["device"]["job"]`` is the job that is meant."""

    async def clear(self, target: str, *, who: str) -> str:
        """Lift the latches of a device, or those on an image (named by its hash or the beginning of it)."""

    async def cancel(self, job: int, *, who: str) -> str:
        """Cancel a job, unless an erase has begun."""

    async def hold(
        self,
        device: str | None,
        *,
        reason: str,
        for_s: float | None = None,
        owner: str | None = None,
        who: str,
    ) -> str:
        """Start nothing more on one device, or on any, for a time or until ``unhold``, in an owner's name."""

    async def unhold(self, device: str | None, *, owner: str | None = None, who: str) -> str:
        """Lift a hold: an owner's, one's own, or the only one."""

    async def pin(self, device: str, version: str | None, *, may_go_back: bool = False, who: str) -> str:
        """Make this version the desired one; None: the newest again.  ``may_go_back``: also if it is older, once."""

    async def adopt(self, device: str, *, old: str | None, running: str | None, who: str) -> str:
        """Take a device for a known one (``old``), or record what it runs (``running``); exactly one is given."""

    async def forget(self, device: str, *, who: str) -> str:
        """Drop a device that is gone for good."""

    async def resume(self, device_class: str, *, who: str) -> str:
        """Let the rollout of a class go on that has stopped."""

    async def recall(self, device_class: str, *, reason: str, who: str) -> str:
        """Call the newest release of a class back."""

    async def upload(
        self, manifest: bytes, image: bytes, signature: bytes | None, *, name: str, who: str
    ) -> ReleaseView:
        """Put a release into the firmware directory; ``name`` is what its manifest was called, or empty.

        Raises ``BadManifest`` where the intake would refuse it, ``Refused`` where it contradicts what is there, and
        ``NoRoom`` or ``Unavailable`` where it cannot be written.
        """

    async def upload_bundle(self, content: bytes, *, name: str, who: str) -> list[ReleaseView]:
        """Put a bundle into the firmware directory under the same conditions; ``name`` is what it was called."""

    async def feed(self, after: int | None, device: str | None) -> AsyncGenerator[FeedItem, None]:
        """Return events as they happen, of one device or all, first those newer than ``after`` that are remembered.

        Ids rise by one from item to item.  ``after`` None begins now, 0 with the oldest that is remembered.  Where
        something that came after ``after`` is no longer remembered, an item of the kind ``gap`` says so: a reader was
        away for too long, did not keep up, or comes back with an id of an earlier run of the daemon.
        """

    def recent(self) -> list[FeedItem]:
        """List the latest log events that are still remembered, newest first."""
