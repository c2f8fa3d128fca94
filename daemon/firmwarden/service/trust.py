"""Who may sign releases of which device classes, and whether a release's signature holds.

What is signed is the manifest, byte for byte; the manifest binds the image by size and SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.errors import BadManifest
from firmwarden.images.minisign import BadSignature, PublicKey, Signature, verify

if TYPE_CHECKING:
    from firmwarden.images.minisign import Prehash
    from firmwarden.model import ClassName, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key of the configuration."""

    name: str
    public: PublicKey
    classes: frozenset[ClassName] | None
    """What it may sign releases of; None is every class."""
    revoked: bool = False

    def signs_for(self, device_class: ClassName) -> bool:
        """Tell whether a release of a class may be signed with it."""
        return not self.revoked and (self.classes is None or device_class in self.classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The keys, and which classes do without; two that are equal judge alike."""

    keys: tuple[TrustedKey, ...] = ()
    unsigned: frozenset[ClassName] = frozenset()
    """The classes that also take releases without a signature."""

    def judge(self, device_class: ClassName, manifest: Prehash, signature: bytes | None) -> str:
        """Judge the signature of a release; one that is there has to hold even where none is required.

        Args:
            device_class: of the release.
            manifest: the hash of the manifest file, which covers it byte for byte.
            signature: the signature file; None where there is none.

        Returns:
            The name of the key; empty where there is no signature and the class needs none.

        Raises:
            BadManifest: with the reason.
        """
        if signature is None:
            if device_class in self.unsigned:
                return ""
            raise BadManifest(f'it is not signed, and "{device_class}" takes signed releases only')
        try:
            return self._judge(device_class, manifest, Signature.decode(signature))
        except BadSignature as exc:
            raise BadManifest(f"its signature is refused: {exc}") from exc

    def upholds(self, release: Release, before: Trust) -> bool:
        """Tell whether a release counts still that was taken by other keys, without its files at hand."""
        if not release.signed_by:
            return release.device_class in self.unsigned
        # By its name alone it could be another key.
        made_it = {key.public for key in before.keys if key.name == release.signed_by}
        return any(key.public in made_it and key.signs_for(release.device_class) for key in self.keys)

    def _judge(self, device_class: ClassName, manifest: Prehash, signature: Signature) -> str:
        key = next((each for each in self.keys if each.public.key_id == signature.key_id), None)
        if key is None:
            raise BadSignature(f"the key {signature.key_name} that made it is none of the configuration")
        if key.revoked:
            raise BadSignature(f'the key "{key.name}" that made it is revoked')
        if not key.signs_for(device_class):
            raise BadSignature(f'the key "{key.name}" that made it is not trusted for "{device_class}"')
        verify(key.public, signature, manifest)
        return key.name
