"""Reads an upload: a manifest and an image in one form, bounded while they stream.

One upload is read at a time and kept in memory: an image has to fit there anyway to be checked, and whatever is
written to disk before that is something to clean up.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from firmwarden.control.form import File, FormReader
from firmwarden.control.problems import BadRequest
from firmwarden.control.requests import pieces
from firmwarden.errors import Unavailable
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

UPLOAD_LIMIT: Final = LARGEST_IMAGE + LARGEST_MANIFEST + (16 << 10)
"""Bytes of a body; the rest is for the boundaries and the headers of the files."""

UPLOAD_S: Final = 600.0
"""How long one may take: 64 MiB over a bad mobile network.  Others have to wait for it."""

AGAIN_IN_S: Final = 5
"""An upload within a site takes seconds."""

_FILES: Final = {"manifest": LARGEST_MANIFEST, "image": LARGEST_IMAGE}


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent."""

    manifest: File
    image: File


class Uploads:
    """Lets one upload in at a time."""

    def __init__(self) -> None:
        self._place = anyio.Semaphore(1)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncGenerator[Upload, None]:
        """Read an upload; until the context is left there is no other.

        Raises:
            BadRequest: it is not what it should be, is too large, or takes too long.
            Unavailable: another one is under way.
        """
        form = FormReader(request.headers.get("content-type", ""), _FILES)
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
            files = form.finish()
            yield Upload(manifest=files["manifest"], image=files["image"])
        finally:
            self._place.release()
