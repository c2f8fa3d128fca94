"""Whole updates of simulated DFU devices, on a clock that jumps: what is done, what is made durable, what is told."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from firmwarden.drivers.base import Driver, Step
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.dfu_settings import VersionSource
from firmwarden.errors import AttemptFailed, MustWait, PortHeld, StoreError
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.model import Cause, CauseCode, Phase, UsbAddress, WaitKind
from firmwarden.protocol.dfu.requests import Request
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.firmware import Entry, RunTime
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS
from support.dfu_bench import CLASS, DEVICE, NEW, NEXT, OLD, backend, content, usb_bench
from support.dfu_ports import PLACE
from support.dfu_simulated import L476, image
from support.dfu_simulated import settings as simulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from firmwarden.drivers.base import Progress
    from firmwarden.drivers.dfu import DfuDriver
    from firmwarden.simulate.dfu.settings import DfuSettings as Simulated
    from support.dfu_bench import UsbBench

pytestmark = pytest.mark.anyio

IN_ROM = replace(DEVICE, boot0=True)
"""Is in its ROM's loader after every reset."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


async def refused(at: UsbBench, driver: DfuDriver | None = None, firmware: Any = NEW) -> Cause:  # noqa: ANN401
    with pytest.raises(AttemptFailed) as caught:
        await (driver or at.driver(firmware)).update(content(firmware))
    return caught.value.cause


# --- an update -----------------------------------------------------------------------------------------


async def test_a_device_goes_from_its_application_through_its_loader_into_the_new_one() -> None:
    async with usb_bench() as at:
        driver: Driver = at.driver()
        landing = await driver.update(content(NEW))
        assert landing.confirmed
        assert landing.evidence.startswith(
            "the image was read back whole; it is back as 1209:0001 application new"
        )
        assert at.runs == "new"
        assert driver.stats.commands == at.usb.transfers
        assert driver.stats.timeouts == 0
        assert driver.stats.sent_bytes > len(content(NEW))
        assert driver.stats.received_bytes > 2 * len(content(NEW))
        await at.cycle()
        assert at.runs == "new"


async def test_inv5_each_intent_is_durable_before_the_device_is_touched() -> None:
    async with usb_bench() as at:
        noted: list[tuple[str, int, bool]] = []
        at.book.noted = lambda name: noted.append((name, at.erases, at.device.chip.contains(NEW)))
        await at.update()
        assert noted == [("entering", 0, False), ("erase-starting", 0, False), ("ending", 3, True)]
        (attempt,) = at.book.attempts
        assert attempt.mark is not None
        assert (attempt.mark.before, attempt.mark.after) == (content(OLD)[:8], content(NEW)[:8])


@pytest.mark.parametrize("place", ["entering", "erase-starting", "ending"])
async def test_inv5_a_device_is_not_touched_when_the_intent_cannot_be_written(place: str) -> None:
    async with usb_bench() as at:
        at.book.fails_at = place
        with pytest.raises(StoreError):
            await at.update()
        await anyio.sleep(5)
        assert (at.runs, at.erases) == (("rom", 3) if place == "ending" else ("old", 0))
        assert (at.device.transfers[Request.DETACH] == 0) is (place == "entering")
        at.book.fails_at = None
        assert (await at.update()).confirmed


async def test_a_device_that_holds_the_image_already_is_not_worn() -> None:
    async with usb_bench(replace(DEVICE, installed={1: (NEW,)})) as at:
        landing = await at.update()
        assert landing.confirmed
        assert landing.evidence.startswith(
            "its flash, read back, holds exactly this image; nothing was written; it is back as"
        )
        assert at.erases == 0
        assert [each.erase_starts for each in at.book.attempts] == [0]
        assert at.book.attempts[0].phase is Phase.ENDING


async def test_only_what_differs_is_written() -> None:
    other = replace(NEW, name="other", segments=(replace(NEW.segments[0], data=content(NEW)[:-1] + b"\x00"),))
    async with usb_bench(simulated(L476, NEW, other, factory={"BFB2": 1, "DUALBANK": 1})) as at:
        assert (await at.update(other)).confirmed
        assert at.device.chip.flash.wear[:4] == [1, 0, 1, 0], "the first page goes first, whatever differs"


