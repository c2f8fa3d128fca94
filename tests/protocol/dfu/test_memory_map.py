import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmwarden.protocol.dfu.memory_map import (
    Access,
    MalformedMap,
    MemoryMap,
    Region,
    Sector,
    SectorRun,
)

R, E, W = Access.READ, Access.ERASE, Access.WRITE
RW, ALL = R | W, R | E | W
K = 1024

F405 = "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg"
L4 = "@Internal Flash  /0x08000000/0256*0002Kg"


def _map(name: str, *regions: tuple[int, list[tuple[int, int, Access]]]) -> MemoryMap:
    return MemoryMap(
        name,
        tuple(Region(address, tuple(SectorRun(*run) for run in runs)) for address, runs in regions),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            F405,
            _map("Internal Flash", (0x0800_0000, [(4, 16 * K, ALL), (1, 64 * K, ALL), (7, 128 * K, ALL)])),
            id="F405 flash",
        ),
        pytest.param(
            "@Option Bytes  /0x1FFFC000/01*016 e",
            _map("Option Bytes", (0x1FFF_C000, [(1, 16, RW)])),
            id="F405 options: a blank for bytes",
        ),
        pytest.param(
            "@OTP Memory /0x1FFF7800/01*512 e,01*016 e",
            _map("OTP Memory", (0x1FFF_7800, [(1, 512, RW), (1, 16, RW)])),
            id="F405 OTP",
        ),
        pytest.param(
            "@Device Feature/0xFFFF0000/01*004 e",
            _map("Device Feature", (0xFFFF_0000, [(1, 4, RW)])),
            id="device feature",
        ),
        pytest.param(
            "@Device Feature/0xFFFF0000/01*004 g",
            _map("Device Feature", (0xFFFF_0000, [(1, 4, RW)])),
            id="device feature of an older ROM, which cannot be erased",
        ),
        pytest.param(L4, _map("Internal Flash", (0x0800_0000, [(256, 2 * K, ALL)])), id="L4 flash"),
        pytest.param(
            "@OTP Memory /0x1FFF7000/01*0001Ke",
            _map("OTP Memory", (0x1FFF_7000, [(1, K, RW)])),
            id="L4 OTP",
        ),
        pytest.param(
            "@Internal Flash   /0x08000000/128*08Kg",
            _map("Internal Flash", (0x0800_0000, [(128, 8 * K, ALL)])),
            id="U5 flash",
        ),
        pytest.param(
            "@Option Bytes   /0x40022040/01*64 e",
            _map("Option Bytes", (0x4002_2040, [(1, 64, RW)])),
            id="U5 options",
        ),
        pytest.param(
            "@Option Bytes  /0x1FFFC000/01*016 e/0x1FFEC000/01*016 e",
            _map("Option Bytes", (0x1FFF_C000, [(1, 16, RW)]), (0x1FFE_C000, [(1, 16, RW)])),
            id="F429 options: two regions",
        ),
        pytest.param(
            "@Boot /0x08000000/8*2Ka,1*100g ,1*3Mf ",
            _map("Boot", (0x0800_0000, [(8, 2 * K, R), (1, 100, ALL), (1, 3 << 20, E | W)])),
            id="no unit means bytes; each letter; blanks at the end",
        ),
        pytest.param("@/0x0/1*1Bd", _map("", (0, [(1, 1, W)])), id="no name"),
        pytest.param("@A/0xFFFFFFFF/1*1Bd", _map("A", (0xFFFF_FFFF, [(1, 1, W)])), id="the last byte"),
    ],
)
def test_real_strings(text: str, expected: MemoryMap) -> None:
    assert MemoryMap.parse(text) == expected
    assert MemoryMap.parse(expected.encode()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "begins with @"),
        ("Internal Flash/0x08000000/1*1Kg", "begins with @"),
        ("@Internal Flash", "no region"),
        ("@Flash/", "column 6: no region begins"),
        ("@Flash/08000000/1*1Kg", "column 6: no region begins"),
        ("@Flash/0x/1*1Kg", "column 6: no region begins"),
        ("@Flash/0x108000000/1*1Kg", "column 6: no region begins"),
        ("@Flash/0x08000000/", "column 6: no region begins"),
        ("@Flash/0x08000000/1*1K", "column 18: '1\\*1K' tells no sectors"),
        ("@Flash/0x08000000/1*1Kg,", "column 24: '' tells no sectors"),
        ("@Flash/0x08000000/1*1Kg,07*1", "column 24: '07\\*1' tells no sectors"),
        ("@Flash/0x08000000/1*1Kh", "tells no sectors"),
        ("@Flash/0x08000000/1*1kg", "tells no sectors"),
        ("@Flash/0x08000000/-1*1Kg", "tells no sectors"),
        ("@Flash/0x08000000/1*1Kg;", "tells no sectors"),
        ("@Flash/0x08000000/10000*1Kg", "more than 9999"),
        ("@Flash/0x08000000/1*10000Kg", "more than 9999"),
        ("@Flash/0x08000000/99999999999*1Kg", "tells no sectors"),
        ("@Flash/0x08000000/0*1Kg", "0 sectors"),
        ("@Flash/0x08000000/1*0Kg", "sectors of 0 bytes"),
        ("@Flash/0xFFFFFFFF/2*1Bg", "a region from 0xffffffff"),
        ("@Flash/0x08000000/4000*4Mg", "a region from"),
        ("@Flash/0x08000000/1*1Kg/0x08000200/1*1Kg", "a byte in common"),
        ("@Flash/0x08000000/\u0661*1Kg", "tells no sectors"),
    ],
)
def test_bad_strings(text: str, problem: str) -> None:
    with pytest.raises(MalformedMap, match=problem):
        MemoryMap.parse(text)


