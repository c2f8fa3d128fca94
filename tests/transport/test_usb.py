"""Control pipes over pyusb: simulated devices behind a real back-end interface, in real time with tiny time-outs."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import usb.core

from firmwarden.errors import OpenFailed, PortHeld
from firmwarden.protocol.dfu.conversation import Control, SelectAlternate, Trouble
from firmwarden.protocol.dfu.requests import Request, Setup
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.lister import SimLister
from firmwarden.transport.usb import UsbBus, real_usb
from support.dfu_bus import LiveBus
from support.dfu_simulated import L476, image, settings

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.bus import Seen, SimBus
    from firmwarden.simulate.dfu.settings import DfuSettings
    from firmwarden.transport.usb_link import UsbLink, UsbSeen

Handle = Any
"""pyusb has no types."""

pytestmark = pytest.mark.anyio

ROM = settings(L476, image("old", L476, 6000), boot0=True)
STATUS = Control(Setup.of(Request.GETSTATUS, interface=0, length=6), 1.0)
ABORT = Control(Setup.of(Request.ABORT, interface=0), 1.0)


def error(number: int) -> Exception:
    """What pyusb raises."""
    made: Exception = usb.core.USBError(os.strerror(number), -1, number)
    return made


class Backend(SimBackend):
    """Simulated devices with what they have not of their own: drivers of the kernel, and calls that fail."""

    def __init__(
        self,
        bus: SimBus,
        *,
        refuses: dict[str, Exception] | None = None,
        kernel_drivers: frozenset[int] = frozenset(),
        configuration: int = 1,
        taken: int | None = None,
    ) -> None:
        super().__init__(bus)
        self.refuses = refuses or {}
        self.kernel_drivers = set(kernel_drivers)
        self.configuration = configuration
        self.taken = taken
        self.chosen: list[int] = []
        self.handles = 0

    def _may(self, call: str) -> None:
        if call in self.refuses:
            raise self.refuses[call]

    def open_device(self, dev: Seen) -> Handle:
        self._may("open_device")
        handle = super().open_device(dev)
        self.handles += 1
        return handle

    def close_device(self, dev_handle: Handle) -> None:
        self._may("close_device")
        super().close_device(dev_handle)
        self.handles -= 1

    def get_configuration(self, dev_handle: Handle) -> int:
        self._may("get_configuration")
        del dev_handle
        return self.configuration

    def set_configuration(self, dev_handle: Handle, config_value: int) -> None:
        super().set_configuration(dev_handle, config_value)
        self.chosen.append(config_value)

    def is_kernel_driver_active(self, dev_handle: Handle, intf: int) -> bool:
        del dev_handle
        return intf in self.kernel_drivers

    def detach_kernel_driver(self, dev_handle: Handle, intf: int) -> None:
        self._may("detach_kernel_driver")
        del dev_handle
        self.kernel_drivers.remove(intf)

    def claim_interface(self, dev_handle: Handle, intf: int) -> None:
        self._may("claim_interface")
        if intf in self.kernel_drivers:
            raise error(errno.EBUSY)
        super().claim_interface(dev_handle, intf)

    def set_interface_altsetting(self, dev_handle: Handle, intf: int, altsetting: int) -> None:
        self._may("set_interface_altsetting")
        super().set_interface_altsetting(dev_handle, intf, altsetting)

    def ctrl_transfer(self, *transfer: Handle) -> int:
        self._may("ctrl_transfer")
        moved = super().ctrl_transfer(*transfer)
        return moved if self.taken is None else min(moved, self.taken)


class Desk:
    """A bus, and what opens its devices."""

    def __init__(self) -> None:
        self.bus = LiveBus()
        self.backend = Backend(self.bus)
        self.usb = UsbBus(SimLister(self.bus), lambda: self.backend)

    def plug(self, *port: int, what: DfuSettings = ROM) -> SimDfu:
        device = SimDfu(what)
        self.bus.plug(device, *port)
        return device

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


async def test_a_place_that_cannot_be_looked_at_shows_nothing_yet(desk: Desk) -> None:
    class Exhausted(SimLister):
        def look(self, topology: str) -> UsbSeen | None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), topology)

    assert await UsbBus(Exhausted(desk.bus), lambda: None).look("1-1") is None


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


async def test_less_taken_than_was_sent_is_a_broken_transfer(desk: Desk) -> None:
    desk.backend = Backend(desk.bus, taken=3)
    desk.plug(1)
    link = await desk.open()

    command = Control(Setup.of(Request.DNLOAD, interface=0, length=5), 1.0, b"\x21\x00\x00\x00\x08")

    assert await link.transfer(command) is Trouble.BROKEN
    await link.aclose()


async def test_what_libusb_cannot_do_is_a_broken_transfer(desk: Desk) -> None:
    desk.backend = Backend(desk.bus, refuses={"ctrl_transfer": NotImplementedError("no")})
    desk.plug(1)
    link = await desk.open()

    assert await link.transfer(STATUS) is Trouble.BROKEN
    await link.aclose()


async def test_inv6_a_setting_is_not_selected_by_a_call_that_aborts_when_the_device_has_gone(
    desk: Desk,
) -> None:
    """See libusb's issue 1199: no exception could be caught."""
    desk.backend = Backend(desk.bus, refuses={"set_interface_altsetting": AssertionError("aborted")})
    desk.plug(1)
    link = await desk.open()
    assert await link.select(SelectAlternate(0, 7)) is Trouble.STALL
    desk.bus.unplug(1)

    assert await link.select(SelectAlternate(0, 1)) is Trouble.GONE
    await link.aclose()


