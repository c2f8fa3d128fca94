"""Simulated devices behind USB/IP, as a kernel meets them."""

from __future__ import annotations

import asyncio
import errno
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.simulate.dfu.description import DescribedDevice
from firmwarden.simulate.dfu.kinds import Kind
from firmwarden.simulate.dfu.usbip_front import UsbipFront
from support.dfu_simulated import STATUS
from support.usbip_client import UsbipClient

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio

DETACH = "21 00 E8 03 01 00 00 00"
CONFIGURE = "00 09 01 00 00 00 00 00"
AFTER_A_RESET = "80 06 00 01 00 00 40 00"
IDLE = bytes.fromhex("00 00 00 00 02 00")
ROM_IDS = (0x0483, 0xDF11, 0x2200)
APPLICATION_IDS = (0x1209, 0x0001, 0x0100)


def device(name: str = "x", port: int = 1, **more: object) -> DescribedDevice:
    return DescribedDevice(name=name, port=(port,), **{"flash_time": 0.0, **more})  # type: ignore[arg-type]


class Running:
    """A front that runs, and what it tells."""

    front: UsbipFront

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []
        self.news = asyncio.Event()

    def notify(self, event: dict[str, object]) -> None:
        self.events.append(event)
        self.news.set()

    async def until(self, kind: str, times: int = 1) -> dict[str, object]:
        """Wait until something has happened so many times."""
        while True:
            found = [event for event in self.events if event["event"] == kind]
            if len(found) >= times:
                return found[times - 1]
            self.news.clear()
            await self.news.wait()

    @property
    def port(self) -> int:
        address = self.events[0]["address"]
        assert isinstance(address, str)
        return int(address.rpartition(":")[2])

    @asynccontextmanager
    async def imported(self, bus_id: str = "1-1") -> AsyncGenerator[UsbipClient]:
        """Import a device that is there."""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            client = UsbipClient(stream)
            assert await client.import_(bus_id) is not None
            yield client


@asynccontextmanager
async def running(
    *devices: DescribedDevice, controller: Kernel | None = None, report: Path | None = None
) -> AsyncGenerator[Running]:
    found = Running()
    found.front = UsbipFront(
        devices,
        found.notify,
        endpoint=("127.0.0.1", 0),
        controller=controller,
        report=report,
    )
    stop = asyncio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.front.serve, stop)
        try:
            await found.until("present", len(devices))
            yield found
        finally:
            stop.set()


async def test_devices_are_listed_and_imported_once() -> None:
    async with running(device(options={"BFB2": 1}), device("y", 2, version="1.0.0")) as front:
        one, two = await UsbipClient.list(front.port)
        assert (one.bus_id, one.ids) == ("1-1", ROM_IDS)
        assert (two.bus_id, two.ids) == ("1-2", APPLICATION_IDS)
        async with front.imported() as client:
            assert await client.transfer("80 06 00 01 00 00 12 00") == bytes.fromhex(
                "12 01 00 02 00 00 00 40 83 04 11 df 00 22 01 02 03 01"
            )
            assert await client.transfer(CONFIGURE) == b""
            assert await client.transfer(STATUS) == IDLE
            assert await client.transfer("21 00 00 00 00 00 00 00") == -errno.EPIPE
            async with await anyio.connect_tcp("127.0.0.1", front.port) as second:
                assert await UsbipClient(second).import_("1-1") is None
            async with await anyio.connect_tcp("127.0.0.1", front.port) as second:
                assert await UsbipClient(second).import_("1-9") is None
        await front.until("released")
        async with front.imported() as client:
            assert await client.transfer(STATUS) == bytes.fromhex("0f 00 00 00 0a 00")


async def test_only_control_transfers_are_carried() -> None:
    async with running(device(options={"BFB2": 1})) as front, front.imported() as client:
        await client.send("00" * 8, endpoint=1)
        assert await client.receive() == (3, 1, -errno.EPIPE, b"")


async def test_a_transfer_that_hangs_is_given_back_at_once() -> None:
    described = device(options={"BFB2": 1}, faults=("lost@getstatus=0", "broken@getstatus=1"))
    async with running(described) as front, front.imported() as client:
        hanging = await client.send(STATUS)
        assert await client.transfer(STATUS.replace("03", "05", 1).replace("06", "01")) == b"\x02"
        number = await client.unlink(hanging)
        assert await client.receive() == (4, number, -errno.ECONNRESET, b"")
        number = await client.unlink(hanging)
        assert await client.receive() == (4, number, 0, b"")
        # The device keeps the request in mind; another one comes between.
        assert await client.transfer(CONFIGURE) == b""
        assert await client.transfer(STATUS) == -errno.EPROTO
        assert await client.transfer(STATUS) == IDLE


