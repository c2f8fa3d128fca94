import contextlib

import bincopy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.images.intel_hex import LARGEST_SPAN, HexImage, parse, segments
from firmwarden.protocol.dfu.segments import Segment

_END = ":00000001FF"


def _record(kind: int, address: int, data: bytes) -> str:
    raw = bytes((len(data),)) + address.to_bytes(2, "big") + bytes((kind,)) + data
    return f":{(raw + bytes((-sum(raw) & 0xFF,))).hex().upper()}"


def _data(address: int, text: bytes) -> str:
    return _record(0, address, text)


def _linear(upper: int) -> str:
    return _record(4, 0, upper.to_bytes(2, "big"))


def _segment(base: int) -> str:
    return _record(2, 0, base.to_bytes(2, "big"))


def _file(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_the_example_that_everybody_knows() -> None:
    content = b"""\
:10010000214601360121470136007EFE09D2190140
:100110002146017E17C20001FF5F16002148011928
:10012000194E79234623965778239EDA3F01B2CAA7
:100130003F0156702B5E712B722B732146013421C7
:00000001FF
"""
    image = parse(content)

    assert image.address == 0x100
    assert image.data[:4] == bytes.fromhex("21 46 01 36")
    assert (len(image.data), image.gaps, image.entry) == (64, 0, None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [_data(0x10, b"ab"), _data(0x12, b"cd")],
            HexImage(address=0x10, data=b"abcd", gaps=0),
            id="in order",
        ),
        pytest.param(
            [_data(0x12, b"cd"), _data(0x10, b"ab")],
            HexImage(address=0x10, data=b"abcd", gaps=0),
            id="out of order",
        ),
        pytest.param(
            [_data(0x10, b"ab"), _data(0x15, b"cd")],
            HexImage(address=0x10, data=b"ab\xee\xee\xeecd", gaps=3),
            id="a gap is filled",
        ),
        pytest.param(
            [_linear(0x0800), _data(0, b"ab"), _linear(0x0801), _data(2, b"cd")],
            HexImage(address=0x0800_0000, data=b"ab" + b"\xee" * 0x1_0000 + b"cd", gaps=0x1_0000),
            id="linear addresses",
        ),
        pytest.param(
            [_segment(0x1000), _data(4, b"ab")],
            HexImage(address=0x1_0004, data=b"ab", gaps=0),
            id="segmented addresses",
        ),
        pytest.param(
            [_segment(0x1000), _linear(0), _data(4, b"ab")],
            HexImage(address=4, data=b"ab", gaps=0),
            id="the last base counts",
        ),
        pytest.param(
            [_linear(0), _data(0xFFFF, b"ab")],
            HexImage(address=0xFFFF, data=b"ab", gaps=0),
            id="a linear record may cross 64 KiB",
        ),
        pytest.param(
            [_linear(0xFFFF), _data(0xFFFE, b"ab")],
            HexImage(address=0xFFFF_FFFE, data=b"ab", gaps=0),
            id="the last bytes of memory",
        ),
        pytest.param(
            [_data(0, b"a"), _record(5, 0, bytes.fromhex("08000135"))],
            HexImage(address=0, data=b"a", gaps=0, entry=0x0800_0135),
            id="linear start address",
        ),
        pytest.param(
            [_record(3, 0, bytes.fromhex("10000200")), _data(0, b"a")],
            HexImage(address=0, data=b"a", gaps=0, entry=0x1_0200),
            id="segmented start address",
        ),
        pytest.param(
            [_data(0x99, b""), _data(0, b"a")],
            HexImage(address=0, data=b"a", gaps=0),
            id="a record of nothing",
        ),
        pytest.param(
            [_data(0, b"\xab\xcd").lower()],
            HexImage(address=0, data=b"\xab\xcd", gaps=0),
            id="lower case",
        ),
    ],
)
def test_good_files(lines: list[str], expected: HexImage) -> None:
    assert parse(_file(*lines, _END), fill=0xEE) == expected


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\r\n\r\n"])
def test_line_ends(line_end: str, last: str) -> None:
    content = line_end.join([_data(0, b"a"), _END]) + last

    assert parse(content.encode()).data == b"a"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "line 1: a record starts with a colon"),
        ([_END], "the file has no data"),
        ([_data(0, b"a")], "line 1: the file ends without its end record"),
        ([_data(0, b"a"), _END, _data(1, b"b")], "line 3: something follows the end record"),
        ([_data(0, b"a"), _END, "", _END], "line 3: something follows the end record"),
        ([_data(0, b"a"), "", _END], "line 2: a record starts with a colon"),
        (["; comment", _END], "line 1: a record starts with a colon"),
        ([" " + _data(0, b"a"), _END], "line 1: a record starts with a colon"),
        ([_data(0, b"a") + " ", _END], "line 1: not hexadecimal"),
        ([_data(0, b"a")[:-1], _END], "line 1: not hexadecimal"),
        ([":0100000061G", _END], "line 1: not hexadecimal"),
        ([":01 000000619E", _END], "line 1: not hexadecimal"),
        ([":", _END], "line 1: 0 bytes do not make a record"),
        ([":00", _END], "line 1: 1 bytes do not make a record"),
        ([_data(0, b"ab")[:-2], _END], "line 1: 6 bytes do not make a record"),
        ([_data(0, b"ab") + "00", _END], "line 1: 8 bytes do not make a record"),
        ([":010000006100", _END], "line 1: wrong checksum"),
        ([_record(6, 0, b""), _END], "line 1: unknown record type 6"),
        ([_record(4, 0, b"\x08"), _END], "line 1: 1 byte(s) of data in a record of type 4"),
        ([_record(5, 0, b"\x08\x00"), _END], "line 1: 2 byte(s) of data in a record of type 5"),
        ([_data(0, b"a"), _record(1, 0, b"\x00")], "line 2: 1 byte(s) of data in a record of type 1"),
        ([_data(0, b"ab"), _data(1, b"b"), _END], "line 2: address 0x1 was given before, in line 1"),
        ([_data(4, b"a"), _data(0, b"abcde"), _END], "line 2: address 0x4 was given before, in line 1"),
        (
            [_data(0, b"a"), _data(9, b"x"), _data(0, b"a"), _END],
            "line 3: address 0x0 was given before, in line 1",
        ),
        ([_segment(0), _data(0xFFFF, b"ab"), _END], "line 2: the record crosses the end of its segment"),
        (
            [_linear(0xFFFF), _data(0xFFFF, b"ab"), _END],
            "line 2: the record crosses the end of the address space",
        ),
        (
            [_record(5, 0, bytes(4)), _data(0, b"a"), _record(5, 0, bytes(4)), _END],
            "line 3: a second start address",
        ),
    ],
)
def test_bad_files_are_refused_with_the_line(lines: list[str], problem: str) -> None:
    for read in (parse, segments):
        with pytest.raises(BadImage) as refused:
            read(_file(*lines))

        assert str(refused.value).startswith(problem)


