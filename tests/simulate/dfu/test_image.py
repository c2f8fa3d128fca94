"""Images that tell what they are, and chips that recognise them whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.chip import Chip, Landing, Program, Reset
from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Entry
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.image import SMALLEST, Description, find_image, make_image
from firmwarden.simulate.dfu.kinds import Kind, application_start, loader_of, make_update
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS
from support.dfu_simulated import L476

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=32)


def update(version: str) -> Segment:
    (made,) = make_update(L476, Kind.ROM, version, size=2000)
    return made


def reader(segment: Segment) -> Callable[[int, int], bytes | None]:
    """Return what reads a memory that holds nothing else."""

    def read(address: int, size: int) -> bytes | None:
        at = address - segment.address
        return segment.data[at : at + size] if at >= 0 and at + size <= len(segment.data) else None

    return read


@given(
    version=VERSIONS,
    size=st.integers(SMALLEST, 3000),
    address=st.integers(0, 100).map(lambda page: FLASH_BASE + 2048 * page),
    detaches_by=st.sampled_from([Entry.JUMP, Entry.INVALIDATE, Entry.LOADER]),
    product=st.integers(0, 0xFFFF),
)
def test_an_image_is_recognised_for_what_it_is(
    version: str, size: int, address: int, detaches_by: Entry, product: int
) -> None:
    what = Description(version=version, address=address, detaches_by=detaches_by, product=product)
    made = make_image(L476, what, size=size)
    assert len(made.data) == size
    found = find_image(reader(made), address)
    assert found is not None
    assert (found.version, found.segments, found.entry) == (version, (made,), address)
    assert (found.detaches_by, found.run_time.product) == (detaches_by, product)
    assert found.run_time.name == f"Simulated application {version}"
    assert make_image(L476, what, size=size) == made


@given(at=st.integers(0, 1999), bit=st.integers(0, 7))
def test_inv1_an_image_with_a_wrong_bit_is_never_taken_for_whole(at: int, bit: int) -> None:
    made = update("2.0.0")
    data = bytearray(made.data)
    data[at] ^= 1 << bit
    assert find_image(reader(Segment(made.address, bytes(data))), made.address) is None


@given(end=st.integers(0, 1999))
def test_inv1_an_image_without_its_end_is_never_taken_for_whole(end: int) -> None:
    made = update("2.0.0")
    blank = made.data[:end].ljust(4096, b"\xff")
    assert find_image(reader(Segment(made.address, blank)), made.address) is None
    assert (
        find_image(lambda address, size: made.data[address - made.address :][:size], FLASH_BASE + 4) is None
    )


def test_an_image_runs_only_where_it_was_made_for() -> None:
    made = update("2.0.0")
    moved = Segment(made.address + 2048, made.data)
    assert find_image(reader(moved), moved.address) is None


@pytest.mark.parametrize("name", PARTS)
def test_every_part_starts_it(name: str) -> None:
    part = PARTS[name]
    chip = Chip(part)
    chip.install([make_image(part, Description(version="1.2.3"), size=2000)])
    boot = chip.boot(Reset.POWER_ON)
    assert boot.landing is Landing.APPLICATION
    assert boot.firmware is not None
    assert boot.firmware.version == "1.2.3"
    stack = int.from_bytes(chip.flash.read(0, 4), "little")
    assert chip.looks_like_stack(stack)
    assert stack % 8 == 0


def test_inv1_the_chip_knows_it_from_what_is_torn() -> None:
    made = update("1.0.0")
    chip = Chip(L476)
    *most, last = chip.programming(0, made.data)
    for operation in most:
        assert chip.apply(operation)
    assert chip.boot(Reset.POWER_ON).landing is Landing.PARTIAL
    snapshot = chip.save()
    chip.tear(last, Tear(0.5, check_bits=CheckBits.FIT))
    assert chip.boot(Reset.POWER_ON).landing is Landing.PARTIAL
    chip.load(snapshot)
    chip.tear(last, Tear(0.99, check_bits=CheckBits.CLASH))
    assert chip.boot(Reset.POWER_ON).landing is Landing.PARTIAL
    chip.load(snapshot)
    assert chip.apply(last)
    assert str(chip.boot(Reset.POWER_ON)) == "APPLICATION Simulated application 1.0.0"


def test_it_runs_in_the_other_bank_too() -> None:
    chip = Chip(L476, factory={"BFB2": 1})
    chip.install([update("1.0.0")], bank=2)
    boot = chip.boot(Reset.POWER_ON)
    assert (boot.landing, boot.bank) == (Landing.APPLICATION, 2)


def test_inv1_a_resident_loader_starts_it_behind_its_seal() -> None:
    part, kind = PARTS["stm32l476"], Kind.RESIDENT_LOADER
    start = application_start(part, kind)
    loader = loader_of(part, kind)
    assert loader is not None
    chip = Chip(part, known=[loader])
    chip.install([*loader.segments, *make_update(part, kind, "1.0.0", size=2000)])
    boot = chip.boot(Reset.POWER_ON)
    assert boot.firmware is not None
    assert (boot.landing, boot.firmware.detaches_by) == (Landing.APPLICATION, Entry.LOADER)
    assert boot.firmware.entry == start + SEAL_SPACE
    assert chip.apply(Program(start - FLASH_BASE, bytes(8)))
    assert chip.boot(Reset.POWER_ON).landing is Landing.LOADER


@pytest.mark.parametrize(
    ("version", "revision"),
    [("2.1.3", 0x0213), ("12.3.4", 0x1234), ("2.10.3", 0x0100), ("1.0", 0x0100), ("1.0.0-rc.1", 0x0100)],
)
def test_the_version_as_a_device_release_number(version: str, revision: int) -> None:
    assert Description(version=version).revision == revision


@pytest.mark.parametrize("version", ["", "x" * 33, "1.0\n", "1·0"])
def test_a_version_that_cannot_be_told_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="a version is 1 to 32 printable ASCII characters"):
        Description(version=version)


def test_another_seed_gives_other_bytes() -> None:
    what = Description(version="1")
    assert make_image(L476, what, size=2000, seed=1) != make_image(L476, what, size=2000)


def test_an_image_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 640 bytes, got 639"):
        make_image(L476, Description(version="1"), size=639)
