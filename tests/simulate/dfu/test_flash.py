from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.simulate.dfu.flash import Cells, CheckBits, Flash, Rewrite, Tear

ECC = Cells(granule=8)
HALF_WORDS = Cells(granule=2, corrects_errors=False)
BITS = Cells(granule=4, corrects_errors=False, rewrite=Rewrite.BITS)
ZERO_ERASED = Cells(granule=4, erased=0, corrects_errors=False, rewrite=Rewrite.BITS)

PAGES = [64, 64, 128]

ALL = [ECC, HALF_WORDS, BITS, ZERO_ERASED]
IDS = ["ecc", "half words", "bits", "erased is zero"]


def flash(cells: Cells) -> Flash:
    return Flash(cells, PAGES)


@pytest.mark.parametrize("cells", ALL, ids=IDS)
def test_an_erase_takes_one_page(cells: Cells) -> None:
    memory = flash(cells)
    for offset in range(0, memory.size, cells.granule):
        memory.program(offset, b"\xa5" * cells.granule)

    memory.erase(1)

    erased = bytes((cells.erased,)) * 64
    assert memory.read(0, 256) == b"\xa5" * 64 + erased + b"\xa5" * 128
    assert memory.wear == [0, 1, 0]
    assert [memory.page_at(offset) for offset in (0, 63, 64, 127, 128, 255)] == [0, 0, 1, 1, 2, 2]


def test_with_check_bits_a_granule_is_programmed_once_or_to_zero() -> None:
    memory = flash(ECC)
    assert memory.program(8, b"\xff" * 8), "looks blank still, and is used"
    assert not memory.program(8, b"\x12" * 8)
    assert memory.read(8, 8) == b"\xff" * 8
    assert memory.program(8, bytes(8))
    assert memory.read(0, 24) == b"\xff" * 8 + bytes(8) + b"\xff" * 8
    memory.erase(0)
    assert memory.program(8, b"\x12" * 8)


def test_half_words_are_programmed_when_they_are_blank_or_to_zero() -> None:
    memory = flash(HALF_WORDS)
    assert memory.program(2, b"\xff\xff")
    assert memory.program(2, b"\x12\x34")
    assert not memory.program(2, b"\x12\x30")
    assert memory.program(2, b"\x00\x00")


@pytest.mark.parametrize(("cells", "result"), [(BITS, b"\x10"), (ZERO_ERASED, b"\xff")])
def test_other_flash_moves_bits_one_way_at_any_time(cells: Cells, result: bytes) -> None:
    memory = flash(cells)
    assert memory.program(4, b"\x1f" * 4)
    assert memory.program(4, b"\xf0" * 4)
    assert memory.read(4, 4) == result * 4


@pytest.mark.parametrize("cells", ALL, ids=IDS)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 1000), old=st.binary(min_size=64, max_size=64))
def test_a_torn_erase_leaves_bits_as_they_were_or_erased(
    cells: Cells, share: float, seed: int, old: bytes
) -> None:
    memory = flash(cells)
    for offset in range(0, 64, cells.granule):
        memory.program(offset, old[offset : offset + cells.granule])
    before = memory.save()

    memory.tear_erase(0, Tear(share, seed))

    for was, now in zip(old, memory.read(0, 64), strict=True):
        changed, wanted = was ^ now, was ^ cells.erased
        assert changed & ~wanted == 0
    assert memory.read(64, 192) == bytes((cells.erased,)) * 192
    assert memory.wear == [1, 0, 0]
    again = flash(cells)
    again.load(before)
    again.tear_erase(0, Tear(share, seed))
    assert again.save() == memory.save(), "chance comes from the seed alone"


@pytest.mark.parametrize("cells", ALL, ids=IDS)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 1000), data=st.binary(min_size=8, max_size=8))
def test_a_torn_program_leaves_bits_erased_or_as_wanted(
    cells: Cells, share: float, seed: int, data: bytes
) -> None:
    memory = flash(cells)
    data = data[: cells.granule]
    memory.tear_program(cells.granule, data, Tear(share, seed))
    for now, wanted in zip(memory.read(cells.granule, cells.granule), data, strict=True):
        assert (now ^ cells.erased) & ~(wanted ^ cells.erased) == 0


@pytest.mark.parametrize("cells", ALL, ids=IDS)
@pytest.mark.parametrize("check_bits", CheckBits)
def test_a_tear_at_either_end_is_nothing_or_everything(cells: Cells, check_bits: CheckBits) -> None:
    memory, data = flash(cells), b"\x5a" * cells.granule
    memory.tear_program(0, data, Tear(0, check_bits=check_bits))
    assert memory.read(0, cells.granule) == cells.blank
    assert not memory.is_bad(0, 64)
    memory.tear_program(0, data, Tear(1, check_bits=check_bits))
    assert memory.read(0, cells.granule) == data
    memory.tear_erase(0, Tear(0, check_bits=check_bits))
    assert memory.read(0, cells.granule) == data
    memory.tear_erase(0, Tear(1, check_bits=check_bits))
    assert memory.read(0, cells.granule) == cells.blank
    assert not memory.is_bad(0, 64)
    assert memory.wear == [2, 0, 0]


def test_what_a_tear_does_to_check_bits() -> None:
    memory = flash(ECC)
    memory.program(0, b"\x12" * 8)
    before = memory.save()
    memory.tear_erase(0, Tear(0.5, check_bits=CheckBits.CLASH))
    assert memory.is_bad(0, 1)
    assert memory.is_bad(7, 1)
    assert not memory.is_bad(8, 248), "blank granules have nothing to lose"
    memory.load(before)
    memory.tear_erase(0, Tear(0.5, check_bits=CheckBits.FIT))
    assert not memory.is_bad(0, 256)


def test_a_granule_may_look_blank_and_take_nothing() -> None:
    """Why a page that looks blank after a cut has to be erased again."""
    found = set()
    for seed in range(400):
        memory = flash(ECC)
        memory.program(0, b"\xff" * 7 + b"\x7f")
        memory.tear_erase(0, Tear(0.9, seed))
        if memory.read(0, 8) == ECC.blank:
            found.add((memory.is_bad(0, 8), memory.program(0, b"\x12" * 8)))
    assert found == {(False, False), (False, True), (True, False), (True, True)}


def test_zeros_make_check_bits_fit_again() -> None:
    memory = flash(ECC)
    memory.program(0, b"\x12" * 8)
    memory.tear_erase(0, Tear(0.5, check_bits=CheckBits.CLASH))
    assert memory.program(0, bytes(8))
    assert not memory.is_bad(0, 8)


def test_a_snapshot_is_not_touched_by_what_comes_after() -> None:
    memory = flash(ECC)
    memory.program(0, b"\x12" * 8)
    saved = memory.save()
    memory.erase(0)
    memory.tear_program(0, b"\x34" * 8, Tear(0.5))
    memory.load(saved)
    assert memory.read(0, 8) == b"\x12" * 8
    assert memory.wear == [0, 0, 0]
    assert memory.save() == saved


def test_pages_that_are_no_whole_granules_are_refused() -> None:
    with pytest.raises(ValueError, match="granules"):
        Flash(Cells(granule=32), [48, 48])
