import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfwimagebuilder.builder import build

from firmwarden.errors import BadImage
from firmwarden.images.mdfu_image import BlockLayout, MdfuImage, check_fits, describe
from firmwarden.protocol.mdfu.client_info import OUR_VERSION, ClientInfo

_KEYS = bytes.fromhex("11 11 22 22 33 33 44 44")
_VERSIONS = {BlockLayout.MCU8: (0, 3, 0), BlockLayout.MCU32: (1, 0, 0)}


def _metadata(layout: BlockLayout, *, write_size: int = 64, start: int = 0x1000) -> bytes:
    size = write_size + layout.value
    major, minor, patch = _VERSIONS[layout]
    head = (
        size.to_bytes(2, "little")
        + bytes((1, patch, minor, major))
        + (0x001E970C).to_bytes(4, "little")
        + write_size.to_bytes(2, "little")
        + start.to_bytes(4, "little")
        + (_KEYS if layout is BlockLayout.MCU8 else b"")
    )
    return head.ljust(size, b"\x00")


def _block(layout: BlockLayout, address: int, data: bytes = bytes(64), kind: int = 2) -> bytes:
    keys = _KEYS if layout is BlockLayout.MCU8 else b""
    size = layout.value + len(data)
    return size.to_bytes(2, "little") + bytes((kind,)) + address.to_bytes(4, "little") + keys + data


both = pytest.mark.parametrize("layout", BlockLayout, ids=lambda layout: layout.name)


@both
def test_what_a_file_says_of_itself(layout: BlockLayout) -> None:
    data = (
        _metadata(layout) + _block(layout, 0x1000) + _block(layout, 0x1040) + _block(layout, 0x2000, b"abc")
    )
    assert describe(data, layout) == MdfuImage(
        layout=layout,
        version=_VERSIONS[layout],
        device_id=0x001E970C,
        block_size=64 + layout.value,
        write_size=64,
        start_address=0x1000,
        blocks=3,
        data_size=131,
    )


def test_the_first_block_of_a_real_avr_image() -> None:
    # From a capture in Microchip's mdfu-saleae-analyzers.
    head = bytes.fromhex("0f 02 01 00 03 00 0c 97 1e 00 00 02 00 14 00 00").ljust(527, b"\x00")
    first = bytes.fromhex("0f 02 02 00 14 00 00").ljust(527, b"\x00")

    image = describe(head + first, BlockLayout.MCU8)

    assert (image.device_id, image.write_size, image.start_address) == (0x001E970C, 512, 0x1400)
    assert image.version == (0, 3, 0)


_CONFIG = """
[bootloader]
IMAGE_FORMAT_VERSION = "{version}"
ARCH = "{architecture}"
DEVICE_ID = 0x7A20
WRITE_BLOCK_SIZE = {write_block}
FLASH_START = {start}
FLASH_END = {end}
PAGE_ERASE_KEY = 0x1111
PAGE_WRITE_KEY = 0x2222
BYTE_WRITE_KEY = 0x3333
PAGE_READ_KEY = 0x4444
"""


