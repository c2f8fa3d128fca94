"""Several releases in one file: all that belongs to them, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given

from firmwarden.errors import BadManifest
from firmwarden.images.bundle import LARGEST_BUNDLE, Packed, pack, unpack
from firmwarden.images.manifest import LARGEST_MANIFEST, parse_manifest
from firmwarden.images.minisign import LARGEST_SIGNATURE
from firmwarden.images.strict_zip import MOST_MEMBERS, read_zip, write_zip
from support.drop import manifest_of
from support.mutation import mutated
from support.pages import DOCS

IMAGE: Final = b"firmware" * 20
MANIFEST: Final = manifest_of(IMAGE)
SIGNATURE: Final = b"a signature"
FILES: Final = {"panel.toml": MANIFEST, "panel.img": IMAGE, "panel.toml.minisig": SIGNATURE}


def packed(name: str = "panel.toml", firmware: bytes = IMAGE, /, **more: object) -> Packed:
    content = manifest_of(firmware, replacing=more)
    return Packed(
        name=name,
        manifest=parse_manifest(content, name),
        content=content,
        signature=SIGNATURE,
        image=firmware,
    )


def test_what_is_packed_is_unpacked() -> None:
    other = replace(packed("b.toml", b"other", image='"b.img"', version='"2.0.0"'), signature=None)
    made = pack([packed(), other])
    assert made == pack([other, packed()]), "the same releases make the same file"
    assert unpack(made, "x.fwz") == (replace(other, bundle="x.fwz"), replace(packed(), bundle="x.fwz"))
    assert [each.full_name for each in unpack(made, "x.fwz")] == ["x.fwz/b.toml", "x.fwz/panel.toml"]
    assert packed().full_name == "panel.toml"


def test_several_releases_may_share_an_image() -> None:
    made = pack([packed(), packed("b.toml", version='"2.0.0"')])
    assert {each.image for each in unpack(made, "x.fwz")} == {IMAGE}
    assert len(read_zip(made, lambda _: 1 << 20, 1 << 20)) == 5


def test_two_files_of_one_name_are_not_packed() -> None:
    with pytest.raises(BadManifest, match=r"two files are called panel\.img"):
        pack([packed(), packed("b.toml", b"other", version='"2.0.0"')])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "there is no manifest in it"),
        ({"panel.img": IMAGE}, "there is no manifest in it"),
        ({"panel.toml": MANIFEST}, "panel.img, which panel.toml names, is not in it"),
        ({**FILES, "readme.txt": b"hello"}, "readme.txt in it belongs to no manifest"),
        ({**FILES, "other.toml.minisig": SIGNATURE}, "other.toml.minisig in it belongs to no manifest"),
        ({**FILES, "panel.img.minisig": SIGNATURE}, "panel.img.minisig in it belongs to no manifest"),
        ({**FILES, "other.fwz": b""}, "other.fwz in it belongs to no manifest"),
        ({**FILES, "bad.toml": b"hello"}, "bad.toml:1:6: expected TOML"),
        ({**FILES, "panel.toml": b"#" * (LARGEST_MANIFEST + 1)}, "is larger than 65536 bytes"),
        ({**FILES, "panel.toml.minisig": bytes(LARGEST_SIGNATURE + 1)}, "panel.toml.minisig in it is larger"),
    ],
)
def test_inv8_what_is_not_whole_or_has_something_else_in_it_is_refused(
    files: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(BadManifest) as caught:
        unpack(write_zip(files), "x.fwz")
    assert reason in str(caught.value)


@given(mutated((pack([packed()]), write_zip(FILES))))
def test_noise_raises_only_one_error(raw: bytes) -> None:
    try:
        releases = unpack(raw, "x.fwz")
    except BadManifest:
        return
    assert unpack(pack(releases), "x.fwz") == tuple(sorted(releases, key=lambda each: each.name))


def test_the_reference_page_has_the_limits() -> None:
    page = " ".join((DOCS / "reference" / "manifest.md").read_text().split())
    assert f"more than {MOST_MEMBERS} members; more than {LARGEST_BUNDLE >> 20} MiB" in page
