"""The device's side of what crosses the bus, byte for byte."""

from dataclasses import replace

import pytest

from firmwarden.protocol.dfu.descriptors import find_dfu
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.host import detach
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.quirks import STANDARD
from firmwarden.protocol.dfu.requests import State
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.dfu.firmware import Firmware, Role, RunTime, Service, seal
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS
from firmwarden.simulate.dfu.traits import Leaving, Traits, WhileBusy
from support.dfu_simulated import L476, STATUS, Bench, image, settings

TRACED = Traits(erase_poll_ms=32, write_poll_ms=104)

OLD = image("old", L476, 6000)


def rom(traits: Traits = TRACED, **more: object) -> Bench:
    """A ROM that waits, because the bank check finds nothing."""
    return Bench(settings(L476, factory={"BFB2": 1}, traits=traits, **more))


def set_address(address: int) -> str:
    return f"""
        21 01 00 00 00 00 05 00  21 {address.to_bytes(4, "little").hex(" ")} -> ok
        {STATUS} -> 00 00 00 00 04 00
        {STATUS} -> 00 00 00 00 05 00
    """


def test_t1_enumerate_and_status() -> None:
    bench = rom()
    text = "@Internal Flash  /0x08000000/08*002Kg"
    descriptor = bytes((2 + 2 * len(text), 3)) + text.encode("utf-16-le")
    bench.trace(f"""
        80 06 00 01 00 00 12 00 -> 12 01 00 02 00 00 00 40 83 04 11 DF 00 22 01 02 03 01
        80 06 00 02 00 00 09 00 -> 09 02 2D 00 01 01 00 C0 32
        80 06 00 02 00 00 FF 00 -> 09 02 2D 00 01 01 00 C0 32  \
            09 04 00 00 00 FE 01 02 04  09 04 00 01 00 FE 01 02 05  09 04 00 02 00 FE 01 02 06 \
            09 21 0B FF 00 00 08 1A 01
        80 06 04 03 09 04 FF 00 -> {descriptor.hex()}
        80 06 07 03 09 04 FF 00 -> STALL
        00 09 01 00 00 00 00 00 -> ok
        01 0B 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 02 00
    """)


def test_t2_erase_a_page() -> None:
    bench = rom()
    bench.trace(f"""
        21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok
        {STATUS} -> 00 20 00 00 04 00
        pause 0.032
        {STATUS} -> 00 00 00 00 05 00
    """)
    assert bench.device.chip.flash.wear == [1] + [0] * 7


def test_t3_to_t5_write_two_blocks_and_read_them_back() -> None:
    bench = rom()
    block = f"""
        21 01 02 00 00 00 00 08  5a*2048 -> ok
        {STATUS} -> 00 68 00 00 04 00
        pause 0.104
        {STATUS} -> 00 00 00 00 05 00
    """
    bench.trace(set_address(0x0800_0800) + block + block.replace("01 02", "01 03").replace("5a*", "a5*"))
    bench.trace(f"""
        {set_address(0x0800_0800)}
        21 06 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 02 00
        A1 02 02 00 00 00 00 08 -> 5a*2048
        {STATUS} -> 00 00 00 00 09 00
        A1 02 03 00 00 00 00 08 -> a5*2048
        21 06 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 02 00
    """)


def test_t6_commit_and_leave() -> None:
    bench = Bench(settings(L476, OLD, installed={}, factory={"BFB2": 1}, traits=TRACED))
    data = OLD.segments[0].data
    bench.device.chip.install([Segment(FLASH_BASE + 8, data[8:])])
    bench.trace(f"""
        {set_address(FLASH_BASE)}
        21 01 02 00 00 00 08 00  {data[:8].hex()} -> ok
        {STATUS} -> 00 68 00 00 04 00
        pause 0.104
        {STATUS} -> 00 00 00 00 05 00
        {set_address(FLASH_BASE)}
        21 06 00 00 00 00 00 00 -> ok
        A1 02 02 00 00 00 08 00 -> {data[:8].hex()}
        21 06 00 00 00 00 00 00 -> ok
        {set_address(FLASH_BASE)}
        21 01 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 07 00
        {STATUS} -> GONE
    """)
    assert str(bench.device.boot) == "APPLICATION old"
    bench.wait(1)
    assert bench.device.identity is not None
    assert (bench.device.generation, bench.device.identity.product) == (2, 1)


