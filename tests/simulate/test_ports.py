"""Devices on real ptys and sockets: how they appear, vanish, come back, and what is left of them."""

from __future__ import annotations

import errno
import os
import socket
import termios
from fcntl import ioctl
from pathlib import Path

import anyio
import pytest

from firmwarden.simulate.faults import parse_fault
from firmwarden.simulate.settings import DeviceSettings, PtyPlaces, TcpPlaces
from support.hand import update_file
from support.simulator import Tty, read_report, simulated

pytestmark = pytest.mark.anyio

TIOCGEXCL = 0x80045440
"""Linux; Python has no name for it."""

LOOPBACK = TcpPlaces(host="127.0.0.1", first_port=0)
ASK_INFO = bytes.fromhex("56 80 01 7f fe 9e")
INFO_SIZE = 21


@pytest.fixture
def ptys(tmp_path: Path) -> PtyPlaces:
    return PtyPlaces(directory=tmp_path / "by-id")


def device(
    *faults: str, name: str = "usb-Acme_Panel_0001-if00", version: str | None = None
) -> DeviceSettings:
    return DeviceSettings(
        name=name,
        installed=None if version is None else update_file(version=version),
        faults=tuple(parse_fault(text) for text in faults),
        flash_time=0,
    )


def descriptors() -> int:
    return len(listed(Path("/proc/self/fd")))


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- ptys --------------------------------------------------------------------------------------------


async def test_links_lead_to_ptys_and_are_gone_afterwards(ptys: PtyPlaces) -> None:
    before = descriptors()
    names = [f"usb-Acme_Panel_{number:04d}-if00" for number in range(5)]
    async with simulated(*(device(name=name) for name in names), places=ptys) as running:
        assert listed(ptys.directory) == names
        nodes = {str((ptys.directory / name).readlink()) for name in names}
        assert len(nodes) == 5
        assert all(node.startswith("/dev/pts/") for node in nodes)
        assert running.events[0] == {
            "event": "ready",
            "devices": [{"name": name, "address": str(ptys.directory / name)} for name in names],
        }
    assert not ptys.directory.exists()
    assert descriptors() == before


async def test_a_directory_that_was_there_stays(ptys: PtyPlaces) -> None:
    ptys.directory.mkdir()
    async with simulated(device(), places=ptys):
        pass
    assert listed(ptys.directory) == []


async def test_a_link_that_a_killed_simulator_left_is_replaced(ptys: PtyPlaces) -> None:
    ptys.directory.mkdir()
    (ptys.directory / device().name).symlink_to("/dev/pts/nothing")
    async with simulated(device(), places=ptys) as running:
        await running.until("boot")
        with Tty(running.address()) as port:
            port.send(ASK_INFO)
            assert len(await port.receive(INFO_SIZE)) == INFO_SIZE


async def test_a_pty_hears_and_answers_also_when_opened_again(ptys: PtyPlaces) -> None:
    async with simulated(device(), places=ptys) as running:
        await running.until("boot")
        for _ in range(3):
            with Tty(running.address()) as port:
                port.send(ASK_INFO)
                assert len(await port.receive(INFO_SIZE)) == INFO_SIZE


async def test_what_was_sent_while_nobody_listened_is_not_kept(ptys: PtyPlaces) -> None:
    # All of it before the device has booted.
    async with simulated(device("noise@every=0.01,bytes=8,times=5"), places=ptys) as running:
        await running.until("boot")
        with Tty(running.address()) as port:
            port.send(ASK_INFO)
            assert len(await port.receive(INFO_SIZE)) == INFO_SIZE


async def test_a_claim_on_a_port_ends_with_its_holder(ptys: PtyPlaces) -> None:
    async with simulated(device(), places=ptys) as running:
        await running.until("boot")
        with Tty(running.address()) as host:
            ioctl(host.fd, termios.TIOCEXCL)
            assert exclusive(running.address())
        await running.until("closed")
        assert not exclusive(running.address())


def exclusive(path: str) -> bool:
    """Tell whether somebody claims the port for himself alone."""
    try:
        with Tty(path) as port:
            flag = ioctl(port.fd, TIOCGEXCL, bytes(4))
    except OSError as exc:
        # Root is let in.
        assert exc.errno == errno.EBUSY  # noqa: PT017
        return True
    return flag != bytes(4)


async def test_the_1200_baud_touch_leads_to_the_loader(ptys: PtyPlaces) -> None:
    async with simulated(device(version="1.0.0"), places=ptys) as running:
        assert (await running.until("boot"))["mode"] == "application"
        with Tty(running.address(), termios.B115200):
            pass
        with Tty(running.address(), termios.B1200):
            assert not [event for event in running.events if event["event"] == "loader-requested"]
        assert (await running.until("loader-requested"))["by"] == "touch"
        assert (await running.until("boot", 2))["mode"] == "loader"


async def test_the_loader_is_entered_by_bytes(ptys: PtyPlaces) -> None:
    async with simulated(device(version="1.0.0"), places=ptys) as running:
        await running.until("boot")
        with Tty(running.address()) as port:
            port.send(b"VERSION?\n")
            assert await port.receive(14) == b"VERSION 1.0.0\n"
            port.send(b"BOOTLOADER!\n")
            assert await port.receive(3) == b"OK\n"
            assert (await running.until("boot", 2))["mode"] == "loader"
            port.send(ASK_INFO)
            assert len(await port.receive(INFO_SIZE)) == INFO_SIZE


