"""Reads an upload: a release or a bundle, as files of one form, bounded while they stream.

One upload is read at a time and kept in memory: an image has to fit there anyway to be checked, and whatever is
written to disk before that is something to clean up.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.control.form import FormReader
from firmwarden.control.problems import BadRequest
from firmwarden.control.requests import pieces
from firmwarden.errors import Unavailable
from firmwarden.images.bundle import LARGEST_BUNDLE
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST
from firmwarden.images.minisign import LARGEST_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request

    from firmwarden.control.form import File

UPLOAD_LIMIT: Final = LARGEST_BUNDLE + (16 << 10)
"""Bytes of a body; a bundle is the largest there is, and the rest is for boundaries and the headers of the files."""

UPLOAD_S: Final = 600.0
"""How long one may take: 64 MiB over a bad mobile network.  Others have to wait for it."""

AGAIN_IN_S: Final = 5
"""An upload within a site takes seconds."""

_RELEASE: Final = {
    "manifest": LARGEST_MANIFEST,
    "image": LARGEST_IMAGE,
    "signature": LARGEST_SIGNATURE,
}
_OPTIONAL: Final = frozenset({"signature"})
_BUNDLE: Final = {"bundle": LARGEST_BUNDLE}


class Uploads:
    """Lets one upload in at a time."""

    def __init__(self) -> None:
        self._place = anyio.Semaphore(1)

    def release(self, request: Request) -> AbstractAsyncContextManager[dict[str, File]]:
        """Read a release, as ``manifest``, ``image`` and possibly ``signature``; else as ``_read``."""
        return self._read(request, _RELEASE)

    def bundle(self, request: Request) -> AbstractAsyncContextManager[dict[str, File]]:
        """Read a bundle, as ``bundle``; else as ``_read``."""
        return self._read(request, _BUNDLE)

    @asynccontextmanager
    async def _read(
        self, request: Request, limits: Mapping[str, int]
    ) -> AsyncGenerator[dict[str, File], None]:
        """Read an upload; until the context is left there is no other.

        Raises:
            BadRequest: it is not what it should be, is too large, or takes too long.
            Unavailable: another one is under way.
        """
        form = FormReader(request.headers.get("content-type", ""), limits, _OPTIONAL)
        try:
            self._place.acquire_nowait()
        except anyio.WouldBlock:
            raise Unavailable("Another upload is under way. Try again in a moment.", AGAIN_IN_S) from None
        try:
            with anyio.move_on_after(UPLOAD_S) as limit:
                async for piece in pieces(request, UPLOAD_LIMIT):
                    form.feed(piece)
            if limit.cancelled_caught:
                raise BadRequest(f"The upload took longer than {UPLOAD_S:.0f} s.", status=408)
            yield form.finish()
        finally:
            self._place.release()
