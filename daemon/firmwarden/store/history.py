"""What people did, which images are still needed, and how history is kept from growing for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.model import ImageHash, Outcome
from firmwarden.store.rows import CHANGED, Transaction, action_of

if TYPE_CHECKING:
    from firmwarden.model import Action, DeviceId


class History(Transaction):
    """The part of the ledger about the past."""

    def record(self, action: Action) -> None:
        """Keep what a person did."""
        self._do(
            "INSERT INTO actions (at, who, what, target, detail) VALUES (?, ?, ?, ?, ?)",
            action.at, action.who, action.what, action.target, action.detail,
        )  # fmt: skip

    def actions(self, limit: int, device: DeviceId | None = None) -> list[Action]:
        """List what people did, newest first, to one device or to anything."""
        if device is None:
            rows = self._all("SELECT * FROM actions ORDER BY id DESC LIMIT ?", limit)
        else:
            rows = self._all("SELECT * FROM actions WHERE target = ? ORDER BY id DESC LIMIT ?", device, limit)
        return [action_of(row) for row in rows]

    def needed_images(self) -> set[ImageHash]:
        """Collect the images of open jobs, those that devices run and those to which they may go back."""
        rows = self._all(
            "SELECT image FROM jobs WHERE state IN ('queued', 'running', 'unknown') "
            "UNION SELECT running_image FROM devices WHERE running_image IS NOT NULL "
            "UNION SELECT good_image FROM devices WHERE good_image IS NOT NULL "
            "UNION SELECT good_before_image FROM devices WHERE good_before_image IS NOT NULL"
        )
        return {ImageHash(row["image"]) for row in rows}

    def totals(self, device: DeviceId) -> dict[Outcome, int]:
        """Count a device's attempts by outcome, folded ones too."""
        rows = self._all(
            "SELECT outcome, sum(attempts) AS attempts FROM ("
            "  SELECT outcome, attempts FROM folded WHERE device = ? UNION ALL "
            "  SELECT attempts.outcome, 1 FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE jobs.device = ?"
            ") GROUP BY outcome",
            device, device,
        )  # fmt: skip
        return {Outcome(row["outcome"]): row["attempts"] for row in rows}

    def fold(self, now: float, keep_days: int = 90, keep_per_device: int = 1000) -> None:
        """Turn attempts that are old *and* beyond the newest of their device into counters.

        Attempts of open jobs stay, as do wear, latches and the newest job of each pair: the planner goes by it.
        So does the last attempt that began to change a unit and did not succeed: what it left may still be there.
        """
        horizon = now - keep_days * 86_400
        old = self._all(
            "WITH last AS (SELECT max(attempts.id) AS id, attempts.outcome FROM attempts "  # noqa: S608  a constant
            f"  JOIN jobs ON jobs.id = attempts.job WHERE {CHANGED} GROUP BY jobs.device) "
            "SELECT id, device, outcome FROM ("
            "  SELECT attempts.id, jobs.device, attempts.outcome, attempts.started_at, jobs.state,"
            "    row_number() OVER (PARTITION BY jobs.device ORDER BY attempts.id DESC) AS age"
            "  FROM attempts JOIN jobs ON jobs.id = attempts.job"
            ") WHERE age > ? AND started_at < ? AND state NOT IN ('queued', 'running', 'unknown') "
            "AND id NOT IN (SELECT id FROM last WHERE outcome <> 'succeeded')",
            keep_per_device, horizon,
        )  # fmt: skip
        for row in old:
            self._do(
                "INSERT INTO folded (device, outcome, attempts) VALUES (?, ?, 1) "
                "ON CONFLICT (device, outcome) DO UPDATE SET attempts = attempts + 1",
                row["device"], row["outcome"],
            )  # fmt: skip
            self._do("DELETE FROM attempts WHERE id = ?", row["id"])
        self._do(
            "DELETE FROM jobs WHERE updated_at < ? AND state NOT IN ('queued', 'running', 'unknown') "
            "AND id NOT IN (SELECT job FROM attempts) AND id NOT IN (SELECT max(id) FROM jobs GROUP BY device, image)",
            horizon,
        )
