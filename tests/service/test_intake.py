"""The firmware directory: what counts, what is refused and why, and what a look costs."""

import os
import shutil
import socket
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmwarden.errors import Refused
from firmwarden.images.bundle import Packed, pack
from firmwarden.images.cas import LARGEST_IMAGE, ImageStore, hash_of
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.manifest import LARGEST_MANIFEST, parse_manifest
from firmwarden.model import ClassName, ImageHash, Release
from firmwarden.service.criteria import Criteria
from firmwarden.service.intake import MOST_FILES, Intake
from firmwarden.service.shelf import Shelf
from firmwarden.service.trust import Trust, TrustedKey
from support.drop import Clock, Drop, manifest_of
from support.opened import opened_below
from support.signing import VENDOR, key, signature

pytestmark = pytest.mark.anyio

PANEL, PUMP = ClassName("panel"), ClassName("pump")
UNSIGNED: Final = Trust(unsigned=frozenset({PANEL, PUMP}))
PLANT: Final = TrustedKey(name="plant", public=VENDOR.public, classes=None)
CONTENT: Final = b"firmware" * 500


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    directory = tmp_path / "firmware"
    directory.mkdir()
    return Drop(directory)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path / "images")
    store.open()
    return store


@pytest.fixture
def clock() -> Clock:
    return Clock.long_after()


@pytest.fixture
def intake(drop: Drop, store: ImageStore, clock: Clock) -> Intake:
    classes = {PANEL: ImageRules(), PUMP: ImageRules(format=ImageFormat.INTEL_HEX)}
    return Intake(drop.directory, store, Criteria(classes, UNSIGNED), clock)


def reasons(shelf: Shelf) -> dict[str, str]:
    assert not shelf.problem
    return {refused.manifest: refused.reason for refused in shelf.refused}


# --- what counts -----------------------------------------------------------------------------------------


async def test_an_empty_directory(intake: Intake) -> None:
    assert await intake.scan() == Shelf()


async def test_a_release(drop: Drop, intake: Intake, store: ImageStore) -> None:
    drop.release("panel-1", CONTENT)

    shelf = await intake.scan()

    assert shelf == Shelf(
        releases=(
            Release(
                device_class=PANEL,
                version="1.0.0",
                sequence=None,
                image=hash_of(CONTENT),
                size=len(CONTENT),
                manifest="panel-1.toml",
            ),
        )
    )
    assert store.load(hash_of(CONTENT)) == CONTENT


async def test_files_are_left_where_they_lie(drop: Drop, intake: Intake) -> None:
    drop.release("good", CONTENT)
    drop.manifest("bad", b"other", replacing={"size": 3})
    drop.file("bad.img", b"another")
    before = {path.name: (path.read_bytes(), path.stat()) for path in drop.directory.iterdir()}

    await intake.scan()

    after = {path.name: (path.read_bytes(), path.stat()) for path in drop.directory.iterdir()}
    assert {name: content for name, (content, _) in before.items()} == {n: c for n, (c, _) in after.items()}
    for name, (_, status) in before.items():
        assert (status.st_ino, status.st_mtime_ns, status.st_ctime_ns) == (
            after[name][1].st_ino,
            after[name][1].st_mtime_ns,
            after[name][1].st_ctime_ns,
        )


async def test_what_no_manifest_names_is_ignored(drop: Drop, intake: Intake) -> None:
    drop.file("stray.img", b"x")
    drop.file(".hidden.toml", b"not TOML")
    drop.file("notes.toml.part", b"not TOML")
    (drop.directory / "sub").mkdir()
    Drop(drop.directory / "sub").release("inside", CONTENT)

    assert await intake.scan() == Shelf()


async def test_several_manifests_may_name_one_image(drop: Drop, intake: Intake) -> None:
    drop.file("both.img", CONTENT)
    drop.manifest("a", CONTENT, image="both.img", version="1.0.0")
    drop.manifest("b", CONTENT, image="both.img", version="2.0.0")

    assert [release.version for release in (await intake.scan()).releases] == ["1.0.0", "2.0.0"]