async def test_progress_is_there_to_be_sampled() -> None:
    async with usb_bench() as at:
        driver = at.driver()
        seen: list[Progress] = []

        def sample(_number: int) -> None:
            if not seen or seen[-1] != driver.progress:
                seen.append(driver.progress)

        at.usb.before = sample
        await driver.update(content(NEW))
        steps = list(dict.fromkeys(each.step for each in seen))
        assert steps == [Step.ENTER, Step.PROBE, Step.WRITE, Step.VERIFY, Step.LEAVE]
        assert driver.progress.step is Step.CONFIRM
        assert all(0 <= each.done <= each.total for each in seen)
        for step in (Step.WRITE, Step.VERIFY):
            assert max(each.done for each in seen if each.step is step) >= 4992


# --- who is there -----------------------------------------------------------------------------------------


async def test_inv4_another_device_at_the_place_is_not_opened() -> None:
    strange = RunTime(vendor=0x1D50, product=0x6018)
    async with usb_bench(simulated(L476, replace(OLD, run_time=strange))) as at:
        cause = await refused(at)
        assert cause.code is CauseCode.OPEN_FAILED
        assert "1d50:6018" in cause.detail
        assert at.usb.links == []


async def test_inv4_another_unit_at_the_place_is_not_opened() -> None:
    async with usb_bench() as at:
        assert at.address.usb is not None
        at.address = replace(at.address, usb=replace(at.address.usb, serial="0123"))
        cause = await refused(at)
        assert cause.code is CauseCode.OPEN_FAILED
        assert "another unit than before" in cause.detail
        assert at.usb.links == []


async def test_an_empty_place_is_looked_at_for_a_while() -> None:
    async with usb_bench() as at:
        at.device.unplug(anyio.current_time())
        began = anyio.current_time()
        cause = await refused(at)
        assert (cause.code, cause.detail) == (CauseCode.OPEN_FAILED, f"nothing is plugged in at usb:{PLACE}")
        assert anyio.current_time() - began >= 2
        at.device.unplug(anyio.current_time(), back_s=1.0)
        assert (await at.update()).confirmed


async def test_a_port_that_another_program_has_is_left_to_it() -> None:
    async with usb_bench() as at:
        at.usb.holder = "fwupd[7]"
        with pytest.raises(PortHeld):
            await at.update()
        assert at.usb.transfers == 0
        assert at.runs == "old"


async def test_a_device_that_this_user_may_not_open() -> None:
    async with usb_bench() as at:
        at.usb.locked = True
        cause = await refused(at)
        assert (cause.code, cause.detail) == (CauseCode.OPEN_FAILED, f"usb:{PLACE}: permission denied")
        assert at.usb.transfers == 0


# --- into the loader --------------------------------------------------------------------------------------


async def test_a_device_that_waits_for_a_reset_of_the_bus_gets_one() -> None:
    old = replace(OLD, run_time=replace(OLD.run_time, will_detach=False))
    async with usb_bench(replace(DEVICE, known=(old, NEW), installed={1: (old,)})) as at:
        assert (await at.update()).confirmed


async def test_a_device_that_is_found_in_its_loader_is_not_detached() -> None:
    async with usb_bench(IN_ROM) as at:
        assert at.runs == "rom"
        assert (await at.update()).confirmed
        assert at.device.transfers[Request.DETACH] == 0


async def test_an_application_that_cannot_be_asked_to_make_room() -> None:
    old = replace(OLD, run_time=replace(OLD.run_time, dfu_interface=None))
    async with usb_bench(replace(DEVICE, known=(old, NEW), installed={1: (old,)})) as at:
        cause = await refused(at)
        assert "has no DFU interface" in cause.detail
        assert at.runs == "old"


async def test_a_loader_that_does_not_come() -> None:
    async with usb_bench(replace(DEVICE, crystal=False)) as at:
        began = anyio.current_time()
        cause = await refused(at)
        assert cause.code is CauseCode.ENTRY_FAILED
        assert cause.detail == f"no loader came at usb:{PLACE} within 10 s: nothing is there"
        assert 10 <= anyio.current_time() - began < 12


# --- not without a word -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"declared": False}, "nobody said what protects it"),
        ({"failsafe": Failsafe.EMPTY_CHECK}, "has no empty check"),
        ({"family": None}, "without a part"),
    ],
)
async def test_what_the_configuration_tells_is_found_before_the_device_is_disturbed(
    changes: dict[str, Any], words: str
) -> None:
    async with usb_bench() as at:
        with pytest.raises(MustWait, match=words) as caught:
            await at.update(**changes)
        assert caught.value.kind is WaitKind.FAILSAFE
        assert at.usb.links == []


