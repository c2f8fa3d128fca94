"""Updates through loaders of the user's own, plain DFU and DfuSe, and of parts with a golden image."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from firmwarden.drivers.base import Step
from firmwarden.drivers.boot.outlook import Failsafe, Outlook
from firmwarden.drivers.dfu_settings import EnterDetach, VersionSource
from firmwarden.drivers.entry import EnterNone
from firmwarden.errors import AttemptFailed, MustWait, StoreError
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.model import CauseCode, Phase, WaitKind
from firmwarden.protocol.dfu.conversation import Control
from firmwarden.protocol.dfu.descriptors import Attribute
from firmwarden.protocol.dfu.requests import Request, State
from firmwarden.protocol.dfu.steps import LONGEST_WAIT_S
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.firmware import Entry, Role, Service
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_bench import CLASS, DEVICE, NEW, OLD, OWN_LOADER, backend, content, usb_bench
from support.dfu_sealed import (
    ADDRESSED,
    END,
    FILE,
    PLAIN,
    SEALED_NEW,
    SEALED_OLD,
    START,
    device,
    loader,
    stream,
)
from support.dfu_simulated import L476, image
from support.dfu_simulated import settings as simulated

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


BY_NAME: Final = VersionSource(field="product", expect=re.compile(r"application (\w+)"))

TOLERANT = device(Service.of_dfu(START, END))
DFUSE = device(Service.of_dfuse(START, END))


# --- plain DFU --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerant", [True, False])
async def test_a_device_is_updated_by_plain_dfu(*, tolerant: bool) -> None:
    async with usb_bench(device(Service.of_dfu(START, END, tolerant=tolerant)), PLAIN) as at:
        noted: list[tuple[str, int]] = []
        at.book.noted = lambda name: noted.append((name, at.device.transfers[Request.DNLOAD]))
        driver = at.driver()
        landing = await driver.update(FILE)
        assert landing.confirmed
        assert "it is back as 1209:0001 application new" in landing.evidence
        assert at.runs == "new"
        blocks = -(-len(stream(SEALED_NEW)) // 256)
        assert noted == [("entering", 0), ("erase-starting", 0), ("ending", blocks)], (
            "the empty download comes behind both"
        )
        assert at.book.attempts[0].mark is None
        assert driver.progress.step is Step.CONFIRM
        await at.cycle()
        assert at.runs == "new"


async def test_inv1_a_loader_that_finds_fault_with_the_image_is_not_left() -> None:
    """Its own verdict is final, and it goes on waiting for a better one."""
    async with usb_bench(TOLERANT, PLAIN) as at:
        wrong = append(stream(SEALED_NEW)[:-1] + b"\x00", DfuSuffix())
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(wrong)
        assert caught.value.cause.code is CauseCode.FIRMWARE_CORRUPT
        await anyio.sleep(2)
        assert at.runs == "service"
        assert (await at.driver().update(FILE)).confirmed


async def test_inv8_a_file_for_another_device_is_refused_before_it_is_looked_at() -> None:
    async with usb_bench(TOLERANT, PLAIN) as at:
        other = append(stream(SEALED_NEW), DfuSuffix(vendor=0x1D50, product=0x6018))
        with pytest.raises(AttemptFailed, match="1d50:6018") as caught:
            await at.driver().update(other)
        assert caught.value.cause.code is CauseCode.IMAGE_UNFIT
        assert at.usb.links == []


@pytest.mark.parametrize(
    ("changes", "raised", "words"),
    [
        ({"failsafe": Failsafe.BFB2, "family": CLASS.family}, MustWait, "a loader of its own"),
        ({"image": ADDRESSED.image}, AttemptFailed, "takes no addresses"),
    ],
)
async def test_what_is_seen_in_the_loader_only_sends_it_back(
    changes: dict[str, Any], raised: type[Exception], words: str
) -> None:
    async with usb_bench(TOLERANT, PLAIN) as at:
        data = stream(SEALED_NEW) if "image" in changes else FILE
        with pytest.raises(raised, match=words):
            await at.driver(**changes).update(data)
        await anyio.sleep(2)
        assert (at.runs, at.device.transfers[Request.DNLOAD]) == ("old", 0)


async def test_inv1_once_a_download_began_the_device_stays_in_its_loader() -> None:
    async with usb_bench(TOLERANT, PLAIN) as at:
        driver = at.driver()
        at.usb.before = lambda _number: (
            driver.request_stop() if at.device.transfers[Request.DNLOAD] > 5 else None
        )
        with pytest.raises(AttemptFailed) as caught:
            await driver.update(FILE)
        assert caught.value.cause.code is CauseCode.STOPPING
        await anyio.sleep(2)
        assert at.runs == "service"
        at.usb.before = lambda _number: None
        assert (await at.driver().update(FILE)).confirmed


async def test_a_loader_that_did_not_hear_that_this_was_all_is_written_to_again() -> None:
    """It is seen in its loader afterwards, so nothing is in doubt."""
    async with usb_bench(TOLERANT, PLAIN) as at:

        def deaf(number: int) -> None:
            if at.book.attempts[-1].phase is Phase.ENDING and at.usb.transfers == number:
                at.device.reset(anyio.current_time())

        at.usb.before = deaf
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(FILE)
        assert caught.value.cause.code is CauseCode.LINK_LOST
        assert at.book.attempts[-1].phase is Phase.ENDING
        await anyio.sleep(2)
        at.usb.before = lambda _number: None
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().confirm()
        assert caught.value.cause.code is CauseCode.NOT_STARTED
        assert (await at.driver().update(FILE)).confirmed


@pytest.mark.parametrize("behind", [0, 1], ids=["before it", "behind it"])
@pytest.mark.parametrize("version", [None, BY_NAME], ids=["without a version", "with a version"])
async def test_inv2_an_old_application_behind_a_cut_end_is_no_success_and_no_verdict(
    version: VersionSource | None, behind: int
) -> None:
    """A loader with two slots starts the old image, unless it got that this was all and had the time."""
    async with usb_bench(TOLERANT, replace(PLAIN, version=version)) as at:
        before = at.device.snapshot()
        blocks = -(-len(stream(SEALED_NEW)) // 256)

        def cut(_number: int) -> None:
            ending = at.book.attempts[-1].phase is Phase.ENDING
            if ending and at.device.transfers[Request.DNLOAD] == blocks + behind:
                at.usb.before = lambda _number: None
                at.device.restore(before)
                at.device.lose_power(anyio.current_time(), back_s=1.0)

        at.usb.before = cut
        with pytest.raises(AttemptFailed) as caught:
            await at.driver(expected="new").update(FILE)
        if not behind:
            assert caught.value.cause.code is CauseCode.LINK_LOST
            await anyio.sleep(2)
            with pytest.raises(AttemptFailed) as caught:
                await at.driver(expected="new").confirm()
            at.book.attempts.pop()
        assert at.runs == "old"
        assert caught.value.cause.code is CauseCode.NOT_STARTED
        assert (await at.driver(expected="new").update(FILE)).confirmed


@pytest.mark.parametrize("asked", [True, False])
async def test_a_device_whose_host_died_before_its_last_reset_gets_it(*, asked: bool) -> None:
    """It answers nobody then, so its silence is waited for; also by an update that nothing was asked before."""
    settings = device(Service.of_dfu(START, END, tolerant=False))
    async with usb_bench(settings, replace(PLAIN, version=BY_NAME)) as at:
        with anyio.CancelScope() as life:
            at.usb.before = lambda _number: (
                life.cancel() if at.device.state is State.MANIFEST_WAIT_RESET else None
            )
            await at.driver(expected="new").update(FILE)
        at.usb.before = lambda _number: None
        began = anyio.current_time()
        if asked:
            assert (await at.driver(expected="new").confirm()).confirmed
        else:
            with pytest.raises(AttemptFailed) as caught:
                await at.driver(expected="new").update(FILE)
            assert caught.value.cause.code is CauseCode.CLIENT_REBOOTED
            await anyio.sleep(1)
            assert at.runs == "new"
        assert anyio.current_time() - began > LONGEST_WAIT_S


async def test_a_device_that_was_not_heard_at_its_end_gets_its_reset_when_it_stays_silent() -> None:
    settings = device(Service.of_dfu(START, END, tolerant=False))
    async with usb_bench(settings, PLAIN) as whole:
        await whole.driver().update(FILE)
        setups = [ask.setup.dfu_request if isinstance(ask, Control) else None for ask in whole.usb.log]
    end = max(number for number, request in enumerate(setups) if request is Request.DNLOAD)
    fault = Fault(kind=Kind.UNANSWERED, at=end + 1)
    async with usb_bench(replace(settings, faults=(fault,)), PLAIN) as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver().update(FILE)
        assert caught.value.cause.code is CauseCode.NOT_STARTED
        assert at.runs == "new"
        assert (await at.driver().update(FILE)).confirmed


async def test_what_a_plain_loader_tells_and_how_it_will_be_updated() -> None:
    async with usb_bench(device(Service.of_dfu(START, END), loader(Service.of_dfu(START, END))), PLAIN) as at:
        assert at.runs == "service"
        told = await at.driver().info()
        assert (told["mode"], told["dfu-version"], told["transfer-size"]) == ("loader", "1.10", 256)
        assert told["attributes"] == "can-download, can-upload, manifestation-tolerant"
        steps = await at.driver().plan(FILE)
        assert [step.step for step in steps] == [Step.WRITE, Step.LEAVE, Step.CONFIRM]
        assert steps[0].if_interrupted == Outlook.LOADER.value
        assert str(len(stream(SEALED_NEW))) in steps[0].does
        steps = await at.driver(failsafe=Failsafe.NONE).plan(FILE)
        assert steps[0].if_interrupted == Outlook.DEAD.value


async def test_ids_that_do_not_change_are_enough() -> None:
    """The interface tells the mode then."""
    old, new = (
        replace(each, run_time=replace(each.run_time, vendor=OWN_LOADER[0], product=OWN_LOADER[1]))
        for each in (SEALED_OLD, SEALED_NEW)
    )
    resident = loader(Service.of_dfu(START, END))
    settings = replace(TOLERANT, known=(resident, old, new), installed={1: (resident, old)})
    one = replace(PLAIN, application=frozenset({OWN_LOADER}), image=replace(PLAIN.image, ids=()))
    async with usb_bench(settings, one) as at:
        landing = await at.driver().update(FILE)
        assert landing.confirmed
        assert at.runs == "new"


# --- DfuSe of the user's own --------------------------------------------------------------------------------


async def test_a_resident_loader_that_speaks_dfuse() -> None:
    async with usb_bench(DFUSE, ADDRESSED) as at:
        landing = await at.driver().update(stream(SEALED_NEW))
        assert landing.confirmed
        assert at.runs == "new"
        assert at.device.chip.flash.wear[:2] == [0, 0], "the loader is not touched"


async def test_a_resident_loader_is_only_reset_to_go_back() -> None:
    """It chooses for itself, so no jump can go wrong."""
    async with usb_bench(DFUSE, ADDRESSED) as at:
        driver = at.driver()
        at.usb.before = lambda number: driver.request_stop() if number == 14 else None
        with pytest.raises(AttemptFailed):
            await driver.update(stream(SEALED_NEW))
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)


async def test_inv1_a_loader_that_cannot_be_read_back_is_not_written_to() -> None:
    service = Service.of_dfuse(START, END)
    mute = replace(service, functional=replace(service.functional, attributes=Attribute.CAN_DOWNLOAD))
    async with usb_bench(device(mute), ADDRESSED) as at:
        with pytest.raises(AttemptFailed, match="lets nothing be read back") as caught:
            await at.driver().update(stream(SEALED_NEW))
        assert caught.value.cause.code is CauseCode.NOT_SUPPORTED
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)


async def test_behind_the_rom_only_the_application_is_written() -> None:
    resident = loader(Service.of_dfuse(START, END))
    old, new = (replace(each, detaches_by=Entry.JUMP) for each in (SEALED_OLD, SEALED_NEW))
    settings = simulated(L476, resident, old, new, installed={1: (resident, old)})
    through_the_rom = replace(ADDRESSED, loader=CLASS.loader, application_at=START)
    async with usb_bench(settings, through_the_rom) as at:
        assert (await at.driver().update(stream(SEALED_NEW))).confirmed
        assert at.runs == "new"
        assert at.device.chip.flash.wear[:2] == [0, 0]
        below = replace(through_the_rom.image, address=FLASH_BASE)
        with pytest.raises(AttemptFailed, match="must at 0x08001000"):
            await at.driver(image=below).update(stream(SEALED_NEW))


async def test_an_application_that_speaks_dfu_itself() -> None:
    service = Service.of_dfu(START, END)
    old = replace(SEALED_OLD, detaches_by=Entry.SERVES, service=service)
    settings = simulated(L476, loader(service), old, SEALED_NEW, installed={1: (loader(service), old)})
    async with usb_bench(settings, PLAIN) as at:
        assert (await at.driver().update(FILE)).confirmed


# --- two images -------------------------------------------------------------------------------------------


GOLDEN: Final = replace(image("golden", L476, 3000), role=Role.GOLDEN)


TWO_IMAGES: Final = replace(DEVICE, known=(GOLDEN, OLD, NEW), installed={1: (GOLDEN,), 2: (OLD,)})
BY_HAND: Final = replace(TWO_IMAGES, boot0=True)
"""Is brought into its ROM by the pin, and a reset."""

GOLDEN_BANK: Final = replace(
    CLASS,
    failsafe=Failsafe.GOLDEN_BANK,
    enter=EnterNone(),
    version=BY_NAME,
)


async def test_inv2_a_golden_image_that_answers_is_no_evidence_for_the_other_one() -> None:
    """A ROM that is told to leave jumps into bank 1; only a reset starts the new image in bank 2."""
    async with usb_bench(BY_HAND, GOLDEN_BANK) as at:
        landing = await at.update(NEW, "new")
        assert not landing.confirmed
        assert "may be the golden image, until the next reset" in landing.evidence
        at.device.chip.boot0 = 0
        assert not (await at.driver(NEW, "new").confirm()).confirmed
        await at.cycle()
        assert at.runs == "new"
        assert (await at.driver(NEW, "new").confirm()).confirmed


async def test_a_plan_says_when_the_new_image_can_be_seen_beside_a_golden_one() -> None:
    async with usb_bench(BY_HAND, GOLDEN_BANK) as at:
        *_, last = await at.driver(NEW, "new").plan(content(NEW))
        assert last.does.endswith("the outcome stays unknown until the device was reset or its power was off")


async def test_inv2_without_a_version_the_golden_image_cannot_be_told_from_the_new_one() -> None:
    async with usb_bench(BY_HAND, replace(GOLDEN_BANK, version=None)) as at:
        landing = await at.update()
        assert not landing.confirmed
        assert "may be the golden image" in landing.evidence


async def test_a_golden_image_is_what_a_device_goes_back_to() -> None:
    """It is whole, and the next reset starts the other one."""
    async with usb_bench(TWO_IMAGES, replace(GOLDEN_BANK, enter=EnterDetach(), attended=True)) as at:
        at.book.fails_at = "erase-starting"
        with pytest.raises(StoreError):
            await at.update()
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("golden", 0)
        await at.cycle()
        assert at.runs == "old"


@pytest.mark.parametrize("attended", [False, True])
async def test_a_golden_image_is_not_left_to_what_an_application_leaves_of_the_banks(
    *, attended: bool
) -> None:
    """Swapped as they still may be, it is the golden image that is where bank 2 should be."""
    settings = replace(TWO_IMAGES, traits=replace(L476.traits, keeps_banks=True))
    async with usb_bench(settings, replace(GOLDEN_BANK, enter=EnterDetach(), attended=attended)) as at:
        driver = at.driver(NEW, "new")
        if attended:
            await driver.update(content(NEW))
            (warning,) = driver.warnings
        else:
            with pytest.raises(MustWait) as caught:
                await driver.update(content(NEW))
            assert caught.value.kind is WaitKind.FAILSAFE
            assert at.usb.links == []
            warning = str(caught.value)
        assert "by BOOT0 and a reset" in warning
        golden = content(GOLDEN)
        assert (at.device.chip.flash.read(0, len(golden)) == golden) is not attended


# --- no way in ----------------------------------------------------------------------------------------------


async def test_a_class_without_a_way_into_the_loader() -> None:
    async with usb_bench(TOLERANT, replace(PLAIN, enter=EnterNone())) as at:
        with pytest.raises(AttemptFailed, match="knows no way into its loader") as caught:
            await at.driver().update(FILE)
        assert caught.value.cause.code is CauseCode.ENTRY_FAILED
        assert at.usb.links == []
