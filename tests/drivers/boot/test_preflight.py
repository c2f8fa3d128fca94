"""Pre-flight: what is refused, what waits for the operator, and what may begin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.preflight import Check, Finding, Grade, preflight, verdict
from firmwarden.drivers.boot.reads import Read, wanted
from firmwarden.drivers.boot.reliance import standing_doubt
from firmwarden.drivers.boot.target import Target
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment, joined

if TYPE_CHECKING:
    from firmwarden.drivers.boot.facts import Family

BASE = 0x0800_0000
BANK_2 = 0x0808_0000
OPTIONS = 0x1FFF_7800
LOADER_ID = 0x1FFF_6FFE

L476_MAP = MemoryMap.parse("@Internal Flash  /0x08000000/0512*0002Kg")
FACTORY = 0xFFEF_F8AA
BFB2 = 1 << 20
DUALBANK = 1 << 21

L476 = Target(memory=L476_MAP, failsafe=Failsafe.BFB2, family=family_of("STM32L476RG"))


def word(address: int, value: int) -> Segment:
    return Segment(address, value.to_bytes(4, "little"))


def image(
    stack: int = 0x2001_8000, reset: int = BASE + 0x101, size: int = 4000, start: int = BASE
) -> tuple[Segment, ...]:
    return (Segment(start, stack.to_bytes(4, "little") + reset.to_bytes(4, "little") + b"\x55" * (size - 8)),)


def found(
    *, options: int | None = FACTORY | BFB2, bank_2: int = 0xFFFF_FFFF, more: tuple[Segment, ...] = ()
) -> Contents:
    pieces = [word(BANK_2, bank_2), *more]
    if options is not None:
        pieces.append(word(OPTIONS, options))
    return Contents(tuple(pieces))


def check(
    target: Target = L476,
    contents: Contents | None = None,
    wanted_image: tuple[Segment, ...] | None = None,
    *,
    block_size: int = 2048,
    readable: bool = True,
) -> Finding:
    findings = preflight(
        target,
        image() if wanted_image is None else wanted_image,
        found() if contents is None else contents,
        block_size=block_size,
        readable=readable,
    )
    return verdict(findings)


def test_an_update_of_a_part_that_is_set_up_may_begin() -> None:
    findings = preflight(L476, image(), found(), block_size=2048)
    assert [finding.check for finding in findings] == list(Check)
    assert {finding.grade for finding in findings} == {Grade.GOOD}
    assert all(finding.code is None and finding.detail for finding in findings)


def test_the_first_of_the_worst_decides() -> None:
    good, wait, refuse = (Finding(Check.PART, grade, str(grade)) for grade in Grade)
    other = replace(refuse, check=Check.BLOCKS)
    assert verdict([good, wait]) is wait
    assert verdict([good, wait, refuse, other]) is refuse


# --- refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "check_", "words"),
    [
        (image(start=BASE + 0x800), Check.LAYOUT, "must at 0x08000000"),
        (image(size=(1 << 20) + 8), Check.LAYOUT, "0x08100000"),
        ((), Check.LAYOUT, "empty"),
        (image(stack=0x2002_0000), Check.VECTORS, "stack pointer 0x20020000"),
        # SRAM2: old loaders do not start such an image, so the device would stay in its loader.
        (image(stack=0x1000_8000), Check.VECTORS, "stack pointer 0x10008000"),
        (image(reset=BASE + 0x100), Check.VECTORS, "even"),
        (image(reset=BASE + 0x2001), Check.VECTORS, "not in the image"),
        (image(stack=0xFFFF_FFFF, reset=0xFFFF_FFFF), Check.VECTORS, "stack pointer"),
        ((Segment(BASE, b"\x00\x80\x01\x20"),), Check.VECTORS, "4 byte(s)"),
        (
            joined([*image(), Segment(BANK_2, b"\x00\x00\x01\x20" + bytes(60))]),
            Check.VECTORS,
            "where bank 2 begins",
        ),
    ],
)
def test_inv8_an_image_that_cannot_be_right_is_refused(
    wrong: tuple[Segment, ...], check_: Check, words: str
) -> None:
    finding = check(wanted_image=wrong)
    assert (finding.check, finding.grade, finding.code) == (check_, Grade.REFUSE, CauseCode.IMAGE_UNFIT)
    assert words in finding.detail


def test_an_image_over_both_banks_is_good_when_it_says_that_it_is_one() -> None:
    spanning = joined([*image(), Segment(BANK_2, bytes(64))])
    assert check(wanted_image=spanning).grade is Grade.GOOD


def test_with_no_word_on_banks_any_stack_of_the_part_will_do() -> None:
    plain = replace(L476, failsafe=Failsafe.NONE)
    assert check(plain, wanted_image=image(stack=0x1000_8000)).grade is Grade.GOOD


@pytest.mark.parametrize("readable", [True, False])
def test_what_cannot_be_read_back_is_refused(readable: bool) -> None:
    contents = found(options=0xFFEF_F8BB | BFB2 if readable else None)
    finding = check(contents=contents, readable=readable)
    assert (finding.check, finding.grade, finding.code) == (
        Check.PROTECTION,
        Grade.REFUSE,
        CauseCode.READ_PROTECTED,
    )


def test_blocks_that_the_loader_of_l47x_corrupts_are_refused() -> None:
    """Blocks are cut at whole granules, so it takes a loader that announces less than one more than 256 allows."""
    odd = replace(L476, family=replace(_family(L476), flash=replace(_family(L476).flash, granule=4)))
    assert check(odd, block_size=260).code is CauseCode.IMAGE_UNFIT
    for block_size in (4, 256, 260, 1023, 2048):
        assert check(block_size=block_size).grade is Grade.GOOD


def _family(target: Target) -> Family:
    assert target.family is not None
    return target.family


# --- waits -------------------------------------------------------------------------------------------


def test_a_device_that_is_not_what_its_class_declares_waits() -> None:
    other = replace(L476, memory=MemoryMap.parse("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg"))
    finding = check(other)
    assert (finding.check, finding.grade) == (Check.PART, Grade.WAIT)
    assert "STM32L471/475/476/485/486" in finding.detail


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (found(options=FACTORY), "BFB2=1"),
        (found(options=(FACTORY | BFB2) & ~DUALBANK), "DUALBANK=1"),
        (found(bank_2=0x2001_8000), "bank 2 begins with 0x20018000"),
        (Contents((word(OPTIONS, FACTORY | BFB2),)), "was not read"),
    ],
)
def test_a_device_that_shows_that_its_class_is_wrong_waits(contents: Contents, words: str) -> None:
    finding = check(contents=contents)
    assert (finding.check, finding.grade, finding.code) == (Check.FAILSAFE, Grade.WAIT, None)
    assert words in finding.detail
    assert finding.detail.endswith("; an interruption may brick the device")


def test_option_bytes_that_no_loader_shows_are_taken_on_the_class_word() -> None:
    assert check(contents=found(options=None)).grade is Grade.GOOD


def target_of(part: str, layout: str, failsafe: Failsafe) -> Target:
    return Target(
        memory=MemoryMap.parse(f"@Internal Flash  /0x08000000/{layout}"),
        failsafe=failsafe,
        family=family_of(part),
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (target_of("STM32F405RG", "04*016Kg,01*064Kg,07*128Kg", Failsafe.BFB2), "does not look for a bank"),
        (target_of("STM32L476RG", "0512*0002Kg", Failsafe.EMPTY_CHECK), "has no empty check"),
        (target_of("STM32L496ZG", "0512*0002Kg", Failsafe.BFB2), "not proven on STM32L496/4A6"),
        (target_of("STM32L073RZ", "1536*128Bg", Failsafe.BFB2), "not proven"),
        (target_of("AT32F403", "0512*0002Kg", Failsafe.BFB2), "without a part"),
        (target_of("STM32L4P5AG", "128*008Kg", Failsafe.BFB2), "one bank, as pages of 8192 bytes"),
        (
            target_of(
                "STM32F769NI", "04*016Kg,01*064Kg,07*128Kg,04*016Kg,01*064Kg,07*128Kg", Failsafe.GOLDEN_BANK
            ),
            "whatever bank 2 holds",
        ),
    ],
)
def test_a_mechanism_that_is_not_proven_waits(target: Target, words: str) -> None:
    whole = image(stack=0x2000_1000, start=target.start - target.swap)
    finding = check(target, Contents((word(target.base, 0x2000_1000), word(target.base + 4, 1))), whole)
    assert (finding.check, finding.grade) == (Check.FAILSAFE, Grade.WAIT)
    assert words in finding.detail


@pytest.mark.parametrize(
    ("version", "grade"), [(0xD3, Grade.WAIT), (None, Grade.WAIT), (0xD4, Grade.GOOD), (0xD5, Grade.GOOD)]
)
def test_loaders_that_choose_wrongly_are_not_relied_on(version: int | None, grade: Grade) -> None:
    target = target_of("STM32G474RE", "256*002Kg", Failsafe.BFB2)
    more = () if version is None else (Segment(LOADER_ID, bytes((version, 0xFF))),)
    contents = Contents((word(OPTIONS, FACTORY | BFB2 | 1 << 22), word(0x0804_0000, 0xFFFF_FFFF), *more))
    assert check(target, contents).grade is grade


def test_the_empty_check_needs_nothing_but_the_part() -> None:
    assert (
        check(
            target_of("STM32L432KC", "0128*0002Kg", Failsafe.EMPTY_CHECK),
            Contents(),
            image(stack=0x2000_C000),
        ).grade
        is Grade.GOOD
    )


@pytest.mark.parametrize(
    ("pieces", "grade"),
    [
        ((), Grade.WAIT),
        ((Segment(BASE, b"\xff" * 8),), Grade.WAIT),
        ((word(BASE, 0x2000_8000), word(BASE + 4, BASE + 0x201)), Grade.GOOD),
    ],
)
def test_a_golden_image_has_to_be_there(pieces: tuple[Segment, ...], grade: Grade) -> None:
    target = replace(L476, failsafe=Failsafe.GOLDEN_BANK)
    assert check(target, Contents((word(OPTIONS, FACTORY | BFB2), *pieces))).grade is grade


def test_an_image_for_the_other_bank_is_linked_for_where_it_runs() -> None:
    target = replace(L476, failsafe=Failsafe.GOLDEN_BANK)
    contents = Contents(
        (word(OPTIONS, FACTORY | BFB2), word(BASE, 0x2000_8000), word(BASE + 4, BASE + 0x201))
    )
    for start in (BASE, BANK_2):
        assert check(target, contents, image(start=start)).grade is Grade.GOOD
    assert check(target, contents, image(start=BANK_2, reset=BANK_2 + 0x101)).check is Check.VECTORS


@pytest.mark.parametrize(
    ("at_base", "grade"), [(b"\xff" * 8, Grade.WAIT), (b"\x01" * 8, Grade.GOOD), (None, Grade.GOOD)]
)
def test_a_resident_loader_has_to_be_there_as_far_as_can_be_seen(at_base: bytes | None, grade: Grade) -> None:
    target = Target(memory=L476_MAP, failsafe=Failsafe.RESIDENT_LOADER, application=BASE + 0x4000)
    contents = Contents(() if at_base is None else (Segment(BASE, at_base),))
    # What an application begins with is its loader's business.
    assert check(target, contents, (Segment(BASE + 0x4000, b"HEAD" * 40),)).grade is grade


def test_a_resident_loader_that_speaks_dfu_shows_only_its_application() -> None:
    memory = MemoryMap.parse("@Application  /0x08004000/0504*0002Kg")
    target = Target(memory=memory, failsafe=Failsafe.RESIDENT_LOADER, application=BASE + 0x4000)
    whole = (Segment(BASE + 0x4000, b"HEAD" * 40),)
    assert wanted(target, whole, whole=True) == (Read(BASE + 0x4000, 160),)
    assert check(target, Contents((Segment(BASE + 0x4000, b"\xff" * 160),)), whole).grade is Grade.GOOD


def test_whoever_says_none_does_not_wait() -> None:
    for target in (replace(L476, failsafe=Failsafe.NONE), Target(memory=L476_MAP)):
        finding = check(target, Contents())
        assert finding.grade is Grade.GOOD
    assert "bricks" in preflight(target, image(), Contents(), block_size=2048)[-1].detail


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("STM32L476RG", "bfb2, with BFB2=1; resident-loader"),
        ("STM32L432KC", "can have: empty-check; resident-loader"),
        ("STM32L496ZG", "can have: empty-check; resident-loader"),
        ("STM32F103RB", "nobody said which part it is"),
    ],
)
def test_a_class_that_says_nothing_waits_and_is_told_what_it_could_say(part: str, words: str) -> None:
    memory = MemoryMap.parse("@Internal Flash  /0x08000000/0128*0002Kg")
    finding = check(
        Target(memory=memory, declared=False, family=family_of(part)), Contents(), image(stack=0x2000_8000)
    )
    assert (finding.check, finding.grade) == (Check.FAILSAFE, Grade.WAIT)
    assert words in finding.detail


# --- what has to be read -----------------------------------------------------------------------------


def test_what_is_read_before_a_plan() -> None:
    assert wanted(L476, image(size=4001), whole=True) == (
        Read(BANK_2, 4),
        Read(OPTIONS, 4, required=False),
        Read(BASE, 4008),
    )


def test_no_byte_is_read_twice() -> None:
    reads = wanted(L476, joined([*image(), Segment(BANK_2, bytes(64))]), whole=True)
    assert reads == (Read(OPTIONS, 4, required=False), Read(BASE, 4000), Read(BANK_2, 64))


def test_after_a_power_cut_no_more_is_read_than_the_rom_reads_itself() -> None:
    assert wanted(L476, image(size=4001), whole=False)[-1] == Read(BASE, 8)


def test_a_loader_tells_its_version_where_that_matters() -> None:
    target = target_of("STM32G474RE", "256*002Kg", Failsafe.BFB2)
    assert Read(LOADER_ID, 2, required=False) in wanted(target, image(), whole=True)


@pytest.mark.parametrize(
    ("part", "failsafe", "declared", "words"),
    [
        ("STM32L476RG", Failsafe.BFB2, True, None),
        ("STM32L476RG", Failsafe.GOLDEN_BANK, True, None),
        ("STM32L476RG", Failsafe.EMPTY_CHECK, True, "has no empty check"),
        ("STM32L476RG", Failsafe.NONE, False, "nobody said what protects it when the power fails; STM32L47"),
        ("STM32L476RG", Failsafe.NONE, True, None),
        ("STM32L432KC", Failsafe.EMPTY_CHECK, True, None),
        ("STM32L432KC", Failsafe.BFB2, True, "does not look for a bank"),
        ("STM32L496ZG", Failsafe.BFB2, True, "not proven"),
        ("STM32F769NI", Failsafe.GOLDEN_BANK, True, "whatever bank 2 holds"),
        ("AT32F403", Failsafe.RESIDENT_LOADER, True, None),
        ("AT32F403", Failsafe.BFB2, True, "without a part"),
        ("AT32F403", Failsafe.NONE, False, "nobody said which part it is, and what"),
    ],
)
def test_what_the_configuration_alone_tells_against_a_class(
    part: str, failsafe: Failsafe, declared: bool, words: str | None
) -> None:
    doubt = standing_doubt(failsafe, declared, family_of(part))
    assert (doubt is None) if words is None else (doubt is not None and words in doubt)


@pytest.mark.parametrize("failsafe", Failsafe)
def test_only_a_golden_image_is_at_risk_from_an_application_that_jumps(failsafe: Failsafe) -> None:
    family = family_of("STM32L476RG")
    doubt, other = (
        standing_doubt(failsafe, declared=True, family=family, by_software=jumps) for jumps in (True, False)
    )
    assert (doubt != other) is (failsafe is Failsafe.GOLDEN_BANK)
