"""What crosses the bus, byte for byte: the conversations of AN3156 and DFU 1.1, as devices have them."""

import pytest

from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Progress, Writing
from firmwarden.protocol.dfu.descriptors import Attribute, FunctionalDescriptor, decode_string, find_dfu
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.host import DfuHost, Manifested, detach, identify
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.quirks import STANDARD, Mode, Quirks, quirks_of
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.steps import Unit, abort
from support.dfu_script import Script

L4 = MemoryMap.parse("@Internal Flash  /0x08000000/0512*0002Kg")
F405 = MemoryMap.parse("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg")
H743 = MemoryMap.parse("@Internal Flash   /0x08000000/16*128Kg")
ROM = FunctionalDescriptor.decode(bytes.fromhex("09 21 0B FF 00 00 08 1A 01"))

STATUS = "A1 03 00 00 00 00 06 00"
STATE = "A1 05 00 00 00 00 01 00"

IDLE = f"{STATUS} -> 00 00 00 00 02 00\n"


def _set_address(address: int) -> str:
    return f"""
        21 01 00 00 00 00 05 00  21 {address.to_bytes(4, "little").hex(" ")}  -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 00 00 00 00 05 00
    """


_ABORT = f"""
    21 06 00 00 00 00 00 00 -> ok
    {STATUS} -> 00 00 00 00 02 00
"""


def _host(memory: MemoryMap = L4, quirks: Quirks = STANDARD) -> DfuseHost:
    return DfuseHost(Unit(interface=0, functional=ROM, quirks=quirks), memory)


def _plain(attributes: Attribute, transfer_size: int = 64, interface: int = 0) -> Unit:
    functional = FunctionalDescriptor(
        attributes=attributes, detach_timeout_ms=1000, transfer_size=transfer_size, version=0x0110
    )
    return Unit(interface=interface, functional=functional)


def test_t1_enumerate_and_status() -> None:
    configuration = bytes.fromhex(
        "09 02 1B 00 01 01 00 C0 32  09 04 00 00 00 FE 01 02 04  09 21 0B FF 00 00 08 1A 01"
    )
    (interface,) = find_dfu(configuration)
    text = "@Internal Flash  /0x08000000/0512*0002Kg"
    raw = bytes((2 + 2 * len(text), 3)) + text.encode("utf-16-le")
    assert MemoryMap.parse(decode_string(raw)) == L4
    unit = Unit.of(interface, quirks_of(0x0483, 0xDF11, 0x2200, text))
    script = Script(f"select 0\n{STATE} -> 02\n{IDLE} {STATE} -> 02")

    script.play(DfuseHost(unit, L4).select(0))
    assert script.play(identify(unit, Mode.DFU)) is Mode.DFU

    script.finish()
    assert unit.dfuse


def test_t2_erase_a_page() -> None:
    script = Script(f"""
        21 01 00 00 00 00 05 00  41 00 00 00 08  -> ok
        {STATUS} -> 00 20 00 00 04 00
        pause 0.032
        {STATUS} -> 00 00 00 00 05 00
    """)

    script.play(_host().erase(L4.sectors(0x0800_0000, 0x0800_0001)))

    script.finish()
    assert script.milestones == [Writing(), Progress(2048, 2048)]


def test_t3_set_the_address() -> None:
    script = Script(_set_address(0x0800_0800))

    script.play(_host().set_address(0x0800_0800))

    script.finish()


def test_t4_write_two_blocks() -> None:
    write = f"""
        21 01 02 00 00 00 00 08  5a*2048 -> ok
        {STATUS} -> 00 68 00 00 04 00
        pause 0.104
        {STATUS} -> 00 00 00 00 05 00
    """
    script = Script(_set_address(0x0800_0800) + write + _set_address(0x0800_1000) + write)

    script.play(_host().write([Segment(0x0800_0800, b"\x5a" * 4096)]))

    script.finish()
    assert script.milestones == [Writing(), Progress(2048, 4096), Progress(4096, 4096)]


