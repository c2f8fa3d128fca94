"""Setting BFB2 of simulated devices: on the bus, over pyusb's interface, judged by what the chip holds then."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.app import provision as app
from firmwarden.app.provision import Ending
from firmwarden.drivers.boot.option_block import Result
from firmwarden.errors import AttemptFailed, NotFound, Refused
from firmwarden.protocol.dfu.requests import Request
from firmwarden.simulate.dfu.chip import EraseOptions, Landing, ProgramOption
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.simulate.dfu.work import When
from support.dfu_simulated import image, settings
from support.option_bench import BFB2, L476, OptionBench

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.chip import Operation
    from firmwarden.simulate.dfu.work import Moment

PART: Final = "STM32L476RG"


def survey_of(bench: OptionBench, part: str = PART) -> app.Survey:
    return app.survey(part, bench.way())


def provisioned(bench: OptionBench, part: str = PART) -> Ending:
    return app.provision(survey_of(bench, part))


def test_bfb2_is_set_and_nothing_else() -> None:
    bench = OptionBench()

    survey = survey_of(bench)
    assert bench.chip.stored == bench.factory
    assert app.provision(survey) == Ending(result=Result.DONE)

    assert bench.options == int.from_bytes(bench.factory[:4], "little") | BFB2
    assert bench.chip.stored[8:] == bench.factory[8:]
    assert bench.chip.options["BFB2"] == 1
    assert bench.chip.level == 0
    assert survey_of(bench).change.nothing_to_do


@pytest.mark.parametrize(
    ("name", "part"),
    [("stm32l4s5", "STM32L4S5VI"), ("stm32l4p5", "STM32L4P5CG"), ("stm32g474", "STM32G474RE")],
)
def test_other_families_that_are_known(name: str, part: str) -> None:
    bench = OptionBench(PARTS[name])
    assert provisioned(bench, part).result is Result.DONE
    assert bench.chip.options["BFB2"] == 1


def test_a_device_that_is_whole_starts_from_then_on_and_one_without_an_image_stays() -> None:
    bench = OptionBench()
    provisioned(bench)
    bench.chip.boot0 = 0

    bench.device.reset(time.monotonic())
    assert bench.device.boot is not None
    assert bench.device.boot.firmware is not None
    assert bench.device.boot.firmware.name == "old"

    bench.chip.flash.erase(0)
    bench.device.reset(time.monotonic())
    assert bench.device.boot is not None
    assert bench.device.boot.landing is Landing.ROM


def test_a_device_that_restarts_into_its_application_cannot_be_asked() -> None:
    bench = OptionBench()
    survey = survey_of(bench)
    bench.chip.boot0 = 0

    ending = app.provision(survey)

    assert ending.result is Result.RUNNING
    assert "application old" in ending.detail


@pytest.mark.parametrize(
    ("operation", "skip", "when", "result"),
    [
        (EraseOptions, 0, When.BEFORE, Result.UNCHANGED),
        (EraseOptions, 0, When.DURING, Result.PROTECTED),
        (EraseOptions, 0, When.AFTER, Result.PROTECTED),
        (ProgramOption, 0, When.DURING, Result.PROTECTED),
        (ProgramOption, 0, When.AFTER, Result.DIFFERENT),
        (ProgramOption, 3, When.DURING, Result.DIFFERENT),
        (ProgramOption, 9, When.AFTER, Result.DONE),
    ],
)
def test_inv2_what_a_power_cut_leaves_is_told(
    operation: type[EraseOptions | ProgramOption], skip: int, when: When, result: Result
) -> None:
    """The hazard for which no update writes option bytes: nothing here can mend it, and nothing may gloss over it."""
    bench = OptionBench()
    survey = survey_of(bench)
    bench.cut(operation, when, skip=skip)

    ending = app.provision(survey)

    bench.device.watcher = None
    assert ending.result is result
    assert (bench.chip.stored == bench.factory) == (result is Result.UNCHANGED)
    assert bench.chip.level == (1 if result is Result.PROTECTED else 0)


def test_who_interrupts_it_waits_for_its_end() -> None:
    bench = OptionBench()
    survey = survey_of(bench)

    def interrupt(moment: Moment) -> None:
        if isinstance(moment.operation, EraseOptions):
            os.kill(os.getpid(), signal.SIGINT)

    bench.device.watcher = interrupt
    assert app.provision(survey).result is Result.DONE


def test_a_loader_that_does_not_write_them_and_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one user saw an STM32L476 do."""
    bench = OptionBench()
    monkeypatch.setattr(bench.chip, "storing", lambda _stored: [])
    assert provisioned(bench).result is Result.UNCHANGED


