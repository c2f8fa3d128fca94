"""minisign's secret keys: theirs are read, ours are taken there, locked or not."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.images.minisign import BadKey, Signature, prehash, verify
from firmwarden.images.secret_key import SENSITIVE, Effort, KeyFile, SecretKey
from support.signing import QUICK, VENDOR, minisign

if TYPE_CHECKING:
    from pathlib import Path

# Made with minisign -G -W, and the same key locked with "correct horse" at little effort, which minisign opens.
OPEN = b"""\
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA5Dq3lZOqnkPvoezjcNA3WP72JGt65JN2jy4xV0wJ6Wd/\
K3yaeSLsnXbMZwQ71qH72+qvKu3kxArAsy8I96tYKEeqG5iGlLpFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
LOCKED = b"""\
untrusted comment: minisign encrypted secret key
RWRTY0IymR6yNwp8dUDGKNhi7YJuZ2ctDlhNnf+5O3Snqyk1OpMAgAAAAAAAAAAAAAEAAAAAJEMSyhMdbRPUsafpAwK4Oe4s74VzKYpA4I/A0Zrt3Pc0\
zzwVB5NAAiy0zg3SJs670hnkizPJauWD7RLjiUMuv+L927IwgZuU7PJKcp7jCCeQuu3sUotXBv1t+RlRRRWMHzPNAaOI6Ro=
"""
PASSWORD = b"correct horse"


def spoilt(raw: bytes, at: int, value: bytes) -> bytes:
    """Write other bytes into the second line."""
    comment, line, _ = raw.split(b"\n")
    data = bytearray(base64.b64decode(line))
    data[at : at + len(value)] = value
    return b"\n".join((comment, base64.b64encode(data), b""))


def test_keys_of_minisign_are_read() -> None:
    file = KeyFile.decode(OPEN)
    assert file.effort is None
    assert file.unlock(b"whatever").public.name == "439EAA9395B73AE4"
    locked = KeyFile.decode(LOCKED)
    assert locked.effort == QUICK
    assert locked.unlock(PASSWORD) == file.unlock(b"")


def test_a_wrong_password_is_told() -> None:
    with pytest.raises(BadKey, match="password is wrong"):
        KeyFile.decode(LOCKED).unlock(b"correct house")


@given(st.binary(max_size=40))
def test_a_key_comes_back_from_its_file(password: bytes) -> None:
    made = SecretKey.generate()
    effort = Effort(operations=32_768, memory=1 << 18)
    assert KeyFile.decode(made.file(None)).unlock(b"") == made
    assert KeyFile.decode(made.file(password, effort)).unlock(password) == made


def test_no_two_keys_or_files_are_alike() -> None:
    assert SecretKey.generate() != SecretKey.generate()
    assert VENDOR.file(PASSWORD, QUICK) != VENDOR.file(PASSWORD, QUICK)


def test_a_key_is_not_shown() -> None:
    assert VENDOR.seed.hex() not in repr(VENDOR)
    assert repr(VENDOR.seed) not in repr(VENDOR)
    assert "secret" not in repr(KeyFile.decode(OPEN))


@pytest.mark.parametrize("password", [None, "geheim \N{LATIN SMALL LETTER SHARP S}"])
def test_minisign_signs_with_our_keys(tmp_path: Path, password: str | None) -> None:
    made = SecretKey.generate()
    (tmp_path / "key").write_bytes(made.file(None if password is None else password.encode(), QUICK))
    (tmp_path / "file").write_bytes(b"hello")
    unlocked = ("-W",) if password is None else ()
    done = minisign(tmp_path, "-S", *unlocked, "-s", "key", "-m", "file", password=password or "")
    assert done.returncode == 0, done.stderr
    verify(made.public, Signature.decode((tmp_path / "file.minisig").read_bytes()), prehash(b"hello"))


def test_a_key_whose_id_begins_with_zeros_is_named_as_minisign_names_it(tmp_path: Path) -> None:
    made = SecretKey.generate()
    short = replace(made, public=replace(made.public, key_id=bytes.fromhex("bdedd50d84c03200")))
    (tmp_path / "key").write_bytes(short.file(None, QUICK))
    done = minisign(tmp_path, "-R", "-W", "-s", "key", "-p", "key.pub")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "key.pub").read_bytes() == short.public.file()
    assert short.public.name == "32C0840DD5EDBD"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_minisign_locks_we_unlock_and_the_other_way(tmp_path: Path) -> None:
    """At the full effort: seconds, and a GiB of memory, each time."""
    assert minisign(tmp_path, "-G", "-p", "key.pub", "-s", "key", password="pass").returncode == 0
    theirs = KeyFile.decode((tmp_path / "key").read_bytes())
    assert theirs.effort == SENSITIVE
    assert theirs.unlock(b"pass").public.file() == (tmp_path / "key.pub").read_bytes()
    (tmp_path / "ours").write_bytes(VENDOR.file(b"pass"))
    assert minisign(tmp_path, "-R", "-s", "ours", "-p", "ours.pub", password="pass").returncode == 0
    assert (tmp_path / "ours.pub").read_bytes().splitlines()[1] == VENDOR.public.encode().encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "two lines"),
        (OPEN[:-1], "two lines"),
        (OPEN + b"\n", "two lines"),
        (OPEN.replace(b"untrusted", b"trusted"), "two lines"),
        (b"\xff", "not UTF-8"),
        (OPEN.replace(b"RWQ", b"RW\xc3\xa9"), "base64"),
        (OPEN[:-5] + b"\n", "base64|bytes"),
        (VENDOR.public.file(), "42 bytes, not the 158"),
        (spoilt(OPEN, 0, b"ED"), "algorithms"),
        (spoilt(OPEN, 2, b"xx"), "algorithms"),
        (spoilt(OPEN, 4, b"xx"), "algorithms"),
        (spoilt(LOCKED, 38, b"\xff" * 8), "more effort"),
        (spoilt(LOCKED, 46, b"\xff" * 8), "more effort"),
        (spoilt(OPEN, 70, b"x"), "do not belong together"),
        (spoilt(OPEN, 100, b"x"), "do not belong together"),
        (spoilt(OPEN, 150, b"x"), "damaged"),
        (spoilt(LOCKED, 150, b"x"), "password is wrong"),
    ],
)
def test_inv8_what_is_no_secret_key_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(BadKey, match=said):
        KeyFile.decode(raw).unlock(PASSWORD)


@given(st.binary(max_size=300))
def test_inv8_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadKey):
        KeyFile.decode(noise)
