"""Keeps in the history who dropped which release, and when.

Whoever may write to the firmware directory decides what devices run, so that is an act like an order.  The owner of
the file is who dropped it; who takes one away leaves no trace.  What is on record of each manifest that lies there is
stored with the acts, so that a restart records nothing twice, and what is sent through the API, where who sent it is
known, stays that person's act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from firmwarden.model import Action
from firmwarden.service.measures import IMAGE_SHOWN
from firmwarden.service.people import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from firmwarden.model import Release
    from firmwarden.service.clock import Clock
    from firmwarden.service.shelf import Shelf
    from firmwarden.store.ledger import Ledger
    from firmwarden.store.store import Store

SETTLED_S: Final = 20.0
"""A refusal counts when it stood for so long: what is being copied is refused until its last byte is there."""
_REASON_KEPT: Final = 400
"""Characters of a reason: it may be that of each of thousands of files.  ``firmwarden releases`` has all of it."""
_NOBODY: Final = "somebody"


class Drops:
    """What is on record of the firmware directory."""

    def __init__(self, directory: Path, store: Store, clock: Clock) -> None:
        """Take where releases are dropped, what lasts, and what dates it."""
        self._directory = directory
        self._store = store
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._recorded: Mapping[str, str] | None = None
        """What lay there when the record was last in line with it."""

    async def note(self, shelf: Shelf) -> None:
        """Record what came and went since the last time; raises ``StoreError`` where that cannot be written."""
        now = self._clock.wall()
        lies = _told(shelf, now)
        if shelf.problem or lies == self._recorded:
            return
        known = await self._store.run(lambda ledger: ledger.dropped())
        came = {manifest: what for manifest, what in lies.items() if what and what != known.get(manifest)}
        owners = await self._owners(came)

        def work(ledger: Ledger) -> None:
            for manifest, what in came.items():
                _record(
                    ledger, Action(at=now, who=owners[manifest], what="drop", target=manifest, detail=what)
                )
            for manifest in known.keys() - lies.keys():
                what = known[manifest]
                ledger.note_dropped(manifest, None)
                ledger.record(Action(at=now, who=_NOBODY, what="withdraw", target=manifest, detail=what))
            ledger.fold_drops()

        if came or known.keys() - lies.keys():
            await self._store.run(work)
        self._recorded = lies

    async def _owners(self, manifests: Iterable[str]) -> dict[str, str]:
        uids = await to_thread.run_sync(self._uids, manifests, limiter=self._limiter)
        names = {uid: await name_of(uid) for uid in set(uids.values())}
        return {manifest: names[uids[manifest]] if manifest in uids else _NOBODY for manifest in manifests}

    def _uids(self, manifests: Iterable[str]) -> dict[str, int]:
        found = {}
        for manifest in manifests:
            try:
                # What is in a bundle is called BUNDLE/NAME.
                status = (self._directory / manifest.partition("/")[0]).stat(follow_symlinks=False)
            except OSError:  # gone again, or shown by another name than it has
                continue
            found[manifest] = status.st_uid
        return found


def content_of(release: Release) -> str:
    """Say what a release is, for the record."""
    signed = f", signed by {release.signed_by}" if release.signed_by else ""
    return f"{release.device_class} {release.version}, image {release.image[:IMAGE_SHOWN]}{signed}"


def _told(shelf: Shelf, now: float) -> dict[str, str]:
    """Say of each manifest what is to be on record; empty where it is not clear yet."""
    lies = {release.manifest: content_of(release) for release in shelf.releases}
    for refusal in shelf.refused:
        settled = abs(now - refusal.since) >= SETTLED_S
        lies[refusal.manifest] = f"refused: {_in_short(refusal.reason)}" if settled else ""
    return lies


def _in_short(reason: str) -> str:
    return reason if len(reason) <= _REASON_KEPT else f"{reason[: _REASON_KEPT - 3]}..."


def _record(ledger: Ledger, action: Action) -> None:
    ledger.note_dropped(action.target, action.detail)
    last = next(iter(ledger.actions(1, action.target)), None)
    if last is None or (last.what, last.detail) != ("upload", action.detail):
        ledger.record(action)
