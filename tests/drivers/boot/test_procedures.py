"""Procedures, carried out on a piece of flash that takes one write for each erase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.describe import DOING, planned_steps
from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.outlook import OUTLOOKS, Failsafe, Outlook, Stage
from firmwarden.drivers.boot.procedures import Commit, ErasePage, Leave, Program, ReadBack, procedure
from firmwarden.drivers.boot.reads import wanted
from firmwarden.drivers.boot.target import Target
from firmwarden.errors import BadImage
from firmwarden.model import Phase
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap, Region, SectorRun
from firmwarden.protocol.dfu.segments import Segment, joined

if TYPE_CHECKING:
    from firmwarden.drivers.boot.facts import Family
    from firmwarden.drivers.boot.procedures import Procedure

BASE = 0x0800_0000
PAGE = 128
PAGES = 8
MEMORY = MemoryMap(
    "Internal Flash", (Region(BASE, (SectorRun(PAGES, PAGE, Access.READ | Access.ERASE | Access.WRITE),)),)
)
L476 = next(family for family in FAMILIES if family.name == "stm32l47x")


@dataclass
class Flash:
    """Strict flash: a granule takes one write for each erase."""

    target: Target
    data: bytearray
    written: set[int]

    @classmethod
    def holding(cls, target: Target, data: bytes) -> Flash:
        return cls(target, bytearray(data), set(range(len(data))))

    def read(self, segment: Segment) -> bytes:
        return bytes(self.data[segment.address - BASE : segment.end - BASE])

    def erase(self, address: int) -> None:
        start = address - BASE
        self.data[start : start + PAGE] = bytes((self.target.erased,)) * PAGE
        self.written -= set(range(start, start + PAGE))

    def write(self, segment: Segment) -> None:
        assert segment.address % self.target.granule == len(segment.data) % self.target.granule == 0
        span = set(range(segment.address - BASE, segment.end - BASE))
        assert not span & self.written, "a granule is written twice"
        self.written |= span
        self.data[segment.address - BASE : segment.end - BASE] = segment.data


def carry_out(plan: Procedure, flash: Flash) -> None:
    for step in plan.steps:
        match step:
            case ErasePage(page):
                flash.erase(page.address)
            case Program(segment) | Commit(segment):
                flash.write(segment)
            case ReadBack(segment):
                assert flash.read(segment) == segment.data
            case Leave():
                assert all(flash.read(piece) == piece.data for piece in plan.image)


def read_all(target: Target, image: tuple[Segment, ...], flash: Flash) -> Contents:
    reads = [
        each for each in wanted(target, image, whole=True) if BASE <= each.address < BASE + len(flash.data)
    ]
    spans = {address for each in reads for address in range(each.address, each.address + each.size)}
    return Contents(
        tuple(joined(Segment(address, bytes((flash.data[address - BASE],))) for address in spans))
    )


@st.composite
def targets(draw: st.DrawFn) -> Target:
    families: list[Family | None] = [None, *FAMILIES]
    failsafe = draw(st.sampled_from(Failsafe))
    loader = failsafe is Failsafe.RESIDENT_LOADER
    return Target(
        memory=MEMORY,
        failsafe=failsafe,
        family=draw(st.sampled_from(families)),
        application=BASE + 2 * PAGE if loader else None,
    )


@st.composite
def images(draw: st.DrawFn, target: Target) -> tuple[Segment, ...]:
    """Segments from where an image must begin, with holes and blank stretches in it."""
    room = target.end - target.start
    # A family that is not known is committed by the page, so the first piece cannot be too short for the rest.
    sizes = draw(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 150)), min_size=1, max_size=6))
    pieces, at = [], 0
    for size, hole in sizes:
        if at + size > room:
            break
        fill = draw(st.sampled_from([b"\xff", b"\x00", None]))
        data = bytes(draw(st.randoms(use_true_random=False)).randbytes(size)) if fill is None else fill * size
        pieces.append(Segment(target.start - target.swap + at, data))
        at += size + hole
    return joined(pieces)


@st.composite
def updates(draw: st.DrawFn) -> tuple[Target, tuple[Segment, ...], Flash]:
    target = draw(targets())
    image = draw(images(target))
    data = bytearray(draw(st.randoms(use_true_random=False)).randbytes(PAGE * PAGES))
    for page in draw(st.sets(st.integers(0, PAGES - 1))):
        # This page holds the image's bytes already.
        for piece in target.place(image):
            for address in range(piece.address, piece.end):
                if (address - BASE) // PAGE == page:
                    data[address - BASE] = piece.data[address - piece.address]
    return target, image, Flash.holding(target, bytes(data))


@given(updates(), st.booleans())
def test_inv1_whatever_was_there_the_image_is_whole_before_it_is_started(
    update: tuple[Target, tuple[Segment, ...], Flash], keep: bool
) -> None:
    target, image, flash = update
    before = bytes(flash.data)
    plan = procedure(target, image, read_all(target, image, flash), keep=keep)
    carry_out(plan, flash)
    assert isinstance(plan.steps[-1], Leave)
    assert plan.steps[-1].entry == BASE, (
        "past the base the resident loader and the golden image would be passed by"
    )
    for piece in target.place(image):
        assert flash.read(piece) == piece.data
    erased = {page.address for page in plan.pages}
    for page in MEMORY.sectors():
        if page.address not in erased:
            start = page.address - BASE
            assert flash.data[start : start + PAGE] == before[start : start + PAGE], (
                "a page that was kept changed"
            )


@given(updates())
def test_inv1_the_first_granule_goes_first_and_comes_last(
    update: tuple[Target, tuple[Segment, ...], Flash],
) -> None:
    target, image, flash = update
    plan = procedure(target, image, read_all(target, image, flash))
    if not plan.writes:
        return
    changes = [step for step in plan.steps if isinstance(step, ErasePage | Program | Commit)]
    assert changes[0] == ErasePage(MEMORY.sectors(target.start, target.start + 1)[0])
    assert isinstance(changes[-1], Commit)
    assert changes[-1].segment.address == target.start
    assert not any(isinstance(step, Commit) for step in changes[:-1])
    assert not any(
        isinstance(step, Program) and step.segment.address < changes[-1].segment.end for step in changes
    )
    # Whatever the loader said: the page that starts the device is looked at before another is touched.
    blank = plan.phases[1].steps[1]
    assert plan.phases[1].stage is Stage.INVALIDATE
    assert isinstance(blank, ReadBack)
    assert set(blank.segment.data) == {target.erased}
    verified = [step for phase in plan.phases if phase.stage is Stage.VERIFY for step in phase.steps]
    seen = {
        address
        for step in verified
        if isinstance(step, ReadBack)
        for address in range(step.segment.address, step.segment.end)
    }
    assert seen >= {address for piece in plan.image for address in range(piece.address, piece.end)}


@given(updates(), st.booleans())
def test_nothing_is_touched_but_pages_of_the_image(
    update: tuple[Target, tuple[Segment, ...], Flash], keep: bool
) -> None:
    """So never an option byte, a resident loader or a golden image."""
    target, image, flash = update
    plan = procedure(target, image, read_all(target, image, flash), keep=keep)
    allowed = set(target.pages(target.place(image)))
    assert set(plan.pages) <= allowed
    assert all(page.address >= target.start for page in plan.pages)
    for step in plan.steps:
        match step:
            case ErasePage(page):
                assert page in plan.pages
            case Program(segment) | Commit(segment):
                assert any(page.address <= segment.address < page.end for page in plan.pages)
                assert set(MEMORY.sectors(segment.address, segment.end)) <= set(plan.pages)
            case _:
                pass


def image_of(*data: bytes, start: int = BASE) -> tuple[Segment, ...]:
    return (Segment(start, b"".join(data)),)


TARGET = Target(memory=MEMORY, failsafe=Failsafe.BFB2, family=L476)


def test_pages_that_match_are_kept_but_the_first_one_always_goes() -> None:
    image = image_of(b"\x11" * PAGE, b"\x22" * PAGE, b"\x33" * PAGE)
    there = Contents((Segment(BASE, b"\x11" * PAGE + b"\x22" * PAGE + b"\x00" * PAGE),))
    plan = procedure(TARGET, image, there)
    assert [page.address for page in plan.pages] == [BASE, BASE + 2 * PAGE]


def test_an_image_that_is_there_is_read_and_started() -> None:
    image = image_of(b"\x11" * 300)
    plan = procedure(TARGET, image, Contents(image))
    assert not plan.writes
    assert plan.steps == (ReadBack(image[0]), Leave(BASE))
    assert [phase.stage for phase in plan.phases] == [Stage.READ, Stage.VERIFY, Stage.LEAVE]


def test_after_a_power_cut_nothing_is_kept() -> None:
    image = image_of(b"\x11" * 300)
    plan = procedure(TARGET, image, Contents(image), keep=False)
    assert [page.address for page in plan.pages] == [BASE, BASE + PAGE, BASE + 2 * PAGE]


def test_the_commit_is_as_small_as_the_flash_allows() -> None:
    image = image_of(b"\x11" * 300)
    sizes = {}
    for family in FAMILIES:
        plan = procedure(Target(memory=MEMORY, family=family), image, Contents())
        commit = next(step for step in plan.steps if isinstance(step, Commit))
        sizes[family.name] = len(commit.segment.data)
    assert sizes["stm32l47x"] == 8
    assert sizes["stm32f4"] == 4
    assert sizes["stm32h7"] == 32
    assert sizes == {family.name: family.flash.granule for family in FAMILIES}


def test_on_silicon_that_nobody_knows_the_first_page_comes_last() -> None:
    plan = procedure(Target(memory=MEMORY), image_of(b"\x11" * 300), Contents())
    commit = next(step for step in plan.steps if isinstance(step, Commit))
    assert commit.segment == Segment(BASE, b"\x11" * PAGE)


def test_blank_granules_at_the_end_of_a_page_are_not_written() -> None:
    """They would count as written."""
    image = image_of(b"\x11" * 24, b"\xff" * (2 * PAGE - 24), b"\x22" * 8)
    plan = procedure(TARGET, image, Contents())
    assert [step.segment for step in plan.steps if isinstance(step, Program)] == [
        Segment(BASE + 8, b"\x11" * 16),
        Segment(BASE + 2 * PAGE, b"\x22" * 8),
    ]


def test_a_golden_image_stays_and_the_other_goes_to_bank_2() -> None:
    target = Target(memory=MEMORY, failsafe=Failsafe.GOLDEN_BANK, family=L476)
    half = PAGES * PAGE // 2
    for start in (BASE, BASE + half):
        plan = procedure(target, image_of(b"\x11" * 200, start=start), Contents())
        assert plan.image == image_of(b"\x11" * 200, start=BASE + half)


@pytest.mark.parametrize(
    ("target", "start", "size", "words"),
    [
        (TARGET, BASE + PAGE, 100, "must at 0x08000000"),
        (
            Target(memory=MEMORY, failsafe=Failsafe.RESIDENT_LOADER, application=BASE + PAGE),
            BASE,
            100,
            "must at 0x08000080",
        ),
        (
            Target(memory=MEMORY, failsafe=Failsafe.RESIDENT_LOADER, application=BASE + PAGE + 16),
            BASE + PAGE + 16,
            100,
            "no page begins",
        ),
        (
            Target(memory=MEMORY, failsafe=Failsafe.RESIDENT_LOADER, application=BASE - PAGE),
            BASE - PAGE,
            100,
            "no page begins",
        ),
    ],
)
def test_an_image_that_does_not_belong_there_is_refused(
    target: Target, start: int, size: int, words: str
) -> None:
    with pytest.raises(BadImage, match=words):
        procedure(target, image_of(b"\x11" * size, start=start), Contents())


def test_an_image_without_bytes_is_refused() -> None:
    with pytest.raises(BadImage, match="empty"):
        procedure(TARGET, (), Contents())


def test_only_a_resident_loader_has_an_application_behind_it() -> None:
    with pytest.raises(ValueError, match="resident loader"):
        Target(memory=MEMORY, failsafe=Failsafe.RESIDENT_LOADER)
    with pytest.raises(ValueError, match="resident loader"):
        Target(memory=MEMORY, failsafe=Failsafe.BFB2, family=L476, application=BASE)


# --- what an interruption leaves ---------------------------------------------------------------------


def outlooks(plan: Procedure) -> dict[Stage, Outlook]:
    return {phase.stage: phase.outlook for phase in plan.phases}


def test_each_stage_says_what_a_power_cut_leaves() -> None:
    image = image_of(b"\x11" * 300)
    told = outlooks(procedure(TARGET, image, Contents((Segment(BASE, b"\x22" * 300),))))
    assert told == {
        Stage.READ: Outlook.OLD,
        Stage.INVALIDATE: Outlook.MARGINAL,
        Stage.ERASE: Outlook.ROM,
        Stage.WRITE: Outlook.ROM,
        Stage.VERIFY: Outlook.ROM,
        Stage.COMMIT: Outlook.MARGINAL,
        Stage.CHECK: Outlook.NEW,
        Stage.LEAVE: Outlook.NEW,
    }


def test_where_no_image_is_left_there_is_none_to_lose() -> None:
    told = outlooks(procedure(TARGET, image_of(b"\x11" * 300), Contents((Segment(BASE, b"\xff" * 8),))))
    assert told[Stage.READ] is told[Stage.INVALIDATE] is Outlook.ROM


@pytest.mark.parametrize("failsafe", Failsafe)
def test_the_table_has_every_stage(failsafe: Failsafe) -> None:
    assert set(OUTLOOKS[failsafe]) == set(Stage)
    assert set(DOING) == set(Stage)


def test_safe_is_what_needs_no_hand() -> None:
    assert {each for each in Outlook if not each.safe} == {Outlook.MARGINAL, Outlook.DEAD}


def test_inv5_the_journal_knows_of_an_erase_before_it_begins() -> None:
    phases = [stage.journal for stage in Stage]
    assert phases == [Phase.PROBING, *[Phase.WRITING] * 6, Phase.ENDING]


def test_a_plan_is_told_in_words() -> None:
    image = image_of(b"\x11" * 300)
    steps = planned_steps(procedure(TARGET, image, Contents((Segment(BASE, b"\x22" * 300),))))
    assert [step.does for step in steps] == [
        "read what is there",
        "erase the page at 0x08000000, with which the device starts, and see that it is",
        "erase 2 more page(s), 256 bytes",
        "write 296 bytes, all but the first granule",
        "read back 300 bytes and compare",
        "write the first 8 bytes, with which the device starts",
        "read them back and compare",
        "start what is at 0x08000000",
    ]
    assert steps[2].if_interrupted == Outlook.ROM.value
    assert [step.does for step in planned_steps(procedure(TARGET, image, Contents(image)))] == [
        "read what is there",
        "read back 300 bytes and compare",
        "start what is at 0x08000000",
    ]
