"""How far releases have come among the units of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.model import ClassName, DeviceId, ImageHash, Rollout, RolloutState
from firmwarden.store.rows import Transaction, job_of

if TYPE_CHECKING:
    import sqlite3

    from firmwarden.model import Job


class Rollouts(Transaction):
    """The part of the ledger about rollouts.

    Which units are in one is not stored: what each was given, runs and failed at tells it, and cannot contradict it.
    """

    def rollouts(self) -> list[Rollout]:
        """List every rollout that was ever begun, by class, oldest first."""
        return [
            _rollout_of(row)
            for row in self._all("SELECT * FROM rollouts ORDER BY device_class, began_at, image")
        ]

    def keep_rollout(self, rollout: Rollout) -> None:
        """Record how far one has come, the first time or again."""
        self._do(
            "INSERT OR REPLACE INTO rollouts (device_class, image, version, state, wave, began_at, wave_at, "
            "soaks_since, forgiven, changed_by, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rollout.device_class, rollout.image, rollout.version, rollout.state, rollout.wave, rollout.began_at,
            rollout.wave_at, rollout.soaks_since, rollout.forgiven, rollout.changed_by, rollout.reason,
        )  # fmt: skip

    def move_soaks(self, seconds: float) -> None:
        """Let what soaks follow a clock that was set by so much: it soaks for its time all the same."""
        self._do("UPDATE rollouts SET soaks_since = soaks_since + ? WHERE soaks_since IS NOT NULL", seconds)

    def newest_jobs_of(self, image: ImageHash) -> dict[DeviceId, Job]:
        """Look up the newest job of each device that ever had one for an image."""
        rows = self._all(
            "SELECT * FROM jobs WHERE id IN (SELECT max(id) FROM jobs WHERE image = ? GROUP BY device)", image
        )
        return {job.device: job for job in map(job_of, rows)}

    def tried(self, image: ImageHash) -> set[DeviceId]:
        """Collect the devices at which an image was tried at least once."""
        rows = self._all("SELECT DISTINCT device FROM jobs WHERE image = ? AND attempts > 0", image)
        return {DeviceId(row["device"]) for row in rows}


def _rollout_of(row: sqlite3.Row) -> Rollout:
    return Rollout(
        device_class=ClassName(row["device_class"]),
        image=ImageHash(row["image"]),
        version=row["version"],
        state=RolloutState(row["state"]),
        wave=row["wave"],
        began_at=row["began_at"],
        wave_at=row["wave_at"],
        soaks_since=row["soaks_since"],
        forgiven=row["forgiven"],
        changed_by=row["changed_by"],
        reason=row["reason"],
    )
