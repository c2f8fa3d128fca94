"""minisign's format: what the real tool makes is taken, what we make it takes, and everything else is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.images.minisign import (
    LARGEST_SIGNATURE,
    BadKey,
    BadSignature,
    PublicKey,
    Signature,
    from_base64,
    prehash,
    verify,
)
from support.signing import VENDOR, key, minisign

if TYPE_CHECKING:
    from pathlib import Path

# Made with Debian's minisign 0.11: minisign -G -W, minisign -S -c 'from a test' -t ... -m FILE, and the same with -l.
PUBLIC = """\
untrusted comment: minisign public key 439EAA9395B73AE4
RWTkOreVk6qeQ3bMZwQ71qH72+qvKu3kxArAsy8I96tYKEeqG5iGlLpF
"""
CONTENT = b"hello"
SIGNED = b"""\
untrusted comment: from a test
RUTkOreVk6qeQ4DlzyDBc7jqiLfd2A0iLtOmEJk1ooG5kWzUQs4Mn8ThinhJMF6gyFcMbqSM6Ti3BKyfG8TEusU/BwJoS4668AA=
trusted comment: file:g\tversion:1.0.0
4j7XTD04bzTq+f9n09Z6QtJO+lY0yXMiXEaOfpps1wxAa92fa9LKwSgTGOdFk12dMyCEkQr7lfrf8xU5tOhZBg==
"""
LEGACY = b"""\
untrusted comment: signature from minisign secret key
RWTkOreVk6qeQ1L2d58Rrp4DsdsCa2KBAr+p48gadHxc8b/MEf1cKIoL7cgNyBZvZ+9jOSKsQDj9rEKHqu/EqNY5z4cYqEBrLgk=
trusted comment: timestamp:1795244118\tfile:g
I/llTAolvy2tuWSZzOJ/M6FgyGQqmjyoOGjZqYGfWVLsE8bRqm3REpo3H/moewGMziFm77s0DUdwGjce9s5rAA==
"""
LINES = SIGNED.splitlines(keepends=True)


def public() -> PublicKey:
    return PublicKey.decode(PUBLIC.splitlines()[1])


# --- what the real tool makes, and takes -----------------------------------------------------------------


def test_a_public_key_of_minisign() -> None:
    assert public().name == "439EAA9395B73AE4"
    assert public().file() == PUBLIC.encode()


def test_a_signature_of_minisign() -> None:
    signature = Signature.decode(SIGNED)
    assert signature.encode() == SIGNED
    assert signature.key_name == "439EAA9395B73AE4"
    assert signature.untrusted_comment == "from a test"
    assert signature.trusted_comment == "file:g\tversion:1.0.0"
    verify(public(), signature, prehash(CONTENT))


def test_minisign_verifies_what_we_sign(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_bytes(VENDOR.public.file())
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "file.minisig").write_bytes(VENDOR.sign(CONTENT, "file:file\tversion:2.0.0").encode())
    done = minisign(tmp_path, "-V", "-p", "key.pub", "-m", "file", "-Q")
    assert (done.returncode, done.stdout) == (0, "file:file\tversion:2.0.0\n")
    (tmp_path / "file").write_bytes(b"other")
    assert minisign(tmp_path, "-V", "-p", "key.pub", "-m", "file").returncode != 0


def test_we_verify_what_minisign_signs(tmp_path: Path) -> None:
    assert minisign(tmp_path, "-G", "-W", "-p", "key.pub", "-s", "key").returncode == 0
    (tmp_path / "file").write_bytes(CONTENT)
    assert minisign(tmp_path, "-S", "-W", "-s", "key", "-m", "file").returncode == 0
    mine = PublicKey.decode((tmp_path / "key.pub").read_text().splitlines()[1])
    signature = Signature.decode((tmp_path / "file.minisig").read_bytes())
    assert "file:file" in signature.trusted_comment
    verify(mine, signature, prehash(CONTENT))


# --- what does not match ---------------------------------------------------------------------------------


def other_bit(raw: bytes, at: int) -> bytes:
    changed = bytearray(raw)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


@given(st.binary(max_size=200), st.text(st.characters(categories=["L", "N", "P"]), max_size=50))
def test_a_signature_holds_for_what_was_signed(content: bytes, comment: str) -> None:
    signature = Signature.decode(VENDOR.sign(content, comment).encode())
    assert signature.trusted_comment == comment
    verify(VENDOR.public, signature, prehash(content))
    with pytest.raises(BadSignature, match="does not match"):
        verify(VENDOR.public, signature, prehash(content + b"\0"))


@given(st.integers(0, 8 * 64 - 1))
def test_inv8_no_bit_of_a_signature_may_be_another(at: int) -> None:
    signature = Signature.decode(SIGNED)
    with pytest.raises(BadSignature, match="does not match"):
        verify(public(), replace(signature, signature=other_bit(signature.signature, at)), prehash(CONTENT))
    changed = replace(signature, comment_signature=other_bit(signature.comment_signature, at))
    with pytest.raises(BadSignature, match="trusted comment was changed"):
        verify(public(), changed, prehash(CONTENT))


def test_inv8_a_trusted_comment_belongs_to_its_signature() -> None:
    one, other = VENDOR.sign(CONTENT, "version 1"), VENDOR.sign(b"else", "version 2")
    with pytest.raises(BadSignature, match="trusted comment was changed"):
        verify(VENDOR.public, replace(one, trusted_comment="version 2"), prehash(CONTENT))
    moved = replace(one, trusted_comment=other.trusted_comment, comment_signature=other.comment_signature)
    with pytest.raises(BadSignature, match="trusted comment was changed"):
        verify(VENDOR.public, moved, prehash(CONTENT))


def test_inv8_the_key_has_to_be_the_one() -> None:
    signature = key(2).sign(CONTENT, "")
    with pytest.raises(BadSignature, match="not with"):
        verify(VENDOR.public, signature, prehash(CONTENT))
    # The id is no secret: whoever writes it into a signature has not signed.
    with pytest.raises(BadSignature, match="does not match"):
        verify(VENDOR.public, replace(signature, key_id=VENDOR.public.key_id), prehash(CONTENT))


# --- what is no signature --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "exactly 4 lines"),
        (SIGNED[:-1], "exactly 4 lines"),
        (SIGNED + b"\n", "exactly 4 lines"),
        (b"".join(LINES[:3]), "exactly 4 lines"),
        (SIGNED.replace(b"\n", b"\r\n"), "cannot be printed|base64"),
        (b"\xff" + SIGNED, "not UTF-8"),
        (b"\xef\xbb\xbf" + SIGNED, 'does not begin with "untrusted comment:"'),
        (SIGNED.replace(b"trusted", b"Trusted"), "does not begin"),
        (SIGNED.replace(b"\ntrusted comment: ", b"\ntrusted comment:"), 'with "trusted comment:"'),
        (LINES[2] + LINES[1] + LINES[0] + LINES[3], "does not begin"),
        (LINES[0] + LINES[3] + LINES[2] + LINES[1], "signature has 64 bytes, not 74"),
        (LINES[0] + LINES[1] + LINES[2] + LINES[1], "comment has 74 bytes, not 64"),
        (SIGNED.replace(b"RUTk", b"RU\nk"), "exactly 4 lines"),
        (SIGNED.replace(b"RUTk", b"RU k"), "signature is not base64"),
        (SIGNED.replace(b"RUTk", b"RU-k"), "signature is not base64"),
        # The last character has bits that decode to nothing: only one way to write them is taken.
        (SIGNED.replace(b"8AA=", b"8AB="), "signature is not base64"),
        (SIGNED.replace(b"RUTk", b"RkTk"), "not minisign's prehashed"),
        (LEGACY, "legacy format"),
        (SIGNED.replace(b"from a", b"from\x1ba"), "cannot be printed"),
        (SIGNED.replace(b"file:g", b"file:\xe2\x80\xae"), "cannot be printed"),
        (SIGNED.replace(b"from a test", b"x" * 1100), "longer than"),
        (SIGNED.replace(b"file:g", b"x" * 8200), "longer than"),
        (b"x" * (LARGEST_SIGNATURE + 1), "larger than"),
    ],
)
def test_inv8_what_is_no_signature_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(BadSignature, match=said):
        Signature.decode(raw)


@given(st.binary(max_size=300))
def test_inv8_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadSignature):
        Signature.decode(noise)


@given(st.integers(0, len(SIGNED)), st.binary(max_size=4), st.integers(0, 4))
def test_inv8_a_spoilt_signature_is_itself_or_refused(at: int, noise: bytes, gone: int) -> None:
    spoilt = SIGNED[:at] + noise + SIGNED[at + gone :]
    try:
        signature = Signature.decode(spoilt)
        verify(public(), signature, prehash(CONTENT))
    except BadSignature:
        return
    assert signature.encode() == spoilt
    unchanged = Signature.decode(SIGNED)
    assert replace(signature, untrusted_comment="") == replace(unchanged, untrusted_comment="")


@given(st.binary(max_size=60))
def test_base64_is_read_in_one_way(raw: bytes) -> None:
    text = PublicKey(raw[:8].ljust(8), raw[:32].ljust(32)).encode()
    assert PublicKey.decode(text).encode() == text
    for other in (text + "=", text + "A", f" {text}", f"{text}\n", text[:-1]):
        with pytest.raises(BadKey):
            PublicKey.decode(other)


def test_inv8_what_is_not_ascii_is_no_base64() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the only error that it has
        from_base64("RW\N{DIGIT ONE}\N{LATIN SMALL LETTER E WITH ACUTE}")
