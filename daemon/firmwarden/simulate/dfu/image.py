"""Images for simulated devices that tell what they are: a mark in them, which a simulated chip finds again.

A chip cannot run code, so what stands at a vector table is recognised by its bytes.  An image of ours has a mark
behind the vectors, with a SHA-256 over everything else, so that no torn or partial image is ever taken for a whole one:

    ======  ====  =====================================================
    offset  size  field, from the vector table on
    ======  ====  =====================================================
    512     8     ``FWSIMDFU``
    520     4     size of the image
    524     4     address that it is made for
    528     2     idVendor of the application
    530     2     idProduct
    532     2     bcdDevice
    534     2     how it makes room for an update: number of the `Entry`
    536     32    name of the product, ASCII, filled up with zeros
    568     32    version, likewise
    600     32    SHA-256 of everything before and behind this field
    ======  ====  =====================================================

Numbers are little-endian.  Behind a resident loader such an image is sealed as any other is (see `firmware.seal`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.segments import Segment
from firmwarden.simulate.dfu.firmware import Entry, Firmware, RunTime
from firmwarden.simulate.dfu.parts import FLASH_BASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.simulate.dfu.parts import Part

_MARK: Final = Struct("<8sIIHHHH32s32s")
_MARK_AT: Final = 512
_DIGEST_AT: Final = _MARK_AT + _MARK.size
_MAGIC: Final = b"FWSIMDFU"
_TEXT_SIZE: Final = 32

_CODE_AT: Final = _DIGEST_AT + 32

SMALLEST: Final = _CODE_AT + 8

_VECTORS: Final = 98
"""Of an STM32L476."""
_STACK_BELOW_END: Final = 0x400
"""Some loaders do not take the end of the RAM for a stack."""

_ENTRIES: Final = (Entry.JUMP, Entry.INVALIDATE, Entry.LOADER)
"""By their numbers in the mark.  An application that speaks DFU itself is more than a mark can tell."""

_USUAL: Final = RunTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an image is when it runs."""

    version: str
    address: int = FLASH_BASE
    """Of its vector table."""
    name: str = _USUAL.name
    vendor: int = _USUAL.vendor
    product: int = _USUAL.product
    detaches_by: Entry = Entry.JUMP

    def __post_init__(self) -> None:
        for what, text in (("a version", self.version), ("a name", self.name)):
            if not text.isascii() or not text.isprintable() or not 1 <= len(text) <= _TEXT_SIZE:
                raise ValueError(f"{what} is 1 to {_TEXT_SIZE} printable ASCII characters, got {text!r}")

    @property
    def revision(self) -> int:
        """Its version as bcdDevice: 0x0213 for 2.1.3, and 0x0100 for one that does not fit."""
        major, _, rest = self.version.partition(".")
        digits = f"{major:0>2}{rest.replace('.', '')}"
        fits = rest.count(".") == 1 and len(digits) == 4 and digits.isdecimal()  # noqa: PLR2004  (the field's)
        return int(digits, 16) if fits else _USUAL.revision


def make_image(part: Part, what: Description, *, size: int, seed: int = 0) -> Segment:
    """Return an image for a part; the same arguments give the same bytes.

    Raises:
        ValueError: the size leaves no room for vectors and mark.
    """
    if size < SMALLEST:
        raise ValueError(f"an image has at least {SMALLEST} bytes, got {size}")
    # Reproducible filling, not secret.
    rng = random.Random(f"{what}/{seed}")  # noqa: S311
    code = range(what.address + _CODE_AT, what.address + size, 2)
    words = [part.stacks[0][1] - _STACK_BELOW_END & ~7, *(rng.choice(code) | 1 for _ in range(_VECTORS))]
    mark = _MARK.pack(
        _MAGIC,
        size,
        what.address,
        what.vendor,
        what.product,
        what.revision,
        _ENTRIES.index(what.detaches_by),
        what.name.encode(),
        what.version.encode(),
    )
    head = b"".join(word.to_bytes(4, "little") for word in words).ljust(_MARK_AT, b"\xff") + mark
    body = rng.randbytes(size - _CODE_AT)
    return Segment(what.address, head + sha256(head + body).digest() + body)


def find_image(read: Callable[[int, int], bytes | None], address: int) -> Firmware | None:
    """Recognise the image whose vector table is at an address; None unless it is there whole.

    Args:
        read: returns bytes from an address on; None where there are none, or when the flash reports an error.
        address: of the vector table.
    """
    mark = read(address + _MARK_AT, _MARK.size)
    if mark is None or not mark.startswith(_MAGIC):
        return None
    _, size, made_for, vendor, product, revision, entry, name, version = _MARK.unpack(mark)
    if made_for != address or size < SMALLEST or entry >= len(_ENTRIES):
        return None
    image = read(address, size)
    if image is None or sha256(image[:_DIGEST_AT] + image[_CODE_AT:]).digest() != image[_DIGEST_AT:_CODE_AT]:
        return None
    told = version.rstrip(b"\x00").decode("ascii", "replace")
    product_name = f"{name.rstrip(bytes(1)).decode('ascii', 'replace')} {told}"
    return Firmware(
        name=product_name,
        version=told,
        segments=(Segment(address, image),),
        entry=address,
        run_time=RunTime(vendor=vendor, product=product, revision=revision, name=product_name),
        detaches_by=_ENTRIES[entry],
    )