async def test_inv6_a_device_that_hangs_holds_up_nobody_else(desk: Desk) -> None:
    desk.plug(1, what=replace(ROM, faults=(Fault(kind=Kind.LOST, on=Request.GETSTATUS),)))
    desk.plug(2)
    desk.plug(3)
    hanging, other = await desk.open("1-1"), await desk.open("1-2")
    done: list[str] = []

    async def hang() -> None:
        assert await hanging.transfer(replace(STATUS, timeout_s=0.5)) is Trouble.TIMED_OUT
        done.append("hanging")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        await anyio.sleep(0.02)
        for _ in range(20):
            assert isinstance(await other.transfer(STATUS), bytes)
        assert await desk.usb.look("1-1") is not None
        await (await desk.open("1-3")).aclose()
        done.append("other")

    assert done == ["other", "hanging"]
    await hanging.aclose()
    await other.aclose()


async def test_inv6_however_many_hang_there_is_a_thread_for_the_next(desk: Desk) -> None:
    """More than the forty places that all of a program shares unless told otherwise."""
    hang = replace(ROM, faults=(Fault(kind=Kind.LOST, on=Request.GETSTATUS),))
    for port in range(1, 49):
        desk.plug(port, what=hang)
    desk.plug(50)
    links = [await desk.open(f"1-{port}") for port in range(1, 49)]
    other = await desk.open("1-50")

    async with anyio.create_task_group() as tasks:
        for link in links:
            tasks.start_soon(link.transfer, replace(STATUS, timeout_s=1.0))
        await anyio.sleep(0.1)
        before = time.monotonic()
        assert isinstance(await other.transfer(STATUS), bytes)
        assert time.monotonic() - before < 0.8

    for link in (*links, other):
        await link.aclose()


async def test_inv1_cancelling_waits_for_the_end_of_the_transfer(desk: Desk) -> None:
    """It cannot be taken back, so nothing may be done as if it had been."""
    desk.plug(1, what=replace(ROM, faults=(Fault(kind=Kind.LOST, on=Request.GETSTATUS),)))
    link = await desk.open()
    before = time.monotonic()

    with anyio.move_on_after(0.02) as scope:
        await link.transfer(replace(STATUS, timeout_s=0.3))
        await anyio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert time.monotonic() - before >= 0.3
    await link.aclose()


