from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.simulate.flash import Erase, Flash, Geometry, Program

GEOMETRY = Geometry(start=0x100, size=256, page_size=32, write_size=8, erase_s=0.5, write_s=0.25, check_s=0)

PROGRAMS = st.builds(
    lambda address, data: Program(address, data[: GEOMETRY.end - address]),
    st.integers(GEOMETRY.start, GEOMETRY.end - 1),
    st.binary(min_size=1, max_size=100),
)


def contents(flash: Flash) -> bytes:
    return flash.read(GEOMETRY.start, GEOMETRY.size)


@pytest.mark.parametrize("sizes", [(100, 32, 8), (128, 32, 5)])
def test_geometry_that_does_not_add_up_is_refused(sizes: tuple[int, int, int]) -> None:
    size, page_size, write_size = sizes
    with pytest.raises(ValueError, match="must fill"):
        Geometry(
            start=0, size=size, page_size=page_size, write_size=write_size, erase_s=0, write_s=0, check_s=0
        )


@given(st.lists(PROGRAMS, max_size=6))
def test_programming_clears_bits_only(programs: list[Program]) -> None:
    flash = Flash(GEOMETRY)
    model = bytearray(b"\xff" * GEOMETRY.size)
    for program in programs:
        flash.apply(program)
        for offset, byte in enumerate(program.data, start=program.address - GEOMETRY.start):
            model[offset] &= byte
    assert contents(flash) == model


@given(st.lists(PROGRAMS, max_size=3), st.integers(0, 255), st.integers(0, 300))
def test_reading_returns_what_is_there(programs: list[Program], offset: int, size: int) -> None:
    flash = Flash(GEOMETRY)
    for program in programs:
        flash.apply(program)
    assert flash.read(GEOMETRY.start + offset, size) == contents(flash)[offset : offset + size]


def test_every_erase_wears_every_page() -> None:
    flash = Flash(GEOMETRY)
    flash.apply(Program(0x110, b"abc"))
    flash.note_source(b"abc")
    flash.apply(Erase())
    flash.apply(Erase())
    assert (flash.erase_starts, flash.wear) == (2, [2] * 8)
    assert contents(flash) == b"\xff" * 256
    assert flash.source == b""


def test_work_takes_its_time() -> None:
    flash = Flash(GEOMETRY)
    assert flash.duration_s(Erase()) == 4.0
    assert flash.duration_s(Program(0x100, bytes(16))) == 0.5
    assert flash.duration_s(Program(0x100, bytes(17))) == 0.75


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99, 1.0])
def test_a_torn_erase_leaves_pages_erased_garbled_and_old(share: float) -> None:
    flash = Flash(GEOMETRY)
    flash.apply(Program(GEOMETRY.start, bytes(GEOMETRY.size)))
    flash.note_source(b"old")
    flash.tear(Erase(), share, random.Random(1))
    pages = [contents(flash)[start : start + 32] for start in range(0, 256, 32)]
    torn = min(int(share * 8), 7)
    assert pages[:torn] == [b"\xff" * 32] * torn
    assert pages[torn] not in (b"\xff" * 32, bytes(32))
    assert pages[torn + 1 :] == [bytes(32)] * (7 - torn)
    assert (flash.wear, flash.source) == ([1] * (torn + 1) + [0] * (7 - torn), b"")


@pytest.mark.parametrize(("share", "whole"), [(0.0, 0), (0.5, 16), (0.99, 24)])
def test_a_torn_write_leaves_one_unit_half_written(share: float, whole: int) -> None:
    flash = Flash(GEOMETRY)
    flash.tear(Program(GEOMETRY.start, bytes(32)), share, random.Random(1))
    written = contents(flash)
    assert written[:whole] == bytes(whole)
    assert written[whole : whole + 8] not in (bytes(8), b"\xff" * 8)
    assert written[whole + 8 :] == b"\xff" * (256 - whole - 8)


@given(st.lists(PROGRAMS, max_size=3))
def test_saved_and_loaded_it_is_the_same(programs: list[Program]) -> None:
    flash = Flash(GEOMETRY)
    flash.apply(Erase())
    for program in programs:
        flash.apply(program)
        flash.note_source(program.data)
    other = Flash(GEOMETRY)
    other.load(json.loads(json.dumps(flash.save())))
    assert (contents(other), other.wear, other.source) == (contents(flash), flash.wear, flash.source)
    assert other.erase_starts == 1


def test_flash_of_another_size_is_not_loaded() -> None:
    saved = Flash(GEOMETRY).save()
    saved["wear"] = [0]
    with pytest.raises(ValueError, match="not of this device's size"):
        Flash(GEOMETRY).load(saved)
