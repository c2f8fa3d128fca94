import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import BadImage
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.protocol.dfu.segments import Segment

ST = DfuSuffix(vendor=0x0483, product=0xDF11, device=0, dfu=0x011A)
VECTORS = Segment(0x0800_0000, bytes.fromhex("00 80 01 20 09 01 00 08"))
BODY = Segment(0x0800_0800, bytes.fromhex("DE AD BE EF"))
FILE = DfuseFile(targets=(DfuseTarget(alternate=0, name="ST...", elements=(VECTORS, BODY)),), suffix=ST)

# Made by hand; dfuse-pack and dfu-suffix read it.
EXAMPLE = (
    bytes.fromhex("44 66 75 53 65 01 39 01 00 00 01")
    + bytes.fromhex("54 61 72 67 65 74 00 01 00 00 00")
    + b"ST...".ljust(255, b"\0")
    + bytes.fromhex("1C 00 00 00 02 00 00 00")
    + bytes.fromhex("00 00 00 08 08 00 00 00  00 80 01 20 09 01 00 08")
    + bytes.fromhex("00 08 00 08 04 00 00 00  DE AD BE EF")
    + bytes.fromhex("00 00 11 DF 83 04 1A 01 55 46 44 10 F4 FD F4 F2")
)


def _with(offset: int, replacement: str, *, suffix: DfuSuffix = ST) -> bytes:
    """Change the example and seal it anew."""
    data = bytes.fromhex(replacement)
    content = bytearray(EXAMPLE[:-16])
    content[offset : offset + len(data)] = data
    return append(bytes(content), suffix)


def test_the_example() -> None:
    assert len(EXAMPLE) == 329
    assert DfuseFile.decode(EXAMPLE) == FILE
    assert FILE.encode() == EXAMPLE


def test_the_size_as_dfu_util_s_packer_counts_it() -> None:
    file = _with(6, "49 01")

    assert file[-4:] == bytes.fromhex("25 3C 8A 87")
    assert DfuseFile.decode(file) == FILE


def test_junk_behind_a_name() -> None:
    assert DfuseFile.decode(_with(0x1C, "aa bb cc")) == FILE


def test_a_target_that_is_not_named() -> None:
    (target,) = DfuseFile.decode(_with(0x12, "fe ff ff ff")).targets

    assert target.name is None


def _elements() -> st.SearchStrategy[tuple[Segment, ...]]:
    pieces = st.lists(
        st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=20)), min_size=1, max_size=4
    )

    def place(drawn: list[tuple[int, bytes]]) -> list[Segment]:
        address, segments = 0x0800_0000, []
        for gap, data in drawn:
            segments.append(Segment(address + gap, data))
            address = segments[-1].end
        return segments

    return pieces.map(place).flatmap(st.permutations).map(tuple)


_TARGETS = st.builds(
    DfuseTarget,
    alternate=st.integers(0, 255),
    elements=_elements(),
    name=st.none() | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=255),
)
_FILES = st.builds(
    DfuseFile,
    targets=st.lists(_TARGETS, min_size=1, max_size=3, unique_by=lambda target: target.alternate).map(tuple),
    suffix=st.builds(DfuSuffix, vendor=st.integers(0, 0xFFFF), dfu=st.just(0x011A)),
)


@given(_FILES)
def test_a_file_survives_the_way(file: DfuseFile) -> None:
    assert DfuseFile.decode(file.encode()) == file


@given(st.binary(max_size=40), st.integers(0, 313), st.booleans())
def test_noise_raises_only_one_error(noise: bytes, at: int, over: bool) -> None:
    content = EXAMPLE[:-16]
    changed = content[:at] + noise + content[at + len(noise) * over :]
    for file in (noise, append(noise, ST), append(changed, ST), changed):
        with contextlib.suppress(BadImage):
            DfuseFile.decode(file)