def test_t5_read_back() -> None:
    script = Script(f"""
        {_set_address(0x0800_0800)}
        {_ABORT}
        A1 02 02 00 00 00 00 08 -> 5a*2048
        A1 02 03 00 00 00 00 08 -> a5*2048
        {_ABORT}
    """)

    data = script.play(_host().read(0x0800_0800, 4096))

    script.finish()
    assert data == b"\x5a" * 2048 + b"\xa5" * 2048


def test_t6_commit_and_leave() -> None:
    vectors = "00 80 01 20 09 01 00 08"
    image = Segment(0x0800_0000, bytes.fromhex(vectors))
    host = _host()
    # The trace writes eight bytes; ours fills up to sixteen, which some ROMs and chips need.
    script = Script(f"""
        {_set_address(0x0800_0000)}
        21 01 02 00 00 00 10 00  {vectors} ff*8 -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 00 00 00 00 05 00

        {_set_address(0x0800_0000)}
        {_ABORT}
        A1 02 02 00 00 00 08 00 -> {vectors}
        {_ABORT}

        {_set_address(0x0800_0000)}
        21 01 00 00 00 00 00 00 -> ok
        {STATUS} -> 00 00 00 00 07 00
    """)

    script.play(host.write([image]))
    script.play(host.verify([image]))
    left = script.play(host.leave([image], 0x0800_0000))

    script.finish()
    assert left


@pytest.mark.parametrize(
    "end",
    [
        "21 01 00 00 00 00 00 00 -> stall",
        "21 01 00 00 00 00 00 00 -> gone",
        f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> stall",
        f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> gone",
        f"21 01 00 00 00 00 00 00 -> ok\n{STATUS} -> timeout",
    ],
)
def test_inv2_t6_a_rom_that_vanishes_has_not_said_that_it_leaves(end: str) -> None:
    image = Segment(0x0800_0000, b"12345678")
    host = _host()
    script = Script(f"""
        {_set_address(0x0800_0000)} {_ABORT}
        A1 02 02 00 00 00 08 00 -> {image.data.hex(" ")}
        {_ABORT} {_set_address(0x0800_0000)}
        {end}
    """)

    script.play(host.verify([image]))

    assert script.play(host.leave([image], 0x0800_0000)) is False
    script.finish()


def test_t7_abort_in_the_middle_of_a_download() -> None:
    script = Script(f"""
        {STATE} -> 05
        {STATUS} -> 00 00 00 00 05 00
        {_ABORT}
        {_set_address(0x0800_0000)}
    """)
    host = _host()

    first = script.play(host.make_idle())
    script.play(host.set_address(0x0800_0000))

    script.finish()
    assert first.state == 5


def test_t7_abort_alone() -> None:
    script = Script(_ABORT)

    script.play(abort(Unit(interface=0, functional=ROM)))

    script.finish()


def test_t8_a_bad_address_and_the_way_back() -> None:
    script = Script(f"""
        21 01 00 00 00 00 05 00  21 00 00 00 40 -> ok
        {STATUS} -> 00 00 00 00 04 00
        pause 0.005
        {STATUS} -> 01 00 00 00 0A 00

        {STATE} -> 0A
        {STATUS} -> 01 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        {IDLE}
    """)
    host = _host()

    with pytest.raises(AttemptFailed) as failed:
        script.play(host.set_address(0x4000_0000))
    script.play(host.make_idle())

    script.finish()
    assert failed.value.cause.code is CauseCode.WRONG_TARGET
    assert failed.value.cause.raw == bytes.fromhex("01 00 00 00 0A 00")


_T9 = f"""
    21 01 00 00 00 00 05 00  41 00 00 00 08 -> ok
    {STATUS} -> 00 20 00 00 04 00
    pause 0.032
"""
_STALLED = f"{STATUS} -> stall\npause 0.032\n"


