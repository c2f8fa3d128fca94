"""An image that says something else of itself than its manifest does is refused."""

from __future__ import annotations

import pytest

from firmwarden.errors import BadManifest
from firmwarden.images.agreement import check_agrees
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.images.manifest import Manifest, parse_manifest
from firmwarden.protocol.dfu.segments import Segment
from support.drop import manifest_of
from support.mcuboot import GOLDEN, mcuboot

RAW = ImageRules()
MDFU = ImageRules(format=ImageFormat.MDFU_32BIT)
START = 0x0800_0000


def manifest(content: bytes, version: str = "1.2.3", **more: object) -> Manifest:
    return parse_manifest(manifest_of(content, version=version, replacing=more), "panel.toml")


def hex_of(content: bytes) -> bytes:
    """Write Intel HEX."""
    records = [
        bytes((len(row), at >> 8, at & 0xFF, 0)) + row
        for at in range(0, len(content), 16)
        for row in (content[at : at + 16],)
    ]
    lines = [record + bytes((-sum(record) & 0xFF,)) for record in [*records, b"\0\0\0\1"]]
    return b"".join(b":%s\n" % line.hex().upper().encode() for line in lines)


def dfuse_of(content: bytes) -> bytes:
    target = DfuseTarget(alternate=0, elements=(Segment(START - 64, b"loader"), Segment(START, content)))
    return DfuseFile(targets=(target,), suffix=DfuSuffix(dfu=0x011A)).encode()


def block_image(device_id: int) -> bytes:
    size = (32 + 7).to_bytes(2, "little")
    head = (
        size + bytes((1, 0, 0, 1)) + device_id.to_bytes(4, "little") + (32).to_bytes(2, "little") + bytes(4)
    )
    return head.ljust(39, b"\0") + size + bytes((2,)) + bytes(4) + bytes(32)


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("1.2.3", {}),
        ("1.2.3+4", {"sequence": 17}),
        ("1.2.3+nightly", {}),
        ("1.2.3-rc.1", {}),
        ("R7B", {"sequence": 17}),
    ],
)
def test_what_agrees_is_taken(version: str, more: dict[str, object]) -> None:
    check_agrees(manifest(GOLDEN, version, **more), GOLDEN, RAW)


def test_an_image_that_says_nothing_of_itself_is_taken() -> None:
    check_agrees(manifest(b"vectors"), b"vectors", RAW)
    check_agrees(manifest(GOLDEN[:3]), GOLDEN[:3], RAW)


def test_without_a_counter_any_sequence_will_do() -> None:
    content = mcuboot(counter=None)
    check_agrees(manifest(content, sequence=3), content, RAW)


@pytest.mark.parametrize(
    ("content", "rules"),
    [
        (GOLDEN, RAW),
        (hex_of(GOLDEN), ImageRules(format=ImageFormat.INTEL_HEX)),
        (hex_of(GOLDEN), ImageRules(format=ImageFormat.INTEL_HEX, device=True)),
        (append(GOLDEN, DfuSuffix()), ImageRules(format=ImageFormat.DFU, device=True)),
        (dfuse_of(GOLDEN), ImageRules(format=ImageFormat.DFUSE, device=True)),
    ],
)
def test_inv8_the_header_is_found_in_every_format(content: bytes, rules: ImageRules) -> None:
    check_agrees(manifest(content), content, rules)
    with pytest.raises(BadManifest) as caught:
        check_agrees(manifest(content, "1.2.4"), content, rules)
    assert str(caught.value) == (
        "the MCUboot header of panel.img says version 1.2.3+4, the manifest says 1.2.4"
    )


@pytest.mark.parametrize(
    ("content", "version", "more", "reason"),
    [
        (GOLDEN, "2.2.3", {}, "says version 1.2.3+4, the manifest says 2.2.3"),
        (GOLDEN, "1.3.3", {}, "says version 1.2.3+4, the manifest says 1.3.3"),
        (GOLDEN, "1.2.3+5", {}, "says version 1.2.3+4, the manifest says 1.2.3+5"),
        (GOLDEN, "1.2.3", {"sequence": 18}, "has the security counter 17, the manifest says sequence = 18"),
        (GOLDEN[:-1] + b"\0", "1.2.3", {}, "panel.img begins as an MCUboot image and is none: its sha256"),
    ],
)
def test_inv8_what_contradicts_itself_is_refused(
    content: bytes, version: str, more: dict[str, object], reason: str
) -> None:
    with pytest.raises(BadManifest) as caught:
        check_agrees(manifest(content, version, **more), content, RAW)
    assert reason in str(caught.value)


def test_inv8_an_image_for_another_microchip_device_is_refused() -> None:
    content = block_image(0x1234)
    check_agrees(manifest(content), content, MDFU)
    check_agrees(manifest(content, device_id="0x1234"), content, MDFU)
    with pytest.raises(BadManifest, match="is for the device id 0x1234, the manifest says 0x1235"):
        check_agrees(manifest(content, device_id="0x1235"), content, MDFU)
    with pytest.raises(BadManifest, match='device_id = 0x1234, and a "raw" image has none'):
        check_agrees(manifest(content, device_id="0x1234"), content, RAW)
