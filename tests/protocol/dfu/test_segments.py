from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.protocol.dfu.checked import Checked
from firmwarden.protocol.dfu.dfuse_host import GRANULE, blocks_of
from firmwarden.protocol.dfu.segments import Segment, aligned, joined

_PIECES = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=70)), min_size=1, max_size=6)


def _apart(pieces: list[tuple[int, bytes]]) -> list[Segment]:
    segments, address = [], 0x0800_0000
    for gap, data in pieces:
        segments.append(Segment(address + gap, data))
        address = segments[-1].end
    return segments


def _bytes(segments: tuple[Segment, ...]) -> dict[int, int]:
    return {
        segment.address + offset: byte for segment in segments for offset, byte in enumerate(segment.data)
    }


@pytest.mark.parametrize(("address", "data"), [(0, b""), (-1, b"a"), (0xFFFF_FFFF, b"ab")])
def test_what_is_no_segment(address: int, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"segment|fit"):
        Segment(address, data)


def test_the_last_byte_of_memory() -> None:
    assert Segment(0xFFFF_FFFF, b"a").end == 1 << 32


@given(_PIECES)
def test_joined_segments_hold_the_same_bytes(pieces: list[tuple[int, bytes]]) -> None:
    segments = _apart(pieces)
    mixed = sorted(segments, key=lambda each: each.data)

    whole = joined(mixed)

    assert _bytes(whole) == _bytes(tuple(segments))
    assert all(one.end < other.address for one, other in pairwise(whole))


def test_a_byte_that_is_given_twice_is_refused() -> None:
    with pytest.raises(BadImage, match="0x00000012 is given twice"):
        joined([Segment(0x12, b"c"), Segment(0x10, b"abc")])
    with pytest.raises(BadImage, match="given twice"):
        joined([Segment(0x10, b"a"), Segment(0x10, b"a")])


@given(_PIECES, st.sampled_from([1, 2, 16]))
def test_aligned_segments_hold_the_same_bytes_and_fill(pieces: list[tuple[int, bytes]], granule: int) -> None:
    segments = tuple(_apart(pieces))

    whole = aligned(segments, granule, 0xA5)

    wanted, got = _bytes(segments), _bytes(whole)
    granules = {address // granule for address in wanted}
    assert set(got) == {each * granule + offset for each in granules for offset in range(granule)}
    assert all(got[address] == wanted.get(address, 0xA5) for address in got)
    assert all(one.end < other.address for one, other in pairwise(whole))


@given(_PIECES, st.sampled_from([16, 48, 64, 100, 1024]), st.sampled_from([0xFF, 0x00]))
def test_blocks_are_all_of_an_image_that_is_not_blank(
    pieces: list[tuple[int, bytes]], size: int, erased: int
) -> None:
    segments = tuple(_apart(pieces))
    flash = dict.fromkeys(range(0x0800_0000 - GRANULE, 0x0800_0000 + 1000), erased)

    blocks = list(blocks_of(segments, size, erased))

    for block in blocks:
        assert len(block.data) <= size
        assert block.address % GRANULE == len(block.data) % GRANULE == 0
        assert set(block.data[:GRANULE]) != {erased}
        assert set(block.data[-GRANULE:]) != {erased}
        flash.update(_bytes((block,)))
    assert _bytes(segments).items() <= flash.items()


def test_blank_blocks_are_left_out() -> None:
    image = [Segment(0, b"a" * 16 + b"\xff" * 80 + b"b")]

    assert [(block.address, block.data) for block in blocks_of(image, 32, 0xFF)] == [
        (0, b"a" * 16),
        (96, b"b" + b"\xff" * 15),
    ]


def test_a_device_that_takes_less_than_a_granule_gets_less() -> None:
    assert [block.data for block in blocks_of([Segment(0, b"abcdefgh" * 2)], 8, 0xFF)] == [
        b"abcdefgh",
        b"abcdefgh",
    ]


_SPAN = st.tuples(st.integers(0, 30), st.integers(1, 12))


@given(
    st.lists(st.tuples(st.booleans(), _SPAN, st.integers(0, 255)), max_size=12), _SPAN, st.integers(0, 255)
)
def test_what_is_known_agrees_with_a_dictionary(
    history: list[tuple[bool, tuple[int, int], int]], asked: tuple[int, int], byte: int
) -> None:
    checked, known = Checked(), dict[int, int]()
    for learns, (start, size), value in history:
        if learns:
            checked.learn(Segment(start, bytes((value,)) * size))
            known |= dict.fromkeys(range(start, start + size), value)
        else:
            checked.forget(start, start + size)
            known = {address: held for address, held in known.items() if not start <= address < start + size}

    for address, value in known.items():
        assert checked.holds([Segment(address, bytes((value,)))])
        assert not checked.holds([Segment(address, bytes((value ^ 1,)))])
    start, size = asked
    image = [Segment(start, bytes((byte,)) * size)]
    assert checked.holds(image) == all(known.get(start + offset) == byte for offset in range(size))


def test_inv1_of_an_image_without_bytes_nothing_is_known() -> None:
    assert not Checked().holds([])
    assert not Checked().holds([Segment(0, b"a")])


def test_everything_can_be_forgotten() -> None:
    checked = Checked()
    checked.learn(Segment(0xFFFF_FFFF, b"a"))
    checked.forget()

    assert not checked.holds([Segment(0xFFFF_FFFF, b"a")])
