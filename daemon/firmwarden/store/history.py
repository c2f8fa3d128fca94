"""What people did, which images are still needed, and how history is kept from growing for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.model import ImageHash, Outcome
from firmwarden.store.rows import CHANGED, Transaction, action_of

if TYPE_CHECKING:
    from firmwarden.model import Action, DeviceId

_FROM_DIRECTORY: Final = "('drop', 'withdraw')"
"""Acts that whoever may write to the firmware directory can do as often as that is looked at."""


class History(Transaction):
    """The part of the ledger about the past."""

    def record(self, action: Action) -> None:
        """Keep what a person did."""
        self._do(
            "INSERT INTO actions (at, who, what, target, detail) VALUES (?, ?, ?, ?, ?)",
            action.at, action.who, action.what, action.target, action.detail,
        )  # fmt: skip

    def actions(self, limit: int, target: str | None = None) -> list[Action]:
        """List what people did, newest first, to one device or release, or to anything."""
        if target is None:
            rows = self._all("SELECT * FROM actions ORDER BY id DESC LIMIT ?", limit)
        else:
            rows = self._all("SELECT * FROM actions WHERE target = ? ORDER BY id DESC LIMIT ?", target, limit)
        return [action_of(row) for row in rows]

    def dropped(self) -> dict[str, str]:
        """Tell what is on record of each manifest in the firmware directory."""
        return {row["manifest"]: row["what"] for row in self._all("SELECT * FROM dropped")}

    def note_dropped(self, manifest: str, what: str | None) -> None:
        """Put on record what a manifest is, or with None that it is there no more."""
        if what is None:
            self._do("DELETE FROM dropped WHERE manifest = ?", manifest)
        else:
            self._do("INSERT OR REPLACE INTO dropped (manifest, what) VALUES (?, ?)", manifest, what)

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

    def fold_drops(self, keep: int = 10_000) -> None:
        """Keep of what was dropped and taken away the newest only, however new the rest is."""
        self._do(
            f"DELETE FROM actions WHERE what IN {_FROM_DIRECTORY} AND id <= (SELECT id FROM actions "  # noqa: S608
            f"WHERE what IN {_FROM_DIRECTORY} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            keep,
        )

    def fold(
        self, now: float, keep_days: int = 90, keep_per_device: int = 1000, keep_acts: int = 10_000
    ) -> None:
        """Turn attempts that are old *and* beyond the newest of their device into counters, and drop acts that are so.

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
        self._do(
            f"DELETE FROM actions WHERE what NOT IN {_FROM_DIRECTORY} AND at < ? AND id <= (SELECT id FROM "  # noqa: S608
            f"actions WHERE what NOT IN {_FROM_DIRECTORY} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            horizon, keep_acts,
        )  # fmt: skip
