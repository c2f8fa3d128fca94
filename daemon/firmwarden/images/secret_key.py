"""minisign's secret keys: made, read, locked with a password, and signed with.

A key file has two lines: an untrusted comment, and the base64 of::

    <algorithm "Ed"> <"Sc", or zeros without a password> <"B2">
    <salt> <opslimit> <memlimit>                            of scrypt, as libsodium counts them
    <key id> <seed> <public key> <checksum>                 exclusive-or with what scrypt makes of the password

The checksum is BLAKE2b-256 of the algorithm and what precedes it.  It tells a wrong password.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

from firmwarden.images.minisign import (
    KEY_ID_SIZE,
    PUBLIC_SIZE,
    UNTRUSTED,
    BadKey,
    PublicKey,
    Signature,
    from_base64,
    prehash,
    signed_comment,
    to_base64,
)

LARGEST_KEY: Final = 4 << 10
"""Bytes of a key file: minisign's longest comment, and the key."""

_ED25519: Final = b"Ed"
_SCRYPT: Final = b"Sc"
_OPEN: Final = bytes(2)
_BLAKE2B: Final = b"B2"
_SALT_SIZE: Final = 32
_LIMIT_SIZE: Final = 8
_SEED_SIZE: Final = 32
_CHECKSUM_SIZE: Final = 32
_SECRET_SIZE: Final = KEY_ID_SIZE + _SEED_SIZE + PUBLIC_SIZE + _CHECKSUM_SIZE
_HEAD_SIZE: Final = 6
_SIZE: Final = _HEAD_SIZE + _SALT_SIZE + 2 * _LIMIT_SIZE + _SECRET_SIZE
_LINES: Final = 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a password is to try out, in the units of libsodium's scrypt."""

    operations: int
    memory: int
    """Bytes."""

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """Make of a password what locks a key.

        Raises:
            BadKey: this machine has not the memory.
        """
        block = 8
        # pickparams() of libsodium's crypto_pwhash_scryptsalsa208sha256, without which minisign's keys stay shut.
        operations = max(self.operations, 32_768)
        if operations < self.memory // 32:
            cost, parallel = _power_below(operations // (block * 4)), 1
        else:
            cost = _power_below(self.memory // (block * 128))
            parallel = min(operations // 4 // cost, 0x3FFF_FFFF) // block
        try:
            return hashlib.scrypt(
                password,
                salt=salt,
                n=cost,
                r=block,
                p=parallel,
                maxmem=128 * block * (cost + parallel + 4),
                dklen=_SECRET_SIZE,
            )
        except (MemoryError, ValueError) as exc:
            raise BadKey(
                f"its password takes {self.memory >> 20} MiB of memory to check, which there are not"
            ) from exc


SENSITIVE: Final = Effort(operations=1 << 25, memory=1 << 30)
"""What minisign takes, and the most that is accepted: libsodium's ``..._SENSITIVE``.  Seconds, once for each use."""


@dataclass(frozen=True, slots=True)
class SecretKey:
    """What signs."""

    public: PublicKey
    seed: bytes = field(repr=False)
    """RFC 8032 calls it the private key."""

    @classmethod
    def generate(cls) -> Self:
        """Make one that nobody has."""
        seed = secrets.token_bytes(_SEED_SIZE)
        return cls(PublicKey(secrets.token_bytes(KEY_ID_SIZE), _point_of(seed)), seed)

    def sign(self, content: bytes, trusted_comment: str) -> Signature:
        """Sign a content, and a comment with it.

        Raises:
            BadSignature: the comment cannot stand in a signature file.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as verify()

        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        signature = private.sign(prehash(content))
        return Signature(
            key_id=self.public.key_id,
            signature=signature,
            trusted_comment=trusted_comment,
            comment_signature=private.sign(signed_comment(signature, trusted_comment)),
        )

    def file(self, password: bytes | None, effort: Effort = SENSITIVE) -> bytes:
        """Write the file that minisign's ``-s`` takes; without a password whoever reads it can sign."""
        secret = self.public.key_id + self.seed + self.public.point
        secret += _checksum(secret)
        if password is None:
            salt, effort = bytes(_SALT_SIZE), Effort(0, 0)
        else:
            salt = secrets.token_bytes(_SALT_SIZE)
            secret = _crossed(secret, effort.derive(password, salt))
        raw = b"".join(
            (
                _ED25519 + (_OPEN if password is None else _SCRYPT) + _BLAKE2B,
                salt,
                effort.operations.to_bytes(_LIMIT_SIZE, "little"),
                effort.memory.to_bytes(_LIMIT_SIZE, "little"),
                secret,
            )
        )
        return f"{UNTRUSTED}minisign encrypted secret key\n{to_base64(raw)}\n".encode()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it was read, perhaps still locked."""

    salt: bytes
    effort: Effort | None
    """None where it is not locked."""
    secret: bytes = field(repr=False)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a file.

        Raises:
            BadKey: it is something else.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise BadKey("it is not UTF-8") from None
        if not text.startswith(UNTRUSTED) or not text.endswith("\n") or text.count("\n") != _LINES:
            raise BadKey("it does not have the two lines of a secret key")
        try:
            data = from_base64(text[:-1].split("\n")[1])
        except ValueError:
            raise BadKey("its second line is not base64") from None
        if len(data) != _SIZE:
            raise BadKey(f"it has {len(data)} bytes, not the {_SIZE} of a secret key")
        algorithm, kdf, checksum = data[:2], data[2:4], data[4:_HEAD_SIZE]
        if (algorithm, checksum) != (_ED25519, _BLAKE2B) or kdf not in {_SCRYPT, _OPEN}:
            raise BadKey("its algorithms are none that are known")
        limits = data[_HEAD_SIZE + _SALT_SIZE : -_SECRET_SIZE]
        effort = Effort(
            int.from_bytes(limits[:_LIMIT_SIZE], "little"), int.from_bytes(limits[_LIMIT_SIZE:], "little")
        )
        if effort.operations > SENSITIVE.operations or effort.memory > SENSITIVE.memory:
            raise BadKey("its password takes more effort to check than minisign ever asks for")
        return cls(
            salt=data[_HEAD_SIZE : _HEAD_SIZE + _SALT_SIZE],
            effort=effort if kdf == _SCRYPT else None,
            secret=data[-_SECRET_SIZE:],
        )

    def unlock(self, password: bytes) -> SecretKey:
        """Get the key out; the password counts for nothing where there is none.

        Raises:
            BadKey: the password is wrong, or the file is damaged.
        """
        secret = self.secret
        if self.effort is not None:
            secret = _crossed(secret, self.effort.derive(password, self.salt))
        content, checksum = secret[:-_CHECKSUM_SIZE], secret[-_CHECKSUM_SIZE:]
        # minisign leaves zeros where a key has no password.
        if checksum != _checksum(content) and not (self.effort is None and not any(checksum)):
            raise BadKey("it is damaged" if self.effort is None else "the password is wrong")
        key_id, rest = content[:KEY_ID_SIZE], content[KEY_ID_SIZE:]
        seed, point = rest[:_SEED_SIZE], rest[_SEED_SIZE:]
        # To sign with a public key that is not the seed's would give the seed away.
        if point != _point_of(seed):
            raise BadKey("it is damaged: its two halves do not belong together")
        return SecretKey(PublicKey(key_id, point), seed)


def _point_of(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _checksum(secret: bytes) -> bytes:
    return hashlib.blake2b(_ED25519 + secret, digest_size=_CHECKSUM_SIZE).digest()


def _crossed(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _power_below(largest: int) -> int:
    """Return libsodium's choice: the least power of two, from 2 on, that is more than half of ``largest``."""
    power = 2
    while power <= largest // 2:
        power *= 2
    return power
