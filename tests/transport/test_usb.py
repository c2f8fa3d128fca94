"""Control pipes over pyusb: simulated devices behind a real back-end interface, in real time with tiny time-outs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmwarden.protocol.dfu.conversation import Control, SelectAlternate, Trouble
from firmwarden.protocol.dfu.requests import Request, Setup
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.bus import SimBus
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.lister import SimLister
from firmwarden.transport.usb import UsbBus
from support.dfu_simulated import L476, image, settings

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.settings import DfuSettings
    from firmwarden.transport.usb_link import UsbLink, UsbSeen

pytestmark = pytest.mark.anyio

ROM = settings(L476, image("old", L476, 6000), boot0=True)
STATUS = Control(Setup.of(Request.GETSTATUS, interface=0, length=6), 1.0)
ABORT = Control(Setup.of(Request.ABORT, interface=0), 1.0)


class Desk:
    """A bus whose devices are there as soon as they are plugged in."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self.bus = SimBus(clock=self.clock, sleep=time.sleep)
        self.backend = SimBackend(self.bus)
        self.usb = UsbBus(SimLister(self.bus), lambda: self.backend)

    def clock(self) -> float:
        return time.monotonic() + self._skipped

    def plug(self, *port: int, what: DfuSettings = ROM) -> SimDfu:
        device = SimDfu(what)
        self.replug(device, *port)
        return device

    def replug(self, device: SimDfu, *port: int) -> None:
        self.bus.plug(device, *port)
        self._skipped += 1.0

    async def seen(self, topology: str = "1-1") -> UsbSeen:
        found = await self.usb.look(topology)
        assert found is not None
        return found

    async def open(self, topology: str = "1-1") -> UsbLink:
        return await self.usb.open(await self.seen(topology), 0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_is_plugged_in_is_seen_at_its_place(desk: Desk) -> None:
    assert desk.usb.scan() == ()
    assert await desk.usb.look("1-1.4") is None
    device = desk.plug(1, 4)

    (seen,) = desk.usb.scan()

    assert seen == await desk.usb.look("1-1.4")
    assert (seen.facts.topology, seen.facts.port) == ("1-1.4", "usb-sim-1.4")
    assert (seen.facts.vendor_id, seen.facts.product_id, seen.facts.revision) == (0x0483, 0xDF11, 0x2200)
    assert (seen.facts.serial, seen.facts.product) == (device.serial, "STM32  BOOTLOADER")
    assert seen.configuration[:2] == b"\x09\x02"


# --- transfers ---------------------------------------------------------------------------------------------


async def test_data_goes_both_ways(desk: Desk) -> None:
    desk.plug(1)
    link = await desk.open()
    address = b"\x21\x00\x00\x00\x08"
    command = Control(Setup.of(Request.DNLOAD, interface=0, length=len(address)), 1.0, address)

    assert await link.transfer(command) == b""
    status = await link.transfer(STATUS)

    assert isinstance(status, bytes)
    assert (len(status), status[0], status[4]) == (6, 0, 4)
    assert link.seen == await desk.seen()
    await link.aclose()


async def test_what_comes_may_be_less_than_was_asked_for(desk: Desk) -> None:
    desk.plug(1)
    link = await desk.open()
    longer = Control(Setup(request_type=0x80, request=6, value=0x0100, index=0, length=255), 1.0)

    reply = await link.transfer(longer)

    assert isinstance(reply, bytes)
    assert reply[:2] == b"\x12\x01"
    assert len(reply) == 18
    await link.aclose()


async def test_an_alternate_setting_is_selected(desk: Desk) -> None:
    desk.plug(1)
    link = await desk.open()
    which = Control(Setup(request_type=0x81, request=10, value=0, index=0, length=1), 1.0)

    assert await link.select(SelectAlternate(0, 1)) == b""

    assert await link.transfer(which) == b"\x01"
    await link.aclose()


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        (Kind.STALL, Trouble.STALL),
        (Kind.LOST, Trouble.TIMED_OUT),
        (Kind.BROKEN, Trouble.BROKEN),
        (Kind.UNPLUG, Trouble.GONE),
        (Kind.POWER, Trouble.GONE),
    ],
)
async def test_what_may_come_instead_of_an_answer(desk: Desk, kind: Kind, trouble: Trouble) -> None:
    desk.plug(1, what=replace(ROM, faults=(Fault(kind=kind, on=Request.GETSTATUS),)))
    link = await desk.open()

    assert await link.transfer(replace(STATUS, timeout_s=0.01)) is trouble

    assert await link.transfer(ABORT) == (trouble if trouble is Trouble.GONE else b"")
    await link.aclose()
