"""The real host over the real channel updates each family, on a clock that jumps."""

from __future__ import annotations

import asyncio

import pytest

from firmwarden.protocol.mdfu.host import Ended, MdfuHost
from firmwarden.simulate.client import Mode
from firmwarden.simulate.faults import parse_fault
from firmwarden.simulate.profile import PROFILES
from firmwarden.simulate.settings import DeviceSettings
from support.hand import update_file
from support.virtual_port import VirtualPort
from support.virtual_time import run


async def update(profile: str, *faults: str) -> VirtualPort:
    """Deliver 20,000 bytes at 115200 baud and let the device restart."""
    port = VirtualPort(
        DeviceSettings(
            profile=PROFILES[profile], baud=115_200, faults=tuple(parse_fault(text) for text in faults)
        )
    )
    port.start()
    link = await port.open(port.address)
    host = MdfuHost(update_file(profile, size=20_000))
    while not isinstance(await link.converse(host), Ended):
        pass
    await link.aclose()
    await asyncio.sleep(1)
    assert port.client.mode is Mode.APPLICATION
    return port


@pytest.mark.parametrize("profile", list(PROFILES))
def test_wire_and_flash_take_the_time_they_take(profile: str) -> None:
    async def main() -> float:
        await update(profile)
        return asyncio.get_running_loop().time()

    geometry = PROFILES[profile].flash
    wire_s = 20_000 * 10 / 115_200
    flash_s = geometry.pages * geometry.erase_s + 20_000 / geometry.write_size * geometry.write_s
    least_s = wire_s + flash_s + geometry.check_s + 1
    assert least_s < run(main) < 1.5 * least_s


def test_the_same_faults_lead_to_the_same_end() -> None:
    faults = ("drop@p=0.05", "corrupt@p=0.05", "duplicate@p=0.05", "noise@p=0.1")

    async def main() -> tuple[float, dict[str, int]]:
        port = await update("generic", *faults)
        return asyncio.get_running_loop().time(), port.client.faults_fired

    first = run(main)
    assert first == run(main)
    assert all(first[1].values())
