"""What is taken for a token, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.control.token import BadToken, read_token

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
@pytest.mark.parametrize(
    "content",
    [b"0123456789abcdef", b" 0123456789ABCDEF\n", b"aGVsbG8gd29ybGQgYWdhaW4=\r\n", b"-._~+/-._~+/-._~+/"],
)
def test_one_line_that_fits_a_header_is_a_token(file: Path, content: bytes, mode: int) -> None:
    file.write_bytes(content)
    file.chmod(mode)
    assert read_token(file) == content.decode().strip()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b"0123456789abcde\n", b"0123456789abcdef 0123456789abcdef", b"0123456789\nabcdefghijk"),
        *(b"0123456789abc\xc3\xa9def", b"0123456789abcdef\xff", b'"0123456789abcdef"', b"================"),
    ],
)
def test_inv8_what_nobody_could_show_or_anybody_guess_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(BadToken, match=r"must have one line, of at least 16 letters, digits and -\._~\+/"):
        read_token(file)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o666])
def test_inv8_what_others_can_read_or_change_is_refused(file: Path, mode: int) -> None:
    file.write_text("0123456789abcdef")
    file.chmod(mode)
    with pytest.raises(BadToken, match=f"{file} is not for the service alone: `chmod o=,g-w {file}`"):
        read_token(file)


def test_inv8_what_cannot_be_read_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadToken, match="absent cannot be read: No such file"):
        read_token(tmp_path / "absent")
    with pytest.raises(BadToken, match="is a directory"):
        read_token(tmp_path)
    file.write_bytes(b"x" * 5000)
    with pytest.raises(BadToken, match="is larger than 4096 bytes"):
        read_token(file)
