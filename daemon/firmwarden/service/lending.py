"""Lends the bytes of images to attempts: one copy to all that run at the same time.

A release is often for a whole rack, and a copy of it for each device would be most of the daemon's memory.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from firmwarden.model import ImageHash
    from firmwarden.service.worker import Images


@dataclass(slots=True)
class _Copy:
    content: bytes = b""
    """Empty until it is read; no image is."""
    readers: int = 0
    reading: anyio.Lock = field(default_factory=anyio.Lock)


class Lending:
    """The copies that are in use."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._copies: dict[ImageHash, _Copy] = {}

    @asynccontextmanager
    async def lend(self, image: ImageHash) -> AsyncGenerator[bytes]:
        """Lend an image; it is read and checked unless somebody else has it at this moment.

        Raises:
            BadImage: it is not there or damaged; whoever asks next reads it again.
        """
        copy = self._copies.setdefault(image, _Copy())
        copy.readers += 1
        try:
            async with copy.reading:
                if not copy.content:
                    copy.content = await self._images.load(image)
            yield copy.content
        finally:
            copy.readers -= 1
            if not copy.readers:
                del self._copies[image]
