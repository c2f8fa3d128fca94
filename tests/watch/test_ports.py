"""Scans of made-up machines: what is found, under which names, and what a hostile or vanishing device can do."""

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmwarden.model import SerialAddress, Sighting, TcpAddress, UsbFacts
from firmwarden.watch.ports import PortScanner
from support.sysfs import FT232, PANEL, WITHOUT_SERIAL, Machine, machine


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def scanner(here: Machine, *patterns: str) -> PortScanner:
    return PortScanner(
        [f"{here.dev_root}/{pattern}" for pattern in patterns], sys_root=here.sys_root, dev_root=here.dev_root
    )


def scan(here: Machine, *patterns: str) -> tuple[Sighting, ...]:
    return scanner(here, *patterns).scan()


def names(here: Machine, sightings: tuple[Sighting, ...]) -> list[str]:
    return [str(sighting.address).removeprefix(f"{here.dev_root}/") for sighting in sightings]


def usb(sighting: Sighting) -> UsbFacts:
    assert sighting.usb is not None
    return sighting.usb


def test_an_adapter_with_its_names_and_facts(here: Machine) -> None:
    here.usb_serial("ttyUSB0", topology="1-1.4")
    by_id = here.link("serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0", "ttyUSB0")
    by_path = here.link("serial/by-path/pci-0000:00:14.0-usb-0:1.4:1.0-port0", "ttyUSB0")

    assert scan(here) == (
        Sighting(
            address=SerialAddress(path=f"{here.dev_root}/ttyUSB0"),
            links=(str(by_id), str(by_path)),
            usb=UsbFacts(
                vendor_id=0x0403,
                product_id=0x6001,
                serial="A50285BI",
                topology="1-1.4",
                interface=0,
                port="usb-0000:00:14.0-1.4-if0",
                manufacturer="FTDI",
                product="FT232R USB UART",
                revision=0x0600,
            ),
        ),
    )


def test_a_composite_device_is_two_ports(here: Machine) -> None:
    here.cdc_acm("ttyACM0", interface=0, attributes=PANEL)
    here.cdc_acm("ttyACM1", interface=2, attributes=PANEL)

    first, second = scan(here)

    assert (usb(first).interface, usb(second).interface) == (0, 2)
    assert usb(first).serial == usb(second).serial == "P-0017"
    assert usb(first).port != usb(second).port


def test_several_ports_on_one_interface_have_names_of_their_own(here: Machine) -> None:
    for number in range(4):
        here.usb_serial(f"ttyUSB{number}", port_number=number)

    ports = [usb(sighting).port for sighting in scan(here)]

    assert ports == [f"usb-0000:00:14.0-1-if0{end}" for end in ("", "-port1", "-port2", "-port3")]


def test_two_adapters_with_one_serial_number_are_two_sightings(here: Machine) -> None:
    here.usb_serial("ttyUSB0", topology="1-1")
    here.usb_serial("ttyUSB1", topology="1-2")

    first, second = scan(here)

    assert usb(first).serial == usb(second).serial
    assert usb(first).port != usb(second).port


@pytest.mark.parametrize("serial", [None, b"", b"\n", b"  \n"])
def test_an_adapter_without_a_serial_number(here: Machine, serial: bytes | None) -> None:
    here.usb_serial("ttyUSB0", attributes=WITHOUT_SERIAL | ({} if serial is None else {"serial": serial}))

    (sighting,) = scan(here)

    assert usb(sighting).serial is None
    assert usb(sighting).manufacturer == ""


def test_a_built_in_port_is_found_and_terminals_and_empty_slots_are_not(here: Machine) -> None:
    here.uart("ttyAMA0", "platform/soc/3f201000.serial")
    here.uart("ttyS0", "pnp0/00:00/00:00:0/00:00:0.0", kind=4)
    here.uart("ttyS1", "platform/serial8250", kind=0)
    here.virtual("tty1")

    assert names(here, scan(here, "tty*")) == ["ttyAMA0", "ttyS0"]


@pytest.mark.parametrize(
    ("bus", "controller"),
    [
        ("pci0000:00/0000:00:14.0/usb1", "0000:00:14.0"),
        ("platform/soc/3f980000.usb/usb1", "3f980000.usb"),
        ("platform/fc000000.usb/xhci-hcd.0.auto/usb1", "fc000000.usb"),
        ("platform/vhci_hcd.0/usb1", "vhci_hcd.0"),
    ],
)
def test_inv4_a_port_keeps_its_name_when_buses_are_numbered_anew(
    tmp_path: Path, bus: str, controller: str
) -> None:
    found = []
    for number in (1, 3):
        with machine(tmp_path / str(number)) as here:
            other_bus = bus.replace("usb1", f"usb{number}").replace(".0.auto", f".{number}.auto")
            here.usb_serial("ttyUSB0", bus=other_bus, topology=f"{number}-1.2.3")
            found.append(usb(scan(here)[0]))

    assert [facts.topology for facts in found] == ["1-1.2.3", "3-1.2.3"]
    assert {facts.port for facts in found} == {f"usb-{controller}-1.2.3-if0"}