@pytest.mark.parametrize("found_in", ["application", "loader"])
async def test_what_the_device_shows_makes_it_wait_and_go_back_where_it_was(found_in: str) -> None:
    settings = replace(DEVICE, factory={"BFB2": 0, "DUALBANK": 1}, boot0=found_in == "loader")
    async with usb_bench(settings) as at:
        before = at.runs
        with pytest.raises(MustWait, match="does not have BFB2=1") as caught:
            await at.update()
        assert caught.value.kind is WaitKind.FAILSAFE
        await anyio.sleep(2)
        assert at.runs == before == ("old" if found_in == "application" else "rom")
        assert at.erases == 0


@pytest.mark.parametrize("attended", [False, True])
async def test_inv4_a_device_that_is_not_of_the_declared_part_is_put_back_whoever_looks_on(
    *, attended: bool
) -> None:
    """Nobody's word changes the size of its pages, or how much of it has to be programmed in one go."""
    part = replace(L476, bank=((4, 4096),))
    old = image("old", part, 6000)
    async with usb_bench(simulated(part, old, NEW, factory={"BFB2": 1, "DUALBANK": 1})) as at:
        with pytest.raises(MustWait, match="the device is no STM32L471") as caught:
            await at.update(attended=attended)
        assert caught.value.kind is WaitKind.IDENTITY
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)


async def test_inv1_a_part_that_the_device_contradicts_does_not_say_which_bank_ran() -> None:
    """An STM32F207 has one bank, and this has two: a jump to the first would not start what ran."""
    async with usb_bench(replace(DEVICE, installed={1: (NEW,), 2: (OLD,)})) as at:
        assert at.runs == "old"
        with pytest.raises(MustWait, match="the device is no STM32F2"):
            await at.update(family=family_of("STM32F207VG"), failsafe=Failsafe.NONE)
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("rom", 0)


async def test_somebody_who_is_there_is_warned() -> None:
    async with usb_bench(replace(DEVICE, factory={"BFB2": 0, "DUALBANK": 1})) as at:
        driver = at.driver(attended=True)
        assert (await driver.update(content(NEW))).confirmed
        (warning,) = driver.warnings
        assert "does not have BFB2=1" in warning
        driver = at.driver(NEXT, attended=True, declared=False)
        assert (await driver.update(content(NEXT))).confirmed
        (warning,) = driver.warnings
        assert "nobody said" in warning


async def test_inv1_an_image_in_bank_2_is_not_left_by_a_jump_to_bank_1() -> None:
    """The ROM would start bank 2 after a reset, and what is in bank 1 may be anything."""
    async with usb_bench(replace(DEVICE, installed={2: (OLD,)})) as at:
        assert at.runs == "old"
        with pytest.raises(MustWait, match="bank 2 begins with"):
            await at.update()
        await anyio.sleep(2)
        assert at.runs == "rom"


async def test_inv1_an_application_that_wiped_itself_to_make_room_is_not_left_for() -> None:
    old = replace(OLD, detaches_by=Entry.INVALIDATE)
    settings = replace(DEVICE, known=(old, NEW), installed={1: (old,)}, factory={"BFB2": 1, "DUALBANK": 0})
    async with usb_bench(settings) as at:
        with pytest.raises(MustWait, match="DUALBANK"):
            await at.update()
        await anyio.sleep(2)
        assert at.runs == "rom"
        assert at.device.transfers[Request.DNLOAD] > 0
        assert (await at.update(failsafe=Failsafe.NONE)).confirmed


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (append(content(NEW), DfuSuffix()), "suffix"),
    ],
)
async def test_inv8_a_file_that_is_none_is_refused_before_the_device_is_looked_at(
    data: bytes, words: str
) -> None:
    async with usb_bench() as at:
        with pytest.raises(AttemptFailed, match=words) as caught:
            await at.driver().update(data)
        assert caught.value.cause.code is CauseCode.IMAGE_UNFIT
        assert at.usb.links == []


