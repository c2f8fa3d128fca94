"""A resident loader that takes a plain DFU download: only a whole image is ever started."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.descriptors import find_dfu
from firmwarden.protocol.dfu.host import DfuHost
from firmwarden.protocol.dfu.quirks import STANDARD
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.dfu.firmware import SEAL_SPACE, Firmware, Role, Service, seal
from firmwarden.simulate.dfu.flash import Tear
from firmwarden.simulate.dfu.parts import FLASH_BASE
from support.dfu_simulated import L476, STATUS, Bench, image, settings

if TYPE_CHECKING:
    from firmwarden.simulate.dfu.chip import Operation
    from firmwarden.simulate.dfu.device import Snapshot

START: Final = FLASH_BASE + 4096
END: Final = FLASH_BASE + 16384

LOADER: Final = image("loader", L476, 3000, role=Role.LOADER, service=Service.of_dfu(START, END))
BODY: Final = image("app", L476, 2300, base=START + SEAL_SPACE).segments[0].data
APP: Final = Firmware(name="app", segments=seal(BODY, START), entry=START + SEAL_SPACE)
STREAM: Final = APP.segments[0].data.ljust(SEAL_SPACE, b"\xff") + BODY


def bench() -> Bench:
    return Bench(settings(L476, LOADER, APP))


def download(device: Bench) -> None:
    for number in range(-(-len(STREAM) // 256)):
        block = STREAM[number * 256 :][:256]
        device.say(f"21 01 {number:02x} 00 00 00 {len(block).to_bytes(2, 'little').hex()} {block.hex()}")
        if device.settle() != "00 00 00 00 05 00":
            return
    device.say(f"21 01 {number + 1:02x} 00 00 00 00 00")
    device.say(STATUS)
    device.wait(1)


def test_the_host_updates_it_and_resets_it_into_its_application() -> None:
    device = bench()
    (interface,) = find_dfu(bytes.fromhex(device.say("80 06 00 02 00 00 FF 00")))
    host = DfuHost(Unit.of(interface, STANDARD))
    device.run(host.download(STREAM))
    device.run(host.manifest())
    device.device.bus_reset(device.now)
    assert str(device.device.boot) == "APPLICATION app"


def test_what_was_downloaded_can_be_uploaded() -> None:
    device = bench()
    download(device)
    device.say(STATUS)
    came = b"".join(bytes.fromhex(device.say(f"A1 02 {number:02x} 00 00 00 00 01")) for number in range(48))
    assert came[: len(STREAM)] == STREAM
    assert device.say("A1 02 30 00 00 00 00 01") == "", "there is no more"


def test_blocks_come_in_order_and_only_so_many() -> None:
    device = bench()
    assert device.say("21 01 01 00 00 00 04 00 01020304") == "STALL"
    assert device.say(STATUS) == "0f 00 00 00 0a 00"
    device = bench()
    for number in range(48):
        device.say(f"21 01 {number:02x} 00 00 00 00 01 5a*256")
        device.settle()
    assert device.say("21 01 30 00 00 00 04 00 01020304") == "STALL"
    assert device.say(STATUS) == "08 00 00 00 0a 00"


def test_after_an_error_the_stream_begins_anew() -> None:
    device = bench()
    device.say("21 01 00 00 00 00 00 01 5a*256")
    device.settle()
    assert device.say("21 01 07 00 00 00 04 00 01020304") == "STALL"
    assert device.say(STATUS) == "0f 00 00 00 0a 00"
    device.say("21 04 00 00 00 00 00 00")
    assert device.say(STATUS) == "00 00 00 00 02 00"
    download(device)
    device.device.bus_reset(device.now)
    assert str(device.device.boot) == "APPLICATION app"


def test_inv1_a_cut_at_any_moment_leaves_the_loader_or_a_whole_application() -> None:
    device = bench()
    taken: list[tuple[Operation | None, Snapshot]] = []
    device.device.watcher = lambda moment: taken.append((moment.operation, device.device.snapshot()))
    download(device)
    device.device.watcher = None
    landings = Counter[Landing | None]()
    for number, (operation, snapshot) in enumerate(taken):
        for share in (0.0, 0.3, 0.7, 1.0):
            device.device.restore(snapshot)
            if operation is not None:
                device.device.chip.tear(operation, Tear(share, number))
            device.cycle()
            landing = device.device.boot.landing if device.device.boot else None
            assert landing in {Landing.LOADER, Landing.APPLICATION}
            landings[landing] += 1
        if number % 16 == 0:
            download(device)
            device.cycle()
            assert str(device.device.boot) == "APPLICATION app"
    assert landings[Landing.APPLICATION]
    assert landings[Landing.LOADER] > 4 * len(STREAM) // 8, "only the last operations make it whole"
