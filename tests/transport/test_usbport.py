"""A port on the USB is opened at its place, whatever its tty is called by now."""

from __future__ import annotations

import os
import pty
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import OpenFailed
from firmwarden.model import SerialAddress, UsbFacts
from firmwarden.transport import usbport
from firmwarden.transport.opening import open_link
from firmwarden.transport.usbport import name_now

if TYPE_CHECKING:
    from collections.abc import Generator

FACTS = UsbFacts(vendor_id=0x04D8, product_id=0x000A, topology="1-1.4", interface=0, port="usb-1.4-if0")
PANEL = SerialAddress(path="/dev/ttyACM0", usb=FACTS)


class Bus:
    """What sysfs shows of the USB."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def plug(
        self,
        interface: str,
        tty: str,
        *,
        ids: tuple[str, str] = ("04d8", "000a"),
        serial: str | None = None,
        port_number: int | None = None,
    ) -> None:
        """Have a tty, of a CDC-ACM function or, with a number, of a converter that may have several."""
        device = self._root / interface.partition(":")[0]
        device.mkdir(exist_ok=True)
        for name, said in {"idVendor": ids[0], "idProduct": ids[1], "serial": serial}.items():
            if said is not None:
                (device / name).write_text(f"{said}\n")
        where = self._root / interface
        if port_number is not None:
            where = where / tty
            where.mkdir(parents=True)
            (where / "port_number").write_text(f"{port_number}\n")
        (where / "tty" / tty).mkdir(parents=True)

    def unplug(self, topology: str) -> None:
        for directory in self._root.glob(f"{topology}*"):
            shutil.rmtree(directory)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    root = tmp_path / "devices"
    root.mkdir()
    monkeypatch.setattr(usbport, "USB_DEVICES", root)
    return Bus(root)


def test_a_port_that_stayed_keeps_the_name_that_it_was_given(bus: Bus, tmp_path: Path) -> None:
    bus.plug("1-1.4:1.0", "ttyACM0")
    by_id = tmp_path / "usb-Acme_Panel_0001-if00"
    by_id.symlink_to("/dev/ttyACM0")
    for path in ("/dev/ttyACM0", str(by_id)):
        assert name_now(replace(PANEL, path=path)) == path


@pytest.mark.parametrize("port_number", [None, 0])
def test_inv4_units_that_come_back_with_names_swapped_are_told_apart(
    bus: Bus, port_number: int | None
) -> None:
    bus.plug("1-1.3:1.0", "ttyACM0", port_number=port_number)
    bus.plug("1-1.4:1.0", "ttyACM1", port_number=port_number)
    assert name_now(PANEL) == "/dev/ttyACM1"
    assert (
        name_now(replace(PANEL, path="/dev/ttyACM1", usb=replace(FACTS, topology="1-1.3"))) == "/dev/ttyACM0"
    )


def test_inv4_the_name_of_an_absent_port_is_not_opened_for_it(bus: Bus) -> None:
    bus.plug("1-1.3:1.0", "ttyACM0")
    bus.plug("1-1.4.1:1.0", "ttyACM1")
    bus.plug("1-1.4:1.2", "ttyACM2")
    with pytest.raises(OpenFailed, match=r"no port at 1-1\.4, interface 0"):
        name_now(PANEL)


@pytest.mark.parametrize("tty", ["ttyACM0", "ttyACM3"])
def test_inv4_another_unit_at_the_place_is_not_taken_for_the_one_that_was_there(bus: Bus, tty: str) -> None:
    address = replace(PANEL, usb=replace(FACTS, serial="PANEL-1"))
    bus.plug("1-1.4:1.0", tty, serial="PANEL-2")
    with pytest.raises(OpenFailed, match=r"at 1-1\.4 there is another unit now, serial number PANEL-2"):
        name_now(address)
    bus.unplug("1-1.4")
    bus.plug("1-1.4:1.0", tty, serial="PANEL-1")
    assert name_now(address) == f"/dev/{tty}"


@pytest.mark.parametrize(
    ("before", "ids", "serial"),
    [
        ("PANEL-1", ("04d8", "00dd"), "LOADER"),
        ("PANEL-1", ("04d8", "000b"), "LOADER"),
        ("PANEL-1", ("1d50", "000a"), "LOADER"),
        ("PANEL-1", ("04d8", "000a"), None),
        (None, ("04d8", "000a"), "PANEL-1"),
    ],
)
def test_a_loader_may_have_other_ids_with_another_number_or_no_number(
    bus: Bus, before: str | None, ids: tuple[str, str], serial: str | None
) -> None:
    bus.plug("1-1.4:1.0", "ttyACM1", ids=ids, serial=serial)
    assert name_now(replace(PANEL, usb=replace(FACTS, serial=before))) == "/dev/ttyACM1"


def test_inv4_of_what_is_half_there_nothing_is_opened(bus: Bus, tmp_path: Path) -> None:
    bus.plug("1-1.4:1.0", "ttyACM0")
    (tmp_path / "devices" / "1-1.4" / "idProduct").unlink()
    with pytest.raises(OpenFailed, match=r"what is at 1-1\.4 cannot be told"):
        name_now(PANEL)


def test_inv4_ports_of_one_interface_that_come_back_with_names_shifted_are_told_apart(bus: Bus) -> None:
    names = ("ttyUSB1", "ttyUSB2")
    for number, name in enumerate(names):
        bus.plug("1-1.4:1.0", name, port_number=number)
    first = replace(PANEL, path="/dev/ttyUSB0")
    second = replace(PANEL, path="/dev/ttyUSB1", usb=replace(FACTS, port="usb-1.4-if0-port1"))
    assert (name_now(first), name_now(second)) == ("/dev/ttyUSB1", "/dev/ttyUSB2")


def test_of_several_ports_that_are_not_numbered_only_the_named_one_is_sure(bus: Bus) -> None:
    for number in range(2):
        bus.plug("1-1.4:1.0", f"ttyX{number}")
    assert name_now(replace(PANEL, path="/dev/ttyX1")) == "/dev/ttyX1"
    with pytest.raises(OpenFailed, match="several ports"):
        name_now(PANEL)


def test_a_port_that_is_not_of_the_usb_goes_by_its_name(bus: Bus) -> None:
    del bus
    assert name_now(replace(PANEL, usb=None)) == PANEL.path
    assert name_now(replace(PANEL, usb=replace(FACTS, interface=None))) == PANEL.path


@pytest.fixture
def tty() -> Generator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.anyio
async def test_inv4_a_link_is_opened_once_its_place_is_taken_again(bus: Bus, tty: str) -> None:
    """The name may be there all the time: another unit's."""
    address = replace(PANEL, path=tty)
    with pytest.raises(OpenFailed, match="no port"):
        await open_link(address, patience_s=0)

    async with anyio.create_task_group() as tasks:

        async def come_back() -> None:
            await anyio.sleep(0.2)
            bus.plug("1-1.4:1.0", Path(tty).name)

        tasks.start_soon(come_back)
        link = await open_link(address)
        await link.aclose()
