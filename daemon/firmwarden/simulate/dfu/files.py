"""Update files for simulated DFU devices, in the formats that hosts take."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.protocol.dfu.descriptors import DFU_1_1, DFUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from firmwarden.protocol.dfu.segments import Segment

_RECORD_SIZE: Final = 16
_DATA, _END_OF_FILE, _UPPER_ADDRESS = 0, 1, 4
_FILL: Final = b"\xff"


@unique
class FileFormat(StrEnum):
    """How an image is put into a file."""

    RAW = "raw"
    """Bytes, gaps filled; the address is for the host to know."""
    HEX = "hex"
    """Intel HEX."""
    DFUSE = "dfuse"
    """ST's format, with addresses and a DFU suffix."""
    DFU = "dfu"
    """Bytes with a DFU suffix, for plain DFU."""


def encode(image: Sequence[Segment], file_format: FileFormat, loader: tuple[int, int]) -> bytes:
    """Return a file with an image.

    Args:
        image: pieces in ascending order.
        file_format: what file.
        loader: idVendor and idProduct for a DFU suffix.
    """
    vendor, product = loader
    match file_format:
        case FileFormat.RAW:
            return _filled(image)
        case FileFormat.HEX:
            return "".join(f":{line.hex().upper()}\r\n" for line in _records(image)).encode()
        case FileFormat.DFUSE:
            target = DfuseTarget(alternate=0, elements=tuple(image), name="Simulated application")
            suffix = DfuSuffix(vendor=vendor, product=product, dfu=DFUSE)
            return DfuseFile(targets=(target,), suffix=suffix).encode()
        case FileFormat.DFU:
            return append(_filled(image), DfuSuffix(vendor=vendor, product=product, dfu=DFU_1_1))
        case unreachable:
            assert_never(unreachable)


def _filled(image: Sequence[Segment]) -> bytes:
    content = b""
    for segment in image:
        content = content.ljust(segment.address - image[0].address, _FILL) + segment.data
    return content


def _records(image: Iterable[Segment]) -> Iterator[bytes]:
    """Yield the records of Intel HEX (Intel, "Hexadecimal Object File Format Specification", revision A)."""
    upper = 0
    for segment in image:
        at = 0
        while at < len(segment.data):
            high, low = divmod(segment.address + at, 1 << 16)
            if high != upper:
                upper = high
                yield _record(_UPPER_ADDRESS, 0, upper.to_bytes(2, "big"))
            data = segment.data[at : at + min(_RECORD_SIZE, (1 << 16) - low)]
            yield _record(_DATA, low, data)
            at += len(data)
    yield _record(_END_OF_FILE, 0, b"")


def _record(kind: int, address: int, data: bytes) -> bytes:
    record = bytes((len(data),)) + address.to_bytes(2, "big") + bytes((kind,)) + data
    return record + bytes((-sum(record) & 0xFF,))
