"""Values and a bare ledger for tests of what is stored."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from firmwarden.model import Cause, CauseCode, ClassName, DeviceId, ImageHash, Release
from firmwarden.store.ledger import Ledger
from firmwarden.store.migrations import migrate, steps
from firmwarden.store.store import configure

if TYPE_CHECKING:
    from collections.abc import Iterator

PANEL: Final = ClassName("panel")
DAY_S: Final = 86_400.0
NOON: Final = 20_000.5 * DAY_S
"""Midday in UTC, 2024-10-04."""
CAUSE: Final = Cause(
    code=CauseCode.ERASE_ERROR,
    detail="the client could not erase",
    raw=b"\x00\xff\x04",
    offset=512,
    chunk=2,
    sequence=7,
)


def image(number: int) -> ImageHash:
    return ImageHash(f"{number:064x}")


def release(number: int) -> Release:
    return Release(
        device_class=PANEL,
        version=f"1.{number}.0",
        image=image(number),
        size=1000 + number,
        manifest=f"panel-{number}.toml",
    )


def enroll(ledger: Ledger, number: int, now: float = NOON) -> DeviceId:
    return ledger.enroll(
        PANEL,
        f"serial:{number}",
        label=f"panel {number}",
        port=f"/dev/ttyACM{number}",
        serial=str(number),
        now=now,
    ).id


@contextmanager
def bare_ledger() -> Iterator[Ledger]:
    """Give a ledger on a database in memory; every statement commits by itself."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        migrate(connection, None, steps())
        configure(connection, "memory")
        yield Ledger(connection)
    finally:
        connection.close()