async def test_intel_hex_is_converted_where_the_class_asks(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    text = b":0100000011EE\n:0100020022DB\n:00000001FF\n"
    drop.release("pump", text, device="pump")
    drop.release("panel", text, device="panel")

    panel, pump = (await intake.scan()).releases

    assert (panel.image, panel.size) == (hash_of(text), len(text))
    assert (pump.image, pump.size) == (hash_of(b"\x11\xff\x22"), 3)
    assert store.load(pump.image) == b"\x11\xff\x22"


async def test_rules_that_change_are_applied_to_what_lies_there(drop: Drop, intake: Intake) -> None:
    text = b":0100000011EE\n:00000001FF\n"
    drop.release("panel", text)
    assert (await intake.scan()).releases[0].size == len(text)

    intake.criteria = Criteria({PANEL: ImageRules(format=ImageFormat.INTEL_HEX)}, UNSIGNED)
    assert (await intake.scan()).releases[0].size == 1
    intake.criteria = Criteria({}, UNSIGNED)
    assert reasons(await intake.scan()) == {"panel.toml": '"panel" is no device class of the configuration'}
    intake.criteria = Criteria({PANEL: ImageRules()}, UNSIGNED)
    assert (await intake.scan()).releases[0].size == len(text)


async def test_a_manifest_that_goes_withdraws_the_release(drop: Drop, intake: Intake) -> None:
    drop.release("panel", CONTENT)
    assert (await intake.scan()).releases
    (drop.directory / "panel.toml").unlink()
    assert await intake.scan() == Shelf()


# --- what arrives bit by bit -----------------------------------------------------------------------------


async def test_inv8_a_release_that_is_copied_in_any_order_counts_once_it_is_whole(
    drop: Drop, intake: Intake
) -> None:
    manifest = drop.manifest("panel", CONTENT)
    assert reasons(await intake.scan()) == {"panel.toml": "waits for panel.img, which is not there"}

    half = manifest.read_text()
    drop.file("panel.toml", half[:30].encode())
    assert reasons(await intake.scan())["panel.toml"].startswith("panel.toml:3:4: expected TOML")
    drop.file("panel.toml", half.encode())

    for size in (0, 1, len(CONTENT) - 1):
        drop.file("panel.img", CONTENT[:size])
        assert reasons(await intake.scan()) == {
            "panel.toml": f"waits for the rest of panel.img: the manifest says {len(CONTENT)} bytes"
        }
    drop.file("panel.img", CONTENT)
    assert [release.image for release in (await intake.scan()).releases] == [hash_of(CONTENT)]


async def test_inv8_space_reserved_for_a_copy_is_not_taken_for_it(
    drop: Drop, intake: Intake, clock: Clock
) -> None:
    """Some programs set the size first and write later, even within one tick of the file's clock."""
    clock.now = time.time()
    drop.manifest("panel", CONTENT)
    image = drop.file("panel.img", bytes(len(CONTENT)))
    stamp = image.stat()
    assert "has the sha256" in reasons(await intake.scan())["panel.toml"]

    image.write_bytes(CONTENT)
    os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    assert (await intake.scan()).releases


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"size": 3}, "panel.img has 4000 bytes, the manifest says 3"),
        (
            {"sha256": f'"{"0" * 64}"'},
            f"panel.img has the sha256 {hash_of(CONTENT)}, the manifest says {'0' * 64}",
        ),
        ({"device": '"pumpe"'}, '"pumpe" is no device class of the configuration; did you mean "pump"?'),
        ({"device": '"pump"'}, 'panel.img is no "intel-hex" image: line 1: a record starts with a colon'),
        (
            {"version": '"one"'},
            'panel.toml:3: release.version: expected SemVer, or a sequence beside it, got "one"',
        ),
        ({"colour": 1}, "panel.toml:7: release.colour: unknown key; known here: device, device_id, "),
        (
            {"size": LARGEST_IMAGE + 1},
            "panel.toml:6: release.size: expected a whole number from 1 to 67108864",
        ),
        ({"image": '"../panel.img"'}, "panel.toml:4: release.image: expected the plain name of a file"),
        ({"image": '"panel.toml"'}, "panel.toml:4: release.image: expected the plain name of a file"),
    ],
)
async def test_inv8_a_bad_release_is_refused_with_the_reason(
    drop: Drop, intake: Intake, more: dict[str, object], reason: str
) -> None:
    drop.file("panel.img", CONTENT)
    drop.manifest("panel", CONTENT, replacing=more)
    drop.release("good", b"good", version="9.0.0")

    shelf = await intake.scan()

    assert [release.manifest for release in shelf.releases] == ["good.toml"]
    assert reasons(shelf)["panel.toml"].startswith(reason)