_RUNS = st.builds(
    SectorRun,
    count=st.integers(1, 9999),
    size=st.integers(1, 9999) | st.integers(1, 80).map(lambda kilobytes: kilobytes * K),
    access=st.integers(1, 7).map(Access),
)


@given(
    st.text(st.characters(exclude_characters="/")).map(str.strip),
    st.integers(0, 0xFFFF),
    st.lists(_RUNS, min_size=1, max_size=5),
)
def test_a_map_survives_the_way(name: str, address: int, runs: list[SectorRun]) -> None:
    expected = MemoryMap(name, (Region(address, tuple(runs)),))
    if name != "Device Feature":
        assert MemoryMap.parse(expected.encode()) == expected


@given(st.text(max_size=60), st.integers(0, len(F405)))
def test_noise_raises_only_one_error(noise: str, at: int) -> None:
    for text in (noise, "@" + noise, F405 + noise, F405[:at] + noise + F405[at:], F405[:at]):
        with contextlib.suppress(MalformedMap):
            MemoryMap.parse(text)


def test_sizes_that_have_no_place_in_a_string() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        _map("A", (0, [(1, 10_001, ALL)])).encode()


@pytest.mark.parametrize("name", ["a/b", " a"])
def test_names_that_would_not_come_back(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        _map(name, (0, [(1, 1, ALL)]))


def test_which_sectors_a_span_touches() -> None:
    flash = MemoryMap.parse(F405)

    assert len(flash.sectors()) == 12
    assert flash.sectors(0x0800_FFFF, 0x0801_0001) == (
        Sector(0x0800_C000, 16 * K, ALL),
        Sector(0x0801_0000, 64 * K, ALL),
    )
    assert flash.sectors(0x0801_0000, 0x0801_0001) == (Sector(0x0801_0000, 64 * K, ALL),)
    assert flash.sectors(0x0000_0000, 0x0800_0000) == ()
    assert flash.sectors(0x0810_0000) == ()
    assert flash.touched(
        [(0x0802_0000, 0x0802_0001), (0x0800_0004, 0x0800_4000), (0x0802_0004, 0x0802_0008)]
    ) == (
        Sector(0x0800_0000, 16 * K, ALL),
        Sector(0x0802_0000, 128 * K, ALL),
    )


@given(
    st.lists(
        st.builds(SectorRun, st.integers(1, 5), st.integers(1, 9), st.just(ALL)), min_size=1, max_size=4
    ),
    st.integers(0, 60),
    st.integers(0, 60),
)
@example([SectorRun(1, 2, ALL)], 11, 0)  # nothing, but inside a sector
def test_sectors_agree_with_a_search(runs: list[SectorRun], start: int, size: int) -> None:
    region = Region(10, tuple(runs))
    every = list(region.sectors())

    assert [sector.address for sector in every] == [10, *(sector.end for sector in every[:-1])]
    assert every[-1].end == region.end
    end = start + size
    assert list(region.sectors(start, end)) == [
        sector for sector in every if sector.address < end and sector.end > start and end > start
    ]


@pytest.mark.parametrize(
    ("start", "end", "access", "allowed"),
    [
        (0x1000, 0x1400, ALL, True),
        (0x1000, 0x1401, R, False),
        (0x0FFF, 0x1001, R, False),
        (0x1000, 0x1800, R, False),
        (0x1800, 0x1C00, R, True),
        (0x1800, 0x1C00, W, False),
        (0x13FF, 0x1801, R, False),
        (0x1C00, 0x2000, RW, True),
        (0x1800, 0x2000, R, True),
        (0x1800, 0x2000, W, False),
        (0x9000, 0x9001, R, False),
    ],
)
def test_what_is_allowed(start: int, end: int, access: Access, allowed: bool) -> None:
    memory = MemoryMap.parse("@A/0x1800/1*1Ka,1*1Ke/0x1000/1*1Kg")

    assert memory.allows(start, end, access) is allowed
