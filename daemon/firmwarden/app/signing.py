"""Keys and signatures for those who make releases, and what a daemon would say of a release; none is needed here."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import and_
from typing import TYPE_CHECKING, Final

from firmwarden.app import wiring
from firmwarden.errors import BadManifest, Refused
from firmwarden.files import Unusable, read_file, written_whole
from firmwarden.images import bundle
from firmwarden.images.cas import LARGEST_IMAGE, ImageStore, hash_of
from firmwarden.images.manifest import LARGEST_MANIFEST, parse_manifest
from firmwarden.images.manifest import SUFFIX as MANIFEST_SUFFIX
from firmwarden.images.minisign import LARGEST_SIGNATURE, SUFFIX, BadKey, BadSignature
from firmwarden.images.secret_key import LARGEST_KEY, KeyFile, SecretKey
from firmwarden.service.clock import SystemClock
from firmwarden.service.intake import Intake
from firmwarden.service.shelf import misfits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from firmwarden.config import Config
    from firmwarden.images.manifest import Manifest
    from firmwarden.images.minisign import PublicKey
    from firmwarden.model import Release

KEY_SUFFIX: Final = ".key"
PUBLIC_SUFFIX: Final = ".pub"


def make_key(name: Path, password: bytes | None) -> PublicKey:
    """Make a key, in the files NAME.key and NAME.pub.

    Raises:
        Refused: one of them is there already.
        BadKey: this machine has not the memory to lock it.
        OSError: they cannot be written; nothing is left of them.
    """
    secret, public = (name.with_name(name.name + suffix) for suffix in (KEY_SUFFIX, PUBLIC_SUFFIX))
    for file in (secret, public):
        if file.exists():
            raise Refused(f"{file} is there already, and a key is never written over")
    made = SecretKey.generate()
    with ExitStack() as undo:
        for file, content, mode in (
            (secret, made.file(password), 0o600),
            (public, made.public.file(), 0o644),
        ):
            _create(file, content, mode)
            undo.callback(file.unlink)
        undo.pop_all()
    return made.public


def read_key(file: Path, password: Callable[[], bytes]) -> SecretKey:
    """Read a secret key, asking for its password where it has one.

    Raises:
        BadKey: it is none, or the password is wrong.
        OSError: it cannot be read.
    """
    try:
        content, _ = read_file(file, LARGEST_KEY, follow=True)
        found = KeyFile.decode(content)
        return found.unlock(b"" if found.effort is None else password())
    except (BadKey, Unusable) as exc:
        raise BadKey(f"{file} is refused: {exc}") from exc


def sign(file: Path, key: SecretKey) -> Path:
    """Sign a manifest; returns the signature's file, which appears whole beside it.

    Raises:
        BadManifest: it is none, and a signature would not help it.
        OSError: it cannot be read, or the signature not be written.
    """
    content, mode = _read(file, LARGEST_MANIFEST)
    manifest = parse_manifest(content, file.name)
    try:
        signature = key.sign(content, _comment(manifest, file.name)).encode()
    except BadSignature as exc:
        raise BadManifest(f"{file.name} cannot be signed: {exc}") from exc
    beside = file.with_name(file.name + SUFFIX)
    with written_whole(beside) as unfinished:
        unfinished.write(signature)
        os.fchmod(unfinished.fileno(), mode)  # who may read the manifest may read it
    return beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a daemon would say of a file."""

    file: Path
    releases: tuple[Release, ...] = ()
    """That it would accept."""
    refusals: tuple[str, ...] = ()
    """Why it would refuse the rest; without releases that is all of it."""


def judge(files: Sequence[Path], config: Config) -> list[Judgement]:
    """Judge releases, or bundles of them, as a daemon with that configuration would where all lie in its directory.

    Raises:
        OSError: a file cannot be read.
    """
    whole: dict[Path, tuple[Release, ...]] = {}
    judged: dict[Path, Judgement] = {}
    for file in dict.fromkeys(files):
        try:
            whole[file] = _judge(file, config)
        except (BadManifest, Refused) as exc:
            judged[file] = Judgement(file=file, refusals=(str(exc),))
    for file, releases in whole.items():
        # Those of one name are of different directories: they never lie beside each other.
        beside = chain.from_iterable(found for other, found in whole.items() if other.name != file.name)
        # As in the directory, what contradicts others there does not keep back the rest of its bundle.
        refused = misfits([*releases, *beside])
        judged[file] = Judgement(
            file=file,
            releases=tuple(each for each in releases if each.manifest not in refused),
            refusals=tuple(
                f"{each.manifest} {refused[each.manifest]}" for each in releases if each.manifest in refused
            ),
        )
    return [judged[file] for file in dict.fromkeys(files)]


