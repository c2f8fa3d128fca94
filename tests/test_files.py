"""Reading files that others made."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from firmwarden.files import Stamp, Unusable, read_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open() -> object:
    before = sorted(Path("/proc/self/fd").iterdir())
    yield
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("size", [0, 1, 5000, 3 << 20])
def test_a_file_comes_whole_with_its_signature(file: Path, size: int) -> None:
    file.write_bytes(b"x" * size)
    assert read_file(file, 3 << 20) == (b"x" * size, Stamp.of(file.stat()))


def test_a_file_that_is_too_large_is_not_read(file: Path) -> None:
    with file.open("wb") as made:
        made.truncate(1 << 42)
    with pytest.raises(Unusable, match="is larger than 100 bytes"):
        read_file(file, 100)


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def link(path: Path) -> None:
    path.with_name("target").write_bytes(b"x")
    path.symlink_to("target")


@pytest.mark.parametrize(
    ("make", "what"),
    [(directory, "a directory"), (pipe, "a pipe"), (listening, "a socket"), (link, "a symbolic link")],
)
def test_what_is_no_file_is_refused_without_waiting(
    file: Path, make: Callable[[Path], None], what: str
) -> None:
    make(file)
    with pytest.raises(Unusable, match=f"is {what}, not a regular file"):
        read_file(file, 100)


def test_a_device_is_refused() -> None:
    with pytest.raises(Unusable, match="is a device, not a regular file"):
        read_file(Path("/dev/zero"), 100)


def test_a_link_is_followed_only_where_asked(file: Path) -> None:
    link(file)
    assert read_file(file, 100, follow=True)[0] == b"x"


def test_what_is_not_there_is_the_systems_error(file: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_file(file, 100)
    assert caught.value.errno == errno.ENOENT


def test_a_file_that_has_more_than_it_said_is_refused() -> None:
    # What grows while it is read looks like this; files of procfs say that they are empty.
    with pytest.raises(Unusable, match="changed while it was read"):
        read_file(Path("/proc/self/status"), 1 << 20)


def test_a_signature_tells_a_rewritten_and_a_replaced_file(file: Path) -> None:
    file.write_bytes(b"one")
    before = Stamp.of(file.stat())
    os.utime(file, ns=(0, 0))
    rewritten = Stamp.of(file.stat())
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(0, 0))
    other.replace(file)
    assert len({before, rewritten, Stamp.of(file.stat())}) == 3
