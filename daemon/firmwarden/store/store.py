"""The one owner of the database: every transaction goes through it, one after the other.

Two rules hold whatever happens around it:

* When ``run`` returns, the transaction is on disk; when it raises, nothing of it is (``after_commit`` aside).
* A cancellation arrives before a transaction starts or not at all, so the caller always knows which.

SQLite blocks on fsync, for a second or more on a worn SD card, so transactions run in a thread.  There is one at
a time: waiters queue in the event loop and take no thread of a pool from anybody (invariant 6).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from firmwarden.errors import StoreError
from firmwarden.store.failures import damaged, translated
from firmwarden.store.ledger import Ledger
from firmwarden.store.lock import lock
from firmwarden.store.migrations import migrate, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

T = TypeVar("T")

_OLDEST_SQLITE: Final = (3, 38, 0)
"""STRICT tables, and JSON in every build: https://www.sqlite.org/stricttables.html, https://www.sqlite.org/json1.html"""

_BUSY_TIMEOUT_S: Final = 5.0
"""How long somebody's sqlite3 shell may keep us waiting; our own transactions never wait for each other."""

_LOG_KEPT: Final = 4 << 20
"""Bytes of the write-ahead log that stay allocated: what it grows to between two checkpoints,
https://www.sqlite.org/wal.html."""


class Store:
    """The durable state.  Open it with ``open``; ``aclose`` gives it back."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        where: str,
        resources: ExitStack,
        inline: bool,
        before_commit: Callable[[], None] | None,
        after_commit: Callable[[], None] | None,
    ) -> None:
        self._connection = connection
        self._where = where
        self._resources = resources
        self._inline = inline
        self._before_commit = before_commit
        self._after_commit = after_commit
        self.problem = ""
        """Why the last transaction that could not be carried out could not; empty once one was written again."""
        self._turn = anyio.CapacityLimiter(1)
        # The limiter alone would do, but for a native cancellation of an asyncio task: that gives the turn back
        # while the thread still works, and a second transaction must not end up inside the first.
        self._mutex = threading.Lock()

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        inline: bool = False,
        before_commit: Callable[[], None] | None = None,
        after_commit: Callable[[], None] | None = None,
    ) -> Self:
        """Open the database file at ``path``, make or migrate it, and keep other processes out.

        Args:
            path: the file, its directory must exist; None keeps everything in memory, for a one-shot update.
            inline: run transactions in the event loop instead of in a thread.  For tests on a virtual clock, which
                would run away while a thread works.
            before_commit: called in the writer's thread when a transaction that changed something is about to be
                committed.  For fault tests: what it raises rolls back, and a process that dies here has lost it.
            after_commit: the same, when it has been committed.  A process that dies here must have kept it.

        Raises:
            StoreError: the file cannot be used; the message says why and what to do.
        """

        def connect() -> tuple[sqlite3.Connection, ExitStack]:
            return _connect(path)

        connection, resources = connect() if inline else await anyio.to_thread.run_sync(connect)
        return cls(
            connection,
            where=_name(path),
            resources=resources,
            inline=inline,
            before_commit=before_commit,
            after_commit=after_commit,
        )

    async def run(self, work: Callable[[Ledger], T]) -> T:
        """Do ``work`` in one transaction and return its result when that is on disk.

        ``work`` runs in the writer's thread: it touches the ledger and values, nothing of the event loop, and
        does not keep the ledger.  What it raises rolls everything back and comes out here.  Cancelled while it
        waits its turn, nothing has happened; once begun, it is carried through and its result returned.

        Raises:
            StoreError: the database failed; nothing was changed.
        """
        return await self._call(lambda: self._transact(work))

    async def aclose(self) -> None:
        """Finish what is under way and give the file back; never cancelled, and safe to repeat."""
        with anyio.CancelScope(shield=True):
            await self._call(self._close)

    async def _call(self, function: Callable[[], T]) -> T:
        if self._inline:
            await anyio.lowlevel.checkpoint()
            return function()
        return await anyio.to_thread.run_sync(function, limiter=self._turn)

    def _transact(self, work: Callable[[Ledger], T]) -> T:
        try:
            result, changed = self._carried_through(work)
        except StoreError as exc:
            self.problem = str(exc)
            raise
        if changed:
            self.problem = ""
            if self._after_commit is not None:
                self._after_commit()
        return result

    def _carried_through(self, work: Callable[[Ledger], T]) -> tuple[T, bool]:
        """Do ``work`` in one transaction; also returns whether there was anything to write."""
        connection = self._connection
        with self._mutex, translated(self._where):
            connection.execute("BEGIN IMMEDIATE")
            try:
                changes = connection.total_changes
                result = work(Ledger(connection))
                changed = connection.total_changes != changes
                if changed and self._before_commit is not None:
                    self._before_commit()
                connection.execute("COMMIT")
            except BaseException:
                # Some failures (disk full, I/O error) have rolled back by themselves.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result, changed

    def _close(self) -> None:
        with self._mutex, translated(self._where):
            self._resources.close()


def _name(path: Path | None) -> str:
    return "the state in memory" if path is None else str(path)


def _connect(path: Path | None) -> tuple[sqlite3.Connection, ExitStack]:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"this Python brings SQLite {sqlite3.sqlite_version}, firmwarden needs "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} or newer; use a Python built with one"
        )
    where = _name(path)
    with ExitStack() as resources, translated(where), _no_room(where):
        if path is not None:
            resources.callback(os.close, lock(path))
        # Transactions are ours to begin and end, and they run in whichever worker thread is idle, one at a time.
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_TIMEOUT_S,
        )
        resources.callback(connection.close)
        connection.row_factory = sqlite3.Row
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise damaged(where, finding)
        migrate(connection, path, steps())
        configure(connection, where)
        return connection, resources.pop_all()


@contextmanager
def _no_room(where: str) -> Iterator[None]:
    """Raise ``StoreError`` for what goes wrong beside the database: its copy before a new schema cannot be written."""
    try:
        yield
    except OSError as exc:
        raise StoreError(
            f"{where}: {exc.filename or 'its copy'}: {exc.strerror}; nothing was changed"
        ) from exc


def configure(connection: sqlite3.Connection, where: str) -> None:
    """Make each commit one that survives a power cut.

    Raises:
        StoreError: the file system cannot hold a write-ahead log.
    """
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in {"wal", "memory"}:
        raise StoreError(
            f"{where}: its file system cannot hold a write-ahead log; put state_dir on a local file system"
        )
    # FULL: in WAL mode the default of some builds, NORMAL, may lose the last commits with the power.
    connection.execute("PRAGMA synchronous = FULL")
    # A log that grew while a backup read is cut back, and does not keep the room.
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
    connection.execute("PRAGMA foreign_keys = ON")
