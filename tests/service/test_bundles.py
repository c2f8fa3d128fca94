"""Bundles in the firmware directory: whole or not at all, and judged as what is dropped loose."""

from __future__ import annotations

import shutil
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.images.bundle import LARGEST_BUNDLE, Packed, pack
from firmwarden.images.cas import ImageStore, hash_of
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.manifest import parse_manifest
from firmwarden.images.strict_zip import write_zip
from firmwarden.model import ClassName
from firmwarden.service.criteria import Criteria
from firmwarden.service.intake import Intake
from firmwarden.service.trust import Trust, TrustedKey
from support.drop import Clock, Drop, manifest_of
from support.mcuboot import mcuboot
from support.opened import opened_below
from support.signing import VENDOR, key, signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmwarden.service.shelf import Shelf

pytestmark = pytest.mark.anyio

PANEL, PUMP, METER = ClassName("panel"), ClassName("pump"), ClassName("meter")
CLASSES: Final = {PANEL: ImageRules(), PUMP: ImageRules(), METER: ImageRules(hardware="rev-b")}
TRUST: Final = Trust(
    keys=(TrustedKey(name="vendor", public=VENDOR.public, classes=frozenset(CLASSES)),),
    unsigned=frozenset({PUMP}),
)
CONTENT: Final = b"firmware" * 500


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    (tmp_path / "firmware").mkdir()
    return Drop(tmp_path / "firmware")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path / "images")
    store.open()
    return store


@pytest.fixture
def intake(drop: Drop, store: ImageStore) -> Intake:
    return Intake(drop.directory, store, Criteria(CLASSES, TRUST), Clock.long_after())


def release(
    device: str = "panel",
    content: bytes = CONTENT,
    *,
    signed: bool = True,
    version: str = "1.0.0",
    **more: object,
) -> Packed:
    text = manifest_of(content, device=device, image=f"{device}.img", version=version, replacing=more)
    return Packed(
        name=f"{device}.toml",
        manifest=parse_manifest(text, f"{device}.toml"),
        content=text,
        signature=signature(text) if signed else None,
        image=content,
    )


def reasons(shelf: Shelf) -> dict[str, str]:
    assert not shelf.problem
    return {refused.manifest: refused.reason for refused in shelf.refused}


async def test_all_releases_of_a_bundle_count(drop: Drop, intake: Intake, store: ImageStore) -> None:
    drop.file("all.fwz", pack([release(), release("pump", b"pumped", signed=False)]))
    shelf = await intake.scan()
    assert [(each.manifest, each.signed_by, each.image) for each in shelf.releases] == [
        ("all.fwz/panel.toml", "vendor", hash_of(CONTENT)),
        ("all.fwz/pump.toml", "", hash_of(b"pumped")),
    ]
    assert store.load(hash_of(CONTENT)) == CONTENT
    assert [path.name for path in drop.directory.iterdir()] == ["all.fwz"], "nothing is unpacked"