def make_bundle(file: Path, manifests: Iterable[Path]) -> None:
    """Put releases into a bundle, which appears whole.

    Raises:
        BadManifest: a manifest is none, its image is not there, or the bundle would be refused.
        OSError: one of them cannot be read, or the bundle not be written.
    """
    if not file.name.endswith(bundle.SUFFIX):
        raise BadManifest(f"the name of a bundle ends with {bundle.SUFFIX}, got {file.name!r}")
    releases, modes = zip(*map(_packed, manifests), strict=True)
    for release in releases:
        _check_image(release)
    content = bundle.pack(releases)
    with written_whole(file) as unfinished:
        unfinished.write(content)
        os.fchmod(unfinished.fileno(), reduce(and_, modes))  # who may read all that is in it may read it


def _judge(file: Path, config: Config) -> tuple[Release, ...]:
    """Judge what is in one file; raises as the daemon's intake does."""
    if file.name.startswith(".") or not file.name.endswith((MANIFEST_SUFFIX, bundle.SUFFIX)):
        raise BadManifest(
            f"the daemon looks only at names that end with {MANIFEST_SUFFIX} or {bundle.SUFFIX} and begin with no dot"
        )
    if not file.name.isprintable():
        raise BadManifest("its name has characters that cannot be printed")
    if file.name.endswith(bundle.SUFFIX):
        content, _ = _read(file, bundle.LARGEST_BUNDLE)
        offered = bundle.unpack(content, file.name)
    else:
        offered = (_packed(file)[0],)
    beside = file.parent
    return Intake(beside, ImageStore(beside), wiring.criteria(config), SystemClock()).judge(offered)


def _check_image(release: bundle.Packed) -> None:
    """Compare an image with its manifest, which can be done without a configuration."""
    manifest, own = release.manifest, hash_of(release.image)
    if len(release.image) != manifest.size:
        raise BadManifest(
            f"{manifest.image} has {len(release.image)} bytes, {release.name} says {manifest.size}"
        )
    if own != manifest.sha256:
        raise BadManifest(f"{manifest.image} has the sha256 {own}, {release.name} says {manifest.sha256}")


def _packed(file: Path) -> tuple[bundle.Packed, int]:
    """Read a manifest with what belongs to it; also returns the manifest's mode."""
    content, mode = _read(file, LARGEST_MANIFEST)
    manifest = parse_manifest(content, file.name)
    try:
        image, _ = _read(file.with_name(manifest.image), LARGEST_IMAGE)
    except FileNotFoundError:
        raise BadManifest(f"it waits for {manifest.image}, which is not there") from None
    signature: bytes | None = None
    with suppress(FileNotFoundError):
        signature, _ = _read(file.with_name(file.name + SUFFIX), LARGEST_SIGNATURE)
    release = bundle.Packed(
        name=file.name, manifest=manifest, content=content, signature=signature, image=image
    )
    return release, mode


def _comment(manifest: Manifest, name: str) -> str:
    """Say what is signed, as minisign's own comments do: people and other tools see it when they verify."""
    said = {
        "file": name,
        "device": manifest.device,
        "version": manifest.version,
        "sequence": manifest.sequence,
    }
    return "\t".join(f"{key}:{value}" for key, value in said.items() if value is not None)


def _read(file: Path, limit: int) -> tuple[bytes, int]:
    """Read a file, and its mode with it."""
    try:
        content, _ = read_file(file, limit)
    except Unusable as exc:
        raise BadManifest(f"{file.name} {exc}") from exc
    return content, file.stat().st_mode & 0o777


def _create(file: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, all of it or nothing."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as made:
            made.write(content)
            made.flush()
            os.fsync(descriptor)
    except BaseException:
        file.unlink()
        raise
