"""How an update that was cut is gone on with, and by what a device is recognised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.recovery import Begin, Decision, Look, Start, Unfinished, Wait, recover
from firmwarden.drivers.boot.target import Target
from firmwarden.model import CommitMark, Phase
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment

BASE = 0x0800_0000
TARGET = Target(
    memory=MemoryMap.parse("@Internal Flash  /0x08000000/0512*0002Kg"),
    failsafe=Failsafe.BFB2,
    family=family_of("STM32L476RG"),
)
L0 = Target(
    memory=MemoryMap.parse("@Internal Flash  /0x08000000/1536*128Bg"), family=family_of("STM32L073RZ")
)
OLD = bytes.fromhex("0080012001020008")
NEW = bytes.fromhex("0080012009030008")
FOREIGN = bytes.fromhex("0050002011990008")
IMAGE = (Segment(BASE, NEW + b"\x55" * 4000),)


MARK = CommitMark(before=OLD, after=NEW)
NEXT = (Segment(BASE, bytes.fromhex("008001200d040008") + b"\x66" * 4000),)
"""Released while the device was away."""


def go_on(
    found: bytes | Contents,
    *,
    phase: Phase = Phase.WRITING,
    mark: CommitMark | None = MARK,
    image: tuple[Segment, ...] = IMAGE,
) -> Decision:
    contents = found if isinstance(found, Contents) else Contents((Segment(BASE, found),))
    unfinished = Unfinished(phase=phase, mark=mark, same_image=image is IMAGE)
    return recover(unfinished, TARGET, image, contents)


@pytest.mark.parametrize(
    "found",
    [
        b"\xff" * 8,
        OLD,
        bytes.fromhex("00f0ff3f0103ff08"),  # half erased
        bytes.fromhex("ff80ff2009ff000f"),  # half written
    ],
)
@pytest.mark.parametrize("image", [IMAGE, NEXT], ids=["the same image", "a newer one"])
def test_inv5_what_our_update_can_have_left_is_written_anew(found: bytes, image: tuple[Segment, ...]) -> None:
    assert go_on(found, image=image) == Begin(keep=False)


def test_a_commit_that_reads_right_after_a_cut_is_not_believed() -> None:
    assert go_on(NEW) == Begin(keep=False)


@pytest.mark.parametrize("image", [IMAGE, NEXT], ids=["the same image", "a newer one"])
@pytest.mark.parametrize("found", [FOREIGN, bytes(8), NEXT[0].data[:8]])
def test_inv4_what_our_update_cannot_have_left_is_not_touched(
    found: bytes, image: tuple[Segment, ...]
) -> None:
    decision = go_on(found, image=image)
    assert isinstance(decision, Wait)
    assert "another unit" in decision.reason


def test_before_anything_was_touched_an_update_just_begins() -> None:
    assert go_on(FOREIGN, phase=Phase.PROBING) == Begin(keep=True)


def test_inv4_without_a_mark_nothing_is_known_again() -> None:
    assert isinstance(go_on(b"\xff" * 8, mark=None), Wait)
    assert go_on(Contents(IMAGE), phase=Phase.ENDING, mark=None) == Start(), "but by the whole image"


def test_what_was_not_read_has_to_be() -> None:
    assert go_on(Contents()) == Look()
    assert go_on(NEW, phase=Phase.ENDING) == Look()


def test_an_image_that_was_whole_when_it_was_to_be_started_is_started() -> None:
    assert go_on(Contents(IMAGE), phase=Phase.ENDING) == Start()


def test_a_newer_image_follows_one_that_was_whole() -> None:
    """It was read back, and the power did not fail while anything was under way: what matches may stay."""
    held = Contents((Segment(BASE, NEW + b"\x66" * 4000),))
    assert go_on(held, phase=Phase.ENDING, image=NEXT) == Begin(keep=True)
    assert isinstance(go_on(held, phase=Phase.ENDING), Wait)


def test_inv1_an_image_that_was_whole_and_is_not_is_left_to_a_person() -> None:
    """An application that gave up by wiping its vectors looks like that, too: it would only do so again."""
    withdrawn = Contents((Segment(BASE, bytes(8) + IMAGE[0].data[8:]),))
    decision = go_on(withdrawn, phase=Phase.ENDING)
    assert isinstance(decision, Wait)
    assert "withdrawn" in decision.reason


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), st.sampled_from([OLD, NEW]))
def test_every_half_erased_and_every_half_written_granule_is_recognised(
    mask: bytes, other: bytes, end: bytes
) -> None:
    """Whichever cells had changed when the power went, on flash that is erased to ones and on such that is to zeros."""
    ones = bytes(one | bit for one, bit in zip(end, mask, strict=True))
    assert go_on(ones) == Begin(keep=False)
    zeros = bytes(one & bit for one, bit in zip(end, mask, strict=True))
    contents = Contents((Segment(BASE, zeros),))
    assert recover(Unfinished(phase=Phase.WRITING, mark=MARK), L0, IMAGE, contents) == Begin(keep=False)
    between = all(not (~found & 0xFF & old) for found, old in zip(other, OLD, strict=True)) or all(
        not (~found & 0xFF & new) for found, new in zip(other, NEW, strict=True)
    )
    assert isinstance(go_on(other), Begin) is between