@pytest.mark.parametrize(
    ("rules", "data", "words"),
    [
        (CLASS.image, bytes(8) + content(NEW)[8:], "stack pointer"),
        (replace(CLASS.image, address=0x0900_0000), content(NEW), "no memory there"),
        (replace(CLASS.image, address=None), content(NEW), "nobody said where"),
        (CLASS.image, content(NEW) * 4, "is not in 'Internal Flash'"),
        (ImageRules(format=ImageFormat.DFU, device=True), append(content(NEW), DfuSuffix()), "addresses"),
    ],
)
async def test_inv8_an_image_that_cannot_go_there_leaves_the_device_as_it_was(
    rules: ImageRules, data: bytes, words: str
) -> None:
    async with usb_bench() as at:
        with pytest.raises(AttemptFailed, match=words) as caught:
            await at.driver(image=rules).update(data)
        assert caught.value.cause.code is CauseCode.IMAGE_UNFIT
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)


@pytest.mark.parametrize(
    ("name", "part", "failsafe", "runs"),
    [
        ("STM32L476RG", "stm32l476", Failsafe.BFB2, "rom"),
        ("STM32L432KC", "stm32l432", Failsafe.EMPTY_CHECK, "old"),
    ],
    ids=["two banks", "one bank"],
)
async def test_inv3_a_flash_that_cannot_be_read_is_refused(
    name: str, part: str, failsafe: Failsafe, runs: str
) -> None:
    """Which of two banks ran cannot be found out then, so a device that has them is not sent back."""
    silicon = PARTS[part].small(8)
    old = image("old", silicon, 3000)
    factory = {"RDP": 0xBB} | ({"BFB2": 1, "DUALBANK": 1} if runs == "rom" else {})
    device_class = replace(CLASS, failsafe=failsafe, family=family_of(name))
    async with usb_bench(simulated(silicon, old, NEW, factory=factory), device_class) as at:
        cause = await refused(at)
        assert cause.code is CauseCode.READ_PROTECTED
        await anyio.sleep(2)
        assert (at.runs, at.erases) == (runs, 0)


@pytest.mark.parametrize("page", [0, 1])
async def test_inv3_a_page_that_is_write_protected_is_told_as_such(page: int) -> None:
    factory = {"BFB2": 1, "DUALBANK": 1, "WRP1A_STRT": page, "WRP1A_END": page}
    async with usb_bench(replace(DEVICE, factory=factory)) as at:
        cause = await refused(at)
        assert cause.code is CauseCode.READ_BACK_DIFFERS
        assert cause.detail == (
            f"the page at 0x{FLASH_BASE + page * at.device.settings.part.bank[0][1]:08x} did not change when it was "
            "erased; it may be write-protected"
        )
        assert at.device.transfers[Request.DNLOAD] > 0
        await at.cycle()
        assert at.runs == ("old" if page == 0 else "rom")


# --- stopping -----------------------------------------------------------------------------------------


async def test_before_the_first_erase_a_stop_puts_the_device_back() -> None:
    async with usb_bench() as at:
        driver = at.driver()
        at.usb.before = lambda number: driver.request_stop() if number == 12 else None
        cause = await refused(at, driver)
        assert (cause.code, cause.detail) == (CauseCode.STOPPING, "stopped before anything was erased")
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)
        assert at.book.attempts[0].phase is Phase.PROBING


async def test_a_stop_before_anything_was_said_disturbs_nothing() -> None:
    async with usb_bench() as at:
        driver = at.driver()
        driver.request_stop()
        assert (await refused(at, driver)).code is CauseCode.STOPPING
        assert at.usb.links == []


async def test_after_the_first_erase_a_stop_leaves_the_device_in_its_loader() -> None:
    async with usb_bench() as at:
        driver = at.driver()
        at.usb.before = lambda _number: driver.request_stop() if at.erases else None
        cause = await refused(at, driver)
        assert (cause.code, cause.detail) == (
            CauseCode.STOPPING,
            "stopped while the device holds no whole image",
        )
        await anyio.sleep(2)
        assert at.runs == "rom"
        at.usb.before = lambda _number: None
        assert (await at.update()).confirmed


async def test_with_the_image_in_place_a_stop_waits_for_the_end() -> None:
    async with usb_bench() as at:
        driver = at.driver()
        at.usb.before = lambda _number: driver.request_stop() if at.device.chip.contains(NEW) else None
        assert (await driver.update(content(NEW))).confirmed


async def test_what_a_person_cancelled_goes_back() -> None:
    async with usb_bench() as at:
        at.book.cancelled = Cause(code=CauseCode.CANCELLED, detail="by pat")
        assert (await refused(at)).code is CauseCode.CANCELLED
        await anyio.sleep(2)
        assert (at.runs, at.erases) == ("old", 0)


