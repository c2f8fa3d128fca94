"""Takes releases from the firmware directory: reads manifests, checks images, keeps them in the image store.

Files are only ever read, and left where they lie.  A release counts when its manifest is there and the image
beside it has the size and the hash that the manifest says; until then it is refused with what it waits for.  The
directory is looked at again and again, so a look must be cheap: what did not change is not read again.
"""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio import from_thread, to_thread

from firmwarden.errors import BadImage, BadManifest, Refused
from firmwarden.files import Signature, Unusable, read_file, refuse_special
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.images.manifest import LARGEST_MANIFEST, Manifest, parse_manifest
from firmwarden.images.prepare import prepare
from firmwarden.model import Release
from firmwarden.service.shelf import RefusedRelease, Shelf, misfits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.images.cas import ImageStore
    from firmwarden.images.formats import ImageRules
    from firmwarden.model import ClassName, ImageHash
    from firmwarden.service.clock import Clock

_SUFFIX: Final = ".toml"

_SETTLED_S: Final = 2.0
"""Two writes within one tick of the kernel's clock leave the same time stamp, so a file that changed a moment ago is
read again.  A tick is at most 10 ms; file systems of USB sticks count in steps of 2 s."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A manifest as it was read, or why it is refused."""

    signature: Signature
    settled: bool
    result: Manifest | str


@dataclass(frozen=True, slots=True)
class _Checked:
    """An image as it was checked for a manifest: the hash and size of what is to be sent, or why it is refused."""

    signature: Signature
    settled: bool
    manifest: Manifest
    rules: ImageRules
    result: tuple[ImageHash, int] | str


