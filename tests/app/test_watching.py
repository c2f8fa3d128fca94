"""The watchers on a simulated USB: who is told to the registry."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from firmwarden import config
from firmwarden.app import wiring
from firmwarden.app.watching import Watching
from firmwarden.images.cas import ImageStore
from firmwarden.model import UsbAddress
from firmwarden.service.intake import Intake
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.firmware import RunTime
from firmwarden.simulate.dfu.lister import SimLister
from firmwarden.transport.usb import UsbBus
from support.dfu_bus import LiveBus
from support.dfu_simulated import L476, image, settings
from support.drop import Drop
from support.gateway import key_table
from support.house import House, living
from support.signing import VENDOR, signature

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path
    from typing import NoReturn

    from firmwarden.service.registry import Registry
    from firmwarden.simulate.dfu.bus import SimBus

pytestmark = pytest.mark.anyio

APPLICATION = image("meter", L476, 6000)
METER = settings(L476, APPLICATION)
KEYBOARD = settings(L476, image("keyboard", L476, 6000, run_time=RunTime(vendor=0x046D, product=0xC31C)))

METERS = """
[[device]]
name = "meter"
driver = "dfu"
match = { usb = "1209:0001" }
image_address = 0x08000000
require_signature = false
"""


def configuration(directory: Path, tables: str) -> config.Config:
    file = directory / "firmwarden.toml"
    settings = f'[firmwarden]\nscan_interval = "50ms"\nfirmware_dir = "{directory / "firmware"}"\n'
    file.write_text(settings + tables)
    return config.load(file)


def watchers(house: House, loaded: config.Config, bus: SimBus) -> Watching:
    firmware = loaded.settings.firmware_dir
    images = ImageStore(firmware.with_name("images"))
    images.open()
    return Watching(
        loaded,
        usb=UsbBus(SimLister(bus), lambda: SimBackend(bus)),
        registry=house.registry,
        warden=house.warden,
        intake=Intake(firmware, images, wiring.criteria(loaded), house.clock),
        images=images,
        store=house.store,
    )


@asynccontextmanager
async def watching(bus: SimBus, directory: Path, classes: str) -> AsyncGenerator[Registry]:
    (directory / "firmware").mkdir()
    loaded = configuration(directory, classes)
    async with living({}, policies=[], inline=False) as house:
        watching = watchers(house, loaded, bus)
        async with anyio.create_task_group() as tasks:
            watching.start(tasks)
            watching.configure(loaded)
            yield house.registry
            tasks.cancel_scope.cancel()


async def places(registry: Registry, wanted: list[str]) -> None:
    """Wait until the units are at these places and at no other."""

    def now() -> list[str]:
        return sorted(str(registry.address(device)) for device in registry.plugged_at)

    with anyio.move_on_after(5.0):
        while now() != wanted:  # noqa: ASYNC110  the registry tells nobody
            await anyio.sleep(0.01)
    assert now() == wanted


async def test_inv7_units_come_and_go_by_scans_alone(tmp_path: Path) -> None:
    bus = LiveBus()
    bus.plug(SimDfu(METER), 1, 4)
    bus.plug(SimDfu(KEYBOARD), 2)
    async with watching(bus, tmp_path, METERS) as registry:
        await places(registry, ["usb:1-1.4"])
        (device,) = registry.plugged_at
        address = registry.address(device)
        assert isinstance(address, UsbAddress)
        assert address.usb is not None
        assert address.usb.port == "usb-sim-1.4"

        bus.plug(SimDfu(METER), 3)
        await places(registry, ["usb:1-1.4", "usb:1-3"])

        bus.unplug(1, 4)
        await places(registry, ["usb:1-3"])


async def test_inv7_a_scan_that_cannot_be_made_leaves_the_registry_behind_until_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: SimLister) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def until_behind(registry: Registry, *, behind: bool) -> None:
        with anyio.fail_after(5.0):
            while registry.behind is not behind:  # noqa: ASYNC110  the registry tells nobody
                await anyio.sleep(0.01)

    bus = LiveBus()
    bus.plug(SimDfu(METER), 1, 4)
    async with watching(bus, tmp_path, METERS) as registry:
        await places(registry, ["usb:1-1.4"])
        assert not registry.behind
        with monkeypatch.context() as patch:
            patch.setattr(SimLister, "list", refuses)
            await until_behind(registry, behind=True)
            await places(registry, ["usb:1-1.4"])
        await until_behind(registry, behind=False)


async def test_inv8_a_reload_withdraws_what_a_revoked_key_has_signed_before_anything_is_looked_at(
    tmp_path: Path,
) -> None:
    (tmp_path / "firmware").mkdir()
    drop = Drop(tmp_path / "firmware")
    drop.release("meter", APPLICATION.segments[0].data, device="meter")
    drop.file("meter.toml.minisig", signature((drop.directory / "meter.toml").read_bytes()))
    tables = METERS.replace("require_signature = false\n", key_table("plant", VENDOR))
    async with living({}, policies=[], inline=False) as house:
        watching = watchers(house, configuration(tmp_path, tables), LiveBus())
        async with anyio.create_task_group() as tasks:
            watching.start(tasks)
            with anyio.fail_after(5.0):
                while not house.warden.releases:  # noqa: ASYNC110  as above
                    await anyio.sleep(0.01)
            shutil.rmtree(drop.directory)

            watching.configure(configuration(tmp_path, f"{tables}revoked = true\n"))
            assert not house.warden.releases
            tasks.cancel_scope.cancel()
