"""What keeps a device from being written to: latches, set by a device's verdict, and holds, set by a person.

Latches are never folded nor deleted: a lifted one stays as the evidence of who lifted what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.errors import Refused
from firmwarden.model import Hold, LatchId, LatchScope
from firmwarden.store.rows import Transaction, cause_text, hold_of, latch_of

if TYPE_CHECKING:
    from firmwarden.model import AttemptId, Cause, DeviceId, ImageHash, Latch


class Stops(Transaction):
    """The part of the ledger about latches and holds."""

    def latch(
        self,
        scope: LatchScope,
        *,
        device: DeviceId | None,
        image: ImageHash | None,
        cause: Cause,
        attempt: AttemptId | None,
        now: float,
    ) -> Latch:
        """Set a latch, or return the active one that stops the same already.

        ``device`` of an *image* latch and ``image`` of a *device* latch are no part of it; the attempt tells them.
        """
        device = None if scope is LatchScope.IMAGE else device
        image = None if scope is LatchScope.DEVICE else image
        row = self._first(
            "SELECT * FROM latches WHERE scope = ? AND device IS ? AND image IS ? AND lifted_at IS NULL",
            scope, device, image,
        )  # fmt: skip
        if row is not None:
            return latch_of(row)
        id_ = self._insert(
            "INSERT INTO latches (scope, device, image, cause, set_at, attempt) VALUES (?, ?, ?, ?, ?, ?)",
            scope, device, image, cause_text(cause), now, attempt,
        )  # fmt: skip
        return self._latch(LatchId(id_))

    def latches(self, *, active_only: bool = True) -> list[Latch]:
        """List latches, oldest first; also those of forgotten devices, for they hold when one returns."""
        where = "WHERE lifted_at IS NULL " if active_only else ""
        return [latch_of(row) for row in self._all(f"SELECT * FROM latches {where}ORDER BY id")]  # noqa: S608

    def pair_latches(self, image: ImageHash) -> list[Latch]:
        """List the active latches of single devices against an image: the verdicts on it that still stand."""
        rows = self._all(
            "SELECT * FROM latches WHERE image = ? AND scope = 'pair' AND lifted_at IS NULL ORDER BY id",
            image,
        )
        return [latch_of(row) for row in rows]

    def latches_of(self, attempt: AttemptId) -> list[Latch]:
        """List the latches that an attempt led to, also those that were lifted since."""
        return [
            latch_of(row) for row in self._all("SELECT * FROM latches WHERE attempt = ? ORDER BY id", attempt)
        ]

    def lift(self, latch_id: LatchId, by: str, now: float) -> Latch:
        """Lift a latch, with any other that stops the same (two adopted records may each have brought one).

        One that was lifted before stays as it is, and so does a newer one in its place: that was not meant.

        Raises:
            Refused: there is no such latch.
        """
        latch = self._latch(latch_id)
        if latch.lifted_at is not None:
            return latch
        self._do(
            "UPDATE latches SET lifted_at = ?, lifted_by = ? "
            "WHERE scope = ? AND device IS ? AND image IS ? AND lifted_at IS NULL",
            now, by, latch.scope, latch.device, latch.image,
        )  # fmt: skip
        return self._latch(latch_id)

    def hold(
        self,
        device: DeviceId | None,
        reason: str,
        owner: str,
        now: float,
        expires_at: float | None = None,
    ) -> Hold:
        """Start nothing on a device, or with None on any, until its owner takes it back or it expires.

        It takes the place of what the same owner said before, and of nobody else's.
        """
        self.unhold(device, owner)
        self._do(
            "INSERT INTO holds (device, reason, owner, at, expires_at) VALUES (?, ?, ?, ?, ?)",
            device, reason, owner, now, expires_at,
        )  # fmt: skip
        return Hold(device=device, reason=reason, owner=owner, at=now, expires_at=expires_at)

    def unhold(self, device: DeviceId | None, owner: str) -> bool:
        """Take an owner's hold back, and tell whether there was one; None takes back the one on everything only."""
        return self._do("DELETE FROM holds WHERE device IS ? AND owner = ?", device, owner) > 0

    def holds(self) -> list[Hold]:
        """List the holds, those on everything first, and of each device the oldest first."""
        return [hold_of(row) for row in self._all("SELECT * FROM holds ORDER BY device, at, owner")]

    def move_holds(self, seconds: float) -> None:
        """Follow the wall clock, which was set by so much: a hold was set for a time, not until a date."""
        self._do("UPDATE holds SET at = at + ?, expires_at = expires_at + ?", seconds, seconds)

    def end_holds(self, now: float) -> list[Hold]:
        """End the holds whose time is over, and return them.

        One that was set by a clock which was ahead lasts for its whole time from now on: nobody knows how much of it is
        over, and it must not last until that clock's date comes.
        """
        self._do(
            "UPDATE holds SET at = ?, expires_at = ? + (expires_at - at) WHERE at > ? AND expires_at IS NOT NULL",
            now, now, now,
        )  # fmt: skip
        over = [hold for hold in self.holds() if hold.expires_at is not None and hold.expires_at <= now]
        for hold in over:
            self.unhold(hold.device, hold.owner)
        return over

    def try_writing(self) -> None:
        """Write something, and take it back within the transaction: whether that can be committed tells of the disk."""
        mark = self._insert("INSERT INTO holds (device, reason, owner, at) VALUES (NULL, '', '', 0)")
        self._do("DELETE FROM holds WHERE rowid = ?", mark)

    def _latch(self, id_: LatchId) -> Latch:
        row = self._first("SELECT * FROM latches WHERE id = ?", id_)
        if row is None:
            raise Refused(f"there is no latch {id_}; `firmwarden status` shows them")
        return latch_of(row)