async def test_an_answer_that_is_held_back_comes_when_the_work_is_done_or_never() -> None:
    described = device(part="stm32f405", kind=Kind.ROM, version="1.0.0", flash_time=0.01)
    async with running(described) as front:
        async with front.imported() as client:
            assert await client.transfer(DETACH) == b""
            assert await client.is_gone()
        await front.until("present", 2)
        async with front.imported() as client:
            assert await client.transfer("21 01 00 00 00 00 01 00", b"\x41") == b""
            busy = bytes.fromhex("00 64 00 00 04 00")
            assert await client.transfer(STATUS) == busy
            hanging = await client.send(STATUS)
            number = await client.unlink(hanging)
            assert await client.receive() == (4, number, -errno.ECONNRESET, b"")
            assert await client.transfer(STATUS) == bytes.fromhex("00 00 00 00 05 00")


async def test_a_device_that_comes_back_as_another_is_a_new_one() -> None:
    async with running(device(version="1.0.0")) as front:
        async with front.imported() as client:
            assert await client.transfer(CONFIGURE) == b""
            assert await client.transfer(DETACH) == b""
            assert await client.is_gone()
        assert await UsbipClient.list(front.port) == []
        await front.until("present", 2)
        (rom,) = await UsbipClient.list(front.port)
        assert rom.ids == ROM_IDS


async def test_a_reset_of_the_port_is_understood() -> None:
    async with running(device(kind=Kind.DFU, version="1.0.0", options={})) as front:
        async with front.imported() as client:
            # A device that is not configured is asked like this when it is plugged in.
            assert await client.transfer(AFTER_A_RESET) != b""
            assert await client.transfer(DETACH) == b""
            assert await client.is_gone()
        await front.until("present", 2)
        async with front.imported() as client:
            assert await client.transfer(AFTER_A_RESET) != b""
            assert await client.transfer(CONFIGURE) == b""
            assert await client.transfer("80 06 00 01 00 00 12 00") != b""
            assert await client.transfer(STATUS) == IDLE
            await client.send(AFTER_A_RESET)
            assert await client.is_gone()
        await front.until("present", 3)
        (application,) = await UsbipClient.list(front.port)
        assert application.ids == APPLICATION_IDS


async def test_power_and_cable_go_and_come_back(tmp_path: Path) -> None:
    described = device(version="1.0.0", faults=("power@getstatus=1,back=0.1",))
    report = tmp_path / "report.json"
    async with running(described, report=report) as front:
        async with front.imported() as client:
            assert await client.transfer(STATUS.replace("00 00 06", "01 00 06")) == bytes(6)
            await client.send(STATUS)
            assert await client.is_gone()
        await front.until("present", 2)
        front.front.unplug("x")
        front.front.plug("x", (4,))
        await front.until("present", 3)
        (moved,) = await UsbipClient.list(front.port)
        assert moved.bus_id == "1-4"
        with pytest.raises(ValueError, match="no device 'z'"):
            front.front.unplug("z")
    (told,) = json.loads(report.read_text())["devices"]
    assert told["running"] == {"name": "Simulated application 1.0.0", "version": "1.0.0"}
    assert told["faults"] == {"power@getstatus=1,back=0.1": 1}
    assert (told["appearances"], told["started_partial"], told["dead"]) == (3, 0, False)


class Kernel:
    """A host controller, and the kernel's end of what is attached to it."""

    def __init__(self, refusals: list[int]) -> None:
        self.attached: list[tuple[int, socket.socket]] = []
        self._refusals = refusals

    def attach(self, port: int, device: socket.socket, address: int) -> None:
        assert address > 1
        if self._refusals:
            raise OSError(self._refusals.pop(), "no")
        self.attached.append((port, device.dup()))

    async def client(self, number: int) -> UsbipClient:
        stream: SocketStream = await anyio.abc.UNIXSocketStream.from_socket(self.attached[number][1])
        return UsbipClient(stream)


async def test_each_appearance_is_attached_to_the_port_anew() -> None:
    kernel = Kernel([errno.EBUSY, errno.EBUSY])
    async with running(device(port=3, version="1.0.0"), controller=kernel) as front:
        await front.until("imported")
        client = await kernel.client(0)
        assert await client.transfer(DETACH) == b""
        assert await client.is_gone()
        await front.until("imported", 2)
        client = await kernel.client(1)
        assert await client.transfer(STATUS) == IDLE
        front.front.unplug("x")
        assert await client.is_gone()
        front.front.plug("x", (5,))
        await front.until("imported", 3)
        assert [port for port, _ in kernel.attached] == [3, 3, 5]
    for _, end in kernel.attached:
        end.close()


async def test_a_kernel_that_refuses_is_told() -> None:
    async with running(device(version="1.0.0"), controller=Kernel([errno.EINVAL])) as front:
        assert (await front.until("not-attached"))["why"] == "[Errno 22] no"
        assert [each.bus_id for each in await UsbipClient.list(front.port)] == ["1-1"]