async def test_what_did_not_change_is_not_read_again_but_for_an_image_that_is_lost(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    drop.file("all.fwz", pack([release()]))
    before = await intake.scan()
    with opened_below(drop.directory) as opened:
        assert await intake.scan() == before
        store.discard_except(set())
        assert opened == []
        assert await intake.scan() == before
    assert opened == ["all.fwz"]
    assert store.load(hash_of(CONTENT)) == CONTENT


async def test_inv8_one_that_would_be_refused_refuses_the_whole_and_nothing_is_kept(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    drop.file("all.fwz", pack([release(), release("pump", b"pumped"), release("meter", b"metered")]))
    shelf = await intake.scan()
    assert shelf.releases == ()
    assert reasons(shelf) == {
        "all.fwz": 'meter.toml: it does not name hardware "rev-b", which is what "meter" is'
    }
    assert not store.holds(hash_of(CONTENT), len(CONTENT))


async def test_inv8_many_releases_that_become_large_are_not_held_together(drop: Drop, intake: Intake) -> None:
    size = 1 << 20
    intake.criteria = Criteria({PANEL: ImageRules(format=ImageFormat.INTEL_HEX)}, TRUST)
    image = b":0100000011EE\n:020000040010EA\n:0100000011EE\n:00000001FF\n"
    files = {"panel.img": image}
    for number in range(24):
        packed = release(content=image, version=f"{number}.0.0")
        files |= {f"{number}.toml": packed.content, f"{number}.toml.minisig": packed.signature or b""}
    drop.file("all.fwz", write_zip(files))
    tracemalloc.start()
    try:
        taken = (await intake.scan()).releases
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.size for each in taken] == [size + 1] * 24
    assert peak < 12 * size


async def test_inv8_a_bundle_that_is_copied_counts_when_it_is_whole(drop: Drop, intake: Intake) -> None:
    whole = pack([release()])
    for size in range(0, len(whole), 97):
        drop.file("all.fwz", whole[:size])
        assert reasons(await intake.scan())["all.fwz"].startswith("waits for the rest"), size
    drop.file("all.fwz", whole)
    assert (await intake.scan()).releases
    (drop.directory / "all.fwz").unlink()
    assert not (await intake.scan()).releases


async def test_inv8_a_bundle_that_is_no_file_or_huge_is_refused_unread(drop: Drop, intake: Intake) -> None:
    drop.file("huge.fwz", b"")
    with (drop.directory / "huge.fwz").open("r+b") as file:
        file.truncate(LARGEST_BUNDLE + 1)
    (drop.directory / "link.fwz").symlink_to("huge.fwz")
    (drop.directory / "sub.fwz").mkdir()
    assert reasons(await intake.scan()) == {
        "huge.fwz": f"huge.fwz is larger than {LARGEST_BUNDLE} bytes",
        "link.fwz": "link.fwz is a symbolic link, not a regular file",
        "sub.fwz": "sub.fwz is a directory, not a regular file",
    }


async def test_a_release_that_is_there_loose_and_in_a_bundle_counts_once(drop: Drop, intake: Intake) -> None:
    one = release()
    drop.file("panel.img", CONTENT)
    drop.file("panel.toml", one.content)
    drop.file("panel.toml.minisig", one.signature or b"")
    drop.file("all.fwz", pack([one]))
    shelf = await intake.scan()
    assert [each.manifest for each in shelf.releases] == ["all.fwz/panel.toml"]
    assert reasons(shelf) == {
        "panel.toml": "has the same version as all.fwz/panel.toml (1.0.0), and the same image"
    }


async def test_inv8_a_bundle_that_contradicts_itself_is_refused_whole(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    files = {"pump.toml": release("pump", b"pumped", signed=False).content, "pump.img": b"pumped"}
    for name, content in (("a", b"one"), ("b", b"other")):
        text = manifest_of(content, image=f"{name}.img")
        files |= {
            f"{name}.toml": text,
            f"{name}.toml.minisig": signature(text),
            f"{name}.img": content,
        }
    drop.file("all.fwz", write_zip(files))
    shelf = await intake.scan()
    assert shelf.releases == ()
    assert reasons(shelf) == {
        "all.fwz": "a.toml has the same version as all.fwz/b.toml (1.0.0), but another image"
    }
    assert not store.holds(hash_of(b"pumped"), 6)


async def test_beside_others_each_release_of_a_bundle_is_judged_by_itself(drop: Drop, intake: Intake) -> None:
    drop.file("all.fwz", pack([release(), release("pump", b"pumped", signed=False)]))
    _loose(drop, release(content=b"other"))
    shelf = await intake.scan()
    assert [each.manifest for each in shelf.releases] == ["all.fwz/pump.toml"]
    assert reasons(shelf) == {
        "all.fwz/panel.toml": "has the same version as panel.toml (1.0.0), but another image",
        "panel.toml": "has the same version as all.fwz/panel.toml (1.0.0), but another image",
    }


async def test_bundles_that_contradict_each_other_are_told_by_their_names(drop: Drop, intake: Intake) -> None:
    drop.file("a.fwz", pack([release()]))
    drop.file("b.fwz", pack([release(content=b"other")]))
    assert reasons(await intake.scan()) == {
        "a.fwz/panel.toml": "has the same version as b.fwz/panel.toml (1.0.0), but another image",
        "b.fwz/panel.toml": "has the same version as a.fwz/panel.toml (1.0.0), but another image",
    }


# --- what a release is judged by, loose or in a bundle


def _loose(drop: Drop, packed: Packed) -> None:
    drop.file(packed.manifest.image, packed.image)
    drop.file(packed.name, packed.content)
    if packed.signature is not None:
        drop.file(packed.name + ".minisig", packed.signature)


def _bundled(drop: Drop, packed: Packed) -> None:
    files = {packed.manifest.image: packed.image, packed.name: packed.content}
    if packed.signature is not None:
        files[packed.name + ".minisig"] = packed.signature
    drop.file("all.fwz", write_zip(files))


def _signed(packed: Packed, by: int) -> Packed:
    return Packed(
        name=packed.name,
        manifest=packed.manifest,
        content=packed.content,
        signature=signature(packed.content, key(by)),
        image=packed.image,
    )


@pytest.mark.parametrize("lay", [_loose, _bundled])
@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (release(signed=False), 'it is not signed, and "panel" takes signed releases only'),
        (_signed(release(), 2), "its signature is refused: the key"),
        (_signed(release("pump"), 2), "its signature is refused: the key"),
        (
            release("pump", signed=False, downgrade="true"),
            "downgrade = true, which counts in a signed manifest only",
        ),
        (
            release(hardware='"rev-b"'),
            'it is for hardware "rev-b", and the configuration does not say which one',
        ),
        (release("meter"), 'it does not name hardware "rev-b", which is what "meter" is'),
        (
            release("meter", hardware='["rev-a", "rev-c"]'),
            'it is for hardware "rev-a" or "rev-c", not for hardware "rev-b", which is what "meter" is',
        ),
        (release(sha256=f'"{"0" * 64}"'), f"panel.img has the sha256 {hash_of(CONTENT)}"),
        (release(content=mcuboot()), "the MCUboot header of panel.img says version 1.2.3+4"),
        (release("mixer"), '"mixer" is no device class of the configuration'),
    ],
)
async def test_inv8_a_bad_release_is_refused_either_way(
    drop: Drop, intake: Intake, packed: Packed, reason: str, lay: Callable[[Drop, Packed], None]
) -> None:
    lay(drop, packed)
    shelf = await intake.scan()
    assert shelf.releases == ()
    (told,) = reasons(shelf).values()
    assert reason in told