async def test_closing_waits_for_the_end_of_the_transfer(desk: Desk) -> None:
    desk.plug(1, what=replace(ROM, faults=(Fault(kind=Kind.LOST, on=Request.GETSTATUS),)))
    link = await desk.open()
    before = time.monotonic()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.transfer, replace(STATUS, timeout_s=0.3))
        await anyio.sleep(0.02)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await link.aclose()

    assert time.monotonic() - before >= 0.3
    assert desk.backend.handles == 0


# --- opening and closing -----------------------------------------------------------------------------------


async def test_inv4_a_device_that_came_back_as_another_is_not_opened(desk: Desk) -> None:
    device = desk.plug(1)
    old = await desk.seen()
    desk.bus.unplug(1)
    with pytest.raises(OpenFailed, match="is gone"):
        await desk.usb.open(old, 0)
    desk.bus.plug(device, 1)

    with pytest.raises(OpenFailed, match="is gone"):
        await desk.usb.open(old, 0)

    link = await desk.open()
    assert link.seen.address != old.address
    await link.aclose()


@pytest.mark.parametrize(
    "other", [{"vendor_id": 0x0484}, {"product_id": 0xDF12}, {"topology": "1-2"}, {"topology": "2-1"}]
)
async def test_inv4_another_device_with_the_same_address_is_not_opened(
    desk: Desk, other: dict[str, int | str]
) -> None:
    desk.plug(1)
    seen = await desk.seen()

    with pytest.raises(OpenFailed):
        await desk.usb.open(replace(seen, facts=replace(seen.facts, **other)), 0, patience_s=0)  # type: ignore[arg-type]


async def test_a_link_says_that_its_device_has_gone_and_the_new_one_is_opened(desk: Desk) -> None:
    device = desk.plug(1)
    link = await desk.open()
    desk.bus.unplug(1)
    desk.bus.plug(device, 1)

    assert await link.transfer(STATUS) is Trouble.GONE
    assert await link.select(SelectAlternate(0, 1)) is Trouble.GONE
    await link.aclose()
    assert await link.transfer(STATUS) is Trouble.GONE

    link = await desk.open()
    assert isinstance(await link.transfer(STATUS), bytes)
    await link.aclose()
    assert desk.backend.handles == 0


async def test_a_reset_may_end_in_another_device(desk: Desk) -> None:
    desk.plug(1, what=replace(ROM, boot0=False))
    link = await desk.open()

    await link.reset()
    await link.reset()

    await link.aclose()
    await link.aclose()
    assert desk.backend.handles == 0


async def test_inv4_an_interface_that_another_program_has_is_left_to_it(desk: Desk) -> None:
    desk.plug(1)
    (found,) = desk.backend.enumerate_devices()
    other = desk.backend.open_device(found)
    desk.backend.claim_interface(other, 0)
    before = time.monotonic()

    with pytest.raises(PortHeld) as caught:
        await desk.open()

    assert str(caught.value) == (
        "interface 0 of 1-1 is held by another process (run: sudo fuser -v /dev/bus/usb/001/001)"
    )
    assert time.monotonic() - before < 1.5  # it is not waited for
    desk.backend.close_device(other)
    await (await desk.open()).aclose()
    assert desk.backend.handles == 0


async def test_without_libusb_it_is_said_what_to_install(desk: Desk) -> None:
    desk.plug(1)
    usb = UsbBus(SimLister(desk.bus), lambda: None)

    with pytest.raises(OpenFailed, match=r"libusb-1\.0-0"):
        await usb.open(await desk.seen(), 0, patience_s=0)


async def test_a_device_without_permission_is_told_with_the_cure(desk: Desk) -> None:
    desk.backend = Backend(desk.bus, refuses={"open_device": error(errno.EACCES)})
    desk.plug(1)

    with pytest.raises(OpenFailed, match=r"/dev/bus/usb/001/001: permission .* 60-firmwarden-dfu\.rules"):
        await desk.usb.open(await desk.seen(), 0, patience_s=0)


