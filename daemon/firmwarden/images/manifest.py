"""A release's manifest: ``NAME.toml`` beside its image.

What a manifest says of itself is checked here; whether the image beside it is what it says is for the intake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from firmwarden.errors import BadManifest
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.model import ImageHash
from firmwarden.toml.document import BadToml, read_toml
from firmwarden.toml.keys import Table
from firmwarden.toml.values import Flag, NameOfClass, ShortText, reader, short, text_that, whole
from firmwarden.versions import is_semantic

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX: Final = ".toml"
_NO_IMAGES: Final = (SUFFIX, f"{SUFFIX}.minisig", ".fwz")

LARGEST_MANIFEST: Final = 64 << 10
"""Room for five lines and any amount of comment; whatever is larger is something else."""

_NAME_MAX: Final = 255
"""Bytes in a file name: NAME_MAX of Linux."""
_PROBLEMS_TOLD: Final = 8
_PROBLEM_TOLD: Final = 400
"""Characters.  A reason is kept, logged and shown: ten thousand unknown keys must not make a megabyte of each."""
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def _plain_name(value: str) -> str:
    if not value or not value.isprintable() or len(value.encode()) > _NAME_MAX:
        raise ValueError
    if "/" in value:
        raise ValueError("it must lie in the directory of the manifest")
    if value.startswith("."):
        raise ValueError("hidden files are left to the programs that copy")
    if value.endswith(_NO_IMAGES):
        raise ValueError("that is the name of a manifest, a signature or a bundle")
    return value


def _sha256(value: str) -> ImageHash:
    if not _SHA256.fullmatch(value):
        raise ValueError
    return ImageHash(value.lower())


def _hardware(value: object) -> tuple[str, ...]:
    named = value if isinstance(value, list) else [value]
    if not named or not all(isinstance(each, str) for each in named):
        raise ValueError
    return tuple(map(short, named))


_HARDWARE: Final = reader("short printable text, or an array of such texts", _hardware)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Table):
    """The ``[release]`` table."""

    device: NameOfClass
    """The device class that it is for."""
    version: ShortText
    """SemVer, or any text where there is a ``sequence``."""
    image: Annotated[str, text_that("the plain name of a file beside the manifest", _plain_name)]
    sha256: Annotated[ImageHash, text_that("64 hexadecimal digits", _sha256)]
    """Of the image file."""
    size: Annotated[int, whole(1, LARGEST_IMAGE)]
    """Of the image file, in bytes."""
    sequence: Annotated[int, whole(0, 2**63 - 1)] | None = None
    """Decides which release is newer; needed by all releases of a class or by none."""
    hardware: Annotated[tuple[str, ...], _HARDWARE] = ()
    """The revisions of the hardware that it is for; needed where its class has one."""
    device_id: Annotated[int, whole(0, 2**32 - 1)] | None = None
    """What an image in one of Microchip's formats says of the device that it is for."""
    downgrade: Flag = False
    """It may follow what is newer; only a signature makes it count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile(Table):
    """The whole file."""

    release: Manifest


def parse_manifest(raw: bytes, name: str) -> Manifest:
    """Read a manifest that is called ``name`` in messages.

    Raises:
        BadManifest: with the first faults, each with line and key, and how many more there are.
    """
    try:
        document = read_toml(raw, name)
        manifest = document.check(ManifestFile, document.data).release
    except BadToml as exc:
        raise BadManifest("; ".join(_in_short(exc.problems))) from exc
    if manifest.sequence is None and not is_semantic(manifest.version):
        raise BadManifest(
            document.problem(
                ("release", "version"), f'expected SemVer, or a sequence beside it, got "{manifest.version}"'
            )
        )
    return manifest


def _in_short(problems: tuple[str, ...]) -> Iterator[str]:
    for problem in problems[:_PROBLEMS_TOLD]:
        yield problem if len(problem) <= _PROBLEM_TOLD else f"{problem[: _PROBLEM_TOLD - 3]}..."
    if len(problems) > _PROBLEMS_TOLD:
        yield f"and {len(problems) - _PROBLEMS_TOLD} more"
