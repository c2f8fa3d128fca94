"""Images kept by the hash of their content, so that what is sent is what was checked.

The firmware directory belongs to whoever drops releases there and may change at any time; this one belongs to
the service.  Nothing here is ever half an image: a file gets its name only when its bytes are on disk, and its
bytes are hashed again whenever they are read.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage
from firmwarden.files import Unusable, read_file, written_whole
from firmwarden.model import ImageHash

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

LARGEST_IMAGE: Final = 64 << 20
"""The largest image in bytes.  Microcontrollers hold a few MiB; with external flash, tens.  An image is held in
memory while it is checked and while it is sent, so there has to be an end."""

_UNFINISHED: Final = "."
"""What the names of files that are being written start with; hashes do not."""


def hash_of(content: bytes) -> ImageHash:
    """Name a content."""
    return ImageHash(hashlib.sha256(content).hexdigest())


class ImageStore:
    """A directory of images; every method blocks on the disk, so call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> None:
        """Make the directory where it is missing, and remove what a crash left unfinished.

        Raises:
            OSError: the directory cannot be made or read.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in self._directory.iterdir():
            if each.name.startswith(_UNFINISHED):
                each.unlink()

    def admit(self, content: bytes) -> ImageHash:
        """Keep an image; when this returns it survives a power loss.

        Raises:
            OSError: it cannot be written, for want of space say; then nothing is left of it.
        """
        image = hash_of(content)
        try:
            self.load(image)
        except BadImage:
            with written_whole(self._directory / image) as file:
                file.write(content)
        return image

    def holds(self, image: ImageHash, size: int) -> bool:
        """Tell by a look at the name and size whether an image is there."""
        try:
            return (self._directory / image).stat(follow_symlinks=False).st_size == size
        except OSError:
            return False

    def load(self, image: ImageHash) -> bytes:
        """Read an image and check it against its hash.

        Raises:
            BadImage: it is not there, or is damaged; a damaged one is removed, so that it can be admitted again.
        """
        path = self._directory / image
        try:
            content, _ = read_file(path, LARGEST_IMAGE)
        except (OSError, Unusable) as exc:
            raise BadImage(f"the stored image {image} cannot be read: {exc}") from exc
        if hash_of(content) != image:
            path.unlink(missing_ok=True)
            raise BadImage(f"the stored image {image} was damaged on disk and has been removed")
        return content

    def discard_except(self, needed: AbstractSet[ImageHash]) -> int:
        """Remove every image that is not ``needed``; returns how many went."""
        unneeded = [each for each in self._directory.iterdir() if each.name not in needed]
        unneeded = [each for each in unneeded if not each.name.startswith(_UNFINISHED)]
        for each in unneeded:
            each.unlink(missing_ok=True)
        return len(unneeded)
