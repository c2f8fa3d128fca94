"""A release that is sent: put there whole and for good, or refused whole with nothing left of it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread, wait_all_tasks_blocked

from firmwarden.errors import BadManifest, FirmwardenError, NoRoom, Refused, StoreError, Unavailable
from firmwarden.images.bundle import Packed, pack
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.manifest import parse_manifest
from firmwarden.images.strict_zip import write_zip
from firmwarden.model import ClassName
from firmwarden.service.criteria import Criteria
from firmwarden.service.incoming import Incoming
from firmwarden.service.intake import Intake
from firmwarden.service.trust import Trust, TrustedKey
from firmwarden.service.wishes import Wishes
from support.drop import Clock, Drop, manifest_of
from support.house import living
from support.scripted import Unit
from support.signing import VENDOR, key, signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.model import Release

pytestmark = pytest.mark.anyio

CONTENT: Final = b"firmware" * 500
MANIFEST: Final = manifest_of(CONTENT)


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    directory = tmp_path / "firmware"
    directory.mkdir()
    return Drop(directory)


@pytest.fixture
def intake(drop: Drop, tmp_path: Path) -> Intake:
    store = ImageStore(tmp_path / "images")
    store.open()
    classes = {
        ClassName("panel"): ImageRules(),
        ClassName("pump"): ImageRules(format=ImageFormat.INTEL_HEX),
    }
    return Intake(
        drop.directory, store, Criteria(classes, Trust(unsigned=frozenset(classes))), Clock.long_after()
    )


class Counter:
    """Somebody who keeps what arrives."""

    def __init__(self, drop: Drop, intake: Intake) -> None:
        self.arrived = 0
        self.recorded: list[Release] = []
        self.incoming = Incoming(drop.directory, intake, self._arrived)

    def _arrived(self) -> None:
        self.arrived += 1

    async def put(self, manifest: bytes = MANIFEST, image: bytes = CONTENT, name: str = "panel.toml") -> None:
        async def record(releases: tuple[Release, ...]) -> None:
            self.recorded += releases

        await self.incoming.put(manifest, image, None, name, record)


@pytest.fixture
def counter(drop: Drop, intake: Intake) -> Counter:
    return Counter(drop, intake)


def content_of(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir()}


async def test_a_release_is_where_and_what_the_intake_takes(
    drop: Drop, intake: Intake, counter: Counter
) -> None:
    await counter.put()
    assert content_of(drop.directory) == {"panel.img": CONTENT, "panel.toml": MANIFEST}
    shelf = await intake.scan()
    assert list(shelf.releases) == counter.recorded
    assert counter.arrived == 1


@pytest.mark.parametrize(
    ("name", "version", "becomes"),
    [
        ("Panel 2.toml", "1.0.0", "Panel 2.toml"),
        ("", "1.0.0+build.7", "panel-1.0.0+build.7.toml"),
        ("", "night/../ly", "panel-night-..-ly.toml"),
    ],
)
async def test_the_manifest_is_called_as_where_it_comes_from_or_after_its_release(
    drop: Drop, counter: Counter, name: str, version: str, becomes: str
) -> None:
    await counter.put(manifest_of(CONTENT, version=version, replacing={"sequence": 1}), name=name)
    assert {each.name for each in drop.directory.iterdir()} == {"panel.img", becomes}


@pytest.mark.parametrize(
    ("manifest", "image", "name", "says"),
    [
        (b"[release", CONTENT, "panel.toml", "panel.toml:1"),
        (b"\xff", CONTENT, "panel.toml", "panel.toml"),
        (manifest_of(CONTENT, replacing={"colour": '"red"'}), CONTENT, "panel.toml", "colour"),
        (manifest_of(CONTENT, device="painel"), CONTENT, "panel.toml", 'did you mean "panel"'),
        (MANIFEST, CONTENT[:-1], "panel.toml", "panel.img has 3999 bytes, the manifest says 4000"),
        (MANIFEST, b"x" * len(CONTENT), "panel.toml", "has the sha256"),
        (manifest_of(CONTENT, device="pump"), CONTENT, "panel.toml", 'no "intel-hex" image'),
        (manifest_of(CONTENT, image="../panel.img"), CONTENT, "panel.toml", "directory of the manifest"),
        (manifest_of(CONTENT, image=".panel.img"), CONTENT, "panel.toml", "hidden"),
        (MANIFEST, CONTENT, "../panel.toml", "plain name"),
        (MANIFEST, CONTENT, "a\\panel.toml", "plain name"),
        (MANIFEST, CONTENT, ".toml", "plain name"),
        (MANIFEST, CONTENT, "a\n.toml", "plain name"),
        (MANIFEST, CONTENT, "a" * 243 + ".toml", "longer than 247"),
        (MANIFEST, CONTENT, "panel.txt", "ends with .toml"),
    ],
)
async def test_inv8_a_bad_release_is_refused_whole_with_the_reason(
    drop: Drop, counter: Counter, manifest: bytes, image: bytes, name: str, says: str
) -> None:
    with pytest.raises(BadManifest) as caught:
        await counter.put(manifest, image, name)
    assert says in str(caught.value)
    assert content_of(drop.directory) == {}
    assert (counter.recorded, counter.arrived) == ([], 0)


@pytest.mark.parametrize("name", ["panel.img", "panel.toml"])
async def test_what_is_there_is_not_written_over(drop: Drop, counter: Counter, name: str) -> None:
    for other in (b"something else", CONTENT + b"and more"):
        drop.file(name, other)
        with pytest.raises(Refused, match=f"{name} is in the firmware directory already, with other content"):
            await counter.put()
        assert content_of(drop.directory) == {name: other}


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("links", [True, False])
async def test_nor_is_what_gets_there_meanwhile(
    drop: Drop, counter: Counter, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        refuse_links(monkeypatch, errno.EPERM)

    async def interfere(_: tuple[Release, ...]) -> None:
        drop.file("panel.toml", b"mine")

    with pytest.raises(Refused, match=r"panel\.toml is in the firmware directory already"):
        await counter.incoming.put(MANIFEST, CONTENT, None, "panel.toml", interfere)
    assert content_of(drop.directory) == {"panel.toml": b"mine"}


async def test_the_same_once_more_changes_nothing(drop: Drop, counter: Counter) -> None:
    await counter.put()
    before = {each.name: each.stat() for each in drop.directory.iterdir()}
    await counter.put()
    assert {each.name: each.stat() for each in drop.directory.iterdir()} == before


async def test_what_a_copy_left_without_its_image_is_completed(drop: Drop, counter: Counter) -> None:
    drop.file("panel.toml", MANIFEST)
    await counter.put()
    assert set(content_of(drop.directory)) == {"panel.img", "panel.toml"}


@pytest.mark.parametrize(
    ("replacing", "says"),
    [
        ({}, r"new\.toml has the same version as old\.toml \(1\.0\.0\), but another image"),
        (
            {"sequence": 2, "version": '"2"'},
            r"new\.toml there, old\.toml would be refused: it has no sequence",
        ),
    ],
)
async def test_a_release_that_would_keep_another_from_counting_is_refused(
    drop: Drop, counter: Counter, replacing: dict[str, object], says: str
) -> None:
    drop.release("old", CONTENT)
    before = content_of(drop.directory)
    image = CONTENT[::-1]
    manifest = manifest_of(image, image="new.img", replacing=replacing)
    with pytest.raises(Refused, match=says):
        await counter.put(manifest, image, "new.toml")
    assert content_of(drop.directory) == before


async def test_inv5_nothing_happens_that_is_not_recorded(drop: Drop, counter: Counter) -> None:
    async def fail(_: tuple[Release, ...]) -> None:
        raise StoreError("database or disk is full")

    with pytest.raises(StoreError):
        await counter.incoming.put(MANIFEST, CONTENT, None, "panel.toml", fail)
    assert content_of(drop.directory) == {}
    assert counter.arrived == 0


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, NoRoom), (errno.EROFS, Unavailable)])
async def test_a_disk_that_fails_at_any_step_leaves_nothing(
    drop: Drop,
    counter: Counter,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[FirmwardenError],
) -> None:
    real: Callable[[int], None] = os.fsync
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for step in (1, 2, 3, 4):
        fails_at, calls = step, 0
        with pytest.raises(kind, match=os.strerror(code)):
            await counter.put()
        assert content_of(drop.directory) == {}
    fails_at = calls = 0
    await counter.put()
    assert calls == 4
    assert set(content_of(drop.directory)) == {"panel.img", "panel.toml"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_the_stop_of_the_server_breaks_off_leaves_nothing(
    drop: Drop, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cancels as asyncio does: while a slow disk still works."""
    real: Callable[[int], None] = os.fsync
    first, second, end = threading.Event(), threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        (second if first.is_set() else first).set()
        end.wait()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    upload = asyncio.ensure_future(counter.put())
    await to_thread.run_sync(first.wait)
    upload.cancel()
    await wait_all_tasks_blocked()
    end.set()
    await to_thread.run_sync(second.wait)
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert content_of(drop.directory) == {}
    assert counter.recorded == []


