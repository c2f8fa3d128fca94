"""DfuSe files: images for one or more memories of a device, each a row of elements with addresses.

A file is a prefix, its targets and a DFU suffix.  A target is a prefix and its elements; it belongs to one alternate
setting, that is, one memory.  All numbers are little-endian.

=============  ======================================================================================
 prefix        "DfuSe", version 1, size of the file without its suffix (4), number of targets (1)
 target        "Target", alternate setting (1), named (4), name (255), size of its elements (4),
               number of elements (4)
 element       address (4), size (4), data
=============  ======================================================================================

Writers disagree on the size in the prefix: ST's count what precedes the suffix, dfu-util's packer counts the
suffix too.  Both are read, the first is written.

Source: ST UM0391; fwupd (fu-dfuse-firmware.c) and dfu-util 0.11 (dfuse-pack) for that size.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Self

from firmwarden.errors import BadImage
from firmwarden.images.dfu_suffix import SUFFIX_SIZE, DfuSuffix, append, split
from firmwarden.protocol.dfu.descriptors import DFUSE
from firmwarden.protocol.dfu.segments import ADDRESS_SPACE, Segment, joined

_PREFIX: Final = Struct("<5sBLB")
_TARGET: Final = Struct("<6sBL255sLL")
_ELEMENT: Final = Struct("<LL")

PREFIX_SIGNATURE: Final = b"DfuSe"
"""With which every file begins."""
_TARGET_SIGNATURE: Final = b"Target"
_VERSION: Final = 1
_NAME_SIZE: Final = 255

MOST_ELEMENTS: Final = 0xFFFF
"""In one target; linkers make a handful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuseTarget:
    """What belongs into one memory."""

    alternate: int
    elements: tuple[Segment, ...]
    """As in the file; none overlap."""
    name: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.alternate < 1 << 8:
            raise ValueError(f"an alternate setting must fit one byte, got {self.alternate}")
        if not 0 < len(self.elements) <= MOST_ELEMENTS:
            raise ValueError(f"a target of {len(self.elements)} elements")
        if self.name is not None and ("\0" in self.name or len(self.name.encode("latin-1")) > _NAME_SIZE):
            raise ValueError(f"a target cannot be called {self.name!r}")
        joined(self.elements)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The memory that the elements describe: in order, those that touch made one."""
        return joined(self.elements)

    def encode(self) -> bytes:
        """Return the target with its prefix."""
        elements = b"".join(
            _ELEMENT.pack(element.address, len(element.data)) + element.data for element in self.elements
        )
        name = (self.name or "").encode("latin-1")
        prefix = _TARGET.pack(
            _TARGET_SIGNATURE,
            self.alternate,
            self.name is not None,
            name,
            len(elements),
            len(self.elements),
        )
        return prefix + elements


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuseFile:
    """A DfuSe file."""

    targets: tuple[DfuseTarget, ...]
    suffix: DfuSuffix

    def __post_init__(self) -> None:
        if not 0 < len(self.targets) < 1 << 8:
            raise ValueError(f"a DfuSe file of {len(self.targets)} targets")
        if self.suffix.dfu != DFUSE:
            raise ValueError(f"the suffix of a DfuSe file says 0x011a, not 0x{self.suffix.dfu:04x}")
        for alternate in {target.alternate for target in self.targets}:
            self.memory(alternate)

    def memory(self, alternate: int) -> tuple[Segment, ...]:
        """Return all that belongs into one memory; nothing where the file has no target for it.

        Raises:
            BadImage: two targets give the same byte.
        """
        return joined(
            element for target in self.targets if target.alternate == alternate for element in target.elements
        )

    def encode(self) -> bytes:
        """Return the file."""
        targets = b"".join(target.encode() for target in self.targets)
        size = _PREFIX.size + len(targets)
        prefix = _PREFIX.pack(PREFIX_SIGNATURE, _VERSION, size, len(self.targets))
        return append(prefix + targets, self.suffix)

    @classmethod
    def decode(cls, file: bytes) -> Self:
        """Read a file.

        Raises:
            BadImage: it does not follow the format to its last byte; the message tells the offset.
        """
        suffixed = split(file)
        reader = _Reader(suffixed.content)
        signature, version, size, count = reader.take(_PREFIX, "the prefix")
        if (signature, version) != (PREFIX_SIGNATURE, _VERSION):
            raise BadImage("offset 0: no DfuSe file of version 1")
        if size not in {len(suffixed.content), len(suffixed.content) + SUFFIX_SIZE}:
            raise BadImage(f"offset 6: the prefix tells of {size} bytes, there are {len(suffixed.content)}")
        targets = tuple(_target(reader) for _ in range(count))
        if reader.left:
            raise BadImage(f"offset {reader.offset}: {reader.left} byte(s) follow the last target")
        try:
            return cls(targets=targets, suffix=suffixed.suffix)
        except ValueError as exc:
            raise BadImage(str(exc)) from exc


class _Reader:
    """Goes through a file, and never beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.offset = 0
        self._content = content

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self._content) - self.offset

    def bytes(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise BadImage(f"offset {self.offset}: {what} has {size} bytes, {self.left} are left")
        self.offset += size
        return self._content[self.offset - size : self.offset]

    def take(self, layout: Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.bytes(layout.size, what))


def _target(reader: _Reader) -> DfuseTarget:
    start = reader.offset
    signature, alternate, named, name, size, count = reader.take(_TARGET, "a target's prefix")
    if signature != _TARGET_SIGNATURE:
        raise BadImage(f"offset {start}: no target begins here")
    if not 0 < count <= MOST_ELEMENTS:
        raise BadImage(f"offset {reader.offset - 4}: a target of {count} elements")
    first = reader.offset
    elements = tuple(_element(reader) for _ in range(count))
    if reader.offset - first != size:
        raise BadImage(
            f"offset {first - 8}: the target tells of {size} bytes, its elements have {reader.offset - first}"
        )
    try:
        return DfuseTarget(
            alternate=alternate,
            elements=elements,
            name=_name(name) if named & 1 else None,
        )
    except BadImage as exc:
        raise BadImage(f"offset {start}: {exc}") from exc


def _element(reader: _Reader) -> Segment:
    start = reader.offset
    address, size = reader.take(_ELEMENT, "an element's prefix")
    if not 0 < size <= ADDRESS_SPACE - address:
        raise BadImage(f"offset {start}: an element of {size} bytes at 0x{address:08x}")
    return Segment(address, reader.bytes(size, "the element"))


def _name(field: bytes) -> str:
    # ST's tool leaves what was in its memory behind the NUL.
    return field.partition(b"\0")[0].decode("latin-1")