class Intake:
    """Looks through the firmware directory; one look at a time."""

    def __init__(
        self, directory: Path, store: ImageStore, classes: Mapping[ClassName, ImageRules], clock: Clock
    ) -> None:
        """Take what a look needs.

        Args:
            directory: where releases are dropped.
            store: where images are kept.
            classes: the device classes, each with what its images must be.
            clock: dates refusals and tells files that changed a moment ago.
        """
        self._directory = directory
        self._store = store
        self.classes = classes
        """May be replaced between looks."""
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._manifests: dict[str, _Read] = {}
        self._images: dict[str, _Checked] = {}
        self._ranked: tuple[list[Release], dict[str, str]] = ([], {})
        self._shelf = Shelf()

    async def scan(self) -> Shelf:
        """Look through the directory.

        A directory that cannot be read withdraws nothing: the last shelf comes back with the problem.
        """
        return await to_thread.run_sync(self._scan, limiter=self._limiter)

    def judge(self, manifest: Manifest, image: bytes, name: str) -> Release:
        """Judge a release that is to be dropped with a manifest called ``name``; blocks, and keeps nothing.

        Raises:
            BadManifest: it would be refused.
            Refused: beside what is in the directory it would be refused, or another one.
        """
        rules = self._rules(manifest)
        if len(image) != manifest.size:
            raise BadManifest(f"{manifest.image} has {len(image)} bytes, the manifest says {manifest.size}")
        sent = _to_send(image, manifest, rules)
        if isinstance(sent, str):
            raise BadManifest(sent)
        release = _release(manifest, hash_of(sent), len(sent), name)
        others = [each for each in self._ranked[0] if each.manifest != name]
        refused = misfits([*others, release])
        if name in refused:
            raise Refused(f"{name} {refused[name]}")
        for other in refused.keys() - misfits(others).keys():
            raise Refused(f"with {name} there, {other} would be refused: it {refused[other]}")
        return release

    def _scan(self) -> Shelf:
        try:
            with os.scandir(self._directory) as entries:
                found = {entry.name: entry for entry in entries if not entry.name.startswith(".")}
        except OSError as exc:
            problem = f"{self._directory} cannot be read: {exc.strerror}"
            if isinstance(exc, FileNotFoundError):
                problem += "; make it, or set another firmware_dir"
            return Shelf(releases=self._shelf.releases, refused=self._shelf.refused, problem=problem)
        names = sorted(name for name in found if name.endswith(_SUFFIX))
        self._manifests = {name: self._manifests[name] for name in names if name in self._manifests}
        self._images = {name: self._images[name] for name in names if name in self._images}
        releases: list[Release] = []
        reasons: dict[str, str] = {}
        for name in names:
            from_thread.check_cancelled()
            try:
                releases.append(self._release(name, found))
            except BadManifest as exc:
                reasons[name] = str(exc)
            except FileNotFoundError:
                continue  # removed since the directory was listed
        if releases != self._ranked[0]:
            self._ranked = (releases, misfits(releases))
        reasons |= self._ranked[1]
        since = {(each.manifest, each.reason): each.since for each in self._shelf.refused}
        self._shelf = Shelf(
            releases=tuple(release for release in releases if release.manifest not in reasons),
            refused=tuple(self._refused(name, reasons[name], since) for name in sorted(reasons)),
        )
        return self._shelf

    def _release(self, name: str, found: Mapping[str, os.DirEntry[str]]) -> Release:
        """Judge one manifest; raises ``BadManifest`` with what is wrong or what it waits for."""
        if not name.isprintable():
            raise BadManifest("its name has characters that cannot be printed")
        manifest = self._manifest(found[name])
        rules = self._rules(manifest)
        try:
            image, size = self._image(name, manifest, rules, found[manifest.image])
        except (KeyError, FileNotFoundError):
            raise BadManifest(f"waits for {manifest.image}, which is not there") from None
        return _release(manifest, image, size, name)

    def _rules(self, manifest: Manifest) -> ImageRules:
        rules = self.classes.get(manifest.device)
        if rules is None:
            alike = difflib.get_close_matches(manifest.device, self.classes, n=1)
            hint = f'; did you mean "{alike[0]}"?' if alike else ""
            raise BadManifest(f'"{manifest.device}" is no device class of the configuration{hint}')
        return rules

    def _manifest(self, entry: os.DirEntry[str]) -> Manifest:
        signature = _signature(entry)
        known = self._manifests.get(entry.name)
        if known is None or not known.settled or known.signature != signature:
            content, signature = _content(entry, LARGEST_MANIFEST)
            result: Manifest | str
            try:
                result = parse_manifest(content, entry.name)
            except BadManifest as exc:
                result = str(exc)
            known = _Read(signature, self._is_settled(signature), result)
            self._manifests[entry.name] = known
        if isinstance(known.result, str):
            raise BadManifest(known.result)
        return known.result

    def _image(
        self, name: str, manifest: Manifest, rules: ImageRules, entry: os.DirEntry[str]
    ) -> tuple[ImageHash, int]:
        signature = _signature(entry)
        if signature.size < manifest.size:
            raise BadManifest(
                f"waits for the rest of {manifest.image}: the manifest says {manifest.size} bytes"
            )
        if signature.size > manifest.size:
            raise BadManifest(
                f"{manifest.image} has {signature.size} bytes, the manifest says {manifest.size}"
            )
        known = self._images.get(name)
        if (
            known is None
            or not known.settled
            or (known.signature, known.manifest, known.rules) != (signature, manifest, rules)
            or not (isinstance(known.result, str) or self._store.holds(*known.result))
        ):
            content, signature = _content(entry, LARGEST_IMAGE)
            result = self._checked(content, manifest, rules)
            known = _Checked(signature, self._is_settled(signature), manifest, rules, result)
            self._images[name] = known
        if isinstance(known.result, str):
            raise BadManifest(known.result)
        return known.result

    def _checked(self, content: bytes, manifest: Manifest, rules: ImageRules) -> tuple[ImageHash, int] | str:
        sent = _to_send(content, manifest, rules)
        if isinstance(sent, str):
            return sent
        try:
            return self._store.admit(sent), len(sent)
        except OSError as exc:
            raise BadManifest(f"{manifest.image} cannot be stored: {exc.strerror}") from exc

    def _is_settled(self, signature: Signature) -> bool:
        return abs(self._clock.wall() - signature.changed_ns / 1e9) >= _SETTLED_S

    def _refused(self, name: str, reason: str, since: Mapping[tuple[str, str], float]) -> RefusedRelease:
        read = self._manifests.get(name)
        manifest = read.result if read is not None and isinstance(read.result, Manifest) else None
        shown = name if name.isprintable() else name.encode("unicode_escape", "surrogatepass").decode("ascii")
        return RefusedRelease(
            manifest=shown,
            reason=reason,
            since=since.get((shown, reason), self._clock.wall()),
            device_class=None if manifest is None else manifest.device,
            version=None if manifest is None else manifest.version,
        )


def _release(manifest: Manifest, image: ImageHash, size: int, name: str) -> Release:
    return Release(
        device_class=manifest.device,
        version=manifest.version,
        sequence=manifest.sequence,
        image=image,
        size=size,
        manifest=name,
    )


def _to_send(content: bytes, manifest: Manifest, rules: ImageRules) -> bytes | str:
    """Return what is to be sent of an image, or why it is refused."""
    own = hash_of(content)
    if own != manifest.sha256:
        return f"{manifest.image} has the sha256 {own}, the manifest says {manifest.sha256}"
    try:
        return prepare(content, rules)
    except BadImage as exc:
        return f'{manifest.image} is no "{rules.format.value}" image: {exc}'


def _signature(entry: os.DirEntry[str]) -> Signature:
    """Look at a file without opening it."""
    with _refusing(entry.name):
        status = entry.stat(follow_symlinks=False)
        refuse_special(status)
    return Signature.of(status)


def _content(entry: os.DirEntry[str], limit: int) -> tuple[bytes, Signature]:
    with _refusing(entry.name):
        return read_file(Path(entry.path), limit)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what keeps a file from being read into a refusal, but not that it has just been removed."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise BadManifest(f"{name} cannot be read: {exc.strerror}") from exc
    except Unusable as exc:
        raise BadManifest(f"{name} {exc}") from exc