async def test_a_cut_pty_vanishes_and_comes_back_under_its_name(ptys: PtyPlaces) -> None:
    link = ptys.directory / device().name
    async with simulated(device("cut@rx=12,back=0.2"), places=ptys) as running:
        await running.until("boot")
        with Tty(str(link)) as port:
            port.send(ASK_INFO)
            assert len(await port.receive(INFO_SIZE)) == INFO_SIZE
            port.send(ASK_INFO)
            assert await port.receive() == b""
            assert not link.is_symlink()
            await running.until("link-up")
            # Who still has the old one open has nothing.
            with Tty(str(link)) as fresh:
                fresh.send(ASK_INFO)
                assert len(await fresh.receive(INFO_SIZE)) == INFO_SIZE
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                port.send(ASK_INFO)


async def test_a_wedged_pty_takes_bytes_until_it_is_full(ptys: PtyPlaces) -> None:
    async with simulated(device("wedge"), places=ptys) as running:
        await running.until("boot")
        with Tty(running.address()) as port:
            taken = 0
            full = False
            while not full:
                with anyio.move_on_after(0.1) as waiting:
                    await anyio.wait_writable(port.fd)
                    taken += port.send(bytes(4096))
                    # The system's buffers for a pty, several times over.
                    assert taken < 1_000_000
                full = waiting.cancelled_caught
            assert taken > 0


# --- TCP ---------------------------------------------------------------------------------------------


async def test_tcp_devices_have_ports_of_their_own() -> None:
    before = descriptors()
    async with simulated(device(name="a"), device(name="b"), places=LOOPBACK) as running:
        await running.until("boot", 2)
        ports = {int(running.address(number).rpartition(":")[2]) for number in range(2)}
        assert len(ports) == 2
        for port in ports:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(ASK_INFO)
                assert len(await stream.receive()) == INFO_SIZE
    assert descriptors() == before


async def test_tcp_ports_follow_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        first = probe.getsockname()[1]
    places = TcpPlaces(host="127.0.0.1", first_port=first)
    async with simulated(device(name="a"), device(name="b"), places=places) as running:
        assert [running.address(number) for number in range(2)] == [
            f"127.0.0.1:{first}",
            f"127.0.0.1:{first + 1}",
        ]


async def test_a_tcp_device_serves_one_host_at_a_time() -> None:
    async with simulated(device(), places=LOOPBACK) as running:
        await running.until("boot")
        port = int(running.address().rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            async with await anyio.connect_tcp("127.0.0.1", port) as second:
                with pytest.raises(anyio.EndOfStream):
                    await second.receive()
            await stream.send(ASK_INFO)
            assert len(await stream.receive()) == INFO_SIZE
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(ASK_INFO)
            assert len(await stream.receive()) == INFO_SIZE


async def test_a_cut_tcp_device_refuses_connections_until_it_is_back() -> None:
    async with simulated(device("cut@rx=6,back=0.2"), places=LOOPBACK) as running:
        await running.until("boot")
        port = int(running.address().rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(ASK_INFO)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        with pytest.raises(OSError, match=r"connections? "):
            await anyio.connect_tcp("127.0.0.1", port)
        await running.until("link-up")
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(ASK_INFO)
            assert len(await stream.receive()) == INFO_SIZE


# --- what is kept and told ---------------------------------------------------------------------------


async def test_the_report_tells_the_truth(ptys: PtyPlaces, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    fault = "abort@step=start-transfer"
    async with simulated(
        device(name="a", version="1.0.0"), device(fault, name="b"), places=ptys, report=report
    ) as running:
        first, second = read_report(report)
        assert (first["mode"], second["mode"]) == ("booting", "booting")
        await running.until("boot", 2)
        with Tty(running.address(1)) as port:
            port.send(ASK_INFO)
            await port.receive(INFO_SIZE)
            port.send(bytes.fromhex("56 01 02 fe fd 9e"))
            await port.receive(6)
    first, second = read_report(report)
    assert first["name"] == "a"
    assert first["mode"] == "application"
    assert first["running"] is not None
    assert first["running"]["version"] == "1.0.0"
    assert first["complete"]
    assert (first["opens"], first["boots"], first["started_partial"]) == (0, 1, 0)
    assert (second["mode"], second["running"], second["complete"]) == ("loader", None, False)
    assert second["commands"] == {"get-client-info": 1, "start-transfer": 1}
    assert second["faults"] == {fault: 1}
    assert (second["opens"], second["erase_starts"], second["page_wear_max"]) == (1, 0, 0)


async def test_flash_outlives_the_simulator(ptys: PtyPlaces, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    async with simulated(device(version="1.0.0"), places=ptys, flash_directory=flash) as running:
        await running.until("boot")
        with Tty(running.address()) as port:
            port.send(b"BOOTLOADER!\n")
            await running.until("boot", 2)
            port.send(ASK_INFO + bytes.fromhex("56 01 02 fe fd 9e"))
            await running.until("start")
        # As a kill would leave it: saved when the erase was done, not at the end.
        left = next(flash.iterdir()).read_text()
        assert '"erase_starts": 1' in left
    async with simulated(device(version="1.0.0"), places=ptys, flash_directory=flash) as running:
        assert (await running.until("boot"))["mode"] == "loader"


async def test_another_simulators_link_is_left_alone(ptys: PtyPlaces) -> None:
    async with simulated(device(), places=ptys):
        async with simulated(device(), places=ptys) as second:
            link = Path(second.address())
            node = link.readlink()
            link.unlink()
            link.symlink_to("/dev/pts/somebody")
        assert str(link.readlink()) == "/dev/pts/somebody"
        assert str(node).startswith("/dev/pts/")
