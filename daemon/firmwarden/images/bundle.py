"""Bundles: releases in one file, ``NAME.fwz``, with all that belongs to them and nothing else.

A bundle is a zip archive of manifests, the image that each of them names, and the signatures, each called as its file
would be called in the firmware directory.  It is read as strictly as ``strict_zip`` says, and into memory only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadManifest
from firmwarden.images import minisign
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import LARGEST_MANIFEST, Manifest, parse_manifest
from firmwarden.images.manifest import SUFFIX as MANIFEST_SUFFIX
from firmwarden.images.strict_zip import read_zip, write_zip

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIX: Final = ".fwz"

LARGEST_BUNDLE: Final = LARGEST_IMAGE + (1 << 20)
"""Bytes of the file, and of what is in it: the largest image, and what is said of it.  Both are in memory at once."""

_SIGNATURE_SUFFIX: Final = MANIFEST_SUFFIX + minisign.SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A release of which all is at hand."""

    name: str
    """The file of the manifest."""
    manifest: Manifest
    content: bytes
    """The file of the manifest, byte for byte."""
    signature: bytes | None
    """The file of the signature."""
    image: bytes
    bundle: str = ""
    """The bundle that it is in, if any."""

    @property
    def full_name(self) -> str:
        """Tell the manifest from those beside it and in other bundles."""
        return f"{self.bundle}/{self.name}" if self.bundle else self.name


def unpack(content: bytes, name: str) -> tuple[Packed, ...]:
    """Read a bundle that is called ``name``; of its releases only the manifests are judged.

    Raises:
        BadManifest: it is refused, with the reason.
    """
    files = read_zip(content, _limit_of, LARGEST_BUNDLE)
    releases = tuple(_release(each, files, name) for each in files if each.endswith(MANIFEST_SUFFIX))
    if not releases:
        raise BadManifest("there is no manifest in it")
    wanted = {
        part
        for release in releases
        for part in (release.name, release.name + minisign.SUFFIX, release.manifest.image)
    }
    for each in files:
        if each not in wanted:
            raise BadManifest(f"{each} in it belongs to no manifest")
    return releases


def pack(releases: Iterable[Packed]) -> bytes:
    """Make a bundle; the same releases make the same bytes, in whatever order they are given.

    Raises:
        BadManifest: it would be refused.
    """
    files: dict[str, bytes] = {}
    for release in releases:
        own = {release.name: release.content, release.manifest.image: release.image}
        if release.signature is not None:
            own[release.name + minisign.SUFFIX] = release.signature
        for name, content in own.items():
            if files.setdefault(name, content) != content:
                raise BadManifest(f"two files are called {name}")
    bundle = write_zip({name: files[name] for name in sorted(files)})
    unpack(bundle, "the bundle")
    return bundle


def _limit_of(name: str) -> int:
    if name.endswith(MANIFEST_SUFFIX):
        return LARGEST_MANIFEST
    return minisign.LARGEST_SIGNATURE if name.endswith(_SIGNATURE_SUFFIX) else LARGEST_IMAGE


def _release(name: str, files: dict[str, bytes], bundle: str) -> Packed:
    manifest = parse_manifest(files[name], name)
    if manifest.image not in files:
        raise BadManifest(f"{manifest.image}, which {name} names, is not in it")
    return Packed(
        name=name,
        manifest=manifest,
        content=files[name],
        signature=files.get(name + minisign.SUFFIX),
        image=files[manifest.image],
        bundle=bundle,
    )