async def test_permissions_that_udev_has_not_set_yet_are_waited_for(desk: Desk) -> None:
    desk.backend = backend = Backend(desk.bus, refuses={"open_device": error(errno.EACCES)})
    desk.plug(1)

    async with anyio.create_task_group() as tasks:

        async def udev() -> None:
            await anyio.sleep(0.15)
            backend.refuses.clear()

        tasks.start_soon(udev)
        link = await desk.open()

    await link.aclose()


@pytest.mark.parametrize(
    ("call", "exc", "message"),
    [
        ("open_device", errno.ENODEV, "1-1: the device went"),
        ("claim_interface", errno.ENOENT, "1-1: there is no interface 0"),
        ("claim_interface", errno.EIO, "1-1: .*Input/output error"),
        ("claim_interface", errno.EBUSY, "held by another process"),
        ("detach_kernel_driver", errno.EACCES, "permission denied"),
        ("get_configuration", errno.ENODEV, "1-1: the device went"),
    ],
)
async def test_a_device_that_cannot_be_opened_is_closed_again(
    desk: Desk, call: str, exc: int, message: str
) -> None:
    desk.backend = Backend(desk.bus, refuses={call: error(exc)}, kernel_drivers=frozenset({0}))
    desk.plug(1)

    with pytest.raises(OpenFailed, match=message):
        await desk.usb.open(await desk.seen(), 0, patience_s=0)

    assert desk.backend.handles == 0


async def test_of_a_composite_device_one_interface_is_taken_and_nothing_reset(desk: Desk) -> None:
    desk.backend = backend = Backend(desk.bus, kernel_drivers=frozenset({0, 2}))
    desk.plug(1)

    link = await desk.open()

    assert backend.kernel_drivers == {2}
    assert backend.chosen == []
    await link.aclose()


async def test_a_configuration_is_chosen_only_where_there_is_none(desk: Desk) -> None:
    desk.backend = backend = Backend(desk.bus, configuration=0)
    desk.plug(1)

    link = await desk.open()

    assert backend.chosen == [1]
    await link.aclose()


async def test_closing_never_raises(desk: Desk) -> None:
    desk.backend = Backend(desk.bus, refuses={"close_device": error(errno.ENODEV)})
    desk.plug(1)
    link = await desk.open()

    await link.aclose()
    await link.aclose()


async def test_opening_and_closing_leaves_nothing_behind(desk: Desk) -> None:
    device = desk.plug(1)
    await (await desk.open()).aclose()
    threads = threading.active_count()

    for cycle in range(200):
        if cycle % 10 == 0:
            desk.bus.unplug(1)
            desk.bus.plug(device, 1)
        link = await desk.open()
        await link.transfer(STATUS)
        await link.aclose()

    assert threading.active_count() <= threads
    assert desk.backend.handles == 0


async def test_two_openings_at_once_get_one_context(desk: Desk) -> None:
    """By itself pyusb would make two, and close one of them under the other's hands."""
    made: list[SimBackend] = []

    def make() -> SimBackend:
        time.sleep(0.02)
        made.append(SimBackend(desk.bus))
        return made[-1]

    usb = UsbBus(SimLister(desk.bus), make)
    desk.plug(1)
    desk.plug(2)

    async def open_and_close(place: str) -> None:
        await (await usb.open(await desk.seen(place), 0)).aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_and_close, "1-1")
        tasks.start_soon(open_and_close, "1-2")

    assert len(made) == 1


async def test_this_machine_is_scanned_and_nothing_is_opened_that_is_not_there(desk: Desk) -> None:
    desk.plug(1)
    seen = await desk.seen()
    real = real_usb()

    found = real.scan()

    assert len({each.facts.topology for each in found}) == len(found)
    with pytest.raises(OpenFailed, match=r"^(99-1: the device .* is gone|libusb cannot be found)"):
        await real.open(replace(seen, facts=replace(seen.facts, topology="99-1")), 0)
