"""Who is here: what scans change, what is recorded, and that only a scan that was recorded counts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden.errors import StoreError
from firmwarden.model import SerialAddress, Sighting, UsbFacts
from firmwarden.service.identity import ClassRule
from firmwarden.service.registry import Registry
from firmwarden.store.store import Store
from support.house import NOON, PANEL, VirtualClock, virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, MutableMapping
    from typing import Any

    from firmwarden.model import Device

pytestmark = pytest.mark.anyio

RULE = ClassRule(name=PANEL, by_serial=True, usb=(0x04D8, 0x000A))


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return virtual_time()


def port(number: int, serial: str) -> Sighting:
    """A unit with a serial number in a port."""
    return Sighting(
        address=SerialAddress(path=f"/dev/ttyACM{number}"),
        usb=UsbFacts(
            vendor_id=0x04D8,
            product_id=0x000A,
            serial=serial,
            topology=f"1-{number}",
            interface=0,
            port=f"usb-1.{number}",
        ),
    )


class Hall:
    """A registry with its store."""

    def __init__(self, store: Store) -> None:
        self.clock = VirtualClock()
        self.store = store
        self.registry = Registry(
            store=store, clock=self.clock, rules=[RULE], labels={PANEL: "panel {serial}"}
        )

    async def see(self, *sightings: Sighting, under_way: Collection[str] = ()) -> list[str] | None:
        """Take a scan; returns the serial numbers of those that came."""
        busy = {device.id for device in await self.devices() if device.serial in under_way}
        came = await self.registry.take(sightings, under_way=busy)
        known = {device.id: device.serial for device in await self.devices()}
        return None if came is None else [known[device] for device in came]

    async def devices(self) -> list[Device]:
        return await self.store.run(lambda ledger: ledger.devices())


@asynccontextmanager
async def hall(before_commit: Callable[[], None] | None = None) -> AsyncGenerator[Hall]:
    store = await Store.open(None, inline=True, before_commit=before_commit)
    yield Hall(store)
    await store.aclose()


async def test_units_are_enrolled_once_and_greeted_each_time(logs: list[MutableMapping[str, Any]]) -> None:
    async with hall() as here:
        assert await here.see(port(1, "A"), port(2, "B")) == ["A", "B"]
        assert await here.see(port(1, "A"), port(2, "B")) is None, "nothing changed"
        assert await here.see(port(1, "A")) == []
        assert await here.see(port(1, "A"), port(2, "B")) == ["B"]
        assert {device.label for device in await here.devices()} == {"panel A", "panel B"}
    assert [entry["event"] for entry in logs] == [
        "device-enrolled",
        "device-enrolled",
        "device-gone",
        "device-appeared",
    ]


async def test_a_unit_that_goes_into_its_loader_and_back_is_not_told_to_be_gone(
    logs: list[MutableMapping[str, Any]],
) -> None:
    def told() -> list[str]:
        names = [entry["event"] for entry in logs]
        logs.clear()
        return names

    async with hall() as here:
        await here.see(port(1, "A"), port(2, "B"))
        told()
        assert await here.see(port(2, "B"), under_way="A") == []
        assert await here.see(port(1, "A"), port(2, "B"), under_way="A") == ["A"]
        assert told() == []
        await here.see(under_way="A")
        await here.see(under_way="A")
        assert told() == ["device-gone"], "of B"
        # It is over, and nothing else has changed.
        assert await here.see() is None
        assert told() == ["device-gone"]
        assert await here.see() is None
        await here.see(port(1, "A"), under_way="A")
        assert told() == ["device-appeared"]


async def test_who_was_there_at_the_start_was_not_plugged_in() -> None:
    async with hall() as here:
        await here.see(port(1, "A"))
        await anyio.sleep(60.0)
        await here.see(port(1, "A"), port(2, "B"))
        await anyio.sleep(60.0)
        await here.see(port(1, "A"), port(2, "B"), port(3, "C"))
        names = {device.id: device.serial for device in await here.devices()}
        plugged = {names[device]: at for device, at in here.registry.plugged_at.items()}
        assert plugged == {"A": 0.0, "B": NOON + 60.0, "C": NOON + 120.0}
        await here.see(port(2, "B"))
        await here.see(port(1, "A"), port(2, "B"))
        plugged = {names[device]: at for device, at in here.registry.plugged_at.items()}
        assert plugged["A"] == NOON + 120.0


async def test_the_store_knows_where_and_when_a_unit_was_last_seen() -> None:
    async with hall() as here:
        await here.see(port(1, "A"))
        await anyio.sleep(60.0)
        await here.see()
        (device,) = await here.devices()
        assert (device.port, device.first_seen, device.last_seen) == ("usb-1.1", NOON, NOON + 60.0)
        await here.see(port(5, "A"))
        (device,) = await here.devices()
        assert device.port == "usb-1.5", "moved, and its old port is empty: the same unit"
        place = port(5, "A").usb
        assert here.registry.address(device.id) == SerialAddress(path="/dev/ttyACM5", usb=place)


async def test_inv4_an_ambiguous_unit_is_not_here(logs: list[MutableMapping[str, Any]]) -> None:
    async with hall() as here:
        await here.see(port(1, "A"))
        (device,) = await here.devices()
        assert await here.see(port(1, "A"), port(2, "A")) == []
        assert here.registry.plugged_at == {}
        assert here.registry.address(device.id) is None
        assert "same serial number A" in here.registry.conflicts_of_known[device.id]
        await here.see(port(1, "A"))
        assert here.registry.conflicts == ()
        assert here.registry.address(device.id) is not None
    told = [entry["event"] for entry in logs]
    assert told == [
        "device-enrolled",
        "device-gone",
        "device-conflict",
        "device-appeared",
        "conflict-settled",
    ]


async def test_inv7_a_scan_that_could_not_be_recorded_is_taken_again() -> None:
    full = True

    def before_commit() -> None:
        if full:
            raise StoreError("the disk is full")

    async with hall(before_commit) as here:
        with pytest.raises(StoreError):
            await here.see(port(1, "A"))
        assert not here.registry.scanned
        assert here.registry.plugged_at == {}
        full = False
        assert await here.see(port(1, "A")) == ["A"]


async def test_an_equal_scan_counts_again_after_the_rules_changed() -> None:
    async with hall() as here:
        await here.see(port(1, "A"))
        here.registry.configure([RULE], {PANEL: "{class} {port} {place}"})
        with anyio.fail_after(1.0):
            await here.registry.wanted()
        assert await here.see(port(1, "A")) == []
        assert [device.label for device in await here.devices()] == ["panel usb-1.1 usb-1.1"]
        here.registry.configure([], {})
        await here.see(port(1, "A"))
        assert here.registry.plugged_at == {}


async def test_somebody_who_waits_for_a_wish_to_look_is_woken_once() -> None:
    async with hall() as here:
        here.registry.look_again()
        with anyio.fail_after(1.0):
            await here.registry.wanted()
        with anyio.move_on_after(1.0) as scope:
            await here.registry.wanted()
        assert scope.cancelled_caught
