"""Whether what an image says of itself is what its manifest says of it.

Some images begin with a header that names their version or their device, and the loader goes by that.  Where the two
differ one of them is wrong, and it is better found here than in the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semver import Version

from firmwarden.errors import BadImage, BadManifest
from firmwarden.images import intel_hex, mcuboot
from firmwarden.images.dfu_image import addressed
from firmwarden.images.dfu_suffix import split
from firmwarden.images.formats import ImageFormat
from firmwarden.images.mdfu_image import BlockLayout, describe

if TYPE_CHECKING:
    from firmwarden.images.formats import ImageRules
    from firmwarden.images.manifest import Manifest

_LAYOUTS = {ImageFormat.MDFU_8BIT: BlockLayout.MCU8, ImageFormat.MDFU_32BIT: BlockLayout.MCU32}


def check_agrees(manifest: Manifest, content: bytes, rules: ImageRules) -> None:
    """Compare a manifest with its image, which follows its format.

    Raises:
        BadManifest: they contradict each other, or the image contradicts itself.
    """
    _check_device_id(manifest, content, rules)
    for start in _starts(content, rules):
        if start.startswith(mcuboot.MAGIC):
            try:
                image = mcuboot.parse(start)
            except BadImage as exc:
                raise BadManifest(f"{manifest.image} begins as an MCUboot image and is none: {exc}") from exc
            _check_mcuboot(manifest, image)


def _check_device_id(manifest: Manifest, content: bytes, rules: ImageRules) -> None:
    if manifest.device_id is None:
        return
    layout = _LAYOUTS.get(rules.format)
    if layout is None:
        raise BadManifest(
            f'the manifest says device_id = 0x{manifest.device_id:x}, and a "{rules.format.value}" image has none'
        )
    found = describe(content, layout).device_id
    if found != manifest.device_id:
        raise BadManifest(
            f"{manifest.image} is for the device id 0x{found:x}, the manifest says 0x{manifest.device_id:x}"
        )


def _starts(content: bytes, rules: ImageRules) -> list[bytes]:
    """Find what is written to a device from the beginning of an image on; of several pieces each may be one."""
    match rules.format:
        case ImageFormat.INTEL_HEX if not rules.device:
            return [intel_hex.parse(content, fill=rules.fill).data]
        case ImageFormat.INTEL_HEX | ImageFormat.DFUSE:
            return [segment.data for segment in addressed(content, rules)]
        case ImageFormat.DFU:
            return [split(content).content]
        case _:
            return [content]


def _check_mcuboot(manifest: Manifest, image: mcuboot.McubootImage) -> None:
    wanted = _version(manifest.version)
    found = image.version
    if wanted is not None and (
        wanted[:3] != (found.major, found.minor, found.revision) or wanted[3] not in {None, found.build}
    ):
        raise BadManifest(
            f"the MCUboot header of {manifest.image} says version {found}, the manifest says {manifest.version}"
        )
    counter = image.security_counter
    if counter is not None and manifest.sequence not in {None, counter}:
        raise BadManifest(
            f"{manifest.image} has the security counter {counter}, the manifest says sequence = {manifest.sequence}"
        )


def _version(text: str) -> tuple[int, int, int, int | None] | None:
    """Read a version for comparing; None where it is not SemVer.  Only a build that is a number has its like there."""
    try:
        version = Version.parse(text)
    except ValueError:
        return None
    build = version.build
    number = int(build) if build is not None and build.isdecimal() else None
    return version.major, version.minor, version.patch, number