def test_a_loader_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_BACK_WITHIN_S", 0.3)
    bench = OptionBench()
    survey_of(bench)
    # The address of the option bytes is set to read them, and again to write them.
    at = bench.device.transfers[Request.DNLOAD] + 2
    bench = OptionBench(faults=(Fault(kind=Kind.STALL, on=Request.DNLOAD, at=at),))

    ending = provisioned(bench)

    assert ending.result is Result.UNCHANGED
    assert "writing option bytes" in ending.detail
    assert bench.chip.stored == bench.factory


def test_a_device_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_BACK_WITHIN_S", 0.3)
    dead = replace(image("old", L476, 6000), sets_vtor=False)
    bench = OptionBench(known=(dead,), installed={1: (dead,)})
    survey = survey_of(bench)
    bench.chip.boot0 = 0
    assert app.provision(survey).result is Result.GONE
    assert bench.chip.options["BFB2"] == 1


# --- what is left alone ----------------------------------------------------------------------------------


def test_a_loader_that_spoils_the_option_bytes_of_the_other_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not written, and read back all the same."""
    bench = OptionBench(PARTS["stm32g474"])
    survey = survey_of(bench, "STM32G474RE")
    honest = bench.chip.storing

    def storing(stored: bytes) -> list[Operation]:
        return honest(bench.chip.part.options.changed(stored, {"SEC_SIZE2": 1}))

    monkeypatch.setattr(bench.chip, "storing", storing)
    assert app.provision(survey).result is Result.DIFFERENT


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ({"DUALBANK": 0}, "DUALBANK=1"),
        ({"PCROP1_STRT": 0, "PCROP1_END": 3}, "PCROP"),
        ({"WRP1A_STRT": 0, "WRP1A_END": 7}, "WRP"),
    ],
)
def test_what_looks_strange_is_left_alone(factory: dict[str, int], words: str) -> None:
    bench = OptionBench(factory=factory)
    with pytest.raises(Refused, match=words):
        survey_of(bench)
    assert bench.chip.stored == bench.factory


def test_a_device_that_is_read_protected_is_left_alone() -> None:
    bench = OptionBench(factory={"RDP": 0xBB})
    with pytest.raises(AttemptFailed, match="read-protected"):
        survey_of(bench)


def test_another_part_is_left_alone() -> None:
    bench = OptionBench(PARTS["stm32f405"])
    with pytest.raises(Refused, match="no STM32L476RG"):
        survey_of(bench)


def test_option_bytes_that_changed_since_they_were_shown_are_left_alone() -> None:
    bench = OptionBench()
    survey = survey_of(bench)
    bench.chip.stored = bench.chip.part.options.changed(bench.chip.stored, {"nBOOT1": 0})
    with pytest.raises(Refused, match="no longer what was shown"):
        app.provision(survey)
    assert bench.chip.options["BFB2"] == 0


# --- which device ----------------------------------------------------------------------------------------


def test_a_device_in_its_application_is_not_spoken_to() -> None:
    bench = OptionBench(boot0=False)
    with pytest.raises(NotFound, match="not the loader in a ROM"):
        survey_of(bench)
    assert not bench.device.transfers


def test_inv4_another_unit_at_the_same_place_is_not_written_to() -> None:
    bench = OptionBench()
    survey = survey_of(bench)
    bench.bus.unplug(1)
    other = SimDfu(settings(L476, boot0=True, boot_s=0.0, name="other"))
    bench.bus.plug(other, 1)
    with pytest.raises(NotFound, match="another unit"):
        app.provision(survey)
    assert not other.transfers


def test_inv2_another_unit_that_comes_in_its_place_tells_nothing_of_it() -> None:
    bench = OptionBench()
    survey = survey_of(bench)

    def swap(_moment: Moment) -> None:
        bench.device.serial = "another"  # from its next start on

    bench.device.watcher = swap
    ending = app.provision(survey)
    assert ending.result is Result.GONE
    assert "another unit is there now" in ending.detail