def replace_by_link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def replace_by_link_within(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 42)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (replace_by_link, "is a symbolic link, not a regular file"),
        (replace_by_link_within, "is a symbolic link, not a regular file"),
        (replace_by_directory, "is a directory, not a regular file"),
        (replace_by_pipe, "is a pipe, not a regular file"),
        (replace_by_socket, "is a socket, not a regular file"),
    ],
)
@pytest.mark.parametrize("name", ["panel.toml", "panel.img"])
async def test_inv8_only_regular_files_are_read(
    drop: Drop, intake: Intake, name: str, spoil: Callable[[Path], None], what: str
) -> None:
    drop.release("panel", CONTENT)
    spoil(drop.directory / name)

    with opened_below(drop.directory) as opened:
        shelf = await intake.scan()

    assert reasons(shelf) == {"panel.toml": f"{name} {what}"}
    assert name not in opened


async def test_inv8_a_huge_image_is_refused_unread(drop: Drop, intake: Intake) -> None:
    drop.release("panel", CONTENT)
    make_huge(drop.directory / "panel.img")
    with opened_below(drop.directory) as opened:
        shelf = await intake.scan()
    assert reasons(shelf) == {
        "panel.toml": f"panel.img has {1 << 42} bytes, the manifest says {len(CONTENT)}"
    }
    assert opened == ["panel.toml"]


async def test_inv8_a_huge_manifest_is_refused(drop: Drop, intake: Intake) -> None:
    drop.release("panel", CONTENT)
    make_huge(drop.directory / "panel.toml")
    assert reasons(await intake.scan()) == {"panel.toml": "panel.toml is larger than 65536 bytes"}


async def test_inv8_a_name_that_no_log_can_hold_is_refused(drop: Drop, intake: Intake) -> None:
    for name in (b"a\xff.toml", b"a\x1b[31m.toml", b"a\nb.toml"):
        (Path(os.fsdecode(bytes(drop.directory) + b"/" + name))).write_bytes(b"")
    told = reasons(await intake.scan())
    assert set(told) == {"a\\udcff.toml", "a\\x1b[31m.toml", "a\\nb.toml"}
    assert set(told.values()) == {"its name has characters that cannot be printed"}


async def test_inv8_releases_that_contradict_each_other_are_refused(drop: Drop, intake: Intake) -> None:
    drop.release("a", b"one")
    assert (await intake.scan()).releases
    drop.release("b", b"two")

    assert reasons(await intake.scan()) == {
        "a.toml": "has the same version as b.toml (1.0.0), but another image",
        "b.toml": "has the same version as a.toml (1.0.0), but another image",
    }

    (drop.directory / "a.toml").unlink()
    assert [release.manifest for release in (await intake.scan()).releases] == ["b.toml"]


async def test_a_refusal_knows_its_class_its_rank_and_since_when(
    drop: Drop, intake: Intake, clock: Clock
) -> None:
    drop.manifest("a", b"one", version="1.2.3", replacing={"sequence": 7})
    drop.file("b.toml", b"[")
    began = clock.now
    a, b = (await intake.scan()).refused
    assert (a.device_class, a.version, a.sequence, a.since) == (PANEL, "1.2.3", 7, began)
    assert (b.device_class, b.version, b.sequence, b.since) == (None, None, None, began)

    clock.now += 100
    assert [refused.since for refused in (await intake.scan()).refused] == [began, began]
    drop.file("a.img", b"o")
    assert [refused.since for refused in (await intake.scan()).refused] == [began + 100, began]


