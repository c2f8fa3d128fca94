"""Keys and signatures for those who make releases, and what a daemon would say of a release; none is needed here."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Final

from firmwarden.app import wiring
from firmwarden.errors import BadManifest, Refused
from firmwarden.files import Unusable, read_file, written_whole
from firmwarden.images import bundle
from firmwarden.images.cas import LARGEST_IMAGE, ImageStore
from firmwarden.images.manifest import LARGEST_MANIFEST, parse_manifest
from firmwarden.images.minisign import LARGEST_SIGNATURE, SUFFIX, BadKey, BadSignature
from firmwarden.images.secret_key import LARGEST_KEY, KeyFile, SecretKey
from firmwarden.service.clock import SystemClock
from firmwarden.service.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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
        OSError: they cannot be written.
    """
    secret, public = (name.with_name(name.name + suffix) for suffix in (KEY_SUFFIX, PUBLIC_SUFFIX))
    for file in (secret, public):
        if file.exists():
            raise Refused(f"{file} is there already, and a key is never written over")
    made = SecretKey.generate()
    _create(secret, made.file(password), 0o600)
    _create(public, made.public.file(), 0o644)
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


def judge(file: Path, config: Config) -> tuple[Release, ...]:
    """Judge a release, or a bundle of them, as a daemon with that configuration would.

    Raises:
        BadManifest: one would be refused.
        Refused: they contradict each other.
        OSError: the file cannot be read.
    """
    if file.name.endswith(bundle.SUFFIX):
        content, _ = _read(file, bundle.LARGEST_BUNDLE)
        offered = bundle.unpack(content, file.name)
    else:
        offered = (_packed(file)[0],)
    beside = file.parent
    return Intake(beside, ImageStore(beside), wiring.criteria(config), SystemClock()).judge(offered)


def make_bundle(file: Path, manifests: Iterable[Path]) -> None:
    """Put releases into a bundle, which appears whole.

    Raises:
        BadManifest: a manifest is none, its image is not there, or the bundle would be refused.
        OSError: one of them cannot be read, or the bundle not be written.
    """
    if not file.name.endswith(bundle.SUFFIX):
        raise BadManifest(f"the name of a bundle ends with {bundle.SUFFIX}, got {file.name!r}")
    releases, modes = zip(*map(_packed, manifests), strict=True)
    content = bundle.pack(releases)
    with written_whole(file) as unfinished:
        unfinished.write(content)
        os.fchmod(unfinished.fileno(), reduce(and_, modes))  # who may read all that is in it may read it


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
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as made:
        made.write(content)
        made.flush()
        os.fsync(descriptor)
