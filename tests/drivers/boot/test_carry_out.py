"""A procedure said to a simulated device: what it holds in the end, and what it is never told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.drivers.boot.carry_out import StageBegins, carry_out
from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe, Stage
from firmwarden.drivers.boot.procedures import procedure
from firmwarden.drivers.boot.target import Target
from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Control, Progress
from firmwarden.protocol.dfu.dfuse_host import GRANULE, DfuseHost, ReadsBackWrong
from firmwarden.protocol.dfu.requests import Request
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.simulate.dfu.chip import Landing, Reset
from support.dfu_script import run
from support.dfu_simulated import L476, Bench, image, settings

if TYPE_CHECKING:
    from firmwarden.drivers.boot.procedures import Procedure
    from firmwarden.protocol.dfu.conversation import Conversation, Event, Reply
    from firmwarden.simulate.dfu.firmware import Firmware

OLD = image("old", L476, 5000)
NEW = image("new", L476, 4500)
TARGET = Target(memory=L476.flash_map, failsafe=Failsafe.BFB2, family=family_of("STM32L476RG"))


def bench(*images: Firmware, **factory: int) -> Bench:
    """Return a device in its ROM's loader."""
    made = Bench(settings(L476, *(images or (OLD, NEW)), factory={"BFB2": 1} | factory, boot0=True))
    assert made.device.boot is not None
    assert made.device.boot.landing is Landing.ROM
    # What runs after the next reset is the flash's to say again.
    made.device.chip.boot0 = 0
    return made


def visit(made: Bench, plan: Procedure, granule: int = TARGET.granule) -> Conversation[bool]:
    identity = made.device.identity
    assert identity is not None
    assert identity.dfu is not None
    host = DfuseHost(Unit(interface=0, functional=identity.dfu.functional), TARGET.memory, granule=granule)
    yield from host.make_idle()
    return (yield from carry_out(host, plan))


def planned() -> Procedure:
    return procedure(TARGET, NEW.segments, Contents())


def runs(made: Bench) -> Firmware | None:
    return made.device.boot.firmware if made.device.boot else None


def test_a_device_is_updated_and_runs_it_after_the_next_reset_too() -> None:
    made = bench()
    assert made.run(visit(made, planned()))
    made.wait(1.0)
    assert runs(made) is NEW
    made.cycle()
    assert runs(made) is NEW


def test_nothing_is_written_to_a_device_that_holds_the_image() -> None:
    made = bench(NEW)
    assert made.run(visit(made, procedure(TARGET, NEW.segments, Contents(NEW.segments))))
    assert sum(made.device.chip.flash.wear) == 0
    assert runs(made) is NEW


def test_stages_are_announced_before_they_begin() -> None:
    made = bench()
    began: list[tuple[Stage, int, bool]] = []

    def answer(event: Event) -> Reply:
        if isinstance(event, StageBegins):
            began.append((event.stage, sum(made.device.chip.flash.wear), made.device.chip.contains(NEW)))
        return made.answer(event)

    run(visit(made, planned()), answer)
    assert began == [
        (Stage.READ, 0, False),
        (Stage.INVALIDATE, 0, False),
        (Stage.ERASE, 1, False),
        (Stage.WRITE, 3, False),
        (Stage.VERIFY, 3, False),
        (Stage.COMMIT, 3, False),
        (Stage.CHECK, 3, True),
        (Stage.LEAVE, 3, True),
    ]


def test_a_commit_of_many_blocks_ends_with_the_vectors() -> None:
    """Where nothing is known of the silicon, the first page is the commit."""
    target = Target(memory=L476.flash_map)
    made = Bench(settings(L476, OLD, NEW, boot0=True, traits=replace(L476.traits, transfer_size=256)))
    plan = procedure(target, NEW.segments, Contents())
    blank: list[bool] = []

    def answer(event: Event) -> Reply:
        flash = made.device.chip.flash
        if isinstance(event, Progress) and flash.read(1024, 8) != b"\xff" * 8:
            blank.append(flash.read(0, 8) == b"\xff" * 8)
        return made.answer(event)

    run(visit(made, plan, granule=target.granule), answer)
    assert blank[0]
    assert not blank[-1]


def test_inv1_wherever_a_visit_ends_the_device_was_not_told_to_start_a_part() -> None:
    made = bench()
    fresh = made.device.snapshot()
    events = 0
    while True:
        made.device.restore(fresh)
        conversation = visit(made, planned())
        try:
            event = next(conversation)
            for _ in range(events):
                event = conversation.send(made.answer(event))
        except StopIteration:
            break
        conversation.close()
        boot = made.device.boot
        assert boot is not None
        assert boot.landing is Landing.ROM or boot.firmware is NEW
        # A prime, so that in the end every kind of step was the last one.
        events += 7
    assert events > 100
    assert runs(made) is NEW