@pytest.mark.parametrize("stalls", [1, 3])
def test_t9_a_rom_that_stalls_while_it_erases(stalls: int) -> None:
    script = Script(_T9 + _STALLED * stalls + f"{STATUS} -> 00 00 00 00 05 00")

    script.play(_host().erase(L4.sectors(0x0800_0000, 0x0800_0001)))

    script.finish()


def test_t9_more_than_three_stalls_are_a_failure() -> None:
    script = Script(_T9 + _STALLED * 3 + f"{STATUS} -> stall")

    with pytest.raises(AttemptFailed) as failed:
        script.play(_host().erase(L4.sectors(0x0800_0000, 0x0800_0001)))

    script.finish()
    assert failed.value.cause.code is CauseCode.OUT_OF_STEP


_T10_ERASE = "21 01 00 00 00 00 05 00  41 00 00 10 08 -> ok\n"
_T10_BUSY = f"""
    {STATUS} -> 00 70 17 00 04 00
    pause 6
    {STATUS} -> 00 70 17 00 04 00
"""
_T10_FREED = f"""
    21 04 00 00 00 00 00 00 -> ok
    {STATUS} -> 0E 00 00 00 0A 00
    21 04 00 00 00 00 00 00 -> ok
    {IDLE}
    {_set_address(0x0810_0000)} {_ABORT}
"""
_T10 = _T10_ERASE + _T10_BUSY + _T10_FREED
_T10_BLOCKS = [f"A1 02 {2 + index:02x} 00 00 00 00 08 -> ff*2048" for index in range(64)]


def test_t10_an_h743_that_stays_busy_is_freed_and_found_blank() -> None:
    quirks = quirks_of(0x0483, 0xDF11, 0x0200, "@Internal Flash   /0x08000000/16*128Kg")
    script = Script("\n".join([_T10, *_T10_BLOCKS, _ABORT]))

    script.play(_host(H743, quirks).erase(H743.sectors(0x0810_0000, 0x0810_0001)))

    script.finish()


def test_t10_an_h743_that_gives_no_time_has_the_same_time_before_it_is_freed() -> None:
    quirks = quirks_of(0x0483, 0xDF11, 0x0200, "@Internal Flash   /0x08000000/16*128Kg")
    busy = f"{STATUS} -> 00 00 00 00 04 00\n"
    for_ten_seconds = f"{busy} pause 0.25\n" * 40 + busy
    script = Script("\n".join([_T10_ERASE, for_ten_seconds, _T10_FREED, *_T10_BLOCKS, _ABORT]))

    script.play(_host(H743, quirks).erase(H743.sectors(0x0810_0000, 0x0810_0001)))

    script.finish()


def test_t10_a_sector_that_is_not_blank_then_is_a_failure() -> None:
    quirks = quirks_of(0x0483, 0xDF11, 0x0200, "@Internal Flash   /0x08000000/16*128Kg")
    script = Script("\n".join([_T10, *_T10_BLOCKS[:-1], "A1 02 41 00 00 00 00 08 -> ff*2047 fe", _ABORT]))

    with pytest.raises(AttemptFailed) as failed:
        script.play(_host(H743, quirks).erase(H743.sectors(0x0810_0000, 0x0810_0001)))

    script.finish()
    assert failed.value.cause.code is CauseCode.NOT_BLANK


@pytest.mark.parametrize(
    ("quirks", "pause"),
    [(quirks_of(0x0483, 0xDF11, 0x2200), "35"), (STANDARD, "0.1")],
    ids=["st", "standard"],
)
def test_t11_a_mass_erase_and_the_time_that_it_claims(quirks: Quirks, pause: str) -> None:
    script = Script(f"""
        21 01 00 00 00 00 01 00  41 -> ok
        {STATUS} -> 00 64 00 00 04 00
        pause {pause}
        {STATUS} -> 00 00 00 00 05 00
    """)

    script.play(_host(F405, quirks).mass_erase())

    script.finish()
    assert script.milestones == [Writing()]