@pytest.mark.parametrize("transfers", range(1, 90, 11))
async def test_inv1_cancelling_closes_the_link_and_sends_nothing(transfers: int) -> None:
    async with usb_bench() as at:
        with anyio.CancelScope() as scope:
            at.usb.before = lambda number: scope.cancel() if number == transfers else None
            await at.update()
        assert scope.cancelled_caught
        assert at.usb.links[-1].closed
        assert at.usb.transfers == transfers + 1
        at.usb.before = lambda _number: None
        assert (await at.update()).confirmed


# --- back -------------------------------------------------------------------------------------------------


BY_NAME = VersionSource(field="product", expect=re.compile(r"application (\w+)"))


@pytest.mark.parametrize(
    ("source", "version"),
    [
        (BY_NAME, "new"),
        (VersionSource(field="revision", expect=re.compile(r"(.+)")), "2.10"),
        (VersionSource(field="manufacturer", expect=re.compile(r"^Firm(.*)$")), "warden"),
    ],
)
async def test_inv2_the_version_that_the_application_tells_is_the_evidence(
    source: VersionSource, version: str
) -> None:
    new = replace(NEW, run_time=replace(NEW.run_time, revision=0x0210))
    async with usb_bench(replace(DEVICE, known=(OLD, new))) as at:
        landing = await at.update(new, version, version=source)
        assert (landing.confirmed, landing.version) == (True, version)
        assert landing.evidence == f"the application says that it is {version}"


async def test_inv2_another_version_is_no_success() -> None:
    async with usb_bench() as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.update(version=BY_NAME)
        cause = caught.value.cause
        assert (cause.code, cause.raw) == (CauseCode.VERSION_MISMATCH, b"new")
        assert cause.detail == "the application says that it is new, not 2.0.0"


async def test_inv2_no_version_is_not_the_right_one() -> None:
    async with usb_bench() as at:
        landing = await at.update(version=VersionSource(field="serial", expect=re.compile(r"v(\d)")))
        assert not landing.confirmed
        assert landing.cause is not None
        assert landing.cause.code is CauseCode.END_UNANSWERED
        assert landing.evidence.endswith(", which tells no version")


@pytest.mark.parametrize("version", [None, BY_NAME], ids=["without a version", "with a version"])
async def test_inv2_a_device_that_does_not_come_back_is_asked_again(version: VersionSource | None) -> None:
    """Without a version, that an application is there by then tells nothing: it is looked at once more."""
    async with usb_bench(device_class=replace(CLASS, version=version)) as at:

        def pull() -> None:
            at.device.unplug(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_when_it_left, at, pull)
            landing = await at.update(expected="new")
        assert not landing.confirmed
        assert landing.evidence == f"the image was read back whole, and nothing came back at usb:{PLACE}"
        again = await at.driver().confirm()
        assert not again.confirmed
        at.device.plug(anyio.current_time())
        at.book.attempts.pop()
        transfers = at.usb.transfers
        if version is None:
            assert (await _confirmed(at)) is CauseCode.NOT_STARTED
            assert (await at.update()).confirmed
            assert at.erases == 3, "what is there is not written again"
            return
        settled = await at.driver(expected="new").confirm()
        assert (settled.confirmed, settled.version) == (True, "new")
        assert at.usb.transfers == transfers


async def _when_it_left(at: UsbBench, act: Callable[[], None]) -> None:
    while at.runs != "new":  # noqa: ASYNC110  (the device lives by the same clock, and tells nobody)
        await anyio.sleep(0.01)
    act()


async def test_inv2_another_unit_that_came_instead_is_no_evidence() -> None:
    async with usb_bench() as at:

        def swap() -> None:
            at.device.serial = "0123"
            at.device.reset(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_when_it_left, at, swap)
            landing = await at.update()
        assert not landing.confirmed
        assert "there is 1209:0001 application new, serial number 0123 now" in landing.evidence