# --- a directory that somebody fills ---------------------------------------------------------------------


async def test_inv8_little_is_kept_of_a_manifest_however_large_it_is(drop: Drop, intake: Intake) -> None:
    """Names of one file cost whoever makes them nothing, so what each of them costs here must be small."""
    text = drop.manifest("0", CONTENT).read_bytes()
    drop.file("0.toml", text + b"#" * (LARGEST_MANIFEST - len(text)))
    names = 200
    for number in range(1, names):
        (drop.directory / f"{number}.toml").hardlink_to(drop.directory / "0.toml")
    tracemalloc.start()
    try:
        assert len((await intake.scan()).refused) == names
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < names * LARGEST_MANIFEST / 4


async def test_inv7_inv8_a_directory_with_too_much_in_it_withdraws_nothing(
    drop: Drop, intake: Intake
) -> None:
    drop.release("panel", CONTENT)
    drop.manifest("bad", b"bad", version="2.0.0")
    for number in range(MOST_FILES - 3):
        (drop.directory / str(number)).hardlink_to(drop.directory / "panel.img")
    drop.file(".hidden", b"")
    before = await intake.scan()
    assert [each.manifest for each in before.releases] == ["panel.toml"]
    assert not before.problem

    drop.file("one-more", b"")
    for _ in range(2):
        shelf = await intake.scan()
        assert shelf.problem == (
            f"{drop.directory} has room for 8192 files, those in bundles counted; take away what is not needed"
        )
        assert (shelf.releases, shelf.refused) == (before.releases, before.refused)

    (drop.directory / "one-more").unlink()
    (drop.directory / "bad.toml").unlink()
    assert await intake.scan() == replace(before, refused=())


async def test_inv8_what_is_in_bundles_counts_against_the_room(
    drop: Drop, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmwarden.service.intake.MOST_FILES", 9)
    offered = []
    for version in ("1.0.0", "2.0.0"):
        text = manifest_of(CONTENT, version=version)
        manifest = parse_manifest(text, "")
        offered.append(
            Packed(name=f"{version}.toml", manifest=manifest, content=text, signature=None, image=CONTENT)
        )
    drop.file("some.fwz", pack(offered))
    before = await intake.scan()
    assert not before.problem
    with pytest.raises(Refused, match="has room for 9 files"):
        intake.judge(offered[:1])
    drop.file("more.fwz", pack(offered))
    shelf = await intake.scan()
    assert "has room for 9 files" in shelf.problem
    assert shelf.releases == before.releases


# --- the directory itself --------------------------------------------------------------------------------


def gone(directory: Path) -> None:
    shutil.rmtree(directory)


def a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (gone, "No such file or directory; make it, or set another firmware_dir"),
        (a_file, "Not a directory"),
    ],
)
async def test_inv7_a_directory_that_cannot_be_read_withdraws_nothing(
    drop: Drop, intake: Intake, spoil: Callable[[Path], None], said: str
) -> None:
    drop.release("panel", CONTENT)
    drop.manifest("bad", b"bad", version="2.0.0")
    before = await intake.scan()
    spoil(drop.directory)

    for _ in range(2):
        shelf = await intake.scan()
        assert shelf.problem == f"{drop.directory} cannot be read: {said}"
        assert (shelf.releases, shelf.refused) == (before.releases, before.refused)

    drop.directory.unlink(missing_ok=True)
    drop.directory.mkdir()
    assert await intake.scan() == Shelf()


