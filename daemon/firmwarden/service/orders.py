"""What people have ordered that concerns one job, as it stands on disk: holds, recalls, pins and their word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.service.holding import concerning

if TYPE_CHECKING:
    from firmwarden.model import Hold, Job, LatchId
    from firmwarden.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Orders:
    """What a job was planned by: one that finds something else when it begins is planned anew.

    That is compared, not judged, so nothing but the planning has to know what an order forbids; and an order about
    anything else breaks nothing off.
    """

    holds: tuple[Hold, ...]
    latches: frozenset[LatchId]
    """On the device, on the image, and on both together."""
    pinned: str | None
    may_go_back_to: str | None
    running_version: str | None
    """A person may have told it."""


def orders_for(ledger: Ledger, job: Job) -> Orders | None:
    """Read what concerns a job; None where its device is not known any more."""
    device = ledger.device(job.device)
    if device is None:
        return None
    return Orders(
        holds=tuple(concerning(ledger.holds(), device.id)),
        latches=frozenset(
            latch.id
            for latch in ledger.latches()
            if latch.device in {None, device.id} and latch.image in {None, job.image}
        ),
        pinned=device.pinned,
        may_go_back_to=device.may_go_back_to,
        running_version=device.running_version,
    )
