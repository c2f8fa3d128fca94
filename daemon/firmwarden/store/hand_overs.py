"""Who was stopped to leave a port, and has yet to be started again."""

from __future__ import annotations

from firmwarden.store.rows import Transaction


class HandOvers(Transaction):
    """The part of the ledger about owners of ports."""

    def handed_over(self) -> dict[str, float]:
        """List the owners that are stopped, each with since when."""
        return {row["owner"]: row["since"] for row in self._all("SELECT * FROM handed_over ORDER BY owner")}

    def hand_over(self, owner: str, now: float) -> None:
        """Note that an owner is about to be stopped; who is noted already stays so since then."""
        self._do("INSERT OR IGNORE INTO handed_over (owner, since) VALUES (?, ?)", owner, now)

    def handed_back(self, owner: str) -> None:
        """Forget an owner: it was started again."""
        self._do("DELETE FROM handed_over WHERE owner = ?", owner)
