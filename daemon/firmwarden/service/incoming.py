"""Takes a release that somebody sends, and puts it into the firmware directory as if it had been dropped there.

It is judged before anything is written, by the rules of the intake: what would be refused there, or keep another
release from counting, is refused here and leaves nothing behind.
"""

from __future__ import annotations

import errno
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from anyio import to_thread

from firmwarden.errors import BadManifest, NoRoom, Unavailable
from firmwarden.images import bundle, minisign
from firmwarden.images.bundle import Packed
from firmwarden.images.manifest import SUFFIX, Manifest, parse_manifest
from firmwarden.service.placing import Placing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from firmwarden.model import Release
    from firmwarden.service.intake import Intake

    Record = Callable[[tuple[Release, ...]], Awaitable[object]]

T = TypeVar("T")

_NAME_MAX: Final = 255
"""Bytes in a file name: NAME_MAX of Linux."""
_NOT_PLAIN: Final = re.compile(r"[^\w.+-]", re.ASCII)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Incoming:
    """The way into the firmware directory for what is sent; one release at a time."""

    def __init__(self, directory: Path, intake: Intake, arrived: Callable[[], None]) -> None:
        """Take where to put releases.

        Args:
            directory: the firmware directory.
            intake: judges them.
            arrived: called when one was put there.
        """
        self._directory = directory
        self._intake = intake
        self._arrived = arrived
        self._turn = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)
        # The limiter alone would do, but for a native cancellation of an asyncio task: that gives it back while the
        # thread still writes, and what was begun must not be taken back before it has ended.
        self._mutex = threading.Lock()

    async def put(
        self, manifest: bytes, image: bytes, signature: bytes | None, name: str, record: Record
    ) -> tuple[Release, ...]:
        """Put a release into the directory, wholly and for good, or leave the directory as it was.

        Args:
            manifest: its manifest.
            image: the image that it names.
            signature: the signature of the manifest; None where there is none.
            name: what the file of the manifest was called where it comes from; may be empty.
            record: called when all is written and only the names are missing; if it raises, nothing happens.

        Raises:
            BadManifest: the release is not in order.
            Refused: it contradicts what is in the directory.
            NoRoom: the disk is full.
            Unavailable: the directory cannot be written.
        """

        def lay(placing: Placing) -> tuple[Release, ...]:
            read = parse_manifest(manifest, name or "the manifest")
            called = _file_name(name, SUFFIX, read)
            packed = Packed(name=called, manifest=read, content=manifest, signature=signature, image=image)
            releases = self._intake.judge([packed])
            placing.lay(read.image, image)
            if signature is not None:
                placing.lay(called + minisign.SUFFIX, signature)
            # The last: the others count for nothing without it.
            placing.lay(called, manifest)
            return releases

        return await self._put(lay, record)

    async def put_bundle(self, content: bytes, name: str, record: Record) -> tuple[Release, ...]:
        """Put a bundle into the directory, under the same conditions as ``put`` a release."""

        def lay(placing: Placing) -> tuple[Release, ...]:
            offered = bundle.unpack(content, name)
            called = _file_name(name, bundle.SUFFIX, offered[0].manifest)
            releases = self._intake.judge([replace(each, bundle=called) for each in offered])
            placing.lay(called, content)
            return releases

        return await self._put(lay, record)

    async def _put(
        self, lay: Callable[[Placing], tuple[Release, ...]], record: Record
    ) -> tuple[Release, ...]:
        async with self._turn:
            placing = Placing(self._directory)
            try:
                # It is judged beside what is there now: the latest look may be old, or be still to come.
                await self._intake.scan()
                releases = await self._work(lambda: lay(placing))
                await record(releases)
                await self._work(placing.show)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._work(placing.clear)
        self._arrived()
        return releases

    async def _work(self, work: Callable[[], T]) -> T:
        def alone() -> T:
            with self._mutex:
                return work()

        try:
            return await to_thread.run_sync(alone, limiter=self._limiter)
        except OSError as exc:
            text = f"{self._directory} cannot be written: {exc.strerror}"
            raise (NoRoom if exc.errno in _FULL else Unavailable)(text) from exc


def _file_name(given: str, suffix: str, manifest: Manifest) -> str:
    """Name a file as it was called where it comes from, or else after the release that it is about."""
    if not given:
        return _NOT_PLAIN.sub("-", f"{manifest.device}-{manifest.version}") + suffix
    kind = "manifest" if suffix == SUFFIX else "bundle"
    if not given.endswith(suffix):
        raise BadManifest(f"the name of a {kind} ends with {suffix}, got {given!r}")
    if given.startswith(".") or not given.isprintable() or {"/", "\\"} & set(given):
        raise BadManifest(f"expected the plain name of a file, got {given!r}")
    if len(given.encode(errors="surrogatepass")) > _NAME_MAX - len(minisign.SUFFIX):
        raise BadManifest(f"the name of the {kind} is longer than {_NAME_MAX - len(minisign.SUFFIX)} bytes")
    return given