def test_a_pty_goes_by_its_link(here: Machine) -> None:
    link = here.node("sim/panel-1")
    here.node("sim/unrelated")

    (sighting,) = scan(here, "sim/panel-*")

    assert sighting == Sighting(address=SerialAddress(path=str(link)))


def test_a_fixed_name_needs_no_wildcard(here: Machine) -> None:
    here.node("sim/panel-1")

    assert names(here, scan(here, "sim/panel-1", "sim/panel-2")) == ["sim/panel-1"]


def test_several_links_of_one_node_are_one_port(here: Machine) -> None:
    here.usb_serial("ttyUSB0")
    here.link("gateway/left", "ttyUSB0")
    here.link("gateway/panel", "ttyUSB0")
    here.node("sim/b")
    here.link("sim/a", "sim/b")

    adapter, pty = scan(here, "gateway/*", "ttyUSB*", "sim/*")[::-1]

    assert adapter.links == (f"{here.dev_root}/gateway/left", f"{here.dev_root}/gateway/panel")
    assert pty == Sighting(
        address=SerialAddress(path=f"{here.dev_root}/sim/a"), links=(f"{here.dev_root}/sim/b",)
    )


def test_inv4_a_pattern_finds_nothing_that_is_not_a_port(here: Machine) -> None:
    odd = here.dev_root / "odd"
    odd.mkdir()
    (odd / "file").write_text("")
    (odd / "directory").mkdir()
    os.mkfifo(odd / "fifo")
    (odd / "null").symlink_to("/dev/null")
    (odd / "terminal").symlink_to("/dev/tty")
    (odd / "dangling").symlink_to("nowhere")
    (odd / "loop").symlink_to("loop")

    assert scan(here, "odd/*", "odd/null", "odd/file", "missing/*") == ()


def test_hidden_names_are_not_found_by_a_wildcard(here: Machine) -> None:
    here.node("sim/.panel-1.new")

    assert scan(here, "sim/*") == ()
    assert names(here, scan(here, "sim/.panel*")) == ["sim/.panel-1.new"]


def test_names_that_no_log_could_hold_are_passed_over(here: Machine) -> None:
    good = here.node("sim/good")
    for name in (b"not-utf8-\xff", b"escape-\x1b[2J", b"line\nbreak"):
        (good.parent / os.fsdecode(name)).symlink_to(good.readlink())

    assert scan(here, "sim/*") == (Sighting(address=SerialAddress(path=str(good))),)


def test_inv4_tcp_endpoints_are_present_without_being_dialled(here: Machine) -> None:
    # A network for documentation (RFC 5737): nobody could answer.
    endpoint = TcpAddress(host="192.0.2.1", port=1)

    found = PortScanner((), [endpoint, endpoint], sys_root=here.sys_root, dev_root=here.dev_root).scan()

    assert found == (Sighting(address=endpoint),)


def test_inv4_a_scan_opens_no_port(here: Machine) -> None:
    link = here.node("sim/panel")
    here.usb_serial("ttyUSB0")
    nodes = [link.resolve(), (here.dev_root / "ttyUSB0").resolve()]
    # Opening sets the time of access of a pty's node; reading through it would too.
    for node in nodes:
        os.utime(node, (1.0, 1.0))

    assert len(scan(here, "sim/*")) == 2

    assert [node.stat().st_atime for node in nodes] == [1.0, 1.0]


def test_what_a_device_says_of_itself_is_made_safe(here: Machine) -> None:
    hostile = {
        "serial": b"\xff\xfe\x1b[31m",
        "manufacturer": b"A\x00B",
        "product": b"P\xc3\xa4nel\r\nINFO ok",
    }
    here.usb_serial("ttyUSB0", attributes=FT232 | hostile)

    (sighting,) = scan(here)

    assert usb(sighting).serial == r"\xff\xfe\x1b[31m"
    assert usb(sighting).manufacturer == r"A\x00B"
    assert usb(sighting).product == r"Pänel\r\nINFO ok"


def test_inv6_an_attribute_without_end_costs_one_page(here: Machine) -> None:
    here.usb_serial("ttyUSB0", attributes=FT232 | {"product": b"x" * 1_000_000})

    assert len(usb(scan(here)[0]).product) == 4096


