"""Manifests: what a good one says, and that the rest is refused with line and key."""

import re
from dataclasses import MISSING
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadManifest
from firmwarden.images.cas import LARGEST_IMAGE
from firmwarden.images.manifest import Manifest, parse_manifest
from firmwarden.model import ClassName, ImageHash
from firmwarden.toml.keys import keys_of

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "manifest.md"
SHA = "0123456789abcdef" * 4
GOOD = f"""\
[release]
device = "front-panel"
version = "2.4.0"
image = "front-panel-2.4.0.img"
sha256 = "{SHA}"
size = 131072
"""


def problem(text: str | bytes) -> str:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(text if isinstance(text, bytes) else text.encode(), "m.toml")
    return str(caught.value)


def changed(key: str, value: str) -> str:
    return re.sub(rf"(?m)^{key} = .*$", lambda _: f"{key} = {value}", GOOD)


def test_a_manifest() -> None:
    assert parse_manifest(GOOD.encode(), "m.toml") == Manifest(
        device=ClassName("front-panel"),
        version="2.4.0",
        image="front-panel-2.4.0.img",
        sha256=ImageHash(SHA),
        size=131_072,
        sequence=None,
    )


def test_any_version_goes_with_a_sequence() -> None:
    manifest = parse_manifest((changed("version", '"Build 7 (β)"') + "sequence = 0").encode(), "m.toml")
    assert (manifest.version, manifest.sequence) == ("Build 7 (β)", 0)


def test_without_a_sequence_the_version_is_semver() -> None:
    assert problem(changed("version", '"2.4"')) == (
        'm.toml:3: release.version: expected SemVer, or a sequence beside it, got "2.4"'
    )


def test_the_hash_may_be_in_capitals() -> None:
    assert parse_manifest(changed("sha256", f'"{SHA.upper()}"').encode(), "m.toml").sha256 == SHA


def test_inv8_every_fault_is_told_at_once() -> None:
    text = "[release]\nsize = 0\nimage = 'a/b'\nfoo = 1\nversion = 3\n[other]"
    assert problem(text) == (
        "m.toml:1: release.device: is missing; "
        "expected lower-case words and digits joined by dashes, 64 characters at most; "
        "m.toml:1: release.sha256: is missing; expected 64 hexadecimal digits; "
        "m.toml:2: release.size: expected a whole number from 1 to 67108864, got 0; "
        "m.toml:3: release.image: expected the plain name of a file beside the manifest, "
        'got "a/b": it must lie in the directory of the manifest; '
        "m.toml:4: release.foo: unknown key; known here: device, device_id, downgrade, hardware, image, "
        "sequence, sha256, size, version; "
        "m.toml:5: release.version: expected printable text of 1 to 64 characters, got 3; "
        "m.toml:6: other: unknown key; known here: release"
    )


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../up.img",
        "sub/dir.img",
        "./here.img",
        "..",
        ".",
        ".hidden",
        "other.toml",
        "m.toml",
        "",
        "a\\u0000b",
        "a\\nb",
        "a\\u001bb",
        "a\\u202eb",
        "x" * 256,
        "ü" * 128,
    ],
)
def test_inv8_an_image_is_a_plain_name_beside_the_manifest(name: str) -> None:
    assert "m.toml:4: release.image: expected the plain name of a file" in problem(
        changed("image", f'"{name}"')
    )


@pytest.mark.parametrize(
    "name", ["a", "x" * 255, "front panel (2).img", "ünïcode.bin", "-rf", "a..b", "m.toml.img"]
)
def test_plain_names(name: str) -> None:
    assert parse_manifest(changed("image", f'"{name}"').encode(), "m.toml").image == name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", '"Front-Panel"'),
        ("device", '"-a"'),
        ("device", f'"{"a" * 65}"'),
        ("device", "1"),
        ("version", '""'),
        ("version", '" 1.0.0"'),
        ("version", '"1.0.0\\n"'),
        ("version", f'"1.0.0-{"a" * 60}"'),
        ("sha256", f'"{SHA[:-1]}"'),
        ("sha256", f'"{SHA}0"'),
        ("sha256", f'"{SHA[:-1]}g"'),
        ("size", str(LARGEST_IMAGE + 1)),
        ("size", "-1"),
        ("size", "true"),
        ("size", "1.0"),
        ("size", "0x" + "f" * 20_000),
        ("size", '"131072"'),
    ],
)
def test_inv8_values_that_are_refused(key: str, value: str) -> None:
    line = GOOD.splitlines().index(next(line for line in GOOD.splitlines() if line.startswith(key))) + 1
    assert problem(changed(key, value)).startswith(f"m.toml:{line}: release.{key}: expected ")


@pytest.mark.parametrize("value", ["-1", str(2**63), "true", '"1"'])
def test_inv8_a_sequence_fits_the_store(value: str) -> None:
    assert problem(f"{GOOD}sequence = {value}").startswith(
        "m.toml:7: release.sequence: expected a whole number"
    )


@pytest.mark.parametrize("text", ["", "release = 1", "[[release]]", "[release", b"\xff\xfe", "x = 1"])
def test_inv8_what_is_no_manifest(text: str | bytes) -> None:
    assert problem(text).startswith("m.toml:1")


def test_inv8_a_reason_is_short_however_much_is_wrong() -> None:
    many = problem(GOOD + "".join(f"key{number} = 1\n" for number in range(5000)))
    assert "m.toml:7: release.key0: unknown key" in many
    assert many.endswith("; and 4992 more")
    assert len(many) < 2000
    assert len(problem(GOOD + "k" * 60_000 + " = 1\n")) == 400


def told(raw: bytes) -> str:
    try:
        parse_manifest(raw, "m.toml")
    except BadManifest as exc:
        return str(exc)
    return "m.toml:"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: (GOOD + text).encode())))
def test_inv8_any_bytes_are_a_manifest_or_refused(raw: bytes) -> None:
    assert told(raw).startswith("m.toml:")


def test_the_example_on_the_reference_page_is_good() -> None:
    [example] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert parse_manifest(example.encode(), "m.toml").device == "front-panel"


def test_the_reference_page_has_every_key_with_its_limits() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| (required|none|`false`) \| (.*?) \|", PAGE.read_text())
    keys = {path[0]: key for path, key in keys_of(Manifest)}
    assert [row[0] for row in rows] == list(keys)
    for name, default, takes in rows:
        assert (default == "required") == (keys[name].default is MISSING)
        if numbers := re.fullmatch(r"a whole number from (.*)", keys[name].expected):
            assert takes == numbers[1]
