"""A firmware directory and people who drop files into it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from firmwarden.images.cas import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass
class Clock:
    """A clock for intake: it stands where the test puts it, some time after the files were written."""

    now: float

    @classmethod
    def long_after(cls) -> Clock:
        return cls(time.time() + 3600)

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        return self.now


def manifest_of(
    content: bytes,
    *,
    version: str = "1.0.0",
    device: str = "panel",
    image: str = "panel.img",
    replacing: Mapping[str, object] | None = None,
) -> bytes:
    """Write a manifest; ``replacing`` has other values, as TOML."""
    values: dict[str, object] = {
        "device": f'"{device}"',
        "version": f'"{version}"',
        "image": f'"{image}"',
        "sha256": f'"{hash_of(content)}"',
        "size": len(content),
        **(replacing or {}),
    }
    return ("[release]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())).encode()


@dataclass(frozen=True)
class Drop:
    """The directory."""

    directory: Path
    _stamps: Iterator[int] = field(default_factory=lambda: count(time.time_ns()))

    def file(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        # Tests write faster than the kernel's clock ticks, and then no look can tell the contents apart.
        stamp = next(self._stamps)
        os.utime(path, ns=(stamp, stamp))
        return path

    def manifest(
        self,
        name: str,
        content: bytes,
        *,
        version: str = "1.0.0",
        device: str = "panel",
        image: str | None = None,
        replacing: Mapping[str, object] | None = None,
    ) -> Path:
        """Write the manifest NAME.toml for an image NAME.img; ``replacing`` has other values, as TOML."""
        text = manifest_of(
            content, version=version, device=device, image=image or f"{name}.img", replacing=replacing
        )
        return self.file(f"{name}.toml", text)

    def release(self, name: str, content: bytes, *, version: str = "1.0.0", device: str = "panel") -> None:
        self.file(f"{name}.img", content)
        self.manifest(name, content, version=version, device=device)
