"""What a release is judged by, beside the files that it consists of; the same for dropped, sent and bundled ones."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmwarden.errors import BadImage, BadManifest
from firmwarden.images.agreement import check_agrees
from firmwarden.images.cas import hash_of
from firmwarden.images.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.images.formats import ImageRules
    from firmwarden.images.manifest import Manifest
    from firmwarden.images.minisign import Prehash
    from firmwarden.model import ClassName
    from firmwarden.service.trust import Trust


@dataclass(frozen=True, slots=True)
class Criteria:
    """What the configuration says of releases; two that are equal judge alike."""

    classes: Mapping[ClassName, ImageRules]
    """The device classes, each with what its images must be."""
    trust: Trust

    def admit(self, manifest: Manifest, prehash: Prehash, signature: bytes | None) -> str:
        """Judge all of a release but its image.

        Args:
            manifest: what it says.
            prehash: the hash of the file in which it says so.
            signature: the signature file of that; None where there is none.

        Returns:
            The name of the key that signed it; empty where nobody did and nobody needs to.

        Raises:
            BadManifest: with the reason.
        """
        hardware = self._rules(manifest).hardware
        signed_by = self.trust.judge(manifest.device, prehash, signature)
        if manifest.downgrade and not signed_by:
            raise BadManifest("it says downgrade = true, which counts in a signed manifest only")
        _check_hardware(manifest, hardware)
        return signed_by

    def prepared(self, manifest: Manifest, image: bytes) -> bytes:
        """Judge the image of a release, and return what of it is to be sent.

        Raises:
            BadManifest: with the reason.
        """
        if len(image) != manifest.size:
            raise BadManifest(f"{manifest.image} has {len(image)} bytes, the manifest says {manifest.size}")
        own = hash_of(image)
        if own != manifest.sha256:
            raise BadManifest(f"{manifest.image} has the sha256 {own}, the manifest says {manifest.sha256}")
        rules = self._rules(manifest)
        try:
            sent = prepare(image, rules)
        except BadImage as exc:
            raise BadManifest(f'{manifest.image} is no "{rules.format.value}" image: {exc}') from exc
        check_agrees(manifest, image, rules)
        return sent

    def _rules(self, manifest: Manifest) -> ImageRules:
        rules = self.classes.get(manifest.device)
        if rules is None:
            alike = difflib.get_close_matches(manifest.device, self.classes, n=1)
            hint = f'; did you mean "{alike[0]}"?' if alike else ""
            raise BadManifest(f'"{manifest.device}" is no device class of the configuration{hint}')
        return rules


def _check_hardware(manifest: Manifest, hardware: str | None) -> None:
    if hardware in manifest.hardware or (hardware is None and not manifest.hardware):
        return
    named = " or ".join(f'"{each}"' for each in manifest.hardware)
    if hardware is None:
        raise BadManifest(
            f'it is for hardware {named}, and the configuration does not say which one "{manifest.device}" is'
        )
    wanted = f'hardware "{hardware}", which is what "{manifest.device}" is'
    raise BadManifest(
        f"it is for hardware {named}, not for {wanted}" if named else f"it does not name {wanted}"
    )
