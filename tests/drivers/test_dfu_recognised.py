"""A device of which nobody knows what it runs is known by what its loader reads: not worn for nothing, nor mistaken."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.drivers.boot.contents import Contents
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.drivers.boot.procedures import procedure
from firmwarden.drivers.boot.target import Target
from firmwarden.drivers.dfu_settings import VersionSource
from firmwarden.errors import AttemptFailed
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.model import CauseCode, CommitMark, Phase
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.requests import Request
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.firmware import Service
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_bench import CLASS, DEVICE, NEW, OLD, backend, content, usb_bench
from support.dfu_sealed import END, FILE, PLAIN, SEALED_NEW, SEALED_OLD, START, device, stream

if TYPE_CHECKING:
    from support.dfu_bench import UsbBench

HELD = "its flash, read back, holds exactly this image; nothing was written"
BLOCK = 256
ASKED = replace(PLAIN, recognise=True)
TOLERANT = Service.of_dfu(START, END, tolerant=True)
OLD_FILE = append(stream(SEALED_OLD), DfuSuffix(vendor=0x1209, product=0x0001))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


def written(at: UsbBench) -> int:
    return at.device.transfers[Request.DNLOAD]


# --- loaders with addresses ------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("found_in", ["application", "loader"])
async def test_a_device_that_holds_the_image_is_started_and_not_written(found_in: str) -> None:
    settings = replace(DEVICE, installed={1: (NEW,)}, boot0=found_in == "loader")
    async with usb_bench(settings) as at:
        landing = await at.update()
        assert landing.confirmed
        assert landing.evidence.startswith(f"{HELD}; it is back as")
        assert (at.runs, at.erases) == ("new", 0)
        assert [each.erase_starts for each in at.book.attempts] == [0]


@pytest.mark.anyio
@pytest.mark.parametrize("at_byte", [0, 4, 7, 8, 2047, 2048, 4095, 4999])
async def test_inv1_a_device_that_differs_in_any_byte_is_written(at_byte: int) -> None:
    data = bytearray(content(NEW))
    data[at_byte] ^= 0x10
    almost = replace(NEW, name="almost", segments=(replace(NEW.segments[0], data=bytes(data)),))
    async with usb_bench(
        replace(DEVICE, known=(OLD, NEW, almost), installed={1: (almost,)}, boot0=True)
    ) as at:
        landing = await at.update()
        assert landing.evidence.startswith("the image was read back whole")
        assert at.device.chip.contains(NEW)
        assert at.erases > 0


@pytest.mark.anyio
@pytest.mark.parametrize("phase", [Phase.WRITING, Phase.ENDING])
async def test_inv1_what_a_cut_left_is_not_taken_for_whole_for_reading_right(phase: Phase) -> None:
    """After a cut in the writing a cell may read right and be weak; after one at the end nothing was under way."""
    async with usb_bench(replace(DEVICE, installed={1: (NEW,)}, boot0=True)) as at:
        at.book.begin(content(NEW))
        mark = CommitMark(before=content(NEW)[:8], after=content(NEW)[:8])
        at.book.attempts[-1] = replace(at.book.attempts[-1], phase=phase, mark=mark)
        landing = await at.update()
        assert landing.confirmed
        assert (at.erases > 0) is (phase is Phase.WRITING)


FLASH = MemoryMap.parse("@Internal Flash  /0x08000000/16*002Kg")
TARGET = Target(memory=FLASH, failsafe=Failsafe.NONE, declared=True, family=CLASS.family, application=None)
IMAGE = (Segment(FLASH_BASE, content(NEW)),)


@given(st.integers(0, len(content(NEW)) - 1), st.integers(1, 255))
def test_inv1_no_difference_in_any_byte_is_overlooked(at_byte: int, difference: int) -> None:
    held = bytearray(content(NEW))
    assert not procedure(TARGET, IMAGE, Contents((Segment(FLASH_BASE, bytes(held)),))).writes
    held[at_byte] ^= difference
    plan = procedure(TARGET, IMAGE, Contents((Segment(FLASH_BASE, bytes(held)),)))
    assert any(page.address <= FLASH_BASE + at_byte < page.end for page in plan.pages)


@given(st.integers(0, len(content(NEW)) - 1))
def test_inv1_what_was_not_read_is_not_taken_for_right(missing: int) -> None:
    held, behind = content(NEW), missing + 1
    pieces = ((FLASH_BASE, held[:missing]), (FLASH_BASE + behind, held[behind:]))
    read = Contents(tuple(Segment(address, data) for address, data in pieces if data))
    assert procedure(TARGET, IMAGE, read).writes


# --- loaders without -------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_device_that_gives_the_image_is_sent_back_and_not_written() -> None:
    async with usb_bench(device(TOLERANT, SEALED_NEW), ASKED) as at:
        driver = at.driver()
        landing = await driver.update(FILE)
        assert landing.confirmed
        assert landing.evidence.startswith(f"{HELD}; it is back as 1209:0001 application new")
        assert (at.runs, written(at)) == ("new", 0)
        (attempt,) = at.book.attempts
        assert (attempt.erase_starts, attempt.phase) == (0, Phase.ENDING)


@pytest.mark.anyio
@pytest.mark.parametrize("at_byte", [0, BLOCK - 1, BLOCK, 3 * BLOCK + 7, -1])
async def test_inv1_a_device_that_gives_another_byte_anywhere_is_written(at_byte: int) -> None:
    async with usb_bench(device(TOLERANT, SEALED_NEW), ASKED) as at:
        data = bytearray(stream(SEALED_NEW))
        data[at_byte] ^= 0x01
        with suppress(AttemptFailed):  # where the seal does not fit it
            await at.driver().update(append(bytes(data), DfuSuffix()))
        assert written(at) > 0
        uploads = at.device.transfers[Request.UPLOAD]
        assert uploads == at_byte % len(data) // BLOCK + 1, "nothing is read behind the first difference"


@pytest.mark.anyio
async def test_a_device_that_runs_something_else_is_updated_as_ever() -> None:
    async with usb_bench(device(TOLERANT), ASKED) as at:
        assert (await at.driver().update(FILE)).confirmed
        assert at.runs == "new"
        assert at.device.transfers[Request.UPLOAD] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("service", "settings"),
    [
        (Service.of_dfu(START, END, tolerant=False), ASKED),
        (TOLERANT, PLAIN),
    ],
    ids=["a loader that makes room first", "a unit of which it is known what it runs"],
)
async def test_what_cannot_be_asked_or_need_not_be_is_only_written(service: Service, settings: Any) -> None:  # noqa: ANN401
    async with usb_bench(device(service, SEALED_NEW), settings) as at:
        assert (await at.driver().update(FILE)).confirmed
        assert at.device.transfers[Request.UPLOAD] == 0
        assert written(at) > 0


@pytest.mark.anyio
async def test_inv1_a_unit_that_was_found_in_its_loader_is_not_believed() -> None:
    """Its last block may be there, and what makes its loader start it not."""
    async with usb_bench(device(TOLERANT, SEALED_NEW), ASKED) as at:
        driver = at.driver()
        at.usb.before = lambda _number: (
            driver.request_stop() if at.device.transfers[Request.UPLOAD] > 2 else None
        )
        with pytest.raises(AttemptFailed) as caught:
            await driver.update(FILE)
        assert caught.value.cause.code is CauseCode.STOPPING
        await anyio.sleep(2)
        assert (at.runs, written(at)) == ("new", 0), "a stop while it is read sends it back"
        at.usb.before = lambda _number: None
        at.book.begin(FILE)
        at.book.attempts[-1] = replace(at.book.attempts[-1], phase=Phase.WRITING)
        assert (await at.driver().update(FILE)).confirmed
        assert written(at) > 0, "nor is one that an earlier attempt began to write"


@pytest.mark.anyio
async def test_inv2_a_unit_that_comes_back_with_another_version_was_not_recognised() -> None:
    """A loader may give the bank that does not run."""
    told = VersionSource(field="product", expect=re.compile("application (.+)"))
    async with usb_bench(device(TOLERANT, SEALED_OLD), replace(ASKED, version=told)) as at:
        with pytest.raises(AttemptFailed) as caught:
            await at.driver(OLD_FILE, expected="new").update(OLD_FILE)
        assert caught.value.cause.code is CauseCode.NOT_STARTED, "tried again, and written then"
        assert written(at) == 0
