"""Keys in the configuration: whom to trust with which classes, and what of that is a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.app import wiring
from firmwarden.config import SigningKey, load
from firmwarden.errors import BadConfig
from firmwarden.images.minisign import PublicKey
from firmwarden.model import ClassName
from firmwarden.service.trust import Trust, TrustedKey

if TYPE_CHECKING:
    from pathlib import Path

ONE = PublicKey(key_id=b"one.....", point=bytes(range(32)))
OTHER = PublicKey(key_id=b"other...", point=bytes(range(32)))

CLASSES = """
[[device]]
name = "front-panel"
driver = "mdfu"
match = { path = "/dev/panel" }
[[device]]
name = "pump"
driver = "mdfu"
match = { path = "/dev/pump" }
require_signature = false
"""


def key(name: str = "vendor", public: str = ONE.encode(), classes: str = '["*"]', more: str = "") -> str:
    return f'[[key]]\nname = "{name}"\npublic = "{public}"\nclasses = {classes}\n{more}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "firmwarden.toml"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(BadConfig) as caught:
        load(file)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def test_what_a_key_says(file: Path) -> None:
    file.write_text(
        key(classes='["pump", "front-panel"]') + key("old", OTHER.encode(), more="revoked = true") + CLASSES
    )
    config = load(file)
    assert config.keys == (
        SigningKey(name="vendor", public=ONE, classes=("pump", "front-panel")),
        SigningKey(name="old", public=OTHER, classes=("*",), revoked=True),
    )
    assert wiring.trust(config) == Trust(
        keys=(
            TrustedKey(name="vendor", public=ONE, classes=frozenset(map(ClassName, ("pump", "front-panel")))),
            TrustedKey(name="old", public=OTHER, classes=None, revoked=True),
        ),
        unsigned=frozenset({ClassName("pump")}),
    )


def test_a_class_of_devices_d_may_be_meant(file: Path) -> None:
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "classes.toml").write_text(CLASSES)
    file.write_text(key(classes='["pump"]'))
    assert load(file).keys[0].classes == ("pump",)


def test_a_class_takes_signed_releases_only_unless_it_says_otherwise(file: Path) -> None:
    file.write_text(CLASSES)
    assert [each.require_signature for each in load(file).devices] == [True, False]


RW = 'expected a public key of minisign, the line that begins with "RW", got'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            key(classes='["front-panl"]'),
            (
                '4: key[0].classes[0]: expected a class of the configuration, got "front-panl"; '
                'did you mean "front-panel"?'
            ),
        ),
        (
            key(classes='["pump", "x"]'),
            '4: key[0].classes[1]: expected a class of the configuration, got "x"',
        ),
        (key(classes="[]"), '4: key[0].classes: expected the names of classes, or "*"'),
        (key(classes='["*", "pump"]'), '4: key[0].classes: expected "*" alone: it is every class'),
        (
            key(name="Vendor"),
            (
                "2: key[0].name: expected lower-case words and digits joined by dashes, "
                '64 characters at most, got "Vendor"'
            ),
        ),
        (key(public="RWx"), f'3: key[0].public: {RW} "RWx": it is not base64'),
        (
            key(public=ONE.encode()[:-4]),
            f'3: key[0].public: {RW} "{ONE.encode()[:-4]}": it has 39 bytes, not 42',
        ),
        (
            key(public="AA" + ONE.encode()[2:]),
            f'3: key[0].public: {RW} "{"AA" + ONE.encode()[2:]}": its algorithm is not Ed25519',
        ),
        (
            key() + key("other"),
            '8: key[1].public: expected another key than that of "vendor"',
        ),
        (
            key() + key(public=OTHER.encode()),
            "7: key[1].name: expected a name of its own, but another key has it already",
        ),
    ],
)
def test_inv8_what_a_key_may_not_say(file: Path, table: str, said: str) -> None:
    assert problems(file, table + CLASSES) == [said]


def test_inv8_a_key_needs_its_classes(file: Path) -> None:
    text = key().replace('classes = ["*"]\n', "")
    assert problems(file, text) == [
        "1: key[0].classes: is missing; expected an array, each item text that is not empty"
    ]


def test_inv8_a_class_in_a_file_that_cannot_be_read_is_not_called_unknown(file: Path) -> None:
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "classes.toml").write_text("[[device")
    [problem] = problems(file, key(classes='["pump"]'))
    assert "classes.toml" in problem


def test_inv8_no_product_brings_a_key(file: Path) -> None:
    more = file.parent / "devices.d"
    more.mkdir()
    (more / "classes.toml").write_text(key() + CLASSES)
    assert problems(file, "") == [
        f"{more}/classes.toml:1: key: unknown key; known here: device".removeprefix(f"{file}:")
    ]
