"""Archives that any two readers read alike are read; every other one is refused, with the reason."""

from __future__ import annotations

import io
import stat
import unicodedata
import zipfile
import zlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadManifest
from firmwarden.images.strict_zip import MOST_MEMBERS, read_zip, write_zip
from support.mutation import mutated
from support.zips import FILE, LINK, Member, archive, deflated

LIMIT: Final = 5000
FILES: Final = {"a.img": bytes(range(256)) * 10, "a.toml": b"text", "é.toml": b""}


def read(raw: bytes) -> dict[str, bytes]:
    return read_zip(raw, lambda _: LIMIT, 2 * LIMIT)


def by_others(files: dict[str, bytes], method: int) -> bytes:
    """As the standard library writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return made.getvalue()


_NAMES: Final = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
_FILES: Final = st.dictionaries(
    _NAMES.filter(lambda name: not {"/", "\\", ":"} & set(name) and name.isprintable() and name[0] != "."),
    st.binary(max_size=100),
    max_size=5,
).filter(lambda files: len({unicodedata.normalize("NFKC", name).casefold() for name in files}) == len(files))


@given(_FILES)
def test_what_is_written_is_read(files: dict[str, bytes]) -> None:
    written = write_zip(files)
    assert written == write_zip(files)
    assert read(written) == files
    with zipfile.ZipFile(io.BytesIO(written)) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == files
        assert all(stat.S_ISREG(each.external_attr >> 16) for each in file.infolist())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_others_write_is_read(method: int) -> None:
    assert read(by_others(FILES, method)) == FILES


BOMB: Final = Member(content=bytes(10 * LIMIT), packed=deflated(bytes(10 * LIMIT)), method=8)
GOOD: Final = Member()
TWO: Final = Member(name=b"b.toml")
TEXT: Final = b"some text " * 20


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        # what is no archive, or not a whole one
        (b"hello", "it is no zip archive"),
        (b"\x7fELF" + archive(GOOD)[4:-1], "it is no zip archive"),
        (b"", "waits for the rest"),
        (archive(GOOD)[:-1], "waits for the rest"),
        (archive(GOOD)[:20], "waits for the rest"),
        # names
        (archive(Member(name=b"../a.toml")), "a.toml in it is a path"),
        (archive(Member(name=b"/etc/passwd")), "passwd in it is a path"),
        (archive(Member(name=b"sub/a.toml")), "is a path"),
        (archive(Member(name=b"..\\a.toml")), "is a path"),
        (archive(Member(name=b"C:a.toml")), "is a path"),
        (archive(Member(name=b".hidden")), "is hidden"),
        (archive(Member(name=b"..")), "is hidden"),
        (archive(Member(name=b"")), "empty, too long or has characters"),
        (archive(Member(name=b"a" * 256)), "empty, too long or has characters"),
        (archive(Member(name=b"a\0.toml")), "characters that cannot be printed"),
        (archive(Member(name=b"a\x1b[31m.toml")), "characters that cannot be printed"),
        (archive(Member(name="a\u202e.toml".encode(), flags=1 << 11)), "characters that cannot be printed"),
        (archive(Member(name="é".encode())), "neither ASCII nor said to be UTF-8"),
        (archive(Member(name=b"\xff", flags=1 << 11)), "neither ASCII nor said to be UTF-8"),
        (archive(GOOD, GOOD), "a.toml is in it twice"),
        (archive(GOOD, Member(name=b"A.TOML")), "a.toml and A.TOML in it are one name"),
        # kinds
        (archive(Member(attributes=LINK)), "a.toml in it is a symbolic link"),
        (archive(Member(attributes=stat.S_IFIFO << 16)), "is something special"),
        (archive(Member(attributes=stat.S_IFDIR << 16)), "is something special"),
        (archive(Member(attributes=FILE | stat.S_ISUID << 16)), "is something special"),
        (archive(Member(attributes=FILE | 0x10)), "is no regular file"),
        (archive(Member(made_by=7 << 8)), "of an unknown system"),
        # features
        (archive(Member(flags=1)), "is encrypted"),
        (archive(Member(flags=8)), "uses a feature of zip"),
        (archive(Member(flags=1 << 6)), "uses a feature of zip"),
        (archive(Member(needs=45)), "uses a feature of zip"),
        (archive(Member(method=12)), "compressed with method 12"),
        (archive(Member(method=9)), "compressed with method 9"),
        (archive(Member(extra=b"\1\0\0\0")), "has extra fields or a comment"),
        (archive(Member(comment=b"x")), "has extra fields or a comment"),
        (archive(Member(disk=1)), "has extra fields or a comment"),
        (archive(GOOD, disk=1), "of an archive in several parts"),
        (archive(GOOD, comment=b"x"), "a comment or something else behind its end"),
        (archive(GOOD) + b"x", "something else behind its end"),
        (archive(*[Member(name=b"%d" % each) for each in range(MOST_MEMBERS + 1)]), "64 are the most"),
        # two meanings
        (archive(Member(local={"name": b"b.toml"})), "described in two ways"),
        (archive(Member(local={"size": 3})), "described in two ways"),
        (archive(Member(local={"time": 1})), "described in two ways"),
        (archive(Member(local={"flags": 2})), "described in two ways"),
        (archive(Member(local={"extra": b"\1\0\0\0"})), "described in two ways, or has extra fields"),
        (archive(GOOD, Member(name=b"b.toml", offset=0)), "overlaps another member"),
        (archive(GOOD, Member(name=b"b.toml", before=b"gap")), "overlaps another member, or leaves a gap"),
        (archive(Member(before=b"stub")), "leaves a gap"),
        (archive(Member(offset=1 << 20)), "leaves a gap"),
        (b"stub" + archive(GOOD), "belong to none of them"),
        (archive(GOOD, between=b"x"), "belong to none of them"),
        (archive(GOOD, behind=b"x"), "belong to none of them"),
        (archive(GOOD, TWO, count=1), "belong to none of them"),
        (archive(GOOD, count=2), "its directory ends within an entry"),
        (archive() + archive(GOOD), "belong to none of them"),
        # sizes
        (archive(BOMB), "larger than 5000 bytes"),
        (archive(Member(content=bytes(LIMIT), packed=deflated(bytes(LIMIT))[:3], method=8)), "cannot have"),
        (
            archive(*[Member(name=b"%d" % each, content=bytes(4000)) for each in range(3)]),
            "10000 bytes together",
        ),
        (archive(Member(size=3)), "cannot have 3 bytes in 7"),
        (archive(Member(content=TEXT, packed=deflated(TEXT), method=8, size=100)), "longer or shorter"),
        (archive(Member(content=TEXT, packed=deflated(TEXT), method=8, size=300)), "size or checksum differ"),
        (archive(Member(content=TEXT, packed=deflated(TEXT) + b"x", method=8)), "longer or shorter"),
        (archive(Member(content=TEXT, packed=deflated(TEXT)[:-3], method=8)), "longer or shorter"),
        (archive(Member(content=TEXT, packed=b"\xff" * 20, method=8)), "is damaged"),
        (archive(Member(crc=1)), "size or checksum differ"),
    ],
)
def test_inv8_what_has_two_meanings_or_none_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(BadManifest) as caught:
        read(raw)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_bomb_is_never_decompressed_beyond_what_it_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(100 * LIMIT)
    bomb = archive(Member(content=content, packed=deflated(content), method=8, size=LIMIT))
    made: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._stream = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            found = self._stream.decompress(data, most)
            made.append(len(found))
            return found

        @property
        def eof(self) -> bool:
            return self._stream.eof

        @property
        def unused_data(self) -> bytes:
            return self._stream.unused_data

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(BadManifest, match="longer or shorter than announced"):
        read(bomb)
    assert made == [LIMIT + 1]


@given(mutated((write_zip(FILES), by_others(FILES, zipfile.ZIP_DEFLATED))))
def test_inv8_what_is_read_is_what_another_reader_finds(raw: bytes) -> None:
    try:
        found = read(raw)
    except BadManifest:
        return
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert {name: file.read(name) for name in file.namelist()} == found
