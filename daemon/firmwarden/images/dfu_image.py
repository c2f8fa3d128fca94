"""What a file is to a DFU device: bytes for one that has no addresses, segments for one that has.

A file says for itself where it belongs, or the operator says it: no address and no device is ever guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.errors import BadImage
from firmwarden.images import intel_hex
from firmwarden.images.dfu_suffix import has_suffix, split
from firmwarden.images.dfuse_file import PREFIX_SIGNATURE, DfuseFile
from firmwarden.images.formats import ImageFormat
from firmwarden.protocol.dfu.descriptors import DFUSE
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap
from firmwarden.protocol.dfu.segments import ADDRESS_SPACE, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.images.dfu_suffix import DfuSuffix
    from firmwarden.images.formats import ImageRules

_FULL: Final = Access.ERASE | Access.WRITE

_NO_FLASH: Final = (range(0x1FF0_0000, 0x2000_0000), range(0x4000_0000, 0x6000_0000))
"""Where STM32 have their ROM, one-time-programmable area and option bytes (AN2606, and the chapters on the flash in the
reference manuals), and where every Cortex-M has its registers, which are the option bytes of newer ones."""


def check_file(content: bytes, rules: ImageRules) -> None:
    """Check a file as far as that is possible while no device has been asked for its memory.

    Raises:
        BadImage: it does not follow its format, is for another device, or wants what no update does.
    """
    match rules.format:
        case ImageFormat.RAW if rules.address is None:
            _whole_raw(content)
        case ImageFormat.DFU:
            streamed(content, rules)
        case _:
            addressed(content, rules)


def streamed(content: bytes, rules: ImageRules) -> bytes:
    """Return what is sent to a device that takes an image as a row of bytes, without addresses.

    Raises:
        BadImage: the file does not follow its format, or is for another device or another kind of device.
    """
    match rules.format:
        case ImageFormat.RAW:
            if rules.address is not None:
                raise BadImage("the device takes no addresses, so it cannot be told where a raw image goes")
            return _whole_raw(content)
        case ImageFormat.DFU:
            file = split(content)
            if file.suffix.dfu == DFUSE:
                raise BadImage(f"offset {len(content) - 10}: the suffix is that of a DfuSe file")
            _check_ids(file.suffix, rules)
            if not file.content:
                raise BadImage("there is nothing before the suffix")
            return file.content
        case ImageFormat.DFUSE:
            raise BadImage("the device takes no addresses, which a DfuSe file has")
        case ImageFormat.INTEL_HEX:
            return intel_hex.parse(content, fill=rules.fill).data
        case ImageFormat.MDFU_8BIT | ImageFormat.MDFU_32BIT:
            raise _for_mdfu(rules)
        case unreachable:
            assert_never(unreachable)


def addressed(content: bytes, rules: ImageRules) -> tuple[Segment, ...]:
    """Return what is written into a device that has addresses (DfuSe); gaps stay gaps.

    Raises:
        BadImage: the file does not follow its format, is for another device, does not say where it goes, or goes where
            no update writes.
    """
    match rules.format:
        case ImageFormat.RAW:
            if rules.address is None:
                _whole_raw(content)  # what is no raw image needs no address either
                raise BadImage(
                    "the device has addresses, and nobody said where a raw image goes (`image_address` of its class, "
                    "or --address)"
                )
            image = raw_at(content, rules.address)
        case ImageFormat.DFU:
            raise BadImage(
                "the device has addresses, and a file with a DFU suffix does not say where it goes"
            )
        case ImageFormat.DFUSE:
            image = _of_dfuse(DfuseFile.decode(content), rules)
        case ImageFormat.INTEL_HEX:
            image = intel_hex.segments(content)
        case ImageFormat.MDFU_8BIT | ImageFormat.MDFU_32BIT:
            raise _for_mdfu(rules)
        case unreachable:
            assert_never(unreachable)
    _refuse_options(image)
    return image


def raw_at(content: bytes, address: int) -> tuple[Segment, ...]:
    """Return a raw image for the address that the operator gave.

    Raises:
        BadImage: it is empty, does not fit 32 bits, or is no raw image but has a DFU suffix.
    """
    _whole_raw(content)
    if not 0 <= address <= ADDRESS_SPACE - len(content):
        raise BadImage(f"{len(content)} byte(s) at 0x{address:x} do not fit 32 bits")
    return (Segment(address, content),)


def check_target(suffix: DfuSuffix, identities: Iterable[tuple[int, int]]) -> None:
    """Refuse an image that says it is for another device; `identities` are vendor and product in either mode.

    Raises:
        BadImage: wrong device.
    """
    known = tuple(identities)
    if not suffix.suits(known):
        raise BadImage(
            f"the image is for {suffix.vendor:04x}:{suffix.product:04x}, the device is "
            + " and ".join(f"{vendor:04x}:{product:04x}" for vendor, product in known)
        )


def check_fits(image: Iterable[Segment], memory: MemoryMap) -> None:
    """Refuse an image that does not lie in memory that can be erased and written, to its last byte.

    Raises:
        BadImage: wrong image or wrong device; the message tells the address.
    """
    for segment in image:
        reached = segment.address
        for sector in memory.sectors(segment.address, segment.end):
            if sector.address > reached or _FULL not in sector.access:
                break
            reached = sector.end
        if reached < segment.end:
            raise BadImage(
                f"address 0x{reached:08x} is not in {memory.name!r}, or cannot be erased and written there"
            )


def _whole_raw(content: bytes) -> bytes:
    if not content:
        raise BadImage("the image is empty")
    if has_suffix(content):
        raise BadImage(
            f"offset {len(content) - 8}: a DFU suffix, which a raw image does not have: it would be written, too"
        )
    if content.startswith(PREFIX_SIGNATURE):
        raise BadImage(f"offset {len(content)}: cut short: it begins as a DfuSe file, and has no DFU suffix")
    return content


def _of_dfuse(file: DfuseFile, rules: ImageRules) -> tuple[Segment, ...]:
    _check_ids(file.suffix, rules)
    for target in file.targets:
        _refuse_options(target.elements)
    alternates = sorted({target.alternate for target in file.targets})
    wanted = rules.alternate
    if wanted is None:
        if len(alternates) > 1:
            raise BadImage(
                f"the file is for the memories {' and '.join(map(str, alternates))}, and an update writes one: "
                "its class has to say which, with `alternate` in [device.dfu]"
            )
        wanted = alternates[0]
    if wanted not in alternates:
        raise BadImage(
            f"the file has nothing for memory {wanted}, only for {' and '.join(map(str, alternates))}"
        )
    return file.memory(wanted)


def _check_ids(suffix: DfuSuffix, rules: ImageRules) -> None:
    if rules.ids:
        check_target(suffix, rules.ids)


def _refuse_options(image: Iterable[Segment]) -> None:
    for segment in image:
        for area in _NO_FLASH:
            if segment.address < area.stop and segment.end > area.start:
                raise BadImage(
                    f"address 0x{max(segment.address, area.start):08x} is no flash: option bytes are never written by "
                    "an update, for a power cut then can lock the device for good"
                )


def _for_mdfu(rules: ImageRules) -> BadImage:
    return BadImage(f'a "{rules.format}" file is for MDFU')