@asynccontextmanager
async def falls_back(at: UsbBench, times: int = 100) -> AsyncGenerator[None]:
    """Bring the device into its ROM whenever the new image runs, as one that dies at once and BOOT0 would."""

    async def press() -> None:
        for _ in range(times):
            await _when_it_left(at, fall)

    def fall() -> None:
        at.device.chip.boot0 = 1
        at.device.reset(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(press)
        yield
        tasks.cancel_scope.cancel()


async def test_inv3_an_image_that_twice_does_not_start_in_one_attempt_is_given_up() -> None:
    async with usb_bench() as at, falls_back(at):
        cause = await refused(at)
        assert cause.code is CauseCode.FIRMWARE_CORRUPT
        assert "twice" in cause.detail
        assert at.erases == 3
        assert (await _confirmed(at)) is CauseCode.NOT_STARTED


async def test_an_image_that_starts_the_second_time_is_there() -> None:
    async with usb_bench() as at, falls_back(at, times=1):
        assert (await at.update()).confirmed
        assert at.erases == 3


async def test_a_mended_release_is_written_behind_one_that_did_not_start() -> None:
    """Also behind an attempt that had nothing to write: by what it began to start the unit is known again."""
    async with usb_bench() as at:
        async with falls_back(at):
            for _ in range(2):
                assert (await refused(at)).code is CauseCode.FIRMWARE_CORRUPT
        assert at.runs == "rom"
        assert at.book.attempts[-1].erase_starts == 0
        assert (await at.update(NEXT)).confirmed


async def test_inv3_a_leave_that_did_not_arrive_is_held_against_no_image() -> None:
    """However often: it was the wire."""
    async with usb_bench() as at:

        def lose(_number: int) -> None:
            if at.book.attempts[-1].phase is Phase.ENDING and at.runs == "rom":
                at.device.lose_power(anyio.current_time(), back_s=1.0)

        at.usb.before = lose
        at.device.chip.boot0 = 1
        for _ in range(3):
            assert (await refused(at)).code in {CauseCode.LINK_LOST, CauseCode.NOT_STARTED}
        at.usb.before = lambda _number: None
        assert (await at.update()).confirmed


async def test_inv3_a_loader_that_cannot_be_read_again_is_held_against_no_image() -> None:
    async with usb_bench() as at:

        def weaken(_number: int) -> None:
            if at.book.attempts[-1].phase is Phase.ENDING and at.device.chip.boot0:
                at.device.chip.flash.erase(1)

        at.usb.before = weaken
        async with falls_back(at):
            cause = await refused(at)
        assert cause.code is CauseCode.NOT_STARTED
        assert "in its loader again" in cause.detail


async def _confirmed(at: UsbBench) -> CauseCode:
    transfers = at.usb.transfers
    driver = at.driver()
    with pytest.raises(AttemptFailed) as caught:
        await driver.confirm()
    at.book.attempts.pop()
    assert at.usb.transfers == transfers, "confirming only looks"
    return caught.value.cause.code


@pytest.mark.parametrize("version", [None, BY_NAME], ids=["without a version", "with a version"])
async def test_inv2_another_board_with_the_old_image_confirms_nothing_and_is_held_against_none(
    version: VersionSource | None,
) -> None:
    async with usb_bench(device_class=replace(CLASS, version=version)) as at:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_when_it_left, at, lambda: at.device.unplug(anyio.current_time()))
            assert not (await at.update(expected="new")).confirmed
        at.plug(replace(DEVICE, name="another", seed=7))
        await anyio.sleep(1)
        assert at.runs == "old"
        at.address = at.usb.address
        assert (await _confirmed(at)) is CauseCode.NOT_STARTED
        assert (await at.update(expected="new")).confirmed


async def test_inv4_the_application_of_another_unit_is_no_evidence_for_one_that_is_known_by_its_number() -> (
    None
):
    """It was found in its loader, so only the class knows what its application shows."""
    async with usb_bench(IN_ROM) as at:

        def swap() -> None:
            at.device.chip.boot0 = 0
            at.device.serial = "ANOTHER"
            at.device.reset(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_when_it_left, at, swap)
            landing = await at.update(serial=at.device.serial)
        assert not landing.confirmed
        assert "serial number ANOTHER" in landing.evidence


@pytest.mark.parametrize(("dfu_interface", "confirmed"), [(1, True), (None, False)])
async def test_inv2_what_nobody_knows_is_an_application_when_it_speaks_dfu(
    dfu_interface: int | None, *, confirmed: bool
) -> None:
    """A mouse that is plugged in there instead does not."""
    shows = replace(NEW.run_time, product=0xC077, dfu_interface=dfu_interface)
    settings = replace(IN_ROM, product_serial="M1", known=(OLD, replace(NEW, run_time=shows)))
    async with usb_bench(settings, replace(CLASS, application=None)) as at:
        landing = await at.update()
        assert landing.confirmed is confirmed
        assert "1209:c077" in landing.evidence


