"""Lists of the USB devices of made-up machines, and what hostile and vanishing devices can do to them."""

from __future__ import annotations

import errno
import os
import resource
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmwarden.model import UsbFacts
from firmwarden.transport.usb_link import UsbSeen
from firmwarden.transport.usb_sysfs import SysfsLister, active_configuration
from support.sysfs import Machine, machine, usb_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEVICE_DESCRIPTOR = bytes((18, 1, *bytes(16)))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def lister(here: Machine) -> SysfsLister:
    return SysfsLister(sys_root=here.sys_root)


def places(lister: SysfsLister) -> list[str]:
    return [seen.facts.topology for seen in lister.list()]


def test_a_device_with_its_facts(here: Machine, lister: SysfsLister) -> None:
    here.usb_device("1-1.4", address=7)

    expected = UsbSeen(
        facts=UsbFacts(
            vendor_id=0x0483,
            product_id=0xDF11,
            revision=0x2200,
            serial="357A36583530",
            topology="1-1.4",
            port="usb-0000:00:14.0-1.4",
            manufacturer="STMicroelectronics",
            product="STM32  BOOTLOADER",
        ),
        address=7,
        configuration=usb_configuration(1),
    )
    assert lister.list() == (expected,)
    assert lister.look("1-1.4") == expected


def test_a_machine_without_usb_has_no_devices(lister: SysfsLister) -> None:
    assert lister.list() == ()
    assert lister.look("1-1") is None


def test_hubs_and_interfaces_are_no_devices(here: Machine, lister: SysfsLister) -> None:
    here.usb_device("1-1", attributes={"bDeviceClass": b"09\n"})
    here.usb_device("1-1.2")
    (here.sys_root / "bus/usb/devices/usb1").symlink_to("../../../devices/pci0000:00/0000:00:14.0/usb1")

    assert places(lister) == places(lister) == ["1-1.2"]
    assert lister.look("1-1") is None


@pytest.mark.parametrize("place", ["", "1-", "usb1", "1-1:1.0", "../1-1", "1-1/../1-1"])
def test_what_is_no_place_is_not_looked_at(here: Machine, lister: SysfsLister, place: str) -> None:
    here.usb_device("1-1")

    assert lister.look(place) is None


def test_the_configuration_in_use_is_told(here: Machine, lister: SysfsLister) -> None:
    second = usb_configuration(2, b"\x09\x04\x00\x00\x00\xfe\x01\x01\x00")
    both = {"descriptors": DEVICE_DESCRIPTOR + usb_configuration(1) + second}
    here.usb_device("1-1", active=b"2\n", attributes=both)
    here.usb_device("1-2", active=b"\n", attributes=both)
    here.usb_device("1-3", active=b"9\n", attributes=both)

    assert [seen.configuration for seen in lister.list()] == [
        second,
        usb_configuration(1),
        usb_configuration(1),
    ]


@pytest.mark.parametrize(
    ("descriptors", "configuration"),
    [
        (b"", b""),
        (DEVICE_DESCRIPTOR[:5], b""),
        (DEVICE_DESCRIPTOR, b""),
        (DEVICE_DESCRIPTOR + usb_configuration(1)[:8], b""),
        (DEVICE_DESCRIPTOR + usb_configuration(1, bytes(100))[:50], usb_configuration(1, bytes(100))[:50]),
        (DEVICE_DESCRIPTOR + b"\x09\x02\x00\x00\x01\x01\x00\xc0\x32", b""),
        (DEVICE_DESCRIPTOR + b"\x09\x04" + bytes(7), b""),
    ],
)
def test_inv6_descriptors_that_cannot_be_read_hide_no_device(
    here: Machine, lister: SysfsLister, descriptors: bytes, configuration: bytes
) -> None:
    here.usb_device("1-1", attributes={"descriptors": descriptors})

    (seen,) = lister.list()

    assert seen.configuration == configuration


@given(descriptors=st.binary(max_size=200), active=st.none() | st.integers(0, 255))
def test_inv6_any_descriptors_are_walked_to_an_end(descriptors: bytes, active: int | None) -> None:
    found = active_configuration(descriptors, active)

    assert found in descriptors
    assert not found or found[1] == 2


