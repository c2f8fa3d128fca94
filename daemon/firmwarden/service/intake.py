"""Takes releases from the firmware directory: reads manifests, checks images, keeps them in the image store.

Files are only ever read, and left where they lie.  A release counts when its manifest is there, its signature where
its class needs one, and the image with the size and the hash that the manifest says; until then it is refused with
what it waits for.  A bundle has all of that in one file, for one release or several, and is in order whole or not at
all; how its releases stand to others in the directory is judged one by one.
The directory is looked at again and again, so a look must be cheap: what did not change is not read again.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final

import anyio
from anyio import from_thread, to_thread

from firmwarden.errors import BadManifest, Refused
from firmwarden.images import bundle, minisign
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.images.manifest import LARGEST_MANIFEST, SUFFIX, Manifest, parse_manifest
from firmwarden.model import ImageHash, Release
from firmwarden.service.rereading import NotStored, Reread, stamp_of
from firmwarden.service.shelf import RefusedRelease, Shelf, misfits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from firmwarden.images.bundle import Packed
    from firmwarden.images.cas import ImageStore
    from firmwarden.model import ClassName
    from firmwarden.service.clock import Clock
    from firmwarden.service.criteria import Criteria

MOST_FILES: Final = 8192
"""In the directory and in its bundles.  One more costs whoever drops it nothing where it is a hard link, and costs the
daemon memory, time and lines of the history."""

_SUFFIXES: Final = (SUFFIX, bundle.SUFFIX)
_OF_RELEASE: Final = 3
"""Files: manifest, signature and image."""


class _NotLookedThrough(Exception):
    """What the last look found stands; the message says what keeps the directory from being looked through."""


class _Known:
    """What is known of a manifest and what belongs to it, or of a bundle."""

    def __init__(self, clock: Clock) -> None:
        self.manifest = Reread[tuple[Manifest, minisign.Prehash]](clock)
        self.signature = Reread[str](clock)
        self.image = Reread[tuple[ImageHash, int]](clock)
        self.bundle = Reread[tuple[Release, ...]](clock)


class Intake:
    """Looks through the firmware directory; one look at a time."""

    def __init__(self, directory: Path, store: ImageStore, criteria: Criteria, clock: Clock) -> None:
        """Take what a look needs.

        Args:
            directory: where releases are dropped.
            store: where images are kept.
            criteria: what releases are judged by.
            clock: dates refusals and tells files that changed a moment ago.
        """
        self._directory = directory
        self._store = store
        self.criteria = criteria
        """May be replaced between looks; the next one judges everything by it."""
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(1)
        self._known: dict[str, _Known] = {}
        self._told: dict[str, tuple[ClassName, str, int | None]] = {}
        """Class, version and sequence that manifests say, also those of refused ones."""
        self._ranked: tuple[list[Release], dict[str, str]] = ([], {})
        self._shelf = Shelf()
        self._files = 0
        """In the directory and in its bundles, as far as the last look came."""
        self._judged_by = criteria.trust
        """Whom the last look went by that found a directory."""

    async def scan(self) -> Shelf:
        """Look through the directory.

        A directory that cannot be read, or has more in it than is looked at, withdraws nothing: the last shelf comes
        back with the problem, but for what is not trusted any more.
        """
        while True:
            criteria = self.criteria
            shelf = await to_thread.run_sync(self._scan, limiter=self._limiter)
            if self.criteria is criteria:
                return shelf

    @property
    def upheld(self) -> tuple[Release, ...]:
        """What the last look accepted, but for what is not trusted any more since then."""
        trust = self.criteria.trust
        return tuple(each for each in self._shelf.releases if trust.upholds(each, self._judged_by))

    def judge(self, offered: Sequence[Packed]) -> tuple[Release, ...]:
        """Judge releases that are to be dropped together; blocks, and keeps nothing.

        Raises:
            BadManifest: one would be refused.
            Refused: beside what is in the directory one would be refused, or another one.
        """
        if self._files + _OF_RELEASE * len(offered) > MOST_FILES:
            raise Refused(self._too_full())
        releases = tuple(release for release, _ in map(self._judged, offered))
        names = {release.manifest for release in releases}
        others = [each for each in self._ranked[0] if each.manifest not in names]
        refused = misfits([*others, *releases])
        for name in sorted(names & refused.keys()):
            raise Refused(f"{name} {refused[name]}")
        for other in sorted(refused.keys() - misfits(others).keys()):
            raise Refused(f"with {releases[0].manifest} there, {other} would be refused: it {refused[other]}")
        return releases

    def _scan(self) -> Shelf:
        trust = self.criteria.trust
        try:
            releases, reasons = self._look_through(self._listed())
        except _NotLookedThrough as exc:
            return Shelf(releases=self.upheld, refused=self._shelf.refused, problem=str(exc))
        releases.sort(key=lambda release: release.manifest)
        if releases != self._ranked[0]:
            self._ranked = (releases, misfits(releases))
        self._told |= {each.manifest: (each.device_class, each.version, each.sequence) for each in releases}
        reasons |= self._ranked[1]
        since = {(each.manifest, each.reason): each.since for each in self._shelf.refused}
        self._shelf = Shelf(
            releases=tuple(release for release in releases if release.manifest not in reasons),
            refused=tuple(self._refused(name, reasons[name], since) for name in sorted(reasons)),
        )
        self._judged_by = trust
        return self._shelf

    def _listed(self) -> dict[str, os.DirEntry[str]]:
        try:
            with os.scandir(self._directory) as entries:
                seen = (entry for entry in entries if not entry.name.startswith("."))
                found = {entry.name: entry for entry in islice(seen, MOST_FILES + 1)}
        except OSError as exc:
            problem = f"{self._directory} cannot be read: {exc.strerror}"
            if isinstance(exc, FileNotFoundError):
                problem += "; make it, or set another firmware_dir"
            raise _NotLookedThrough(problem) from exc
        self._files = len(found)
        self._check_not_too_full()
        return found

    def _look_through(self, found: Mapping[str, os.DirEntry[str]]) -> tuple[list[Release], dict[str, str]]:
        """Judge all that lies there; returns what is in order by itself, and what is wrong with the rest."""
        names = sorted(name for name in found if name.endswith(_SUFFIXES))
        self._known = {name: self._known.get(name) or _Known(self._clock) for name in names}
        self._told = {}
        releases: list[Release] = []
        reasons: dict[str, str] = {}
        for name in names:
            from_thread.check_cancelled()
            try:
                judged = self._releases(name, found)
            except BadManifest as exc:
                reasons[name] = str(exc)
            except FileNotFoundError:
                continue  # removed since the directory was listed
            else:
                releases += judged
                if name.endswith(bundle.SUFFIX):
                    self._files += _OF_RELEASE * len(judged)
                    self._check_not_too_full()
        return releases, reasons

    def _check_not_too_full(self) -> None:
        if self._files > MOST_FILES:
            raise _NotLookedThrough(self._too_full())

    def _too_full(self) -> str:
        return (
            f"{self._directory} has room for {MOST_FILES} files, those in bundles counted; "
            "take away what is not needed"
        )

    def _releases(self, name: str, found: Mapping[str, os.DirEntry[str]]) -> Sequence[Release]:
        """Judge a manifest or a bundle; raises ``BadManifest`` with what is wrong or what it waits for."""
        if not name.isprintable():
            raise BadManifest("its name has characters that cannot be printed")
        if name.endswith(bundle.SUFFIX):
            return self._bundled(found[name])
        return [self._release(name, found)]

    def _release(self, name: str, found: Mapping[str, os.DirEntry[str]]) -> Release:
        known, criteria = self._known[name], self.criteria
        manifest, signed = known.manifest.read(
            found[name],
            LARGEST_MANIFEST,
            lambda content: (parse_manifest(content, name), minisign.prehash(content)),
        )
        self._told[name] = manifest.device, manifest.version, manifest.sequence
        signature = found.get(name + minisign.SUFFIX)
        if signature is None:
            signed_by = criteria.admit(manifest, signed, None)
        else:
            signed_by = known.signature.read(
                signature,
                minisign.LARGEST_SIGNATURE,
                lambda raw: criteria.admit(manifest, signed, raw),
                beside=(signed, criteria),
            )
        try:
            image, size = self._image(known, manifest, found[manifest.image])
        except (KeyError, FileNotFoundError):
            raise BadManifest(f"waits for {manifest.image}, which is not there") from None
        return _release(manifest, image, size, signed_by, name)

    def _image(self, known: _Known, manifest: Manifest, entry: os.DirEntry[str]) -> tuple[ImageHash, int]:
        size, criteria = stamp_of(entry).size, self.criteria
        if size < manifest.size:
            raise BadManifest(
                f"waits for the rest of {manifest.image}: the manifest says {manifest.size} bytes"
            )
        if size > manifest.size:
            raise BadManifest(f"{manifest.image} has {size} bytes, the manifest says {manifest.size}")

        def admitted(content: bytes) -> tuple[ImageHash, int]:
            sent = criteria.prepared(manifest, content)
            return self._admit(sent, manifest.image), len(sent)

        return known.image.read(
            entry,
            LARGEST_IMAGE,
            admitted,
            beside=(manifest, criteria.classes[manifest.device]),
            holds=lambda found: self._store.holds(*found),
        )

    def _bundled(self, entry: os.DirEntry[str]) -> tuple[Release, ...]:
        def admitted(content: bytes) -> tuple[Release, ...]:
            offered = bundle.unpack(content, entry.name)
            # All are judged before the first one is kept, and what is to be sent is made anew then: of many manifests
            # with one small image each may make 64 MiB of it.
            releases = tuple(release for release, _ in map(self._judged, offered))
            for name, reason in misfits(releases).items():
                raise BadManifest(f"{name.removeprefix(f'{entry.name}/')} {reason}")
            for each in offered:
                self._admit(self.criteria.prepared(each.manifest, each.image), entry.name)
            return releases

        return self._known[entry.name].bundle.read(
            entry,
            bundle.LARGEST_BUNDLE,
            admitted,
            beside=self.criteria,
            holds=lambda releases: all(self._store.holds(each.image, each.size) for each in releases),
        )

    def _judged(self, packed: Packed) -> tuple[Release, bytes]:
        """Judge a release of which all is at hand; returns it with what is to be sent."""
        manifest = packed.manifest
        try:
            signed_by = self.criteria.admit(manifest, minisign.prehash(packed.content), packed.signature)
            sent = self.criteria.prepared(manifest, packed.image)
        except BadManifest as exc:
            raise BadManifest(f"{packed.name}: {exc}" if packed.bundle else str(exc)) from None
        return _release(manifest, hash_of(sent), len(sent), signed_by, packed.full_name), sent

    def _admit(self, image: bytes, name: str) -> ImageHash:
        try:
            return self._store.admit(image)
        except OSError as exc:
            raise NotStored(f"{name} cannot be stored: {exc.strerror}") from exc

    def _refused(self, name: str, reason: str, since: Mapping[tuple[str, str], float]) -> RefusedRelease:
        device_class, version, sequence = self._told.get(name, (None, None, None))
        shown = name if name.isprintable() else name.encode("unicode_escape", "surrogatepass").decode("ascii")
        return RefusedRelease(
            manifest=shown,
            reason=reason,
            since=since.get((shown, reason), self._clock.wall()),
            device_class=device_class,
            version=version,
            sequence=sequence,
        )


def _release(manifest: Manifest, image: ImageHash, size: int, signed_by: str, name: str) -> Release:
    return Release(
        device_class=manifest.device,
        version=manifest.version,
        sequence=manifest.sequence,
        image=image,
        size=size,
        manifest=name,
        signed_by=signed_by,
        downgrade=manifest.downgrade,
    )