# --- brought there and left ---------------------------------------------------------------------------------


UNSURE: Final = replace(DEVICE, factory={"BFB2": 0, "DUALBANK": 1})
"""Has to wait once it has been looked at."""


@pytest.mark.parametrize("how", ["killed", "held"])
@pytest.mark.parametrize(
    ("settings", "changes"), [(UNSURE, {}), (DEVICE, {"declared": False})], ids=["device", "class"]
)
async def test_a_unit_that_an_attempt_left_in_its_loader_is_put_back_by_the_next_that_has_to_wait(
    how: str, settings: Simulated, changes: dict[str, Any]
) -> None:
    async with usb_bench(settings) as at:
        if how == "killed":
            with anyio.CancelScope() as life:
                at.usb.before = lambda _number: life.cancel() if at.runs == "rom" else None
                await at.update()
            at.usb.before = lambda _number: None
        else:
            at.book.noted = lambda _name: setattr(at.usb, "holder", "another")
            with pytest.raises(PortHeld):
                await at.update()
            at.usb.holder = None
        assert (at.runs, at.erases, at.book.entered) == ("rom", 0, True)
        with pytest.raises(MustWait) as caught:
            await at.update(**changes)
        assert not caught.value.left_in_loader
        await anyio.sleep(2)
        assert at.runs == "old"


async def test_inv1_what_may_be_another_unit_is_not_sent_anywhere() -> None:
    async with usb_bench() as at:
        at.usb.before = lambda _number: at.device.lose_power(anyio.current_time()) if at.erases == 2 else None
        await refused(at)
        at.usb.before = lambda _number: None
        at.book.entered = True
        at.device.chip.flash.erase(0)
        at.device.chip.install((Segment(FLASH_BASE, bytes.fromhex("00200020 01020008")),))
        at.device.chip.boot0 = 1
        at.device.power_on(anyio.current_time())
        await anyio.sleep(1)
        with pytest.raises(MustWait, match="another unit is on the port"):
            await at.update()
        await anyio.sleep(2)
        assert at.runs == "rom"


async def test_a_unit_that_somebody_else_left_in_its_loader_is_not_put_back() -> None:
    async with usb_bench(replace(UNSURE, boot0=True)) as at:
        with pytest.raises(MustWait) as caught:
            await at.update()
        assert not caught.value.left_in_loader
        await anyio.sleep(2)
        assert at.runs == "rom"


async def test_a_unit_that_cannot_be_put_back_says_so() -> None:
    """Each time it was tried again it would be taken out of its application anew."""
    async with usb_bench(replace(DEVICE, installed={2: (OLD,)})) as at:
        with pytest.raises(MustWait, match="bank 2 begins with") as caught:
            await at.update()
        assert caught.value.left_in_loader


# --- going on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [NEW, NEXT], ids=["the same image", "a newer one"])
async def test_inv5_an_update_that_lost_its_power_is_gone_on_with(wanted: Any) -> None:  # noqa: ANN401
    async with usb_bench() as at:
        at.usb.before = lambda _number: at.device.lose_power(anyio.current_time()) if at.erases == 2 else None
        assert (await refused(at)).code is CauseCode.LINK_LOST
        at.usb.before = lambda _number: None
        at.device.power_on(anyio.current_time())
        await anyio.sleep(1)
        assert at.runs == "rom"
        assert (await at.update(wanted)).confirmed
        assert at.runs == wanted.name
        assert min(at.device.chip.flash.wear[:3]) == 1, "nothing was kept"


async def test_inv4_another_unit_in_its_loader_is_not_taken_for_the_one_that_was_cut() -> None:
    async with usb_bench() as at:
        at.usb.before = lambda _number: at.device.lose_power(anyio.current_time()) if at.erases == 2 else None
        await refused(at)
        at.usb.before = lambda _number: None
        strange = image("strange", L476, 5000, base=L476.flash_map.regions[0].address)
        fresh = bytes.fromhex("00200020 01020008") + content(strange)[8:]
        at.device.chip.flash.erase(0)
        at.device.chip.install((replace(strange.segments[0], data=fresh),))
        at.device.chip.boot0 = 1
        at.device.power_on(anyio.current_time())
        await anyio.sleep(1)
        erased = at.erases
        with pytest.raises(MustWait, match="another unit is on the port") as caught:
            await at.update()
        assert caught.value.kind is WaitKind.IDENTITY
        assert at.erases == erased
        (wait, *_) = await at.driver().plan(content(NEW))
        assert "another unit is on the port" in wait.does


