"""DFU updates whose power or cable fails at every instant, on simulated chips: what comes up, and how it goes on.

The table that ``drivers/boot/outlook.py`` promises is held against what the chips do.  In a stage that it calls safe
no cut may need a hand.  Whenever none is needed, wherever the cut was, the update must be finished by what the journal
and the flash tell alone.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from firmwarden.drivers.boot.families import FAMILIES
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.option_block import Result
from firmwarden.drivers.boot.outlook import Failsafe, Stage
from firmwarden.drivers.boot.procedures import procedure
from firmwarden.drivers.boot.provisioning import setting_of
from firmwarden.drivers.entry import EnterNone
from firmwarden.errors import Refused
from firmwarden.simulate.dfu.chip import Landing, Reset
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.parts import PARTS
from support import virtual_time
from support.dfu_stood import decides, inside_the_commit, press_boot0, stood
from support.option_cuts import REFUSED, SETTABLE, Span, option_campaign
from support.power_cut_page import PAGE, render
from support.power_cuts import (
    ORDERED,
    Case,
    campaign,
    cases,
    enter_loader,
    finish,
    go_on,
    journal,
    look,
    operations,
    relied_on,
    stand_of,
)

if TYPE_CHECKING:
    from firmwarden.drivers.boot.procedures import Procedure
    from firmwarden.model import Attempt
    from firmwarden.simulate.dfu.chip import Operation
    from firmwarden.simulate.dfu.device import Snapshot
    from firmwarden.simulate.dfu.work import Moment
    from support.power_cuts import Stand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FULL_SIZE = (
    Case("stm32l476", Failsafe.BFB2),
    Case("stm32l476", Failsafe.GOLDEN_BANK),
    Case("stm32l432", Failsafe.EMPTY_CHECK),
    Case("stm32f429", Failsafe.BFB2),
    Case("stm32l476", Failsafe.RESIDENT_LOADER),
)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_inv1_every_cut_of_the_power_ends_as_the_table_says(case: Case) -> None:
    tallies = campaign(case)
    assert sum(tally.cuts.total() for tally in tallies.values()) > 100
    for stage, tally in tallies.items():
        assert tally.cuts, stage
        assert tally.unfinished == [], stage
    if relied_on(case) is None:
        assert {
            stage: tally.dead for stage, tally in tallies.items() if tally.outlook.safe and tally.dead
        } == {}


def test_every_family_that_protects_itself_is_cut() -> None:
    cut = {family_of(ORDERED.get(case.name, case.name)) for case in cases()}
    assert {
        family.name for family in FAMILIES if (family.empty_check or family.bank_check) and family not in cut
    } == set()


@pytest.mark.parametrize("name", PARTS)
def test_what_the_table_calls_dead_is(name: str) -> None:
    """Else a model that is too kind would make every promise come true."""
    family = family_of(ORDERED.get(name, name))
    assert family is not None
    writing = campaign(Case(name, Failsafe.NONE))[Stage.WRITE]
    if family.empty_check is None:
        assert writing.dead == writing.cuts.total()
    else:
        assert writing.dead == 0, "a part with the empty check is protected, whatever its class says"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case("stm32g474-d3", Failsafe.BFB2), "choose wrongly"),
        (Case("stm32l496", Failsafe.BFB2), "not proven"),
        (Case("stm32l073", Failsafe.BFB2), "not proven"),
    ],
    ids=str,
)
def test_what_is_not_relied_on_waits(case: Case, words: str) -> None:
    assert words in str(relied_on(case))


def test_a_loader_that_is_not_relied_on_is_so_for_a_reason() -> None:
    tallies = campaign(Case("stm32g474-d3", Failsafe.GOLDEN_BANK))
    assert tallies[Stage.WRITE].dead == 0
    tallies = campaign(Case("stm32g474-d3", Failsafe.BFB2))
    assert tallies[Stage.WRITE].dead == tallies[Stage.WRITE].cuts.total()


# --- at full size, and again and again ---------------------------------------------------------------


def all_operations(stand: Stand, plan: Procedure) -> list[tuple[Stage, Operation]]:
    """Return the operations of a procedure in order; nothing is done."""
    return [
        (phase.stage, operation)
        for phase in plan.phases
        if phase.stage not in {Stage.VERIFY, Stage.CHECK}
        for step in phase.steps
        for operation in operations(stand, step, check=False)
    ]


def any_tear(rng: random.Random) -> Tear:
    return Tear(
        rng.choice([0.0, 0.05, 0.5, 0.95, 1.0]),
        seed=rng.getrandbits(32),
        check_bits=rng.choice(list(CheckBits)),
    )


@pytest.mark.parametrize("case", FULL_SIZE, ids=str)
def test_cuts_of_an_update_at_full_size(case: Case, samples: int) -> None:
    rng = random.Random(str(case))
    stand = stand_of(case, PARTS[case.name], size=48 << 10)
    chip = stand.chip
    assert chip.boot(Reset.POWER_ON).firmware is stand.old
    enter_loader(chip)
    contents = look(stand, whole=True)
    plan = procedure(stand.target, stand.image, contents)
    unfinished = journal(stand, contents)
    todo = all_operations(stand, plan)
    safe = {phase.stage for phase in plan.phases if phase.outlook.safe}
    places = [number for number, (stage, _) in enumerate(todo) if stage in safe]
    chosen = set(rng.sample(places, min(samples, len(places))))
    for number, (_, operation) in enumerate(todo):
        if number in chosen:
            snapshot = chip.save()
            chip.tear(operation, any_tear(rng))
            boot = chip.boot(Reset.POWER_ON)
            assert not boot.dead, (operation, boot)
            assert finish(stand, boot, unfinished).firmware is stand.new, operation
            chip.load(snapshot)
        assert chip.apply(operation)
    assert chip.boot(Reset.POWER_ON).firmware is stand.new


RELIED_ON = tuple(case for case in cases() if case.failsafe is not Failsafe.NONE and relied_on(case) is None)


@pytest.mark.parametrize("case", RELIED_ON, ids=str)
def test_a_supply_that_fails_again_and_again(case: Case) -> None:
    """Each try begins with what the one before left, and with a journal of its own."""
    for seed in range(3):
        rng = random.Random(f"{case}/{seed}")
        stand = stand_of(case)
        chip = stand.chip
        boot = chip.boot(Reset.POWER_ON)
        enter_loader(chip)
        contents = look(stand, whole=True)
        plan: Procedure | None = procedure(stand.target, stand.image, contents)
        unfinished = journal(stand, contents)
        for _ in range(5):
            assert plan is not None
            safe = {phase.stage for phase in plan.phases if phase.outlook.safe}
            todo = all_operations(stand, plan)
            last = rng.choice([number for number, (stage, _) in enumerate(todo) if stage in safe])
            for _, operation in todo[:last]:
                assert chip.apply(operation)
            chip.tear(todo[last][1], any_tear(rng))
            boot = chip.boot(Reset.POWER_ON)
            assert not boot.dead, boot
            if boot.firmware is stand.new:
                break
            enter_loader(chip)
            contents = look(stand, whole=False)
            plan = go_on(stand, unfinished)
            unfinished = journal(stand, contents)
        assert finish(stand, boot, unfinished).firmware is stand.new


# --- through a loader --------------------------------------------------------------------------------
THROUGH_A_LOADER = tuple(
    Case(name, failsafe)
    for name, failsafe in (
        ("stm32l476", Failsafe.BFB2),
        ("stm32l476", Failsafe.GOLDEN_BANK),
        ("stm32l476", Failsafe.RESIDENT_LOADER),
        ("stm32l432", Failsafe.EMPTY_CHECK),
        ("stm32f042", Failsafe.EMPTY_CHECK),
        ("stm32f405", Failsafe.RESIDENT_LOADER),
        ("stm32f429", Failsafe.BFB2),
        ("stm32l073", Failsafe.RESIDENT_LOADER),
        ("stm32h743", Failsafe.RESIDENT_LOADER),
        ("stm32u575", Failsafe.RESIDENT_LOADER),
        ("stm32c551", Failsafe.EMPTY_CHECK),
    )
)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_part_can_be_updated_through_its_loader(case: Case) -> None:
    """Else a procedure could ask for what no loader does: a write at an odd place, or into half a granule."""
    stand = stand_of(case)

    async def story() -> None:
        unit = stood(stand, attended=True)
        async with unit.bench() as at:
            await press_boot0(at)
            await at.driver(unit.data).update(unit.data)
            await at.cycle()
            assert at.device.boot is not None
            assert at.device.boot.firmware is stand.new

    virtual_time.run(story)


@pytest.mark.parametrize("case", THROUGH_A_LOADER, ids=str)
def test_cuts_at_every_operation_and_every_status_poll(case: Case) -> None:
    rng = random.Random(str(case))
    stand = stand_of(case)
    moments: list[tuple[Moment, Snapshot, list[Attempt]]] = []

    async def story() -> None:
        unit = stood(stand)
        if case.failsafe is Failsafe.GOLDEN_BANK:
            unit = stood(stand, enter=EnterNone())
        async with unit.bench(flash_time=0.0) as at:
            device, book = at.device, at.book

            def watch(moment: Moment) -> None:
                moments.append((moment, device.snapshot(), list(book.attempts)))

            await press_boot0(at)
            device.watcher = watch
            await at.driver(unit.data).update(unit.data)
            device.watcher = None
            for moment, snapshot, attempts in moments:
                if inside_the_commit(stand, moment.operation):
                    continue
                device.restore(snapshot)
                book.attempts[:] = attempts
                if moment.operation is not None and not decides(stand, moment.operation):
                    device.chip.tear(moment.operation, any_tear(rng))
                await at.cycle()
                await press_boot0(at)
                await at.driver(unit.data).update(unit.data)
                await at.cycle()
                assert device.boot is not None
                assert device.boot.firmware is stand.new, moment

    virtual_time.run(story)
    assert any(moment.operation is None for moment, _, _ in moments)


# --- option bytes ------------------------------------------------------------------------------------


def test_every_part_whose_bit_can_be_set_is_cut() -> None:
    def can_be_set(name: str) -> bool:
        try:
            oldest = setting_of(ORDERED.get(name, name)).check.loader_at_least
        except Refused:
            return False
        return oldest is None or PARTS[name].loader_id >= oldest

    assert set(SETTABLE) == {name for name in PARTS if can_be_set(name)}


@pytest.mark.parametrize("name", SETTABLE)
def test_inv2_every_cut_of_an_option_write_is_called_what_it_is(name: str) -> None:
    cuts = option_campaign(name)
    assert {cut.span for cut in cuts} == set(Span)
    for cut in cuts:
        assert cut.boot.landing is Landing.APPLICATION, "no operation is on the flash"
        match cut.said:
            case Result.DONE:
                assert cut.shown_as_meant
                assert not cut.torn or not cut.all_seen, cut
            case Result.PROTECTED:
                assert cut.level == 1
            case Result.DIFFERENT:
                assert cut.torn
                assert cut.level == 0
            case Result.UNREADABLE:
                assert cut.left == "new", "the power failed while the command looked"
            case _:
                assert cut.said in {Result.UNCHANGED, REFUSED}
                assert cut.left == "old"
        if cut.span in {Span.BEFORE, Span.AFTER}:
            assert cut.left == ("old" if cut.span is Span.BEFORE else "new")
        if cut.torn:
            assert cut.again == ("nothing-to-do" if cut.shown_as_meant else REFUSED)
        else:
            assert cut.again == ("written" if cut.left == "old" else "nothing-to-do")


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_shows_what_the_campaign_saw() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"