def test_inv6_descriptors_without_end_are_cut(here: Machine, lister: SysfsLister) -> None:
    huge = DEVICE_DESCRIPTOR + (usb_configuration(1, bytes(0xFF00)) * 40)
    here.usb_device("1-1", attributes={"descriptors": huge})

    (seen,) = lister.list()

    assert len(seen.configuration) == 0xFF09


@pytest.mark.parametrize("name", ["idVendor", "idProduct", "bcdDevice", "devnum"])
@pytest.mark.parametrize("content", [b"", b"zz\n", b"\xff"])
def test_inv6_a_device_that_is_only_half_there_hides_no_other(
    here: Machine, lister: SysfsLister, name: str, content: bytes
) -> None:
    (here.usb_device("1-1") / name).write_bytes(content)
    here.usb_device("1-2")

    assert places(lister) == ["1-2"]
    assert lister.look("1-1") is None


@pytest.mark.parametrize("name", ["serial", "descriptors", "bDeviceClass"])
def test_inv6_attributes_of_other_kinds_break_nothing(here: Machine, lister: SysfsLister, name: str) -> None:
    odd = here.usb_device("1-1") / name
    odd.unlink()
    odd.mkdir()
    here.usb_device("1-2")
    (here.sys_root / "bus/usb/devices/1-3").symlink_to("1-3")
    (here.sys_root / "bus/usb/devices/1-4").symlink_to("nowhere")

    assert places(lister) == ["1-2"]


def test_what_a_device_says_of_itself_is_made_safe(here: Machine, lister: SysfsLister) -> None:
    here.usb_device("1-1", attributes={"serial": b"\xff\x1b[31m", "product": b"P\xc3\xa4nel\r\nINFO ok"})
    here.usb_device("1-2", attributes={"serial": b" \n", "product": b"x" * 100_000})

    first, second = (seen.facts for seen in lister.list())

    assert (first.serial, first.product) == (r"\xff\x1b[31m", r"Pänel\r\nINFO ok")
    assert second.serial is None
    assert len(second.product) == 4096


def test_inv7_lists_alone_see_every_change(here: Machine, lister: SysfsLister) -> None:
    here.usb_device("1-1", address=3)
    assert [seen.address for seen in lister.list()] == [3]

    here.usb_unplug("1-1")
    assert lister.list() == ()

    here.usb_device("1-1", address=3, attributes={"serial": b"OTHER\n"})
    assert [seen.facts.serial for seen in lister.list()] == ["OTHER"]


def test_a_look_sees_the_configuration_that_was_chosen_meanwhile(here: Machine, lister: SysfsLister) -> None:
    both = {"descriptors": DEVICE_DESCRIPTOR + usb_configuration(1) + usb_configuration(2)}
    device = here.usb_device("1-1", active=b"\n", attributes=both)
    lister.list()

    (device / "bConfigurationValue").write_bytes(b"2\n")

    seen = lister.look("1-1")
    assert seen is not None
    assert seen.configuration == usb_configuration(2)


def test_a_device_replaced_while_it_was_read_is_left_for_the_next_time(
    here: Machine, lister: SysfsLister, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_at = str(here.usb_device("1-1") / "serial")
    real_open: Callable[..., int] = os.open

    def open_and_replace(path: str, flags: int) -> int:
        if path == replace_at:
            monkeypatch.undo()
            here.usb_unplug("1-1")
            here.usb_device("1-1", address=2, attributes={"serial": b"OTHER\n"})
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", open_and_replace)

    assert lister.look("1-1") is None
    assert [seen.facts.serial for seen in lister.list()] == ["OTHER"]


def test_inv7_a_list_that_cannot_be_made_does_not_say_that_all_is_gone(
    here: Machine, lister: SysfsLister
) -> None:
    here.usb_device("1-1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for ask in (lister.list, lambda: lister.look("1-1")):
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                ask()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert places(lister) == ["1-1"]


def test_a_list_of_64_devices_is_cheap(here: Machine, lister: SysfsLister) -> None:
    """0.1 % of one core at a list every 2 s are 2 ms; without its memory a list takes thirty times as long."""
    for number in range(64):
        here.usb_device(f"1-1.{number // 8 + 1}.{number % 8 + 1}", address=number)
    first = lister.list()
    assert len(first) == 64

    spent = []
    for _ in range(5):
        before = time.thread_time()
        assert lister.list() == first
        spent.append(time.thread_time() - before)

    assert min(spent) < 0.002
