"""Units that have yet to show that they keep well with what they were given, and what they kept well with before.

A probation begins in the transaction that records the success of an update and ends in the one that draws the
consequence, so that no power loss can part the two.
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import TYPE_CHECKING

from firmwarden.model import ClassName, GoodImage
from firmwarden.store.figures import Counting
from firmwarden.store.rows import good_of, probation_of

if TYPE_CHECKING:
    from firmwarden.model import DeviceId, Job, Probation


@unique
class ProbationEnd(StrEnum):
    """How a probation ended."""

    PASSED = "passed"
    FAILED = "failed"
    OVERTAKEN = "overtaken"
    """Something else came before the verdict: another update, or a person's word on what the unit runs."""


class Probations(Counting):
    """The part of the ledger about probations and good images."""

    def probations(self) -> list[Probation]:
        """List the probations, oldest first."""
        rows = self._all("SELECT * FROM probations ORDER BY began_at, device")
        return [probation_of(row) for row in rows]

    def probation(self, device: DeviceId) -> Probation | None:
        """Look up what a unit has yet to show; None when there is nothing."""
        row = self._first("SELECT * FROM probations WHERE device = ?", device)
        return None if row is None else probation_of(row)

    def start_probation(self, job: Job, now: float) -> None:
        """Put a unit on probation with what a job gave it; one for an earlier image is overtaken."""
        self.end_probation(job.device, ProbationEnd.OVERTAKEN)
        self._do(
            "INSERT INTO probations (device, job, image, version, sequence, size, began_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            job.device, job.id, job.image, job.version, job.sequence, job.size, now,
        )  # fmt: skip

    def soak(self, device: DeviceId, soaked_s: float) -> None:
        """Record for how long a unit on probation has been well by now."""
        self._do("UPDATE probations SET soaked_s = ? WHERE device = ?", soaked_s, device)

    def end_probation(self, device: DeviceId, end: ProbationEnd) -> None:
        """End the probation of a unit, if it is on one."""
        row = self._first(
            "SELECT device_class FROM devices JOIN probations ON device = devices.id WHERE device = ?", device
        )
        if row is None:
            return
        self._do("DELETE FROM probations WHERE device = ?", device)
        key = {"device_class": ClassName(row["device_class"]), "outcome": end}
        self._add("counted_probations", key, {"probations": 1})

    def hand_on_probation(self, source: DeviceId, target: DeviceId, *, counts: bool) -> None:
        """Let a unit be another one from now on; ``counts`` is whether what it runs is what the other runs now."""
        self.end_probation(target if counts else source, ProbationEnd.OVERTAKEN)
        self._do("UPDATE probations SET device = ? WHERE device = ?", target, source)

    def keeps_well(self, device: DeviceId, image: GoodImage) -> None:
        """Record that a unit keeps well with an image; the one before is kept, should this one be called back."""
        row = self._first("SELECT * FROM devices WHERE id = ?", device)
        if row is None:
            raise LookupError(f"no device {device}")
        last = good_of(row)
        if last is not None and last.image != image.image:
            self._set_good(device, "good_before", last)
        self._set_good(device, "good", image)

    def keeps_nothing(self, device: DeviceId) -> None:
        """Forget with what a unit kept well."""
        for which in ("good", "good_before"):
            self._set_good(device, which, None)

    def _set_good(self, device: DeviceId, which: str, image: GoodImage | None) -> None:
        values = (None,) * 4 if image is None else (image.version, image.sequence, image.image, image.size)
        self._do(
            f"UPDATE devices SET ({which}_version, {which}_sequence, {which}_image, {which}_size) = (?, ?, ?, ?) "  # noqa: S608  our own names
            "WHERE id = ?",
            *values, device,
        )  # fmt: skip
