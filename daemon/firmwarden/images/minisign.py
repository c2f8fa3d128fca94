"""minisign's public keys and signatures: strict parsing, and the judgement whether one made the other.

The format is that of https://jedisct1.github.io/minisign/.  A signature file has four lines::

    untrusted comment: <text that anybody may change>
    base64(<algorithm> <key id> <signature of BLAKE2b-512 of the file>)
    trusted comment: <text that is signed too>
    base64(<signature of the signature above and the trusted comment>)

Only the prehashed form, ``ED``, is taken: the older one, ``Ed``, is what minisign itself now makes on request alone.
Whatever minisign would not write is refused rather than guessed at, so that two readers of a file cannot differ.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, NewType, Self

from firmwarden.errors import FirmwardenError

LARGEST_SIGNATURE: Final = 10 << 10
"""Bytes of a signature file: minisign's longest comments, 1024 and 8192 bytes, and the rest."""

SUFFIX: Final = ".minisig"
"""What is behind the name of the file that is signed."""

KEY_ID_SIZE: Final = 8
PUBLIC_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
"""Of Ed25519: RFC 8032, 5.1."""

UNTRUSTED: Final = "untrusted comment: "
TRUSTED: Final = "trusted comment: "
_UNTRUSTED_MAX: Final = 1024 - len(UNTRUSTED) - 1
_TRUSTED_MAX: Final = 8192 - len(TRUSTED) - 1
"""Bytes that minisign has room for, with the closing zero."""

_ED25519: Final = b"Ed"
"""In keys; in a signature it means that the file was signed as it is, not its hash."""
_PREHASHED: Final = b"ED"
_LINES: Final = 4


Prehash = NewType("Prehash", bytes)
"""The hash of a content, which is what is signed: all that a signature is judged by later."""


class BadKey(FirmwardenError):
    """Something is not a key, or not one that can be used; the message says why."""