@pytest.mark.parametrize(
    "trust",
    [
        Trust(keys=(replace(PLANT, revoked=True),)),
        Trust(keys=(replace(PLANT, classes=frozenset({PUMP})),)),
        Trust(keys=(replace(PLANT, public=key(2).public),)),
        Trust(),
    ],
    ids=["revoked", "for another class", "another key by its name", "gone"],
)
async def test_inv8_a_directory_that_cannot_be_read_keeps_nothing_that_is_not_trusted_any_more(
    drop: Drop, intake: Intake, trust: Trust
) -> None:
    drop.release("signed", CONTENT)
    drop.file("signed.toml.minisig", signature((drop.directory / "signed.toml").read_bytes()))
    drop.release("unsigned", b"other", version="2.0.0")
    classes = intake.criteria.classes
    intake.criteria = Criteria(classes, Trust(keys=(PLANT,), unsigned=frozenset({PANEL})))
    assert len((await intake.scan()).releases) == 2
    shutil.rmtree(drop.directory)

    intake.criteria = Criteria(classes, replace(trust, unsigned=frozenset({PANEL})))
    assert [each.manifest for each in intake.upheld] == ["unsigned.toml"]
    shelf = await intake.scan()
    assert shelf.problem
    assert [each.manifest for each in shelf.releases] == ["unsigned.toml"]

    intake.criteria = Criteria(classes, Trust(keys=(PLANT,)))
    assert [each.manifest for each in (await intake.scan()).releases] == ["signed.toml"]


async def test_inv8_a_look_during_which_a_key_is_revoked_is_taken_again(
    drop: Drop, store: ImageStore, tmp_path: Path
) -> None:
    drop.release("panel", CONTENT)
    drop.file("panel.toml.minisig", signature((drop.directory / "panel.toml").read_bytes()))

    class RevokedMeanwhile(ImageStore):
        def admit(self, content: bytes) -> ImageHash:
            looking.criteria = Criteria({PANEL: ImageRules()}, Trust(keys=(replace(PLANT, revoked=True),)))
            return super().admit(content)

    criteria = Criteria({PANEL: ImageRules()}, Trust(keys=(PLANT,)))
    looking = Intake(drop.directory, RevokedMeanwhile(tmp_path / "images"), criteria, Clock.long_after())
    assert not (await looking.scan()).releases
    assert store.load(hash_of(CONTENT)) == CONTENT


async def test_a_directory_that_is_missing_from_the_start(drop: Drop, intake: Intake) -> None:
    drop.directory.rmdir()
    assert (await intake.scan()).problem
    assert not (await intake.scan()).releases


# --- between check and use -------------------------------------------------------------------------------


