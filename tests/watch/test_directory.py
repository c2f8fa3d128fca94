"""Directory events of a real kernel: every change is a hint, also through missing and replaced directories."""

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from firmwarden.watch.directory import DirectoryWatch, WatchUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "drop"
    made.mkdir()
    return made


@pytest.fixture
def watch(directory: Path) -> Iterator[DirectoryWatch]:
    with DirectoryWatch(directory, contents=True) as made:
        yield made


async def hears(watch: DirectoryWatch, within_s: float = 5.0) -> bool:
    with anyio.move_on_after(within_s):
        await watch.next_change()
        return True
    return False


async def is_quiet(watch: DirectoryWatch) -> bool:
    return not await hears(watch, 0.05)


async def test_the_first_call_returns_at_once_because_the_past_is_for_a_scan(watch: DirectoryWatch) -> None:
    assert await hears(watch)
    assert await is_quiet(watch)


def write(directory: Path) -> None:
    (directory / "new").write_bytes(b"1")


def rewrite(directory: Path) -> None:
    with (directory / "old").open("r+b") as file:
        file.write(b"2")


def rename_into(directory: Path) -> None:
    outside = directory.parent / "outside"
    outside.write_bytes(b"3")
    outside.rename(directory / "new")


def rename_out(directory: Path) -> None:
    (directory / "old").rename(directory.parent / "outside")


def remove(directory: Path) -> None:
    (directory / "old").unlink()


def link(directory: Path) -> None:
    (directory / "new").hardlink_to(directory / "old")


def symlink(directory: Path) -> None:
    (directory / "new").symlink_to("/dev/null")


def allow(directory: Path) -> None:
    (directory / "old").chmod(0o600)


ON_NAMES = [write, rename_into, rename_out, remove, link, symlink, allow]


@pytest.mark.parametrize("change", [*ON_NAMES, rewrite])
async def test_every_change_is_heard(
    directory: Path, watch: DirectoryWatch, change: Callable[[Path], None]
) -> None:
    (directory / "old").write_bytes(b"0")
    await watch.next_change()

    change(directory)

    assert await hears(watch)
    assert await is_quiet(watch)


@pytest.mark.parametrize("change", ON_NAMES)
async def test_changes_of_names_are_heard_without_contents(
    directory: Path, change: Callable[[Path], None]
) -> None:
    (directory / "old").write_bytes(b"0")
    with DirectoryWatch(directory, contents=False) as watch:
        await watch.next_change()

        change(directory)

        assert await hears(watch)


async def test_writes_are_not_heard_without_contents(directory: Path) -> None:
    (directory / "old").write_bytes(b"0")
    with DirectoryWatch(directory, contents=False) as watch:
        await watch.next_change()

        rewrite(directory)

        assert await is_quiet(watch)


async def test_reading_is_no_change(directory: Path, watch: DirectoryWatch) -> None:
    (directory / "old").write_bytes(b"0")
    await watch.next_change()

    (directory / "old").read_bytes()
    list(directory.iterdir())

    assert await is_quiet(watch)


async def test_a_change_while_nobody_waits_is_kept(directory: Path, watch: DirectoryWatch) -> None:
    await watch.next_change()
    assert await is_quiet(watch)

    write(directory)
    await anyio.lowlevel.checkpoint()

    assert await hears(watch)


async def test_a_burst_is_one_change(directory: Path, watch: DirectoryWatch) -> None:
    await watch.next_change()

    for index in range(500):
        (directory / f"{index}.img").write_bytes(b"x")

    assert await hears(watch)
    assert await is_quiet(watch)


async def test_a_directory_that_is_made_later(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    with DirectoryWatch(deep, contents=True) as watch:
        await watch.next_change()
        assert await is_quiet(watch)

        deep.mkdir(parents=True)
        assert await hears(watch)
        while await hears(watch, 0.05):
            pass  # one hint for each directory on the way, or one for all

        write(deep)
        assert await hears(watch)


async def test_what_happens_beside_the_way_to_a_missing_directory_is_no_change(tmp_path: Path) -> None:
    with DirectoryWatch(tmp_path / "missing", contents=True) as watch:
        await watch.next_change()

        write(tmp_path)

        assert await is_quiet(watch)


@pytest.mark.parametrize("leave", [shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))])
async def test_a_directory_that_goes_and_comes_back(
    directory: Path, watch: DirectoryWatch, leave: Callable[[Path], object]
) -> None:
    await watch.next_change()

    leave(directory)
    assert await hears(watch)
    while await hears(watch, 0.05):
        pass  # that another one is listened to now
    directory.mkdir()
    assert await hears(watch)
    while await hears(watch, 0.05):
        pass

    write(directory)
    assert await hears(watch)


async def test_another_directory_by_the_same_name_is_found_by_asking_again(
    directory: Path, watch: DirectoryWatch
) -> None:
    """The parent is not listened to, so a swap above the directory tells nothing by itself."""
    await watch.next_change()
    new_parent = directory.parent.with_name("new-parent")
    (new_parent / directory.name).mkdir(parents=True)
    directory.parent.rename(directory.parent.with_name("old-parent"))
    new_parent.rename(directory.parent)

    assert await hears(watch)
    while await hears(watch, 0.05):
        pass
    write(directory)
    assert await hears(watch)


async def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    place = tmp_path / "drop"
    place.write_bytes(b"")
    with DirectoryWatch(place, contents=True) as watch:
        await watch.next_change()
        assert await is_quiet(watch)

        place.unlink()
        place.mkdir()

        assert await hears(watch)


async def test_inv7_an_overflow_of_the_queue_is_a_change(directory: Path, watch: DirectoryWatch) -> None:
    await watch.next_change()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (directory / "a").write_bytes(b"")

    for _ in range(limit // 2 + 2):
        (directory / "a").rename(directory / "b")
        (directory / "b").rename(directory / "a")

    assert await hears(watch)
    write(directory)
    assert await hears(watch)


async def test_many_watches_leave_no_descriptors(directory: Path) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(20):
        with DirectoryWatch(directory, contents=True) as watch:
            await watch.next_change()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


async def test_want_of_descriptors_is_said_in_words(directory: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(WatchUnavailable, match=f"{directory} cannot be watched: Too many open files"):
            DirectoryWatch(directory, contents=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
