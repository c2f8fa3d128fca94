"""Simulated devices behind pyusb: what a program sees that knows nothing of simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import usb.core
import usb.util

from firmwarden.protocol.dfu.descriptors import find_dfu
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.requests import Request, Setup
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.bus import SimBus
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.firmware import RunTime
from firmwarden.simulate.dfu.parts import PARTS
from support.dfu_simulated import L476, image, settings

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.settings import DfuSettings

OLD = image("old", L476, 6000)
ROM = settings(L476, OLD, boot0=True)

STATUS = (0xA1, 3, 0, 0, 6)


class Desk:
    """A bus on a clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.bus = SimBus(clock=lambda: self.now, sleep=self.sleep)
        self.backend = SimBackend(self.bus)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def plug(self, what: DfuSettings, *port: int) -> SimDfu:
        device = SimDfu(what)
        self.bus.plug(device, *port)
        self.now += 1
        return device

    def find(self, **match: int) -> usb.core.Device:
        return usb.core.find(backend=self.backend, **match)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def command(device: usb.core.Device, payload: bytes) -> None:
    device.ctrl_transfer(0x21, 1, 0, 0, payload)


def test_a_rom_as_pyusb_sees_it(desk: Desk) -> None:
    simulated = desk.plug(ROM, 1, 4)
    device = desk.find(idVendor=0x0483, idProduct=0xDF11)
    assert (device.bus, device.address, device.port_numbers, device.bcdDevice) == (1, 1, (1, 4), 0x2200)
    assert (device.product, device.serial_number) == ("STM32  BOOTLOADER", simulated.serial)
    configuration = device.get_active_configuration()
    names = [usb.util.get_string(device, interface.iInterface) for interface in configuration]
    assert MemoryMap.parse(names[0]).regions[0].end == 0x0800_4000
    assert [interface.bAlternateSetting for interface in configuration] == [0, 1, 2]
    assert bytes(list(configuration)[-1].extra_descriptors).hex() == "09210bff000008" + "1a01"
    (found,) = find_dfu(bytes(device.ctrl_transfer(0x80, 6, 0x0200, 0, 255)))
    assert found.alone
    device.set_interface_altsetting(0, 1)
    assert device.ctrl_transfer(0x81, 10, 0, 0, 1).tolist() == [1]


def test_errors_have_the_numbers_of_libusb(desk: Desk) -> None:
    faults = (
        Fault(kind=Kind.STALL, on=Request.GETSTATUS, at=0),
        Fault(kind=Kind.BROKEN, on=Request.GETSTATUS, at=1),
        Fault(kind=Kind.LOST, on=Request.GETSTATUS, at=2),
        Fault(kind=Kind.POWER, on=Request.GETSTATUS, at=3, back_s=1),
    )
    desk.plug(replace(ROM, faults=faults), 2)
    device = desk.find()
    seen = []
    for _ in range(5):
        with pytest.raises(usb.core.USBError) as caught:
            device.ctrl_transfer(*STATUS, timeout=2000)
        seen.append((caught.value.errno, caught.value.backend_error_code))
    assert seen == [(32, -9), (5, -1), (110, -7), (19, -4), (19, -4)]
    assert desk.now == pytest.approx(3.0), "the one that timed out took its time"
    desk.now += 2
    assert desk.find().address == 2
    with pytest.raises(usb.core.USBError, match="No such device"):
        device.ctrl_transfer(*STATUS)


def test_an_answer_that_is_held_back_takes_its_time_or_times_out(desk: Desk) -> None:
    desk.plug(settings(PARTS["stm32f405"], boot0=True), 1)
    device = desk.find()
    command(device, b"\x41")
    assert device.ctrl_transfer(*STATUS).tolist() == [0, 100, 0, 0, 4, 0]
    with pytest.raises(usb.core.USBTimeoutError):
        device.ctrl_transfer(*STATUS, timeout=3000)
    assert device.ctrl_transfer(*STATUS, timeout=3000).tolist() == [0, 0, 0, 0, 5, 0]
    assert desk.now == pytest.approx(1 + 12 * 0.4)


def test_interfaces_are_claimed_by_one_handle_at_a_time(desk: Desk) -> None:
    desk.plug(ROM, 1)
    one, two = desk.find(), desk.find()
    usb.util.claim_interface(one, 0)
    with pytest.raises(usb.core.USBError) as caught:
        usb.util.claim_interface(two, 0)
    assert caught.value.errno == 16
    with pytest.raises(usb.core.USBError) as caught:
        two.set_configuration(1)
    assert caught.value.errno == 16
    usb.util.dispose_resources(one)
    usb.util.claim_interface(two, 0)
    two.ctrl_transfer(*STATUS)


def test_a_reset_leaves_the_rom_and_takes_an_application_away(desk: Desk) -> None:
    app = image("app", L476, 1000, run_time=RunTime(dfu_interface=0, will_detach=False))
    desk.plug(ROM, 1)
    desk.plug(settings(L476, app), 2)
    rom, running = desk.find(idProduct=0xDF11), desk.find(idProduct=1)
    rom.reset()
    assert rom.ctrl_transfer(*STATUS).tolist() == [0, 0, 0, 0, 2, 0]
    assert running.ctrl_transfer(0x21, 0, 1000, 0) == 0
    with pytest.raises(usb.core.USBError, match="not found"):
        running.reset()
    desk.now += 1
    assert [device.port_numbers for device in usb.core.find(find_all=True, backend=desk.backend)] == [
        (1,),
        (2,),
    ]
    assert desk.find(idProduct=1) is None


def test_two_with_the_same_serial_number_are_told_apart_by_their_ports(desk: Desk) -> None:
    for port in (1, 2):
        desk.plug(replace(ROM, serial="TWIN", name=str(port)), port)
    found = list(usb.core.find(find_all=True, backend=desk.backend))
    assert {device.serial_number for device in found} == {"TWIN"}
    assert [device.port_numbers for device in found] == [(1,), (2,)]
    with pytest.raises(ValueError, match="not free"):
        desk.plug(ROM, 2)


def test_a_cable_moved_to_another_port_is_another_device(desk: Desk) -> None:
    simulated = desk.plug(ROM, 1)
    device = desk.find()
    device.ctrl_transfer(*STATUS)
    assert desk.bus.unplug(1) is simulated
    assert desk.find() is None
    desk.bus.plug(simulated, 3)
    desk.now += 1
    with pytest.raises(usb.core.USBError):
        device.ctrl_transfer(*STATUS)
    again = desk.find()
    assert (again.port_numbers, again.serial_number) == ((3,), simulated.serial)


def test_a_bus_in_real_time(desk: Desk) -> None:
    del desk
    bus = SimBus()
    bus.plug(SimDfu(replace(ROM, boot_s=0.0, flash_time=0.0)), 1)
    (seen,) = bus.devices()
    setup = Setup.of(Request.GETSTATUS, interface=0, length=6)
    assert bus.control(seen, setup) == bytes((0, 0, 0, 0, 2, 0))
