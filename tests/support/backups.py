"""States to back up and to restore."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.app.backup import write_backup
from firmwarden.app.places import IMAGES_DIR, STATE_FILE
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.model import Action, DeviceId, LatchScope, Release
from firmwarden.store.store import Store
from support.stored import CAUSE, NOON, PANEL, enroll

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from firmwarden.store.ledger import Ledger

    T = TypeVar("T")

IMAGE: Final = b"what panels run"
NEWER: Final = b"what panels should run"
_SAMPLES: Final = Path(__file__).parents[1] / "store" / "samples"


def older_database(database: Path, version: int) -> None:
    """Make a database as the program with that schema version left it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((_SAMPLES / f"version-{version}.sql").read_text("utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")


def in_state(state_dir: Path, work: Callable[[Ledger], T]) -> T:
    """Do something to a state as the daemon would, with nobody else there."""

    async def run() -> T:
        store = await Store.open(state_dir / STATE_FILE, inline=True)
        try:
            return await store.run(work)
        finally:
            await store.aclose()

    state_dir.mkdir(exist_ok=True)
    return anyio.run(run)


def images(state_dir: Path) -> ImageStore:
    state_dir.mkdir(exist_ok=True)
    kept = ImageStore(state_dir / IMAGES_DIR)
    kept.open()
    return kept


def release_of(content: bytes, version: str) -> Release:
    image = hash_of(content)
    return Release(
        device_class=PANEL, version=version, image=image, size=len(content), manifest=f"{version}.toml"
    )


def make_state(state_dir: Path) -> DeviceId:
    """Make a state with one device that runs an image, and another image on its way to it."""
    kept = images(state_dir)
    kept.admit(IMAGE)
    kept.admit(NEWER)

    def work(ledger: Ledger) -> DeviceId:
        device = enroll(ledger, 1)
        old, new = release_of(IMAGE, "1.0.0"), release_of(NEWER, "2.0.0")
        ledger.set_running(
            device, version="1.0.0", sequence=None, image=old.image, evidence="END acknowledged", now=NOON
        )
        attempt = ledger.claim(ledger.create_job(device, new, NOON).id, NOON)
        ledger.erase_starting(attempt.id, NOON)
        ledger.record(Action(at=NOON, who="ann", what="hold", target="all", detail="lunch"))
        return device

    return in_state(state_dir, work)


def went_on(state_dir: Path, device: DeviceId) -> None:
    """Let a device be erased again, give a verdict, and another one come."""

    def work(ledger: Ledger) -> None:
        attempt = ledger.running_attempts()[0]
        ledger.erase_starting(attempt.id, NOON)
        ledger.erase_starting(attempt.id, NOON)
        ledger.latch(LatchScope.DEVICE, device=device, image=None, cause=CAUSE, attempt=attempt.id, now=NOON)
        ledger.hold(device, "on the bench", "bob", NOON)
        ledger.record(Action(at=NOON + 1, who="bob", what="hold", target=device, detail="on the bench"))
        enroll(ledger, 2)

    in_state(state_dir, work)


def backup_of(state_dir: Path) -> bytes:
    out = io.BytesIO()
    write_backup(state_dir, out)
    return out.getvalue()


def files_of(state_dir: Path) -> dict[str, bytes]:
    """All that lies in a state directory, but for the lock, which is no state."""
    return {
        str(each.relative_to(state_dir)): each.read_bytes()
        for each in sorted(state_dir.rglob("*"))
        if each.is_file() and each.suffix != ".lock"
    }
