"""Whose signature counts for which class, and why it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmwarden.errors import BadManifest
from firmwarden.images.minisign import prehash
from firmwarden.model import ClassName
from firmwarden.service.trust import Trust, TrustedKey
from support.signing import VENDOR, key, signature

PANEL, PUMP, LAB = ClassName("panel"), ClassName("pump"), ClassName("lab")
MANIFEST = b"[release]\n"

PUMPS = key(2)
OLD = key(3)
STRANGER = key(4)
TRUST = Trust(
    keys=(
        TrustedKey(name="vendor", public=VENDOR.public, classes=None),
        TrustedKey(name="pumps", public=PUMPS.public, classes=frozenset({PUMP})),
        TrustedKey(name="old", public=OLD.public, classes=None, revoked=True),
    ),
    unsigned=frozenset({LAB}),
)


def refusal(device_class: ClassName, signed: bytes | None, manifest: bytes = MANIFEST) -> str:
    with pytest.raises(BadManifest) as caught:
        TRUST.judge(device_class, prehash(manifest), signed)
    return str(caught.value)


def test_a_key_for_every_class() -> None:
    for device_class in (PANEL, PUMP, LAB):
        assert TRUST.judge(device_class, prehash(MANIFEST), signature(MANIFEST)) == "vendor"


def test_a_key_for_one_class() -> None:
    assert TRUST.judge(PUMP, prehash(MANIFEST), signature(MANIFEST, PUMPS)) == "pumps"
    assert refusal(PANEL, signature(MANIFEST, PUMPS)) == (
        'its signature is refused: the key "pumps" that made it is not trusted for "panel"'
    )


def test_inv8_what_is_not_signed_is_refused_unless_the_class_says_otherwise() -> None:
    assert refusal(PANEL, None) == 'it is not signed, and "panel" takes signed releases only'
    assert TRUST.judge(LAB, prehash(MANIFEST), None) == ""


@pytest.mark.parametrize("device_class", [PANEL, LAB])
def test_inv8_a_signature_that_is_there_has_to_hold(device_class: ClassName) -> None:
    assert "does not match" in refusal(device_class, signature(b"[release] \n"))
    assert "exactly 4 lines" in refusal(device_class, b"")
    assert f"the key {STRANGER.public.name} that made it is none of the configuration" in refusal(
        device_class, signature(MANIFEST, STRANGER)
    )
    assert 'the key "old" that made it is revoked' in refusal(device_class, signature(MANIFEST, OLD))


def test_inv8_a_key_by_a_known_id_is_not_that_key() -> None:
    forged = STRANGER.sign(MANIFEST, "")
    forged = replace(forged, key_id=VENDOR.public.key_id)
    assert "does not match" in refusal(PANEL, forged.encode())


def test_two_that_say_the_same_are_equal() -> None:
    assert replace(TRUST) == TRUST
    assert hash(replace(TRUST)) == hash(TRUST)
    assert replace(TRUST, unsigned=frozenset()) != TRUST
