"""The commands of those who make releases: what they write, minisign takes; what they say, the daemon does."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest

from firmwarden.images.cas import hash_of
from firmwarden.images.minisign import PublicKey, Signature
from firmwarden.images.secret_key import KeyFile
from support.drop import manifest_of
from support.signing import QUICK, VENDOR, key, minisign, signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]

CONTENT = b"an image"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drop(place: Path, name: str = "panel", **said: object) -> Path:
    """Write a release."""
    (place / "panel.img").write_bytes(CONTENT)
    file = place / f"{name}.toml"
    file.write_bytes(manifest_of(CONTENT, replacing={each: str(value) for each, value in said.items()}))
    return file


def another(place: Path) -> Path:
    """Write a release of the same version as others, with another image."""
    (place / "two.img").write_bytes(CONTENT + b"!")
    file = place / "two.toml"
    file.write_bytes(manifest_of(CONTENT + b"!", image="two.img"))
    return file


def configure(place: Path, *, required: bool = True, more: str = "") -> str:
    file = place / "firmwarden.conf"
    file.write_text(f"""
[[key]]
name = "vendor"
public = "{VENDOR.public.encode()}"
classes = ["*"]
{more}
[[device]]
name = "panel"
driver = "mdfu"
match = {{ path = "/dev/panel" }}
require_signature = {str(required).lower()}
""")
    return str(file)


# --- keygen ------------------------------------------------------------------------------------------------


def test_a_key_that_minisign_takes_too(run_alone: Run, place: Path) -> None:
    told = run_alone("keygen", "vendor-2026", "--no-password")
    assert told.exit_code == 0
    assert stat.S_IMODE((place / "vendor-2026.key").stat().st_mode) == 0o600
    made = KeyFile.decode((place / "vendor-2026.key").read_bytes()).unlock(b"")
    assert (place / "vendor-2026.pub").read_bytes() == made.public.file()
    said, _, table = told.stdout.partition("\n\n")
    assert "whoever can read it can sign" in said
    assert tomllib.loads(table) == {
        "key": [{"name": "vendor-2026", "public": made.public.encode(), "classes": ["*"]}]
    }
    (place / "file").write_text("x")
    assert minisign(place, "-S", "-W", "-s", "vendor-2026.key", "-m", "file").returncode == 0


@pytest.mark.parametrize("there", ["vendor.key", "vendor.pub"])
def test_no_key_is_written_over(run_alone: Run, place: Path, there: str) -> None:
    (place / there).write_text("dear")
    told = run_alone("keygen", "vendor", "--no-password")
    assert told.exit_code == 1
    assert f"{there} is there already" in told.stderr
    assert [(each.name, each.read_text()) for each in place.iterdir()] == [(there, "dear")]


@pytest.mark.parametrize("files_with_room", [0, 1])
def test_a_full_disk_leaves_nothing_of_a_key(
    run_alone: Run, place: Path, monkeypatch: pytest.MonkeyPatch, files_with_room: int
) -> None:
    room = iter(range(files_with_room))

    def fsync(_: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        told = run_alone("keygen", "vendor", "--no-password")
    assert (told.exit_code, told.stderr) == (1, "firmwarden: No space left on device\n")
    assert list(place.iterdir()) == []
    assert run_alone("keygen", "vendor", "--no-password").exit_code == 0


@pytest.mark.slow
def test_a_key_is_locked_with_the_password(run_alone: Run, place: Path) -> None:
    (place / "password").write_text("correct horse\n")
    told = run_alone("keygen", "vendor", "--password-file", "password")
    assert "whoever has it and its password can sign" in told.stdout
    made = KeyFile.decode((place / "vendor.key").read_bytes()).unlock(b"correct horse")
    assert made.public.file() == (place / "vendor.pub").read_bytes()


@pytest.mark.parametrize(
    ("options", "password", "said"),
    [
        ((), "", "nobody to ask"),
        (("--password-file", "password"), "", "one line of 1 to 1024 bytes"),
        (("--password-file", "password"), "one\ntwo\n", "one line"),
        (("--password-file", "password"), "x" * 1025, "one line"),
        (("--password-file", "password", "--no-password"), "one", "exclude each other"),
    ],
)
def test_a_password_has_to_be_one(
    run_alone: Run, place: Path, options: tuple[str, ...], password: str, said: str
) -> None:
    (place / "password").write_text(password)
    told = run_alone("keygen", "vendor", *options)
    assert told.exit_code == 2
    assert said in told.stderr
    assert [each.name for each in place.iterdir()] == ["password"]


# --- sign --------------------------------------------------------------------------------------------------


def test_a_signature_stands_beside_its_manifest(run_alone: Run, place: Path) -> None:
    (place / "vendor.key").write_bytes(VENDOR.file(None))
    (place / "vendor.pub").write_bytes(VENDOR.public.file())
    one, other = drop(place), drop(place, "other", version='"rev b"', sequence=7)
    other.chmod(0o640)
    told = run_alone("sign", "--key", "vendor.key", "panel.toml", "other.toml")
    assert (told.exit_code, told.stdout) == (
        0,
        "panel.toml.minisig is written.\nother.toml.minisig is written.\n",
    )
    for file, comment in (
        (one, "file:panel.toml\tdevice:panel\tversion:1.0.0"),
        (other, "file:other.toml\tdevice:panel\tversion:rev b\tsequence:7"),
    ):
        beside = place / f"{file.name}.minisig"
        assert beside.read_bytes() == signature(file.read_bytes(), comment=comment)
        assert beside.stat().st_mode == file.stat().st_mode
        assert minisign(place, "-V", "-p", "vendor.pub", "-m", file.name).returncode == 0


def test_a_key_asks_for_its_password(run_alone: Run, place: Path) -> None:
    (place / "vendor.key").write_bytes(VENDOR.file(b"correct horse", QUICK))
    (place / "password").write_text("correct horse\n")
    drop(place)
    told = run_alone("sign", "--key", "vendor.key", "--password-file", "password", "panel.toml")
    assert told.exit_code == 0
    assert Signature.decode((place / "panel.toml.minisig").read_bytes()).key_id == VENDOR.public.key_id
    (place / "password").write_text("correct house\n")
    told = run_alone("sign", "--key", "vendor.key", "--password-file", "password", "panel.toml")
    assert (told.exit_code, told.stderr) == (
        1,
        "firmwarden: vendor.key is refused: the password is wrong\n",
    )
    assert run_alone("sign", "--key", "vendor.key", "panel.toml").exit_code == 2


def test_inv8_what_is_no_manifest_is_not_signed(run_alone: Run, place: Path) -> None:
    (place / "vendor.key").write_bytes(VENDOR.file(None))
    (place / "panel.toml").write_text("[release]\n")
    told = run_alone("sign", "--key", "vendor.key", "panel.toml")
    assert told.exit_code == 1
    assert "release.device: is missing" in told.stderr
    assert not (place / "panel.toml.minisig").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--key", "vendor.pub", "panel.toml"), 1, "vendor.pub is refused: it has 42 bytes"),
        (("--key", "nowhere.key", "panel.toml"), 1, "nowhere.key: No such file"),
        (("--key", "vendor.key", "nowhere.toml"), 1, "nowhere.toml: No such file"),
        (("panel.toml",), 2, "--key"),
        (("--key", "vendor.key"), 2, "MANIFEST"),
    ],
)
def test_what_cannot_be_signed(
    run_alone: Run, place: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    (place / "vendor.key").write_bytes(VENDOR.file(None))
    (place / "vendor.pub").write_bytes(VENDOR.public.file())
    drop(place)
    told = run_alone("sign", *arguments)
    assert told.exit_code == status
    assert said in told.stderr


# --- verify ------------------------------------------------------------------------------------------------


def test_a_release_that_would_be_accepted(run_alone: Run, place: Path) -> None:
    file = drop(place)
    (place / "panel.toml.minisig").write_bytes(signature(file.read_bytes()))
    told = run_alone("verify", "panel.toml", "--config", configure(place))
    assert (told.exit_code, told.stdout) == (
        0,
        'panel.toml would be accepted: panel 1.0.0, signed with the key "vendor".\n',
    )


def test_a_class_may_do_without(run_alone: Run, place: Path) -> None:
    drop(place)
    told = run_alone("verify", "panel.toml", "--config", configure(place, required=False))
    assert told.exit_code == 0
    assert "not signed, and its class asks for no signature" in " ".join(told.stdout.split())


def test_inv8_each_release_that_would_be_refused_is_told_with_the_reason(run_alone: Run, place: Path) -> None:
    good = drop(place, "good")
    (place / "good.toml.minisig").write_bytes(signature(good.read_bytes()))
    drop(place, "unsigned")
    foreign = drop(place, "foreign")
    (place / "foreign.toml.minisig").write_bytes(signature(foreign.read_bytes(), key(2)))
    changed = drop(place, "changed")
    (place / "changed.toml.minisig").write_bytes(signature(changed.read_bytes() + b"\n"))
    wrong = drop(place, "wrong-image", sha256=f'"{hash_of(b"other")}"')
    (place / "wrong-image.toml.minisig").write_bytes(signature(wrong.read_bytes()))
    drop(place, "no-image", image='"other.img"')
    drop(place, "no-class", device='"pump"')
    (place / "no-manifest.toml").write_text("hello")
    names = ("good", "unsigned", "foreign", "changed", "wrong-image", "no-image", "no-class", "no-manifest")
    told = run_alone("verify", *(f"{name}.toml" for name in names), "--config", configure(place))
    assert told.exit_code == 1
    text = " ".join(told.stdout.split())
    for said in (
        "good.toml would be accepted",
        'unsigned.toml would be refused: it is not signed, and "panel" takes signed releases only.',
        f"foreign.toml would be refused: its signature is refused: the key {key(2).public.name}",
        "changed.toml would be refused: its signature is refused: it does not match",
        "wrong-image.toml would be refused: panel.img has the sha256",
        "no-image.toml would be refused: it waits for other.img, which is not there",
        'no-class.toml would be refused: "pump" is no device class of the configuration',
        "no-manifest.toml would be refused: no-manifest.toml:1:6: expected TOML",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("panel.txt", "the daemon looks only at names that end with .toml or .fwz and begin with no dot"),
        (".panel.toml", "the daemon looks only at names"),
        (".panel.fwz", "the daemon looks only at names"),
        ("pan\x1bel.toml", "its name has characters that cannot be printed"),
        ("pan\udcffel.toml", "its name has characters that cannot be printed"),
    ],
)
def test_inv8_what_the_daemon_would_not_look_at_is_not_accepted(
    run_alone: Run, place: Path, name: str, says: str
) -> None:
    drop(place).rename(place / name)
    told = run_alone("verify", name, "--config", configure(place, required=False))
    assert told.exit_code == 1
    assert says in " ".join(told.stdout.split())


def test_inv8_releases_that_contradict_each_other_would_both_be_refused(run_alone: Run, place: Path) -> None:
    drop(place, "one")
    drop(place, "newer", version='"1.1.0"')
    run_alone("bundle", "other.fwz", another(place).name)
    told = run_alone(
        *("verify", "one.toml", "newer.toml", "other.fwz"), "--config", configure(place, required=False)
    )
    assert told.exit_code == 1
    text = " ".join(told.stdout.split())
    for said in (
        "one.toml would be refused: one.toml has the same version as other.fwz/two.toml (1.0.0), but another image.",
        "newer.toml would be accepted: panel 1.1.0",
        "other.fwz would be refused: other.fwz/two.toml has the same version as one.toml (1.0.0), but another image.",
    ):
        assert said in text


def test_inv8_of_a_bundle_only_what_contradicts_another_release_would_be_refused(
    run_alone: Run, place: Path
) -> None:
    drop(place)
    drop(place, "newer", version='"1.1.0"')
    run_alone("bundle", "spring.fwz", "panel.toml", "newer.toml")
    told = run_alone(
        *("verify", "spring.fwz", another(place).name), "--config", configure(place, required=False)
    )
    assert told.exit_code == 1
    unsigned = "not signed, and its class asks for no signature"
    assert " ".join(told.stdout.split()) == (
        "spring.fwz would be refused in part: "
        "spring.fwz/panel.toml has the same version as two.toml (1.0.0), but another image. "
        f"spring.fwz would be accepted: panel 1.1.0, {unsigned}. "
        "two.toml would be refused: "
        "two.toml has the same version as spring.fwz/panel.toml (1.0.0), but another image."
    )


def test_files_that_cannot_lie_beside_each_other_are_not_compared(run_alone: Run, place: Path) -> None:
    (place / "old").mkdir()
    drop(place / "old")
    config = configure(place, required=False)
    another(place).rename(place / "panel.toml")
    told = run_alone("verify", "panel.toml", "old/panel.toml", "panel.toml", "--config", config)
    assert told.exit_code == 0
    assert told.stdout.count("would be accepted") == 2


def test_a_revoked_key_is_told(run_alone: Run, place: Path) -> None:
    old = key(2)
    revoked = f'[[key]]\nname = "old"\npublic = "{old.public.encode()}"\nclasses = ["*"]\nrevoked = true\n'
    file = drop(place)
    (place / "panel.toml.minisig").write_bytes(signature(file.read_bytes(), old))
    told = run_alone("verify", "panel.toml", "--config", configure(place, more=revoked))
    assert told.exit_code == 1
    assert 'the key "old" that made it is revoked' in " ".join(told.stdout.split())


def test_keygen_sign_and_verify_fit_together(run_alone: Run, place: Path) -> None:
    told = run_alone("keygen", "mine", "--no-password")
    _, _, table = told.stdout.partition("\n\n")
    drop(place)
    config = configure(place, more=table)
    assert PublicKey.decode(tomllib.loads(table)["key"][0]["public"]) != VENDOR.public
    assert run_alone("sign", "--key", "mine.key", "panel.toml").exit_code == 0
    assert 'signed with the key "mine"' in run_alone("verify", "panel.toml", "--config", config).stdout


def test_a_configuration_that_is_refused_judges_nothing(run_alone: Run, place: Path) -> None:
    (place / "bad.conf").write_text("[firmwarden]\nkeys = 1\n")
    drop(place)
    told = run_alone("verify", "panel.toml", "--config", "bad.conf")
    assert told.exit_code == 1
    assert "firmwarden.keys: unknown key" in told.stderr


# --- bundle ------------------------------------------------------------------------------------------------


def test_a_bundle_is_made_and_judged(run_alone: Run, place: Path) -> None:
    file = drop(place)
    file.chmod(0o640)
    (place / "panel.toml.minisig").write_bytes(signature(file.read_bytes()))
    drop(place, "next", version='"1.1.0"')
    told = run_alone("bundle", "spring.fwz", "panel.toml", "next.toml")
    assert (told.exit_code, told.stdout) == (0, "spring.fwz is written.\n")
    assert stat.S_IMODE((place / "spring.fwz").stat().st_mode) == 0o640, "no secret gets out this way"
    made = (place / "spring.fwz").read_bytes()
    run_alone("bundle", "spring.fwz", "next.toml", "panel.toml")
    assert (place / "spring.fwz").read_bytes() == made, "the same releases make the same file"
    with zipfile.ZipFile(place / "spring.fwz") as found:
        assert found.namelist() == ["next.toml", "panel.img", "panel.toml", "panel.toml.minisig"]

    told = run_alone("verify", "spring.fwz", "--config", configure(place))
    assert told.exit_code == 1
    assert "spring.fwz would be refused: next.toml: it is not signed" in " ".join(told.stdout.split())
    told = run_alone("verify", "spring.fwz", "--config", configure(place, required=False))
    assert told.exit_code == 0
    assert " ".join(told.stdout.split()) == (
        "spring.fwz would be accepted: panel 1.1.0, not signed, and its class asks for no signature. "
        'spring.fwz would be accepted: panel 1.0.0, signed with the key "vendor".'
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("out.zip", "panel.toml"), "the name of a bundle ends with .fwz, got 'out.zip'"),
        (("out.fwz", "no-image.toml"), "it waits for other.img, which is not there"),
        (("out.fwz", "no-manifest.toml"), "no-manifest.toml:1:6: expected TOML"),
        (("out.fwz", "missing.toml"), "missing.toml: No such file or directory"),
        (("out.fwz", "panel.toml", "shorter.toml"), "panel.img has 8 bytes, shorter.toml says 9"),
        (
            ("out.fwz", "other.toml"),
            f"panel.img has the sha256 {hash_of(CONTENT)}, other.toml says {'0' * 64}",
        ),
        (("missing/out.fwz", "panel.toml"), "No such file or directory"),
    ],
)
def test_inv8_what_would_be_refused_is_not_packed(
    run_alone: Run, place: Path, arguments: tuple[str, ...], says: str
) -> None:
    drop(place)
    drop(place, "no-image", image='"other.img"')
    drop(place, "shorter", size=len(CONTENT) + 1)
    drop(place, "other", sha256=f'"{"0" * 64}"')
    (place / "no-manifest.toml").write_text("hello")
    before = set(place.iterdir())
    told = run_alone("bundle", *arguments)
    assert told.exit_code != 0
    assert says in " ".join(told.stderr.split())
    assert set(place.iterdir()) == before