def test_t12_read_protection() -> None:
    script = Script(f"""
        {_set_address(0x0800_0000)} {_ABORT}
        A1 02 02 00 00 00 04 00 -> stall
        {STATUS} -> 0B 00 00 00 0A 00

        {STATE} -> 0A
        {STATUS} -> 0B 00 00 00 0A 00
        21 04 00 00 00 00 00 00 -> ok
        {IDLE}
    """)
    host = _host()

    with pytest.raises(AttemptFailed) as failed:
        script.play(host.read(0x0800_0000, 4))
    script.play(host.make_idle())

    script.finish()
    assert failed.value.cause.code is CauseCode.READ_PROTECTED


_OPTIONS = MemoryMap.parse("@Option Bytes  /0x1FFF7800/01*040 e")
_T13 = f"""
    select 1
    {STATE} -> 02
    {IDLE}
    {_set_address(0x1FFF_7800)}
    21 01 02 00 00 00 28 00  a0*40 -> ok
    {STATUS} -> 00 00 00 00 04 00
    pause 0.005
"""


@pytest.mark.parametrize(("last", "said"), [("gone", False), ("timeout", False), ("00 00 00 00 05 00", True)])
def test_t13_option_bytes(last: str, said: bool) -> None:
    script = Script(f"{_T13} {STATUS} -> {last}")
    host = _host(_OPTIONS)

    script.play(host.select(1))
    assert script.play(host.write_options(Segment(0x1FFF_7800, b"\xa0" * 40))) is said

    script.finish()
    assert script.milestones == [Writing()]


def test_t13_option_bytes_are_read_back_after_the_restart() -> None:
    script = Script(f"""
        select 1
        {STATE} -> 02
        {IDLE}
        {_set_address(0x1FFF_7800)} {_ABORT}
        A1 02 02 00 00 00 28 00 -> a0*40
        {_ABORT}
    """)
    host = _host(_OPTIONS)

    script.play(host.select(1))
    assert script.play(host.read(0x1FFF_7800, 40)) == b"\xa0" * 40

    script.finish()


def test_t14_a_tolerant_device() -> None:
    unit = _plain(Attribute.CAN_DOWNLOAD | Attribute.MANIFESTATION_TOLERANT)
    host = DfuHost(unit)
    script = Script(f"""
        {STATE} -> 02
        {IDLE}
        21 01 00 00 00 00 40 00  11*64 -> ok
        {STATUS} -> 00 0A 00 00 04 00
        pause 0.01
        {STATUS} -> 00 00 00 00 05 00
        21 01 01 00 00 00 24 00  11*36 -> ok
        {STATUS} -> 00 00 00 00 05 00

        21 01 02 00 00 00 00 00 -> ok
        {STATUS} -> 00 E8 03 00 07 00
        pause 1
        {STATUS} -> 00 00 00 00 02 00

        reset
    """)

    script.play(host.download(b"\x11" * 100))
    assert script.play(host.manifest()) is Manifested.IDLE
    script.play(host.attach())

    script.finish()
    assert script.milestones == [Writing(), Progress(64, 100), Progress(100, 100)]


@pytest.mark.parametrize(
    ("announced", "asked"), [(1000, "E8 03"), (250, "FA 00"), (0xFFFF, "E8 03")], ids=str
)
def test_t15_detach_with_a_reset(announced: int, asked: str) -> None:
    functional = FunctionalDescriptor(
        attributes=Attribute.CAN_DOWNLOAD, detach_timeout_ms=announced, transfer_size=64
    )
    script = Script(f"""
        A1 03 00 00 02 00 06 00 -> 00 00 00 00 00 00
        21 00 {asked} 02 00 00 00 -> ok
        reset
    """)

    script.play(detach(Unit(interface=2, functional=functional)))

    script.finish()