async def test_inv1_what_is_sent_is_what_was_checked_whatever_happens_to_the_file(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    drop.release("panel", CONTENT)
    [release] = (await intake.scan()).releases
    drop.file("panel.img", b"evil".ljust(len(CONTENT)))
    assert store.load(release.image) == CONTENT

    assert reasons(await intake.scan())["panel.toml"].startswith("panel.img has the sha256")
    assert store.load(release.image) == CONTENT


async def test_a_file_swapped_for_a_link_between_look_and_read_is_refused(
    drop: Drop, intake: Intake, tmp_path: Path
) -> None:
    """The swap happens at the last moment that there is: when the manifest has been read."""
    drop.release("panel", CONTENT)
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    image = drop.directory / "panel.img"

    def swap(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and arguments[0] == str(image) and not image.is_symlink():
            image.unlink()
            image.symlink_to(outside)

    sys.addaudithook(swap)

    assert "Too many levels of symbolic links" in reasons(await intake.scan())["panel.toml"]


async def test_an_image_that_vanished_from_the_store_is_admitted_again(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    drop.release("panel", CONTENT)
    [release] = (await intake.scan()).releases
    store.discard_except(set[ImageHash]())
    assert (await intake.scan()).releases == (release,)
    assert store.load(release.image) == CONTENT


async def test_a_store_that_cannot_be_written_refuses_until_it_can(
    drop: Drop, intake: Intake, tmp_path: Path
) -> None:
    drop.release("panel", CONTENT)
    images = tmp_path / "images"
    images.rmdir()
    assert reasons(await intake.scan()) == {
        "panel.toml": "panel.img cannot be stored: No such file or directory"
    }
    images.mkdir()
    assert (await intake.scan()).releases


# --- what a look costs -----------------------------------------------------------------------------------


async def test_what_did_not_change_is_not_read_again(drop: Drop, intake: Intake) -> None:
    drop.release("good", CONTENT)
    drop.release("wrong", CONTENT, version="2.0.0")
    drop.file("wrong.img", bytes(len(CONTENT)))
    drop.file("bad.toml", b"[")
    with opened_below(drop.directory) as opened:
        first = await intake.scan()
    assert sorted(opened) == ["bad.toml", "good.img", "good.toml", "wrong.img", "wrong.toml"]

    with opened_below(drop.directory) as opened:
        assert await intake.scan() == first
    assert opened == []

    drop.release("wrong", CONTENT, version="2.0.0")
    with opened_below(drop.directory) as opened:
        assert len((await intake.scan()).releases) == 2
    assert sorted(opened) == ["wrong.img", "wrong.toml"]


async def test_what_changed_a_moment_ago_is_read_again(drop: Drop, intake: Intake, clock: Clock) -> None:
    drop.release("panel", CONTENT)
    clock.now = (drop.directory / "panel.img").stat().st_ctime + 1.0
    for _ in range(2):
        with opened_below(drop.directory) as opened:
            assert (await intake.scan()).releases
        assert sorted(opened) == ["panel.img", "panel.toml"]
    clock.now += 10
    await intake.scan()
    with opened_below(drop.directory) as opened:
        await intake.scan()
    assert opened == []


async def test_a_thousand_releases_cost_a_thousand_looks(drop: Drop, intake: Intake) -> None:
    for index in range(1000):
        drop.release(f"panel-{index}", b"%d" % index, version=f"1.{index}.0")
    assert len((await intake.scan()).releases) == 1000

    started = time.process_time()
    with opened_below(drop.directory) as opened:
        await intake.scan()
    assert opened == []
    assert time.process_time() - started < 0.5  # some 20 ms; generous, because tests share the machine


async def test_no_descriptor_is_left_open(drop: Drop, intake: Intake) -> None:
    drop.release("good", CONTENT)
    drop.release("bad", CONTENT)
    replace_by_pipe(drop.directory / "bad.img")
    await intake.scan()
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        drop.release("good", CONTENT)
        await intake.scan()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


async def test_a_look_can_be_cancelled_and_leaves_the_last_one(drop: Drop, intake: Intake) -> None:
    for index in range(50):
        drop.release(f"panel-{index}", b"%d" % index, version=f"1.{index}.0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.scan)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len((await intake.scan()).releases) == 50


# --- noise -----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.toml", "b.toml", "a.img", "b.img", ".c.toml"])
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda version, image, size, more: (
            f'[release]\ndevice = "panel"\nversion = "{version}"\nimage = "{image}"\n'
            f'sha256 = "{hash_of(b"x" * size)}"\nsize = {size}\n{more}'
        ).encode(),
        st.sampled_from(["1.0.0", "1.0.1", "one"]),
        st.sampled_from(["a.img", "b.img", "a.toml", "../a.img"]),
        st.integers(0, 3),
        st.sampled_from(["", "sequence = 1", "sequence = 2", "x = 1", "["]),
    ),
    st.integers(0, 3).map(lambda size: b"x" * size),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=8))
def test_inv8_whatever_lies_there_is_a_release_or_refused(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]
) -> None:
    directory = tmp_path_factory.mktemp("noise")
    store = ImageStore(directory / "images")
    store.open()
    drop = directory / "drop"
    drop.mkdir()
    intake = Intake(drop, store, Criteria({PANEL: ImageRules()}, UNSIGNED), Clock.long_after())

    async def scenario() -> None:
        for name, content in files:
            (drop / name).write_bytes(content)
            shelf = await intake.scan()
            manifests = sorted(path.name for path in drop.glob("[ab].toml"))
            told = [*(each.manifest for each in shelf.releases), *(each.manifest for each in shelf.refused)]
            assert sorted(told) == manifests
            assert all(refused.reason for refused in shelf.refused)
            for release in shelf.releases:
                assert hash_of(store.load(release.image)) == release.image

    anyio.run(scenario)