def test_inv1_a_first_page_that_silently_stays_is_found_before_another_is_touched() -> None:
    """Loaders do not tell that a page is write-protected, and a device with its old vectors would start the rest."""
    made = bench(WRP1A_STRT=0, WRP1A_END=0)
    with pytest.raises(AttemptFailed) as raised:
        made.run(visit(made, planned()))
    assert raised.value.cause.code is CauseCode.READ_BACK_DIFFERS
    assert sum(made.device.chip.flash.wear) == 0
    assert made.device.chip.boot(Reset.POWER_ON).firmware is OLD


def test_inv1_another_page_that_silently_stays_is_found_before_the_commit() -> None:
    made = bench(WRP1A_STRT=1, WRP1A_END=1)
    with pytest.raises(AttemptFailed) as raised:
        made.run(visit(made, planned()))
    assert raised.value.cause.code is CauseCode.READ_BACK_DIFFERS
    assert made.device.chip.boot(Reset.POWER_ON).landing is Landing.ROM


def test_blocks_padded_beyond_the_granule_would_spoil_the_commit() -> None:
    """Why the host has to know the granule: with the strictest alignment the body would reach into the first one."""
    assert TARGET.granule < GRANULE
    made = bench()
    with pytest.raises(AttemptFailed) as raised:
        made.run(visit(made, planned(), granule=GRANULE))
    assert raised.value.cause.code is CauseCode.READ_BACK_DIFFERS


def test_leaving_is_the_only_empty_download() -> None:
    made = bench()
    empty = []

    def answer(event: Event) -> Reply:
        setup = getattr(event, "setup", None)
        if setup is not None and setup.dfu_request is Request.DNLOAD and not setup.length:
            empty.append(made.device.chip.contains(NEW))
        return made.answer(event)

    run(visit(made, planned()), answer)
    assert empty == [True]


# --- a page that does not take its bytes -----------------------------------------------------------------


class Flaky:
    """Spoils the first page that it is told to at the beginning of a stage, as often as it is told to."""

    def __init__(self, made: Bench, stage: Stage, page: int, times: int) -> None:
        self.stages: list[Stage] = []
        self._made = made
        self._stage = stage
        self._page = page
        self._left = times

    def answer(self, event: Event) -> Reply:
        if isinstance(event, StageBegins):
            self.stages.append(event.stage)
        reply = self._made.answer(event)
        setup = getattr(event, "setup", None)
        reads = setup is not None and setup.dfu_request is Request.UPLOAD
        if reads and self.stages and self.stages[-1] is self._stage and self._left:
            self._left -= 1
            self.spoil()
            return self._made.answer(event)
        return reply

    def spoil(self) -> None:
        flash = self._made.device.chip.flash
        start, _ = flash.span(self._page)
        # A cell that lost its charge: programming all of a granule to zero is what flash always takes.
        flash.program(start + 64, bytes(8))


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_page_that_reads_wrong_is_written_once_more_before_the_commit(page: int) -> None:
    made = bench()
    flaky = Flaky(made, Stage.VERIFY, page, 1)
    run(visit(made, planned()), flaky.answer)
    made.wait(1.0)
    assert runs(made) is NEW
    assert made.device.chip.flash.wear[:3] == [1 + (each == page) for each in range(3)]


def test_inv3_a_page_that_reads_wrong_again_is_the_device_s_verdict() -> None:
    made = bench()
    flaky = Flaky(made, Stage.VERIFY, 1, 100)
    with pytest.raises(ReadsBackWrong) as raised:
        run(visit(made, planned()), flaky.answer)
    assert raised.value.cause.code is CauseCode.READ_BACK_DIFFERS
    assert raised.value.address == 0x0800_0840
    assert made.device.chip.flash.wear[:3] == [1, 2, 1], "no page is erased a third time"
    made.cycle()
    assert made.device.boot is not None
    assert made.device.boot.landing is Landing.ROM, "it was not committed"


def test_inv1_a_commit_that_reads_wrong_begins_again_with_the_erase_of_its_page() -> None:
    made = bench()
    blank: list[bool] = []

    class FirstGranule(Flaky):
        def spoil(self) -> None:
            made.device.chip.flash.program(0, bytes(8))

        def answer(self, event: Event) -> Reply:
            if (
                isinstance(event, Control)
                and event.setup.dfu_request is Request.DNLOAD
                and len(event.data) == 8
            ):
                blank.append(made.device.chip.flash.read(0, 8) == b"\xff" * 8)
            return super().answer(event)

    flaky = FirstGranule(made, Stage.CHECK, 0, 1)
    run(visit(made, planned()), flaky.answer)
    made.wait(1.0)
    assert runs(made) is NEW
    assert blank == [True, True]
    assert made.device.chip.flash.wear[:3] == [2, 1, 1]