@pytest.mark.parametrize(
    ("architecture", "layout", "write_block", "write_size", "unit"),
    [
        ("AVR", BlockLayout.MCU8, 128, 128, 1),
        ("PIC18", BlockLayout.MCU8, 256, 256, 1),
        ("PIC16", BlockLayout.MCU8, 32, 64, 2),
        ("M0+", BlockLayout.MCU32, 64, 64, 1),
    ],
)
@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize("odd", [0, 2])
def test_what_microchips_builder_makes(
    architecture: str,
    layout: BlockLayout,
    write_block: int,
    write_size: int,
    unit: int,
    size: int,
    odd: int,
    tmp_path: Path,
) -> None:
    if architecture != "PIC16":  # for which it makes whole blocks only
        size += odd
    start = 0x1000
    config = tmp_path / "boot.toml"
    config.write_text(
        _CONFIG.format(
            version=".".join(map(str, _VERSIONS[layout])),
            architecture=architecture,
            write_block=write_block,
            start=start,
            end=0x7FFF,
        )
    )
    source = tmp_path / "application.hex"
    source.write_bytes(_to_hex(start * unit, bytes(index % 63 for index in range(size))))
    target = tmp_path / "application.img"
    build(str(source), str(config), str(target))

    image = describe(target.read_bytes(), layout)

    assert (image.device_id, image.write_size, image.start_address) == (0x7A20, write_size, start)
    assert image.version == _VERSIONS[layout]
    assert image.blocks == -(-size // write_size)
    assert image.data_size >= size


def _to_hex(address: int, data: bytes) -> bytes:
    lines = []
    for offset in range(0, len(data), 16):
        record = data[offset : offset + 16]
        raw = bytes((len(record),)) + (address + offset).to_bytes(2, "big") + b"\x00" + record
        lines.append(f":{raw.hex()}{-sum(raw) & 0xFF:02x}\n")
    return "".join([*lines, ":00000001ff\n"]).encode()


@both
def test_broken_files_are_refused_with_the_offset(layout: BlockLayout) -> None:
    head, first, second = _metadata(layout), _block(layout, 0x1000), _block(layout, 0x1040)
    size = len(head)
    broken = {
        b"": "0 byte(s) are too few",
        head[:15]: "15 byte(s) are too few",
        first + second: "offset 0: no first block",
        b"\x00" + head[1:] + first: "offset 0: no first block",
        head: f"offset {size}: the image ends",
        head[:-1]: f"offset {size - 1}: the image ends",
        head + first[:-1]: f"offset {size}: a block of {size} bytes where {size - 1} belong",
        head + first + second[:-1]: f"offset {2 * size}: a block of {size} bytes",
        head + first + b"\x07": f"offset {2 * size}: 1 byte(s) left",
        head + first + second[: layout.value]: f"offset {2 * size}: {layout.value} byte(s) left",
        head
        + _block(layout, 0x1000, b"short")
        + second: f"offset {size}: a block of {layout.value + 5} bytes",
        head + _block(layout, 0x1000, kind=7): f"offset {size}: unknown block type 7",
        head + head: f"offset {size}: unknown block type 1",
        head + _block(layout, 0x0FC0): f"offset {size}: address 0xfc0 lies below the application at 0x1000",
        head + first + first: f"offset {2 * size}: address 0x1000 is written twice",
    }
    for data, problem in broken.items():
        with pytest.raises(BadImage) as refused:
            describe(data, layout)
        assert problem in str(refused.value)


def test_the_formats_are_not_taken_for_each_other() -> None:
    for layout, other in (
        (BlockLayout.MCU8, BlockLayout.MCU32),
        (BlockLayout.MCU32, BlockLayout.MCU8),
    ):
        with pytest.raises(BadImage, match=f"no first block of the {other.name} format"):
            describe(_metadata(layout) + _block(layout, 0x1000), other)


def test_blocks_too_small_for_their_own_description_are_refused() -> None:
    head = _metadata(BlockLayout.MCU8, write_size=8)  # 23 bytes, the description takes 24

    with pytest.raises(BadImage, match="no first block"):
        describe(head + _block(BlockLayout.MCU8, 0x1000, bytes(8)), BlockLayout.MCU8)


def test_eeprom_has_addresses_of_its_own() -> None:
    layout = BlockLayout.MCU8
    data = _metadata(layout) + _block(layout, 0x1000) + _block(layout, 0x0000, kind=3)

    assert describe(data, layout).blocks == 2


@given(st.binary(max_size=200), st.sampled_from(BlockLayout), st.integers(0, 150))
def test_noise_raises_only_one_error(noise: bytes, layout: BlockLayout, position: int) -> None:
    good = _metadata(layout) + _block(layout, 0x1000)
    for data in (noise, good[:position] + noise, good + noise):
        with contextlib.suppress(BadImage):
            describe(data, layout)


def _info(buffer_size: int) -> ClientInfo:
    return ClientInfo(version=OUR_VERSION, buffer_size=buffer_size, default_timeout_s=1.0)


@both
def test_an_image_for_another_buffer_does_not_fit(layout: BlockLayout) -> None:
    data = _metadata(layout) + _block(layout, 0x1000)

    check_fits(data, _info(64 + layout.value))

    with pytest.raises(BadImage, match=f"blocks of {64 + layout.value} bytes, the client takes 128"):
        check_fits(data, _info(128))


@both
def test_an_image_that_was_cut_short_does_not_fit(layout: BlockLayout) -> None:
    """Nobody need have said which format it has: a one-shot update knows no class."""
    data = _metadata(layout) + _block(layout, 0x1000) + _block(layout, 0x1040)

    for end in (64 + layout.value, 64 + layout.value + 5, len(data) - 1):
        with pytest.raises(BadImage, match="offset"):
            check_fits(data[:end], _info(64 + layout.value))


@pytest.mark.parametrize("data", [b"", b"\x00" * 10, bytes(range(256)), b"\xff" * 500])
def test_an_opaque_image_fits_every_buffer(data: bytes) -> None:
    check_fits(data, _info(128))
