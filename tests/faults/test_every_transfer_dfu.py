"""A cable or a supply that fails at every control transfer of a DFU update, and at every act of the flash.

The whole driver is in it, with a journal that remembers what a store would, and the service's own policy decides what
follows.  Nothing is done by hand between the attempts: the cable and the power come back, that is all.
"""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.errors import AttemptFailed
from firmwarden.model import Phase
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.firmware import Service
from firmwarden.simulate.dfu.flash import CheckBits, Tear
from firmwarden.simulate.dfu.work import Cut, When
from support import virtual_time
from support.dfu_bench import until_done
from support.dfu_sealed import END, FILE, PLAIN, START, device
from support.dfu_stood import Stood, decides, stood
from support.power_cuts import Case, stand_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.simulate.dfu.chip import Operation
    from firmwarden.simulate.dfu.work import Moment
    from support.dfu_bench import UsbBench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# --- what is updated -------------------------------------------------------------------------------------


CASES: Final = (
    Case("stm32l476", Failsafe.BFB2),
    Case("stm32l476", Failsafe.RESIDENT_LOADER),
    Case("stm32l432", Failsafe.EMPTY_CHECK),
    Case("stm32f429", Failsafe.BFB2),
)


STANDS: Final = {str(case): stood(stand_of(case)) for case in CASES} | {
    f"plain-{'tolerant' if tolerant else 'not-tolerant'}": Stood(
        device(Service.of_dfu(START, END, tolerant=tolerant)), PLAIN, FILE
    )
    for tolerant in (True, False)
}


def run(name: str, fault: Fault | None = None, cut: tuple[int, Cut] | None = None) -> tuple[int, UsbBench]:
    """Update a device to whose life something happens, if anything; return how many attempts that took."""
    stand = STANDS[name]

    async def story() -> tuple[int, UsbBench]:
        faults = () if fault is None else (fault,)
        async with stand.bench(faults=faults, self_powered=fault is not None) as at:
            if cut is not None:
                at.device.watcher = lambda moment: cut[1] if moment.number == cut[0] else None
            return await until_done(at, stand.data), at

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


GLITCHES: Final = (Kind.STALL, Kind.LOST, Kind.BROKEN, Kind.SHORT, Kind.UNANSWERED)


@pytest.mark.parametrize("kind", GLITCHES, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("name", ["stm32l476-bfb2", "plain-tolerant", "plain-not-tolerant"])
def test_inv3_one_transfer_that_goes_wrong_is_held_against_nobody(name: str, kind: Kind) -> None:
    """At whichever of them it was, the update is done in the end, and nothing was called final."""
    _, whole = run(name)
    for number in range(whole.usb.transfers):
        attempts, at = run(name, Fault(kind=kind, at=number))
        assert at.runs == "new", number
        assert attempts <= 2, number
        assert dead(at) == 0, number


@pytest.mark.parametrize("name", STANDS)
def test_inv1_a_host_that_dies_at_every_transfer_is_followed_by_another(name: str) -> None:
    """The cable stays: the device is found in the middle of whatever it was told."""
    _, whole = run(name)
    for number in range(whole.usb.transfers):
        at = virtual_time.run(partial(after_a_death, STANDS[name], number))
        assert at.runs == "new", number
        assert dead(at) == 0, number


async def after_a_death(stand: Stood, number: int) -> UsbBench:
    async with stand.bench(self_powered=True) as at:
        with anyio.CancelScope() as life:
            at.usb.before = lambda made: life.cancel() if made == number else None
            await at.driver(stand.data).update(stand.data)
        at.usb.before = lambda _made: None
        if at.book.attempts[-1].phase is Phase.ENDING:
            # As the service does at its start: it asks.
            with suppress(AttemptFailed):
                await at.driver(stand.data).confirm()
                return at
            at.book.attempts.pop()
        assert await until_done(at, stand.data) == 1
        return at


# --- every act of the flash --------------------------------------------------------------------------------


def moments(name: str) -> list[Operation | None]:
    """Return what happens in a device while it is updated, in order; None for a status poll."""
    seen: list[Operation | None] = []

    async def story() -> None:
        async with STANDS[name].bench() as at:

            def watch(moment: Moment) -> None:
                assert moment.number == len(seen)
                seen.append(moment.operation)

            at.device.watcher = watch
            assert await until_done(at, STANDS[name].data) == 1

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


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["cable", "power"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inv5_what_fails_again_and_again_is_gone_on_with_again_and_again(
    case: Case, kind: str, seed: int
) -> None:
    """Each attempt begins with what the one before left, in the flash and in the journal; at last one comes through."""
    rng = random.Random(f"{case}/{seed}")
    stand = stand_of(case)
    stood_up = STANDS[str(case)]
    faults: tuple[Fault, ...] = ()
    if kind == "cable":
        places = rng.sample(range(20, 250), 4)
        faults = tuple(Fault(kind=Kind.UNPLUG, at=at, back_s=0.5, after=rng.random() < 0.5) for at in places)
    struck = () if kind == "cable" else rng.sample(range(5, 200), 8)

    def strike(moment: Moment) -> Cut | None:
        if moment.number not in struck or decides(stand, moment.operation):
            return None
        return Cut(rng.choice(list(When)), Tear(rng.random(), seed=seed))

    async def story() -> None:
        async with stood_up.bench(faults=faults, self_powered=bool(faults)) as at:
            at.device.watcher = strike
            await until_done(at, stood_up.data, attempts=10)
            assert at.runs == "new"
            assert dead(at) == 0

    virtual_time.run(story)
