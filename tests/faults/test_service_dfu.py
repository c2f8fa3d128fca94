"""DFU devices whose cable, supply or host fails, and the whole service: it finishes by itself, with zero exceptions.

Every transfer and every act of the flash is cut with the driver alone in ``test_every_transfer_dfu``; here is a sample
of them with the registry, the planner and a real store, which has to know the unit again in its ROM's loader.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.model import JobState
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.work import Cut, When
from support import virtual_time
from support.dfu_bench import CLASS, DEVICE, NEW, content
from support.dfu_service import DfuStory
from support.virtual_service import Killed

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.simulate.dfu.work import Moment
    from support.virtual_service import End

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def story(*faults: Fault, self_powered: bool = False, database: Path | None = None) -> DfuStory:
    settings = replace(DEVICE, faults=faults, self_powered=self_powered)
    return DfuStory(settings, CLASS, content(NEW), database=database)


def well_ended(told: DfuStory, end: End) -> None:
    """What holds at the end of every story, whatever went wrong on the way."""
    device = told.usb.device
    assert end.job.state is JobState.SUCCEEDED
    assert told.holds_it()
    assert end.jobs == 1, "one release for one device is one job"
    assert sum(count for landing, count in device.landings.items() if landing.dead) == 0
    assert end.wear.life >= max(device.chip.flash.wear), "wear is never counted short"


def undisturbed() -> DfuStory:
    told = story()
    end = virtual_time.run(told.live)
    well_ended(told, end)
    assert [attempt.number for attempt in end.attempts] == [1]
    return told


@pytest.mark.parametrize("kind", [Kind.UNPLUG, Kind.POWER], ids=["cable", "power"])
def test_inv5_a_transfer_that_is_cut_is_gone_on_with_by_itself(kind: Kind) -> None:
    transfers = undisturbed().usb.transfers
    for number in range(0, transfers, 3):
        fault = Fault(kind=kind, at=number, back_s=0.5, after=number % 2 == 0)
        told = story(fault, self_powered=kind is Kind.UNPLUG)
        try:
            end = virtual_time.run(told.live)
            well_ended(told, end)
            assert len(end.attempts) <= 2
        except BaseException as exc:
            exc.add_note(f"{fault}, of {transfers} transfers")
            raise


def test_inv5_a_flash_that_is_cut_at_work_is_gone_on_with_by_itself() -> None:
    moments: list[Moment] = []
    whole = story()
    whole.usb.device.watcher = moments.append
    well_ended(whole, virtual_time.run(whole.live))
    for number in range(len(moments) // 50, len(moments), len(moments) // 50):
        told = story()
        cut = Cut(list(When)[number % 3])

        def strike(moment: Moment, number: int = number, cut: Cut = cut) -> Cut | None:
            return cut if moment.number == number else None

        told.usb.device.watcher = strike
        try:
            well_ended(told, virtual_time.run(told.live))
        except BaseException as exc:
            exc.add_note(f"{cut} at {moments[number]}")
            raise


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    "faults",
    [(), (Fault(kind=Kind.UNPLUG, at=60, back_s=0.5),), (Fault(kind=Kind.POWER, at=60, back_s=0.5),)],
    ids=["nothing", "cable", "power"],
)
def test_inv5_killed_at_every_commit(faults: tuple[Fault, ...], side: str, tmp_path: Path) -> None:
    self_powered = any(fault.kind is Kind.UNPLUG for fault in faults)
    whole = story(*faults, self_powered=self_powered)
    well_ended(whole, virtual_time.run(whole.live))
    assert whole.commits >= 5
    for number in range(whole.commits):
        told = story(*faults, self_powered=self_powered, database=tmp_path / f"{number}.db")
        setattr(told, f"kill_{side}", number)
        try:
            with pytest.raises(Killed):
                virtual_time.run(told.live)
            told.kill_before = told.kill_after = None
            well_ended(told, virtual_time.run(told.live))
        except BaseException as exc:
            exc.add_note(f"killed {side} commit {number} of {whole.commits}")
            raise
