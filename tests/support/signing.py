"""Keys to sign with, and the minisign that everybody else has."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmwarden.images.minisign import PublicKey
from firmwarden.images.secret_key import Effort, SecretKey
from support.programs import program

if TYPE_CHECKING:
    from pathlib import Path

QUICK: Final = Effort(operations=1 << 15, memory=1 << 24)
"""To lock a key with in a test: milliseconds in place of seconds."""


def key(number: int = 1) -> SecretKey:
    """Make a key; the same number makes the same."""
    seed = bytes([number]) * 32
    point = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SecretKey(PublicKey(key_id=f"test-{number:03}".encode(), point=point), seed)


VENDOR: Final = key()


def signature(manifest: bytes, by: SecretKey = VENDOR, comment: str = "") -> bytes:
    """Write the signature file of a manifest."""
    return by.sign(manifest, comment).encode()


def minisign(place: Path, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    """Run Debian's in a directory; a password is typed as often as it is asked for."""
    return subprocess.run(
        [program("minisign"), *arguments],
        cwd=place,
        input=f"{password}\n" * 2,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