async def test_a_directory_that_cannot_be_written_is_told(drop: Drop, counter: Counter) -> None:
    drop.directory.rmdir()
    with pytest.raises(Unavailable, match="firmware cannot be written: No such file"):
        await counter.put()


async def test_a_file_system_without_links_will_do(
    drop: Drop, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.EPERM)
    await counter.put()
    assert content_of(drop.directory) == {"panel.img": CONTENT, "panel.toml": MANIFEST}


async def test_a_name_that_cannot_be_given_leaves_nothing(
    drop: Drop, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(Unavailable, match=os.strerror(errno.EIO)):
        await counter.put()
    assert content_of(drop.directory) == {}


async def test_what_a_power_cut_left_is_written_over(drop: Drop, intake: Intake, counter: Counter) -> None:
    drop.file(".upload-0", b"half")
    drop.file(".upload-1", b"half")
    shelf = await intake.scan()
    assert (shelf.releases, shelf.refused) == ((), ())
    await counter.put()
    assert set(content_of(drop.directory)) == {"panel.img", "panel.toml"}


async def test_an_upload_is_a_wish_that_is_recorded(drop: Drop, counter: Counter) -> None:
    async with living({"panel-1": Unit()}, inline=False) as house:
        wishes = Wishes(store=house.store, warden=house.warden, incoming=counter.incoming)
        view = await wishes.upload(MANIFEST, CONTENT, None, name="panel.toml", who="ann")
        assert (view["manifest"], view["state"], view["latched"]) == ("panel.toml", "accepted", False)
        (action,) = (await house.desk.history(None, 10))["actions"]
    assert (action["who"], action["what"], action["target"]) == ("ann", "upload", "panel.toml")
    assert action["detail"] == f"panel 1.0.0, image {hash_of(CONTENT)[:12]}"
    assert set(content_of(drop.directory)) == {"panel.img", "panel.toml"}


async def test_an_upload_that_comes_too_late_says_for_how_many(counter: Counter) -> None:
    async with living({"panel-1": Unit()}, inline=False) as house:
        device = (await house.device("panel-1")).id
        await house.store.run(lambda ledger: ledger.raise_floor(device, 5))
        wishes = Wishes(store=house.store, warden=house.warden, incoming=counter.incoming)
        view = await wishes.upload(MANIFEST, CONTENT, None, name="panel.toml", who="ann")
    assert view["reason"] == "1 device does not get it: it was confirmed with something newer"


# --- signatures and bundles


SIGNATURE: Final = signature(MANIFEST)
PACKED: Final = Packed(
    name="panel.toml",
    manifest=parse_manifest(MANIFEST, "panel.toml"),
    content=MANIFEST,
    signature=SIGNATURE,
    image=CONTENT,
)
BUNDLE: Final = pack([PACKED])


def demanding(drop: Drop, tmp_path: Path) -> Incoming:
    """Make one whose panels take signed releases only."""
    store = ImageStore(tmp_path / "images")
    store.open()
    trust = Trust(keys=(TrustedKey(name="vendor", public=VENDOR.public, classes=None),))
    criteria = Criteria({ClassName("panel"): ImageRules()}, trust)
    intake = Intake(drop.directory, store, criteria, Clock.long_after())
    return Incoming(drop.directory, intake, lambda: None)


async def nothing(_: tuple[Release, ...]) -> None:
    """Record nothing."""


async def test_inv8_a_release_is_sent_with_its_signature(drop: Drop, tmp_path: Path) -> None:
    incoming = demanding(drop, tmp_path)
    for bad, says in ((None, "it is not signed"), (signature(b"other"), "does not match")):
        with pytest.raises(BadManifest, match=says):
            await incoming.put(MANIFEST, CONTENT, bad, "panel.toml", nothing)
        assert content_of(drop.directory) == {}
    (taken,) = await incoming.put(MANIFEST, CONTENT, SIGNATURE, "new.toml", nothing)
    assert (taken.manifest, taken.signed_by) == ("new.toml", "vendor")
    assert content_of(drop.directory) == {
        "panel.img": CONTENT,
        "new.toml": MANIFEST,
        "new.toml.minisig": SIGNATURE,
    }


async def test_a_bundle_is_where_and_what_the_intake_takes(drop: Drop, tmp_path: Path) -> None:
    incoming = demanding(drop, tmp_path)
    for name, becomes in (("spring.fwz", "spring.fwz"), ("", "panel-1.0.0.fwz")):
        (taken,) = await incoming.put_bundle(BUNDLE, name, nothing)
        assert (taken.manifest, taken.signed_by) == (f"{becomes}/panel.toml", "vendor")
        assert content_of(drop.directory) == {becomes: BUNDLE}
        (drop.directory / becomes).unlink()


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (BUNDLE[:-1], "a.fwz", "waits for the rest"),
        (b"hello", "a.fwz", "it is no zip archive"),
        (write_zip({"../panel.toml": MANIFEST}), "a.fwz", "is a path"),
        (BUNDLE, "a.zip", "the name of a bundle ends with .fwz"),
        (BUNDLE, "../a.fwz", "plain name"),
        (pack([replace(PACKED, signature=None)]), "a.fwz", "panel.toml: it is not signed"),
        (
            pack([replace(PACKED, signature=signature(MANIFEST, key(2)))]),
            "a.fwz",
            "panel.toml: its signature",
        ),
    ],
)
async def test_inv8_a_bad_bundle_is_refused_whole_with_the_reason(
    drop: Drop, tmp_path: Path, content: bytes, name: str, says: str
) -> None:
    with pytest.raises(BadManifest) as caught:
        await demanding(drop, tmp_path).put_bundle(content, name, nothing)
    assert says in str(caught.value)
    assert content_of(drop.directory) == {}