@pytest.mark.parametrize("vendor", [b"", b"zz\n", b"\xff\xff"])
def test_inv6_a_device_that_cannot_be_read_hides_no_other(here: Machine, vendor: bytes) -> None:
    here.usb_serial("ttyUSB0", topology="1-1", attributes=FT232 | {"idVendor": vendor})
    here.usb_serial("ttyUSB1", topology="1-2")

    assert names(here, scan(here)) == ["ttyUSB1"]


def test_inv6_attributes_of_other_kinds_break_nothing(here: Machine) -> None:
    here.usb_serial("ttyUSB0", topology="1-1")
    here.usb_serial("ttyUSB1", topology="1-2")
    serial = here.attribute("ttyUSB0", "serial")
    serial.unlink()
    serial.mkdir()

    assert names(here, scan(here)) == ["ttyUSB1"]


def test_a_device_replaced_while_it_was_read_is_left_for_the_next_scan(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.usb_serial("ttyUSB0")
    replace_at = str(here.attribute("ttyUSB0", "serial"))
    real_open: Callable[..., int] = os.open

    def open_and_replace(path: str, flags: int) -> int:
        if path == replace_at:
            monkeypatch.undo()
            here.unplug("ttyUSB0")
            here.usb_serial("ttyUSB0", attributes=FT232 | {"serial": b"OTHER\n"})
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", open_and_replace)
    scanning = scanner(here)

    assert scanning.scan() == ()
    assert usb(scanning.scan()[0]).serial == "OTHER"


def test_inv7_scans_alone_see_every_change(here: Machine) -> None:
    scanning = scanner(here, "sim/*")
    assert scanning.scan() == ()

    here.usb_serial("ttyUSB0")
    assert usb(scanning.scan()[0]).serial == "A50285BI"

    here.unplug("ttyUSB0")
    here.usb_serial("ttyUSB0", attributes=FT232 | {"serial": b"B\n"})
    assert usb(scanning.scan()[0]).serial == "B"

    here.unplug("ttyUSB0")
    here.node("sim/panel")
    assert names(here, scanning.scan()) == ["sim/panel"]


def test_a_link_that_comes_later_is_seen(here: Machine) -> None:
    here.usb_serial("ttyUSB0")
    scanning = scanner(here)
    assert scanning.scan()[0].links == ()

    by_id = here.link("serial/by-id/usb-Acme", "ttyUSB0")

    assert scanning.scan()[0].links == (str(by_id),)


def test_a_slot_that_is_given_a_chip_is_seen(here: Machine) -> None:
    here.uart("ttyS1", "platform/serial8250", kind=0)
    scanning = scanner(here)
    assert scanning.scan() == ()

    (here.sys_root / "devices/platform/serial8250/tty/ttyS1/type").write_text("4\n")

    assert names(here, scanning.scan()) == ["ttyS1"]


def test_without_sysfs_patterns_still_work(tmp_path: Path) -> None:
    with machine(tmp_path) as here:
        here.node("sim/panel")
        scanning = PortScanner(
            [f"{here.dev_root}/sim/*"], sys_root=tmp_path / "nothing", dev_root=here.dev_root
        )

        assert names(here, scanning.scan()) == ["sim/panel"]


def test_a_directory_that_cannot_be_read_is_told_and_hides_nothing(here: Machine) -> None:
    here.node("sim/panel")
    endless = here.dev_root / "endless"
    endless.symlink_to("endless")
    scanning = scanner(here, "endless/*", "sim/*")

    assert names(here, scanning.scan()) == ["sim/panel"]
    assert scanning.problems == (f"{endless} cannot be read: {os.strerror(errno.ELOOP)}",)


def test_inv7_a_scan_that_cannot_be_done_does_not_say_that_all_is_gone(here: Machine) -> None:
    here.usb_serial("ttyUSB0")
    scanning = scanner(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            scanning.scan()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert names(here, scanning.scan()) == ["ttyUSB0"]


def test_a_scan_of_64_devices_is_cheap(here: Machine) -> None:
    """0.3 % of one core at a scan every 2 s are 6 ms; without its memory a scan takes ten times as long as with it."""
    for number in range(64):
        here.virtual(f"tty{number}")
        here.usb_serial(
            f"ttyUSB{number}", topology=f"1-1.{number // 8 + 1}.{number % 8 + 1}", attributes=PANEL
        )
        here.link(f"serial/by-id/usb-Acme_Panel_{number}", f"ttyUSB{number}")
        here.link(f"serial/by-path/pci-0000:00:14.0-usb-{number}", f"ttyUSB{number}")
    scanning = scanner(here, "serial/by-id/usb-Acme_Panel_*")
    first = scanning.scan()
    assert len(first) == 64

    spent = []
    for _ in range(5):
        before = time.thread_time()
        again = scanning.scan()
        spent.append(time.thread_time() - before)
        assert again is first

    assert min(spent) < 0.006