@given(st.integers(0, 312))
def test_inv8_a_file_that_was_cut_short_is_refused_although_its_suffix_is_right(size: int) -> None:
    for file in (append(EXAMPLE[:size], ST), EXAMPLE[:size]):
        with pytest.raises(BadImage):
            DfuseFile.decode(file)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (EXAMPLE[:-1] + b"\0", "offset 325: the DFU suffix says CRC"),
        (append(b"DfuSe", ST), "offset 0: the prefix has 11 bytes, 5 are left"),
        (_with(0, "45"), "offset 0: no DfuSe file"),
        (_with(5, "02"), "offset 0: no DfuSe file of version 1"),
        (_with(6, "38 01"), "offset 6: the prefix tells of 312 bytes, there are 313"),
        (_with(10, "02"), "offset 313: a target's prefix has 274 bytes, 0 are left"),
        (_with(10, "00"), "offset 11: 302 byte\\(s\\) follow the last target"),
        (_with(11, "55"), "offset 11: no target begins here"),
        (_with(0x115, "1b"), "offset 277: the target tells of 27 bytes, its elements have 28"),
        (_with(0x119, "01"), "offset 277: the target tells of 28 bytes, its elements have 16"),
        (_with(0x119, "03"), "offset 313: an element's prefix has 8 bytes, 0 are left"),
        (_with(0x119, "00"), "offset 281: a target of 0 elements"),
        (_with(0x119, "00 00 01"), "offset 281: a target of 65536 elements"),
        (_with(0x121, "00"), "offset 285: an element of 0 bytes"),
        (_with(0x121, "ff ff ff"), "offset 293: the element has 16777215 bytes, 20 are left"),
        (_with(0x12D, "fe ff ff ff"), "offset 301: an element of 4 bytes at 0xfffffffe"),
        (_with(0x12D, "04 00"), "offset 11: address 0x08000004 is given twice"),
        (_with(0, "", suffix=DfuSuffix(dfu=0x0100)), "says 0x011a, not 0x0100"),
    ],
)
def test_inv8_bad_files_are_refused_with_the_offset(file: bytes, problem: str) -> None:
    with pytest.raises(BadImage, match=problem):
        DfuseFile.decode(file)


def test_two_targets_for_one_memory() -> None:
    first = DfuseTarget(alternate=0, elements=(VECTORS,))
    second = DfuseTarget(alternate=0, elements=(BODY,))
    other = DfuseTarget(alternate=1, elements=(VECTORS,))
    file = DfuseFile(targets=(second, other, first), suffix=ST)

    assert file.memory(0) == (VECTORS, BODY)
    assert file.memory(1) == (VECTORS,)
    assert file.memory(2) == ()
    content = DfuseFile(targets=(first, other), suffix=ST).encode()
    overlapping = content[:-16].replace(b"Target\1", b"Target\0")
    with pytest.raises(BadImage, match="given twice"):
        DfuseFile.decode(append(overlapping, ST))


def test_elements_that_touch_are_one_segment() -> None:
    target = DfuseTarget(alternate=0, elements=(Segment(8, b"b"), Segment(7, b"a")))

    assert target.segments == (Segment(7, b"ab"),)


@pytest.mark.parametrize("name", ["a\0b", "x" * 256, "\u20ac"])
def test_names_that_have_no_place(name: str) -> None:
    with pytest.raises(ValueError, match=r"called|encode"):
        DfuseTarget(alternate=0, elements=(VECTORS,), name=name)


def test_values_that_have_no_place() -> None:
    with pytest.raises(ValueError, match="one byte"):
        DfuseTarget(alternate=256, elements=(VECTORS,))
    with pytest.raises(ValueError, match="0 elements"):
        DfuseTarget(alternate=0, elements=())
    with pytest.raises(ValueError, match="0 targets"):
        DfuseFile(targets=(), suffix=ST)


# --- dfu-util's own tools -------------------------------------------------------------------------------------


needs_dfu_util = pytest.mark.skipif(not shutil.which("dfuse-pack"), reason="dfu-util is not installed")


def _pack(*arguments: str | Path, cwd: Path) -> str:
    packer = shutil.which("dfuse-pack")
    assert packer is not None
    # It is a Python program; under ours it needs nothing that is installed beside another.
    return subprocess.run(
        [sys.executable, packer, *arguments], check=True, capture_output=True, text=True, cwd=cwd
    ).stdout


@needs_dfu_util
def test_dfuse_pack_reads_ours(tmp_path: Path) -> None:
    (tmp_path / "image.dfu").write_bytes(FILE.encode())

    said = _pack("-d", "image.dfu", cwd=tmp_path)

    assert "INVALID" not in said.upper()
    assert re.findall(r"address: (\w+)", said) == ["0x08000000", "0x08000800"]
    parts = sorted(tmp_path.glob("*.bin"))
    assert [part.read_bytes() for part in parts] == [VECTORS.data, BODY.data]
    subprocess.run(["dfu-suffix", "-c", "image.dfu"], check=True, capture_output=True, cwd=tmp_path)


@needs_dfu_util
def test_we_read_dfuse_pack_s(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(VECTORS.data)
    (tmp_path / "b.bin").write_bytes(BODY.data)
    _pack("-b", "0x08000000:a.bin", "-b", "0x08000800:b.bin", "image.dfu", cwd=tmp_path)

    file = DfuseFile.decode((tmp_path / "image.dfu").read_bytes())

    assert file.memory(0) == (VECTORS, BODY)
    assert (file.suffix.vendor, file.suffix.product) == (0x0483, 0xDF11)