async def test_a_unit_that_a_person_vouched_for_is_written_whole() -> None:
    async with usb_bench() as at:
        at.usb.before = lambda _number: at.device.lose_power(anyio.current_time()) if at.erases == 3 else None
        await refused(at)
        at.usb.before = lambda _number: None
        at.device.power_on(anyio.current_time())
        await anyio.sleep(1)
        at.device.chip.install((Segment(FLASH_BASE, bytes.fromhex("00200020 01020008")),))
        with pytest.raises(MustWait, match="another unit is on the port"):
            await at.update()
        at.book.attempts = [replace(each, vouched=True) for each in at.book.attempts]
        assert (await at.update()).confirmed
        assert at.device.chip.flash.wear[:3] == [2, 2, 2]


async def test_inv5_where_no_image_begins_nothing_is_kept_that_nobody_knows_of() -> None:
    """An update was cut there, maybe by the power, of which there is no journal: another host's."""
    async with usb_bench(IN_ROM) as at:
        at.device.chip.flash.erase(0)
        at.device.chip.install((Segment(FLASH_BASE + 2048, content(NEW)[2048:]),))
        assert (await at.update()).confirmed
        assert at.device.chip.flash.wear[:3] == [2, 1, 1]


async def test_a_unit_that_runs_tells_who_it_is_but_not_that_its_flash_is_sound() -> None:
    """Its power failed before the first page was erased, say; what it holds by then nobody knows."""
    async with usb_bench(replace(DEVICE, installed={1: (NEW,)})) as at:
        driver = at.driver(NEXT)
        at.book.noted = lambda name: driver.request_stop() if name == "erase-starting" else None
        await refused(at, driver, NEXT)
        await anyio.sleep(2)
        assert at.book.attempts[-1].phase is Phase.WRITING
        at.book.noted = lambda _name: None
        at.device.chip.boot0 = 0
        await at.cycle()
        assert at.runs == "new"
        assert (await at.update()).confirmed
        assert at.device.chip.flash.wear[:3] == [1, 1, 1], "though every page read right"


# --- what people ask ----------------------------------------------------------------------------------------


async def test_a_plan_does_not_disturb_an_application() -> None:
    async with usb_bench() as at:
        steps = await at.driver().plan(content(NEW))
        assert at.usb.links == []
        assert [step.step for step in steps[:2]] == [Step.ENTER, Step.PROBE]
        assert steps[-1].step is Step.CONFIRM
        (waits, *_) = await at.driver(declared=False).plan(content(NEW))
        assert waits.does.startswith("wait for a person: nobody said what protects it")


async def test_a_plan_of_a_device_in_its_loader_says_what_was_found() -> None:
    async with usb_bench(IN_ROM) as at:
        steps = await at.driver().plan(content(NEW))
        assert steps[0].does.startswith("check: 5000 bytes fit 'Internal Flash'; it could be STM32L471")
        assert any("erase the page at 0x08000000" in step.does for step in steps)
        assert at.erases == 0
        assert at.runs == "rom"
        steps = await at.driver(failsafe=Failsafe.GOLDEN_BANK).plan(content(NEW))
        assert "golden" in str(steps)
    async with usb_bench(replace(IN_ROM, factory={"BFB2": 0, "DUALBANK": 1})) as at:
        steps = await at.driver().plan(content(NEW))
        assert "does not have BFB2=1" in steps[0].does


async def test_what_a_device_tells_of_itself() -> None:
    async with usb_bench() as at:
        told = await at.driver().info()
        assert at.usb.links == []
        assert told["mode"] == "application"
        assert (told["ids"], told["product"], told["dfu-interface"]) == ("1209:0001", "application old", 1)
    async with usb_bench(IN_ROM) as at:
        told = await at.driver().info()
        assert told["mode"] == "loader"
        assert (told["dfu-version"], told["transfer-size"], told["loader-id"]) == ("1.1a", 2048, "0x92")
        assert str(told["memory-0"]).startswith("@Internal Flash  /0x08000000/")
        assert str(told["memory-1"]).startswith("@Option Bytes")


async def test_a_place_without_a_sighting_is_enough() -> None:
    async with usb_bench() as at:
        at.address = UsbAddress(topology=PLACE)
        assert (await at.update()).confirmed