@pytest.mark.parametrize(
    ("leaving", "trace"),
    [
        (Leaving.REPORTS, f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> 00 00 00 00 07 00"),
        (Leaving.STALLS, f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> STALL"),
        (Leaving.VANISHES, f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> GONE"),
        (Leaving.UNASKED, f"21 01 00 00 00 00 00 00 -> GONE\n{STATUS} -> GONE"),
    ],
)
def test_all_ways_to_leave_leave(leaving: Leaving, trace: str) -> None:
    bench = Bench(settings(L476, OLD, boot0=True, traits=replace(TRACED, leaving=leaving)))
    assert bench.device.state is State.DFU_IDLE

    bench.trace(trace)

    assert str(bench.device.boot) == "APPLICATION old"


def test_leaving_for_nothing_resets() -> None:
    bench = rom()
    bench.trace(f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> 00 00 00 00 07 00")
    assert bench.device.boot is not None
    assert bench.device.boot.landing is Landing.ROM
    assert bench.device.landings == {Landing.ROM: 2}


def test_t7_abort_keeps_what_is_written() -> None:
    bench = rom()
    bench.write(FLASH_BASE, b"\x12" * 16)
    bench.trace(
        f"21 06 00 00 00 00 00 00 -> ok\n{STATUS} -> 00 00 00 00 02 00\nA1 02 02 00 00 00 10 00 -> 12*16"
    )


def test_t8_bad_address_and_recovery() -> None:
    rom().trace(f"""
        21 01 00 00 00 00 05 00  21 00 00 00 40 -> ok
        {STATUS} -> 00 00 00 00 04 00
        {STATUS} -> 01 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 02 00
    """)


def test_t9_stalls_while_it_erases() -> None:
    bench = rom(replace(TRACED, erase_poll_ms=8, while_busy=WhileBusy.STALLS))
    bench.trace(f"""
        21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok
        {STATUS} -> 00 08 00 00 04 00
        pause 0.008
        {STATUS} -> STALL
        pause 0.008
        {STATUS} -> STALL
        pause 0.008
        {STATUS} -> 00 00 00 00 05 00
    """)


def test_t10_stays_busy_until_its_status_is_cleared_twice() -> None:
    part = PARTS["stm32h743"].small(8, 1024)
    bench = Bench(settings(part, boot0=True, traits=replace(TRACED, sticks_busy_from=FLASH_BASE + 4096)))
    bench.trace(f"""
        21 01 00 00 00 00 05 00  41 00 10 00 08 -> ok
        {STATUS} -> 00 20 00 00 04 00
        pause 30
        {STATUS} -> 00 64 00 00 04 00
        21 04 00 00 00 00 00 00 -> ok
        {STATUS} -> 0E 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 02 00
    """)
    assert bench.device.chip.flash.wear == [0, 0, 0, 0, 1, 0, 0, 0]


def test_t11_mass_erase_lies_and_withholds() -> None:
    bench = Bench(settings(PARTS["stm32f405"], boot0=True))
    bench.trace(f"""
        21 01 00 00 00 00 01 00  41 -> ok
        {STATUS} -> 00 64 00 00 04 00
        pause 0.1
        {STATUS} -> 00 00 00 00 05 00
    """)
    assert bench.now == pytest.approx(1.0 + 12 * 0.4)
    assert bench.device.chip.flash.wear == [1] * 12


def test_t12_read_protected() -> None:
    bench = Bench(settings(L476, factory={"BFB2": 1, "RDP": 0x55}))
    bench.trace(f"""
        A1 02 02 00 00 00 08 00 -> STALL
        {STATUS} -> 0B 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        21 01 00 00 00 00 05 00  41 00 00 00 08 -> STALL
        {STATUS} -> 0B 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        {set_address(FLASH_BASE)}
        21 06 00 00 00 00 00 00 -> ok
        A1 02 00 00 00 00 40 00 -> 00 21 41 92
    """)


def test_t13_option_bytes_restart_the_chip() -> None:
    bench = Bench(settings(L476, OLD, boot0=True, traits=TRACED))
    layout = L476.options
    wanted = layout.changed(bench.device.chip.stored, {"BFB2": 1})[:40]
    generation = bench.device.generation
    bench.trace(f"""
        01 0B 01 00 00 00 00 00 -> ok
        {set_address(0x1FFF_7800)}
        21 01 02 00 00 00 28 00  {wanted.hex()} -> ok
        {STATUS} -> 00 17 00 00 04 00
        pause 0.023
        {STATUS} -> GONE
        pause 1
    """)
    assert bench.device.generation == generation + 1
    assert bench.device.chip.options["BFB2"] == 1
    bench.trace(set_address(0x1FFF_7800))
    assert bench.say("21 06 00 00 00 00 00 00") == ""
    assert bench.say("A1 02 02 00 00 00 28 00") == wanted.hex(" ")


def _stream(*, tolerant: bool) -> tuple[Bench, bytes]:
    start, end = FLASH_BASE + 4096, FLASH_BASE + 16384
    loader = image(
        "loader", L476, 3000, role=Role.LOADER, service=Service.of_dfu(start, end, tolerant=tolerant)
    )
    body = image("app", L476, 600, base=start + 512).segments[0].data
    app = Firmware(name="app", segments=seal(body, start), entry=start + 512, run_time=RunTime(product=7))
    data = app.segments[0].data.ljust(512, b"\xff") + body
    return Bench(settings(L476, loader, app)), data


@pytest.mark.parametrize("tolerant", [True, False])
def test_t14_plain_dfu(tolerant: bool) -> None:
    bench, data = _stream(tolerant=tolerant)
    assert str(bench.device.boot) == "LOADER loader"
    for number in range(-(-len(data) // 256)):
        block = data[number * 256 :][:256]
        assert (
            bench.say(f"21 01 {number:02x} 00 00 00 {len(block).to_bytes(2, 'little').hex()} {block.hex()}")
            == ""
        )
        assert bench.settle() == "00 00 00 00 05 00"
    bench.trace(f"21 01 05 00 00 00 00 00 -> ok\n{STATUS} -> 00 01 00 00 07 00\npause 0.001")
    if tolerant:
        bench.trace(f"{STATUS} -> 00 00 00 00 02 00")
    else:
        bench.trace(f"{STATUS} -> TIMED_OUT")
    bench.device.bus_reset(bench.now)
    assert str(bench.device.boot) == "APPLICATION app"


def test_plain_dfu_refuses_what_is_not_whole() -> None:
    bench, data = _stream(tolerant=True)
    assert bench.say(f"21 01 00 00 00 00 00 01 {data[:256].hex()}") == ""
    assert bench.settle() == "00 00 00 00 05 00"
    bench.trace(f"""
        21 01 01 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 07 00
        {STATUS} -> 0A 00 00 00 0A 00
    """)
    bench.cycle()
    assert str(bench.device.boot) == "LOADER loader"


@pytest.mark.parametrize("will_detach", [True, False])
def test_t15_run_time_detach(will_detach: bool) -> None:
    app = image("app", L476, 1000, run_time=RunTime(dfu_interface=2, will_detach=will_detach))
    bench = Bench(settings(L476, app))
    configuration = bytes.fromhex(bench.say("80 06 00 02 00 00 FF 00"))
    (interface,) = find_dfu(configuration)
    assert (interface.number, interface.alone) == (2, False)
    assert bench.say("21 00 E8 03 02 00 00 00") == ""
    bench.wait(0.5)
    if not will_detach:
        assert bench.say("A1 03 00 00 02 00 06 00") == "00 00 00 00 01 00"
        bench.device.bus_reset(bench.now)
    bench.wait(1)
    assert bench.say(STATUS) == "00 00 00 00 02 00"
    assert str(bench.device.boot) == "ROM"


def test_a_detach_that_nobody_follows_expires() -> None:
    app = image("app", L476, 1000, run_time=RunTime(will_detach=False, dfu_interface=0))
    bench = Bench(settings(L476, app))
    assert bench.say("21 00 E8 03 00 00 00 00") == ""
    states = [bench.device.state]
    bench.wait(1.0)
    states.append(bench.device.state)
    assert states == [State.APP_DETACH, State.APP_IDLE]


def test_the_host_s_conversations_end_as_they_should() -> None:
    app = image("old", L476, 7000, run_time=RunTime(dfu_interface=0))
    new = image("new", L476, 9000)
    bench = Bench(settings(L476, app, new, factory={"BFB2": 1}, installed={1: (app,)}))
    (interface,) = find_dfu(bytes.fromhex(bench.say("80 06 00 02 00 00 FF 00")))
    bench.run(detach(Unit.of(interface, STANDARD)))
    bench.wait(1)
    (interface,) = find_dfu(bytes.fromhex(bench.say("80 06 00 02 00 00 FF 00")))
    unit = Unit.of(interface, STANDARD)
    memory = MemoryMap.parse(L476.maps[0])
    host = DfuseHost(unit, memory)

    bench.run(host.select(0))
    bench.run(host.erase(memory.sectors(FLASH_BASE, FLASH_BASE + 9000)))
    bench.run(host.write(new.segments))
    bench.run(host.verify(new.segments))
    assert bench.run(host.leave(new.segments, FLASH_BASE))

    assert str(bench.device.boot) == "APPLICATION new"