def test_two_short_lines_cannot_ask_for_gigabytes() -> None:
    with pytest.raises(BadImage, match="more than 64 MiB apart"):
        parse(_file(_data(0, b"a"), _linear(0xFFFF), _data(0, b"b"), _END))

    upper = LARGEST_SPAN >> 16
    with pytest.raises(BadImage, match="between 0x0 and 0x4000001"):
        parse(_file(_data(0, b"a"), _linear(upper), _data(0, b"b"), _END))


@given(st.binary(max_size=200))
def test_noise_raises_only_one_error(noise: bytes) -> None:
    good = _file(_data(0, b"abc"), _linear(1), _data(8, b"def"), _END)
    for content in (noise, good + noise, b":" + noise, good[:20] + noise + good[20:]):
        with contextlib.suppress(BadImage):
            parse(content)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=40)), min_size=1, max_size=8),
    st.integers(0, 0xFFFF_0000),
    st.sampled_from([8, 16, 32]),
)
def test_files_that_bincopy_writes(pieces: list[tuple[int, bytes]], address: int, width: int) -> None:
    start = address
    theirs = bincopy.BinFile()
    for gap, data in pieces:
        theirs.add_binary(data, address=address + gap)
        address += gap + len(data)

    image = parse(theirs.as_ihex(number_of_data_bytes=width).encode(), fill=0x5A)

    assert image.address == start + pieces[0][0]
    assert image.data == bytes(theirs.as_binary(padding=b"\x5a"))


def test_in_pieces_gaps_stay_gaps_however_wide() -> None:
    content = _file(_data(9, b"c"), _data(0, b"a"), _data(1, b"b"), _linear(0xFFFF), _data(0, b"d"), _END)

    assert segments(content) == (Segment(0, b"ab"), Segment(9, b"c"), Segment(0xFFFF_0000, b"d"))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=40)), min_size=1, max_size=8),
    st.integers(0, 0xFFFF_0000),
)
def test_pieces_are_those_that_bincopy_sees(pieces: list[tuple[int, bytes]], address: int) -> None:
    theirs = bincopy.BinFile()
    for gap, data in pieces:
        theirs.add_binary(data, address=address + gap)
        address += gap + len(data)

    ours = segments(theirs.as_ihex().encode())

    assert ours == tuple(Segment(piece.address, bytes(piece.data)) for piece in theirs.segments)