async def test_a_bundle_that_contradicts_what_is_there_is_refused(drop: Drop, tmp_path: Path) -> None:
    incoming = demanding(drop, tmp_path)
    await incoming.put_bundle(BUNDLE, "a.fwz", nothing)
    other = manifest_of(b"other")
    packed = replace(
        PACKED, manifest=parse_manifest(other, "b"), content=other, signature=signature(other), image=b"other"
    )
    with pytest.raises(Refused, match=r"b\.fwz/panel\.toml has the same version as a\.fwz/panel\.toml"):
        await incoming.put_bundle(pack([packed]), "b.fwz", nothing)
    with pytest.raises(Refused, match=r"a\.fwz is in the firmware directory already"):
        await incoming.put_bundle(
            pack([replace(PACKED, signature=signature(MANIFEST, comment="anew"))]), "a.fwz", nothing
        )
    assert content_of(drop.directory) == {"a.fwz": BUNDLE}


async def test_each_release_of_a_bundle_that_is_sent_is_recorded(drop: Drop, tmp_path: Path) -> None:
    second = manifest_of(b"other", version="2.0.0", image="other.img")
    packed = Packed(
        name="second.toml",
        manifest=parse_manifest(second, "second.toml"),
        content=second,
        signature=signature(second),
        image=b"other",
    )
    async with living({"panel-1": Unit()}, inline=False) as house:
        wishes = Wishes(store=house.store, warden=house.warden, incoming=demanding(drop, tmp_path))
        views = await wishes.upload_bundle(pack([PACKED, packed]), name="a.fwz", who="ann")
        actions = (await house.desk.history(None, 10))["actions"]
    assert [(view["manifest"], view["state"]) for view in views] == [
        ("a.fwz/panel.toml", "accepted"),
        ("a.fwz/second.toml", "accepted"),
    ]
    assert {(each["who"], each["what"], each["target"], each["detail"]) for each in actions} == {
        (
            "ann",
            "upload",
            "a.fwz/panel.toml",
            f"panel 1.0.0, image {hash_of(CONTENT)[:12]}, signed by vendor",
        ),
        (
            "ann",
            "upload",
            "a.fwz/second.toml",
            f"panel 2.0.0, image {hash_of(b'other')[:12]}, signed by vendor",
        ),
    }