class BadSignature(FirmwardenError):
    """A signature is refused: it is malformed, or does not match."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What tells whether a signature was made with its secret counterpart."""

    key_id: bytes
    """Chosen at random with the key; it only tells which key to look for."""
    point: bytes

    @property
    def name(self) -> str:
        """The key id as minisign writes it."""
        return name_of(self.key_id)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read the line of base64.

        Raises:
            BadKey: it is something else.
        """
        try:
            raw = from_base64(text)
        except ValueError:
            raise BadKey("it is not base64") from None
        wanted = len(_ED25519) + KEY_ID_SIZE + PUBLIC_SIZE
        if len(raw) != wanted:
            raise BadKey(f"it has {len(raw)} bytes, not {wanted}")
        if not raw.startswith(_ED25519):
            raise BadKey("its algorithm is not Ed25519")
        return cls(raw[2 : 2 + KEY_ID_SIZE], raw[2 + KEY_ID_SIZE :])

    def encode(self) -> str:
        """Write the line of base64."""
        return to_base64(_ED25519 + self.key_id + self.point)

    def file(self) -> bytes:
        """Write the file that minisign's ``-p`` takes."""
        return f"{UNTRUSTED}minisign public key {self.name}\n{self.encode()}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What stands in a signature file; whether it matches anything shows in ``verify``."""

    key_id: bytes
    signature: bytes
    trusted_comment: str
    comment_signature: bytes
    """Of the signature and the trusted comment: minisign calls it global."""
    untrusted_comment: str = "signature made with firmwarden"

    def __post_init__(self) -> None:
        for text, limit in ((self.untrusted_comment, _UNTRUSTED_MAX), (self.trusted_comment, _TRUSTED_MAX)):
            # minisign's own comment has tabs.  Anything else that does not print would act on a terminal.
            if not text.replace("\t", " ").isprintable():
                raise BadSignature("a comment has characters that cannot be printed")
            if len(text.encode()) > limit:
                raise BadSignature(f"a comment is longer than {limit} bytes")

    @property
    def key_name(self) -> str:
        """The id of the key that made it, as minisign writes it."""
        return name_of(self.key_id)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a signature file.

        Raises:
            BadSignature: it is something else.
        """
        if len(raw) > LARGEST_SIGNATURE:
            raise BadSignature(f"it is larger than {LARGEST_SIGNATURE} bytes")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise BadSignature("it is not UTF-8") from None
        if not text.endswith("\n") or text.count("\n") != _LINES:
            raise BadSignature(f"it does not have exactly {_LINES} lines")
        untrusted, signature, trusted, comment_signature = text[:-1].split("\n")
        head = _decoded("signature", signature, len(_PREHASHED) + KEY_ID_SIZE + SIGNATURE_SIZE)
        if head.startswith(_ED25519):
            raise BadSignature("it is in minisign's legacy format; sign anew without -l")
        if not head.startswith(_PREHASHED):
            raise BadSignature("its algorithm is not minisign's prehashed Ed25519")
        return cls(
            key_id=head[2 : 2 + KEY_ID_SIZE],
            signature=head[2 + KEY_ID_SIZE :],
            trusted_comment=_comment(trusted, TRUSTED),
            comment_signature=_decoded("signature of the comment", comment_signature, SIGNATURE_SIZE),
            untrusted_comment=_comment(untrusted, UNTRUSTED),
        )

    def encode(self) -> bytes:
        """Write the file."""
        lines = (
            UNTRUSTED + self.untrusted_comment,
            to_base64(_PREHASHED + self.key_id + self.signature),
            TRUSTED + self.trusted_comment,
            to_base64(self.comment_signature),
        )
        return "".join(f"{line}\n" for line in lines).encode()


def verify(key: PublicKey, signature: Signature, signed: Prehash) -> None:
    """Hold a signature against a key and the hash of the content that it is said to be of.

    Raises:
        BadSignature: it was made with another key, of something else, or its trusted comment was changed.
    """
    # Imported where it is needed: the command line and a daemon without signatures start without it.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    if signature.key_id != key.key_id:
        raise BadSignature(f"it was made with the key {signature.key_name}, not with {key.name}")
    public = Ed25519PublicKey.from_public_bytes(key.point)
    try:
        public.verify(signature.signature, signed)
    except InvalidSignature:
        raise BadSignature(
            "it does not match: what is signed was changed, or signed with another key"
        ) from None
    try:
        public.verify(
            signature.comment_signature, signed_comment(signature.signature, signature.trusted_comment)
        )
    except InvalidSignature:
        raise BadSignature("its trusted comment was changed") from None


def prehash(content: bytes) -> Prehash:
    """Return what is signed in place of a content."""
    return Prehash(hashlib.blake2b(content).digest())


def signed_comment(signature: bytes, trusted_comment: str) -> bytes:
    """Return what the second signature is of."""
    return signature + trusted_comment.encode()


def name_of(key_id: bytes) -> str:
    """Write a key id as minisign does."""
    return f"{int.from_bytes(key_id, 'little'):X}"


def to_base64(raw: bytes) -> str:
    """Write a line of base64."""
    return base64.b64encode(raw).decode("ascii")


def from_base64(text: str) -> bytes:
    """Read a line of base64 in the one way in which it can be written: RFC 4648, 3.5.

    Raises:
        ValueError: it is anything else.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from None
    if to_base64(raw) != text:
        raise ValueError("it can be written in another way")
    return raw


def _decoded(what: str, text: str, size: int) -> bytes:
    try:
        raw = from_base64(text)
    except ValueError:
        raise BadSignature(f"its {what} is not base64") from None
    if len(raw) != size:
        raise BadSignature(f"its {what} has {len(raw)} bytes, not {size}")
    return raw


def _comment(line: str, prefix: str) -> str:
    if not line.startswith(prefix):
        raise BadSignature(f'a line does not begin with "{prefix.strip()}"')
    return line.removeprefix(prefix)