@pytest.mark.parametrize("lay", [_loose, _bundled])
async def test_a_release_for_the_hardware_of_its_class_is_taken(
    drop: Drop, intake: Intake, lay: Callable[[Drop, Packed], None]
) -> None:
    lay(drop, release("meter", hardware='["rev-a", "rev-b"]', downgrade="true"))
    (taken,) = (await intake.scan()).releases
    assert (taken.signed_by, taken.downgrade) == ("vendor", True)


async def test_inv8_a_key_that_is_revoked_takes_back_what_it_signed(drop: Drop, intake: Intake) -> None:
    _loose(drop, release())
    drop.file("all.fwz", pack([release(version="2.0.0")]))
    assert len((await intake.scan()).releases) == 2
    revoked = TrustedKey(name="vendor", public=VENDOR.public, classes=frozenset(CLASSES), revoked=True)
    intake.criteria = Criteria(CLASSES, Trust(keys=(revoked,)))
    shelf = await intake.scan()
    assert shelf.releases == ()
    assert all("revoked" in reason for reason in reasons(shelf).values())


async def test_inv8_a_signature_that_comes_late_is_waited_for(drop: Drop, intake: Intake) -> None:
    packed = release()
    drop.file("panel.img", CONTENT)
    drop.file("panel.toml", packed.content)
    assert "it is not signed" in reasons(await intake.scan())["panel.toml"]
    drop.file("panel.toml.minisig", (packed.signature or b"")[:40])
    assert "its signature" in reasons(await intake.scan())["panel.toml"]
    drop.file("panel.toml.minisig", packed.signature or b"")
    assert (await intake.scan()).releases
    (drop.directory / "panel.toml.minisig").unlink()
    assert not (await intake.scan()).releases


async def test_inv1_what_is_sent_of_a_bundle_is_what_was_checked(
    drop: Drop, intake: Intake, store: ImageStore
) -> None:
    drop.file("all.fwz", pack([release()]))
    (taken,) = (await intake.scan()).releases
    drop.file("all.fwz", pack([release(content=b"evil")]))
    assert store.load(taken.image) == CONTENT
    shutil.rmtree(drop.directory)
    assert store.load(taken.image) == CONTENT
