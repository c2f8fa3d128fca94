"""A cable or a supply that fails at every control transfer of a DFU update, and at every act of the flash.

The whole driver is in it, with a journal that remembers what a store would, and the service's own policy decides what
follows.  Nothing is done by hand between the attempts: the cable and the power come back, that is all.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu_settings import DfuSettings
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.simulate.dfu.chip import ErasePage, Program
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.firmware import Service
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.work import Cut, When
from support import virtual_time
from support.dfu_bench import CLASS, until_done, usb_bench
from support.dfu_sealed import END, FILE, PLAIN, START, device
from support.dfu_simulated import settings as simulated
from support.power_cuts import Case, stand_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.simulate.dfu.chip import Operation, SavedChip
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated
    from firmwarden.simulate.dfu.work import Moment
    from support.dfu_bench import UsbBench
    from support.power_cuts import Stand

pytestmark = pytest.mark.timeout(120)

Stood = tuple["Simulated", DfuSettings, bytes, "SavedChip | None"]
Change = tuple[Fault | None, tuple[int, Cut] | None]


# --- what is updated -------------------------------------------------------------------------------------


def stood(case: Case) -> Stood:
    """Return a part of a few pages with its old image, its class, and the new image."""
    stand = stand_of(case)
    part, target = stand.chip.part, stand.target
    family = target.family
    assert family is not None
    sizes = frozenset(part.page_sizes)
    family = replace(family, flash=replace(family.flash, pages=sizes))
    if family.bank_check is not None and family.bank_check.pages:
        family = replace(family, bank_check=replace(family.bank_check, pages=sizes))
    first, last = stand.image[0], stand.image[-1]
    data = bytearray(bytes((target.erased,)) * (last.end - first.address))
    for piece in stand.image:
        data[piece.address - first.address : piece.end - first.address] = piece.data
    device_class = replace(
        CLASS,
        loader=frozenset({(0x0483, 0xDF11), (0x1209, 0xDF02)}),
        image=ImageRules(format=ImageFormat.RAW, address=first.address, device=True),
        failsafe=case.failsafe,
        family=family,
        application_at=target.application,
    )
    settings = simulated(part, known=stand.chip.known)
    return settings, device_class, bytes(data), stand.chip.save()


CASES: Final = (
    Case("stm32l476", Failsafe.BFB2),
    Case("stm32l476", Failsafe.RESIDENT_LOADER),
    Case("stm32l432", Failsafe.EMPTY_CHECK),
    Case("stm32f429", Failsafe.BFB2),
)


PLAIN_DEVICES: Final = {
    f"plain-{'tolerant' if tolerant else 'not-tolerant'}": (
        device(Service.of_dfu(START, END, tolerant=tolerant)),
        PLAIN,
        FILE,
        None,
    )
    for tolerant in (True, False)
}

STANDS: Final[dict[str, Stood]] = {**{str(case): stood(case) for case in CASES}, **PLAIN_DEVICES}


async def updated(name: str, change: Change) -> tuple[int, UsbBench]:
    """Update a device to whose life something happens; return how many attempts that took."""
    settings, device_class, data, chip = STANDS[name]
    fault, cut = change
    settings = replace(settings, faults=() if fault is None else (fault,), self_powered=fault is not None)
    async with usb_bench(settings, device_class, chip) as at:
        if cut is not None:
            at.device.watcher = lambda moment: cut[1] if moment.number == cut[0] else None
        return await until_done(at, data), at


def run(name: str, fault: Fault | None = None, cut: tuple[int, Cut] | None = None) -> tuple[int, UsbBench]:
    """Do that on a clock that jumps."""

    async def story() -> tuple[int, UsbBench]:
        return await updated(name, (fault, cut))

    return virtual_time.run(story)


def dead(at: UsbBench) -> int:
    """Count how often something came up that only a hand can help."""
    return sum(count for landing, count in at.device.landings.items() if landing.dead)


# --- every transfer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("kind", [Kind.UNPLUG, Kind.POWER], ids=["cable", "power"])
@pytest.mark.parametrize("name", STANDS)
def test_inv1_a_cut_at_every_transfer_is_gone_on_with(name: str, kind: Kind, *, after: bool) -> None:
    """The power fails between two acts of the flash here; where it fails in one is below."""
    attempts, whole = run(name)
    assert attempts == 1
    transfers = whole.usb.transfers
    assert transfers > 50
    for number in range(transfers):
        fault = Fault(kind=kind, at=number, back_s=0.5, after=after)
        attempts, at = run(name, fault)
        assert at.runs == "new", number
        assert attempts <= 2, number
        assert dead(at) == 0, number
        assert max(at.device.chip.flash.wear) <= 2, number


# --- every act of the flash --------------------------------------------------------------------------------


def moments(name: str) -> list[Operation | None]:
    """Return what happens in a device while it is updated, in order; None for a status poll."""
    seen: list[Operation | None] = []

    async def story() -> None:
        settings, device_class, data, chip = STANDS[name]
        async with usb_bench(settings, device_class, chip) as at:

            def watch(moment: Moment) -> None:
                assert moment.number == len(seen)
                seen.append(moment.operation)

            at.device.watcher = watch
            assert await until_done(at, data) == 1

    virtual_time.run(story)
    return seen


def cuts(number: int, operation: Operation | None) -> Iterator[Cut]:
    """Yield the ways in which the power may fail at a moment."""
    yield Cut(When.BEFORE)
    yield Cut(When.AFTER)
    if operation is not None:
        yield Cut(When.DURING, Tear(0.5, seed=number))
        yield Cut(When.DURING, Tear(0.9, seed=number, check_bits=CheckBits.CLASH))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inv1_a_cut_before_in_and_after_every_act_of_the_flash_is_gone_on_with(case: Case) -> None:
    """But for the two windows that no order of writing closes: of the page that decides, and of the granule."""
    stand = stand_of(case)
    windows = 0
    for number, operation in enumerate(moments(str(case))):
        for cut in cuts(number, operation):
            narrow = cut.when is When.DURING and decides(stand, operation)
            windows += narrow
            if narrow:
                continue  # what becomes of those, the table says
            attempts, at = run(str(case), cut=(number, cut))
            assert at.runs == "new", (number, operation, cut)
            assert attempts <= 2, (number, operation, cut)
            assert dead(at) == 0, (number, operation, cut)
    assert (windows == 0) is (case.failsafe is Failsafe.RESIDENT_LOADER)


def decides(stand: Stand, operation: Operation | None) -> bool:
    """Tell whether an operation is on what the device starts its image by, with no loader in front."""
    if stand.target.failsafe is Failsafe.RESIDENT_LOADER:
        return False
    match operation:
        case ErasePage(page):
            return page == 0
        case Program(offset, _):
            return offset < stand.target.granule
        case _:
            return False


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["cable", "power"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inv5_what_fails_again_and_again_is_gone_on_with_again_and_again(
    case: Case, kind: str, seed: int
) -> None:
    """Each attempt begins with what the one before left, in the flash and in the journal; at last one comes through."""
    rng = random.Random(f"{case}/{seed}")
    stand = stand_of(case)
    settings, device_class, data, chip = STANDS[str(case)]
    if kind == "cable":
        places = rng.sample(range(20, 250), 4)
        faults = (Fault(kind=Kind.UNPLUG, at=at, back_s=0.5, after=rng.random() < 0.5) for at in places)
        settings = replace(settings, faults=tuple(faults), self_powered=True)
    struck = () if kind == "cable" else rng.sample(range(5, 200), 8)

    def strike(moment: Moment) -> Cut | None:
        if moment.number not in struck or decides(stand, moment.operation):
            return None
        return Cut(rng.choice(list(When)), Tear(rng.random(), seed=seed))

    async def story() -> None:
        async with usb_bench(settings, device_class, chip) as at:
            at.device.watcher = strike
            await until_done(at, data, attempts=10)
            assert at.runs == "new"
            assert dead(at) == 0

    virtual_time.run(story)
