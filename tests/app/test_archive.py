"""A file that claims to be a backup is refused whole unless it is one, member for member (invariant 8)."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.app.archive import DATABASE, FORMAT, BadBackup, Contents, Member, member_of, pack, unpack
from firmwarden.images.cas import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE = b"an image"
DATA = b"the database " * 200


def whole() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "images").mkdir()
        (place / DATABASE).write_bytes(DATA)
        (place / "images" / hash_of(IMAGE)).write_bytes(IMAGE)
        contents = Contents(
            format=FORMAT,
            firmwarden="1.0",
            schema_version=2,
            made_at="2026-01-01T00:00:00.000Z",
            host="gateway",
            members=(member_of(place, DATABASE), member_of(place, f"images/{hash_of(IMAGE)}")),
        )
        out = io.BytesIO()
        pack(contents, place, out)
        return out.getvalue()


WHOLE = whole()
MANIFEST_END = 512 * (2 + (len(WHOLE[512:].split(b"\0")[0]) - 1) // 512)


def unpacked(raw: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        unpack(io.BytesIO(raw), Path(name))
        return {
            str(each.relative_to(name)): each.read_bytes() for each in Path(name).rglob("*") if each.is_file()
        }


GOOD = {DATABASE: DATA, f"images/{hash_of(IMAGE)}": IMAGE}


def manifest(**change: Any) -> bytes:  # noqa: ANN401  JSON
    said = json.loads(WHOLE[512:].split(b"\0")[0])
    return json.dumps(said | change).encode()


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Make a tar as anybody might."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


PARTS = (("manifest.json", manifest()), *GOOD.items())


def test_what_was_packed_is_unpacked() -> None:
    assert unpacked(WHOLE) == GOOD


def test_tar_packs_it_too() -> None:
    # Whoever looked at a backup with tar, and packed it again in its order, has a backup.
    assert unpacked(tar_of(*PARTS)) == GOOD


MEMBERS = json.loads(manifest())["members"]
BOMB = [MEMBERS[0] | {"size": 1 << 40}, MEMBERS[1]]
HOSTILE = {
    "empty": (b"", "cut off, or empty"),
    "no tar": (b"x" * 4096, "no tar header"),
    "compressed": (b"\x1f\x8b" + b"\0" * 4096, "no tar header"),
    "no manifest": (tar_of(*PARTS[1:]), "does not begin with manifest.json"),
    "no JSON": (tar_of(("manifest.json", b"{"), *PARTS[1:]), "not as Firmwarden writes it"),
    "a big manifest": (tar_of(("manifest.json", b" " * (2 << 20))), "does not begin with"),
    "a newer format": (
        tar_of(("manifest.json", b'{"format": 7, "later": 1}')),
        "has format 7, this Firmwarden knows 1",
    ),
    "a newer format alike": (tar_of(("manifest.json", manifest(format=7)), *PARTS[1:]), "has format 7"),
    "more keys": (tar_of(("manifest.json", manifest(more=1)), *PARTS[1:]), "more: "),
    "a path": (
        tar_of(("manifest.json", manifest(members=[{**MEMBERS[0], "name": "../x"}]))),
        "members.0.name",
    ),
    "a path as an image": (
        tar_of(("manifest.json", manifest(members=[MEMBERS[0], {**MEMBERS[1], "name": "images/../x"}]))),
        "members.1.name",
    ),
    "a name with a line end": (
        tar_of(("manifest.json", manifest(members=[{**MEMBERS[0], "name": "firmwarden.db\n"}]))),
        "members.0.name",
    ),
    "another hash in the name": (
        tar_of(("manifest.json", manifest(members=[MEMBERS[0], {**MEMBERS[1], "sha256": "0" * 64}]))),
        "no image that Firmwarden keeps",
    ),
    "a bomb": (tar_of(("manifest.json", manifest(members=BOMB)), *PARTS[1:]), "members.0.size"),
    "a large image": (
        tar_of(("manifest.json", manifest(members=[MEMBERS[0], MEMBERS[1] | {"size": 65 << 20}]))),
        "no image that Firmwarden keeps",
    ),
    "no database": (tar_of(("manifest.json", manifest(members=[MEMBERS[1]]))), "must name the database"),
    "nothing": (tar_of(("manifest.json", manifest(members=[]))), "must name the database"),
    "an image twice": (
        tar_of(("manifest.json", manifest(members=[*MEMBERS, MEMBERS[1]])), *PARTS[1:], PARTS[2]),
        "each image once",
    ),
    "a member twice": (tar_of(*PARTS, PARTS[2]), "more in it than its manifest says"),
    "a member more": (tar_of(*PARTS, ("/etc/passwd", b"root::0:0")), "more in it than its manifest says"),
    "a member less": (tar_of(*PARTS[:2]), "no tar header"),
    "another order": (tar_of(PARTS[0], PARTS[2], PARTS[1]), "where firmwarden.db with"),
    "a member of another name": (
        tar_of(PARTS[0], ("../firmwarden.db", DATA), PARTS[2]),
        "'../firmwarden.db'",
    ),
    "a member of another size": (
        tar_of(PARTS[0], (DATABASE, DATA + b"x"), PARTS[2]),
        "where firmwarden.db with",
    ),
    "another content": (tar_of(PARTS[0], (DATABASE, DATA[:-1] + b"x"), PARTS[2]), "not as it was written"),
    "a symbolic link": (tar_of(PARTS[0], special(DATABASE, tarfile.SYMTYPE, "/etc/passwd")), "plain files"),
    "a hard link": (tar_of(PARTS[0], special(DATABASE, tarfile.LNKTYPE, "/etc/passwd")), "plain files"),
    "a device": (tar_of(PARTS[0], special(DATABASE, tarfile.CHRTYPE)), "plain files"),
    "a pipe": (tar_of(PARTS[0], special(DATABASE, tarfile.FIFOTYPE)), "plain files"),
    "a directory": (tar_of(PARTS[0], special(DATABASE, tarfile.DIRTYPE)), "plain files"),
    "a GNU name": (
        tar_of(PARTS[0], (f"{'x' * 200}/{DATABASE}", DATA), form=tarfile.GNU_FORMAT),
        "plain files",
    ),
    "a pax header": (tar_of(PARTS[0], ("ä" * 200, DATA), form=tarfile.PAX_FORMAT), "plain files"),
    "trailing bytes": (WHOLE + b"x", "more in it"),
    "an endless end": (WHOLE + bytes(1 << 20), "more in it"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_inv8_what_is_no_backup_is_refused(case: str, tmp_path: Path) -> None:
    raw, reason = HOSTILE[case]
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    with pytest.raises(BadBackup) as refusal:
        unpack(io.BytesIO(raw), place)
    assert reason in str(refusal.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"], "nothing was written elsewhere"
    assert list((tmp_path / "deep").iterdir()) == [place]
    assert all(each.is_dir() or each.stat().st_nlink == 1 for each in place.rglob("*"))


@given(st.integers(0, len(WHOLE) - 1))
def test_inv8_cut_off_anywhere_it_is_refused(size: int) -> None:
    with pytest.raises(BadBackup):
        unpacked(WHOLE[:size])


@given(st.integers(MANIFEST_END, len(WHOLE) - 1), st.integers(1, 255))
def test_inv8_with_a_wrong_byte_it_is_refused_or_no_less_right(place: int, wrong: int) -> None:
    raw = bytearray(WHOLE)
    raw[place] ^= wrong
    try:
        found = unpacked(bytes(raw))
    except BadBackup:
        return
    # What a header says of owners and times has a sum of its own, whose spaces do not matter.
    assert found == GOOD


def noise() -> Iterable[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=2048)
    yield st.binary(max_size=600).map(lambda tail: WHOLE[:512] + tail)
    yield st.binary(max_size=600).map(lambda text: tar_of(("manifest.json", text)))


@given(st.one_of(*noise()))
def test_inv8_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(BadBackup):
        unpacked(raw)


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def read(self, size: int = -1) -> bytes:
        taken = min(size, 7) if size >= 0 else 7
        part, self._rest = self._rest[:taken], self._rest[taken:]
        return part


def test_it_may_come_through_a_pipe(tmp_path: Path) -> None:
    unpack(Dribble(WHOLE), tmp_path)  # type: ignore[arg-type]  # all that it needs is read
    assert (tmp_path / DATABASE).read_bytes() == DATA


def test_a_member_is_described_as_it_is(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(IMAGE)
    assert member_of(tmp_path, DATABASE) == Member(name=DATABASE, size=len(IMAGE), sha256=hash_of(IMAGE))
