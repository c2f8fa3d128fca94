import pytest

from firmwarden.protocol.dfu.descriptors import DFU_1_1, DFUSE
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.quirks import (
    STANDARD,
    Mode,
    Quirks,
    Tongue,
    is_shared,
    map_of_gd32vf103,
    quirks_of,
)

_ST = Quirks(version=DFUSE, mass_erase_lies=True)


@pytest.mark.parametrize(
    ("vendor", "product", "revision", "quirks"),
    [
        (0x0483, 0xDF11, 0x2200, _ST),
        (0x0483, 0xDF12, 0x2200, STANDARD),
        (
            0x28E9,
            0x0189,
            0x1000,
            Quirks(mode=Mode.DFU, leaves_unasked=True, map_from_serial=True, string_encoding="utf-8"),
        ),
        (0x1D50, 0x5119, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x1457, 0x5126, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x1457, 0x5127, 0, STANDARD),
        (0x16C0, 0x0762, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x16C0, 0x076C, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x0763, 0x2806, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x0908, 0x02C4, 0, Quirks(poll_timeouts_are_garbage=True)),
        (0x0908, 0x02C4, 1, STANDARD),
        (0x1EAF, 0x0003, 0x0200, Quirks(version=DFU_1_1)),
        (0x1EAF, 0x0003, 0x0201, STANDARD),
        (0x1FC9, 0x000C, 0, Quirks(mode=Mode.DFU)),
        (0x0B0E, 0x0971, 0, Quirks(upload_is_broken=True)),
        (0x03EB, 0x2FF4, 0, Quirks(tongue=Tongue.FLIP)),
        (0x095D, 0x92C6, 0, Quirks(polls_without_time=True, reappears_within_s=180.0)),
        (
            0x1BCF,
            0x0B1D,
            0,
            Quirks(detach_leaves=True, upload_is_broken=True, poll_timeouts_are_garbage=True),
        ),
        (0x0C45, 0x6370, 0, STANDARD),
        (0x1234, 0x5678, 0, STANDARD),
    ],
)
def test_what_is_known_of_a_device(vendor: int, product: int, revision: int, quirks: Quirks) -> None:
    assert quirks_of(vendor, product, revision) == quirks


@pytest.mark.parametrize(
    ("memory", "sticks"),
    [
        ("@Internal Flash   /0x08000000/16*128Kg", True),
        ("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg", False),
        ("", False),
    ],
)
def test_a_row_for_one_chip_behind_an_identity_that_many_share(memory: str, sticks: bool) -> None:
    quirks = quirks_of(0x0483, 0xDF11, 0x0200, memory)

    assert (quirks.version, quirks.mass_erase_lies, quirks.erase_sticks_busy) == (DFUSE, True, sticks)


@pytest.mark.parametrize(
    ("serial", "layout"),
    [
        ("3CBJ", "@Internal Flash/0x08000000/128*1Kg"),
        ("3C2J", "@Internal Flash/0x08000000/8*1Kg"),
        ("3C9J", None),
        ("3CBK", None),
        ("", None),
    ],
)
def test_a_serial_number_that_tells_the_size_of_the_flash(serial: str, layout: str | None) -> None:
    assert map_of_gd32vf103(serial) == (MemoryMap.parse(layout) if layout else None)


@pytest.mark.parametrize(
    ("vendor", "product", "shared"),
    [
        (0x0483, 0xDF11, True),
        (0x28E9, 0x0189, True),
        (0x03EB, 0x2FE4, True),
        (0x0483, 0x5740, False),
        (0x1209, 0x0001, False),
    ],
)
def test_inv4_loaders_that_say_nothing_of_the_product_are_known(
    vendor: int, product: int, shared: bool
) -> None:
    assert is_shared(vendor, product) is shared
