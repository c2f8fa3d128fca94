"""The image store: nothing half, nothing damaged, nothing left over."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from firmwarden.errors import BadImage
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.model import ImageHash

ONE, TWO = b"one" * 1000, b"two" * 1000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "images"


@pytest.fixture
def store(directory: Path) -> ImageStore:
    store = ImageStore(directory)
    store.open()
    return store


def test_an_image_goes_by_its_hash(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    assert image == hash_of(ONE) == hashlib.sha256(ONE).hexdigest()
    assert store.load(image) == ONE
    assert [path.name for path in directory.iterdir()] == [image]
    assert store.holds(image, len(ONE))
    assert not store.holds(image, len(ONE) - 1)
    assert not store.holds(hash_of(TWO), len(TWO))


def test_nobody_else_can_read_the_store(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / image).stat().st_mode & 0o077 == 0


def test_admitting_twice_keeps_one(store: ImageStore, directory: Path) -> None:
    assert store.admit(ONE) == store.admit(ONE)
    assert len(list(directory.iterdir())) == 1


def test_it_is_there_after_a_restart(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    again = ImageStore(directory)
    again.open()
    assert again.load(image) == ONE


def test_inv1_an_image_damaged_on_disk_is_never_handed_out(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    damaged = bytearray(ONE)
    damaged[1500] ^= 1
    (directory / image).write_bytes(damaged)

    with pytest.raises(BadImage, match="was damaged on disk"):
        store.load(image)

    assert not store.holds(image, len(ONE))  # so that it is admitted again
    assert store.admit(ONE) == image
    assert store.load(image) == ONE


def test_a_damaged_image_is_mended_by_admitting_it(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    (directory / image).write_bytes(TWO)
    store.admit(ONE)
    assert store.load(image) == ONE


@pytest.mark.parametrize("what", ["nothing", "a link", "a directory", "a pipe"])
def test_inv8_what_is_no_stored_image_is_refused(store: ImageStore, directory: Path, what: str) -> None:
    path = directory / hash_of(ONE)
    match what:
        case "a link":
            path.with_name("target").write_bytes(ONE)
            path.symlink_to("target")
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
    with pytest.raises(BadImage, match="cannot be read"):
        store.load(hash_of(ONE))


def test_only_what_is_needed_stays(store: ImageStore, directory: Path) -> None:
    one, two = store.admit(ONE), store.admit(TWO)
    unfinished = directory / ".unfinished"
    unfinished.write_bytes(b"")
    assert store.discard_except({one, ImageHash("not there")}) == 1
    assert store.load(one) == ONE
    with pytest.raises(BadImage):
        store.load(two)
    assert unfinished.exists()  # somebody may be writing it
    assert store.discard_except({one}) == 0


def test_what_a_crash_left_is_removed(store: ImageStore, directory: Path) -> None:
    image = store.admit(ONE)
    (directory / ".tmpabc").write_bytes(ONE[:100])
    store.open()
    assert [path.name for path in directory.iterdir()] == [image]


def test_nothing_is_left_of_an_image_that_does_not_fit_on_the_disk(
    store: ImageStore, directory: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.admit(ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(directory.iterdir()) == []
    assert store.load(store.admit(ONE)) == ONE


def test_no_descriptor_is_left_open(store: ImageStore) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    for content in (ONE, TWO, ONE):
        store.load(store.admit(content))
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_inv5_a_kill_in_the_middle_leaves_no_half_image(directory: Path) -> None:
    """A process admits images as fast as it can and is killed; whatever has a name is whole."""
    program = textwrap.dedent("""
        import sys, pathlib
        from firmwarden.images.cas import ImageStore
        store = ImageStore(pathlib.Path(sys.argv[1]))
        store.open()
        for index in range(10**6):
            print(store.admit(index.to_bytes(4, "big") * 20_000), flush=True)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(5)]
        process.kill()
        acknowledged += process.stdout.read().split()

    store = ImageStore(directory)
    store.open()
    names = [path.name for path in directory.iterdir()]
    assert set(names) >= {name for name in acknowledged if len(name) == 64}
    for name in names:
        store.load(ImageHash(name))
