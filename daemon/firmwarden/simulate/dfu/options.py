"""The option bytes of a simulated chip: words with complements, and what a write that was cut short leaves.

Every word is stored with its complement.  When the power comes up, or a program asks for it, the words are loaded;
one whose complement does not fit, as after a cut between erase and program, is loaded with its *mismatch* value:
user options all ones, read protection level 1, no write protection, and code protection over everything.

The layouts of STM32L4 and G4 are the vendor's, and loaders show of them what dfu-util lists of real ones.  For the
other families the model keeps the fields in places of its own and shows them nowhere; tests set them as a factory does.

Source: ST RM0351, 3.4 and 3.7; RM0432, 3.4; RM0440, 3.4 and 5.4 (what mismatches load); RM0444, 3.4 ("may
permanently lock").
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRY: Final = 8
"""Bytes of a word and its complement."""

_ONES: Final = 0xFFFF_FFFF

UNPROTECTED: Final = 0xAA
LOCKED: Final = 0xCC
"""RDP of levels 0 and 2; everything else is level 1."""


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field is, and what it is as delivered."""

    word: int
    bit: int
    width: int
    factory: int
    mismatch: int | None = None
    """Loaded where word and complement do not fit; None: all ones."""

    @property
    def mask(self) -> int:
        """All ones."""
        return (1 << self.width) - 1


@dataclass(frozen=True, slots=True)
class Area:
    """Two fields that mark pages of a bank, first and last; none when the first lies behind the last."""

    bank: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Block:
    """Words that a loader shows in a row."""

    address: int
    first: int
    """Number of its first word."""
    words: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.words * ENTRY


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLayout:
    """The fields of a family."""

    fields: Mapping[str, Field]
    protected: tuple[Area, ...] = ()
    """Write protection and proprietary code protection: neither erased nor programmed."""
    shown: tuple[Block, ...] = ()
    """What the loader shows: nothing, or a block for each bank, or that of bank 1 alone."""

    @property
    def words(self) -> int:
        """How many there are."""
        return max(
            *(1 + each.word for each in self.fields.values()),
            *(each.first + each.words for each in self.shown),
        )

    def place(self, address: int, size: int) -> int | None:
        """Return where in the stored bytes an address is; None unless all these bytes are shown in one block."""
        for block in self.shown:
            if block.address <= address and address + size <= block.address + block.size:
                return block.first * ENTRY + address - block.address
        return None

    def factory(self, settings: Mapping[str, int]) -> bytes:
        """Return the stored bytes as delivered, except for some fields; raises ValueError for an unknown one."""
        if unknown := settings.keys() - self.fields.keys():
            raise ValueError(f"no option bytes {sorted(unknown)}, but {sorted(self.fields)}")
        delivered = {name: each.factory for name, each in self.fields.items()}
        return self.changed(pack([_ONES] * self.words), delivered | dict(settings))

    def changed(self, stored: bytes, settings: Mapping[str, int]) -> bytes:
        """Return stored bytes with some fields changed."""
        words = [int.from_bytes(stored[at : at + 4], "little") for at in range(0, len(stored), ENTRY)]
        for name, value in settings.items():
            place = self.fields[name]
            if not 0 <= value <= place.mask:
                raise ValueError(f"{name} has {place.width} bit(s), {value} does not fit")
            words[place.word] = words[place.word] & ~(place.mask << place.bit) | value << place.bit
        return pack(words)

    def load(self, stored: bytes) -> dict[str, int]:
        """Return what the silicon makes of stored bytes."""
        values = {}
        for name, place in self.fields.items():
            entry = stored[place.word * ENTRY :][:ENTRY]
            word, complement = int.from_bytes(entry[:4], "little"), int.from_bytes(entry[4:], "little")
            if word ^ complement == _ONES:
                values[name] = word >> place.bit & place.mask
            else:
                values[name] = place.mask if place.mismatch is None else place.mismatch
        return values


def pack(words: list[int]) -> bytes:
    """Return words with their complements."""
    return b"".join(word.to_bytes(4, "little") + (word ^ _ONES).to_bytes(4, "little") for word in words)


def level(rdp: int) -> int:
    """Return the read protection level."""
    return {UNPROTECTED: 0, LOCKED: 2}.get(rdp, 1)


def _areas(bank: int, word: int, width: int) -> tuple[dict[str, Field], tuple[Area, ...]]:
    """Lay out the four words that protect a bank."""
    highest = (1 << width) - 1
    code, *write = (
        Area(bank, f"{name}_STRT", f"{name}_END") for name in (f"PCROP{bank}", f"WRP{bank}A", f"WRP{bank}B")
    )
    fields = {
        code.first: Field(word, 0, 16, 0xFFFF, mismatch=0),
        code.last: Field(word + 1, 0, 16, 0, mismatch=0xFFFF),
    }
    for number, area in enumerate(write, start=word + 2):
        fields[area.first] = Field(number, 0, width, highest, mismatch=highest)
        fields[area.last] = Field(number, 16, width, 0, mismatch=0)
    return fields, (code, *write)


def _vendor(
    bits: Mapping[str, tuple[int, int]],
    banks: int,
    *,
    shown: tuple[int, ...] = (0x1FFF_7800,),
    words: int = 5,
    boot_lock: bool = False,
) -> OptionLayout:
    """Lay out the words as STM32L4 and G4 have them: of each bank user options, which count in bank 1 only, and areas.

    Args:
        bits: user options, with their place and what they are as delivered.
        banks: how many banks of flash there are.
        shown: where the loader shows those of the banks, as far as it does.
        words: of each bank that it shows.
        boot_lock: there is a word more, with the size of the secure area, and BOOT_LOCK in that of bank 1.
    """
    stride = 6 if boot_lock else 5
    fields = {"RDP": Field(0, 0, 8, UNPROTECTED)}
    fields |= {name: Field(0, bit, 1, factory) for name, (bit, factory) in bits.items()}
    areas: tuple[Area, ...] = ()
    for bank in range(1, banks + 1):
        placed, more = _areas(bank, stride * (bank - 1) + 1, width=8)
        fields |= placed
        areas += more
        if boot_lock:
            fields[f"SEC_SIZE{bank}"] = Field(stride * bank - 1, 0, 8, 0, mismatch=0)
    if boot_lock:
        fields["BOOT_LOCK"] = Field(stride - 1, 16, 1, 0, mismatch=0)
    blocks = tuple(Block(address, number * stride, words) for number, address in enumerate(shown))
    return OptionLayout(fields=MappingProxyType(fields), protected=areas, shown=blocks)


def hidden(
    bits: Mapping[str, int], *, banks: int, addresses: Mapping[str, int] = MappingProxyType({})
) -> OptionLayout:
    """Lay out fields in places of the model's own, for a family whose loader shows none.

    Args:
        bits: fields of one bit, and what they are as delivered.
        banks: how many banks of flash there are.
        addresses: fields of 16 bits, likewise.
    """
    fields = {"RDP": Field(0, 0, 8, UNPROTECTED)}
    fields |= {name: Field(0, bit, 1, factory) for bit, (name, factory) in enumerate(bits.items(), start=8)}
    fields |= {
        name: Field(word, 0, 16, factory) for word, (name, factory) in enumerate(addresses.items(), start=1)
    }
    areas: tuple[Area, ...] = ()
    for bank in range(1, banks + 1):
        placed, more = _areas(bank, 1 + len(addresses) + 4 * (bank - 1), width=16)
        fields |= placed
        areas += more
    return OptionLayout(fields=MappingProxyType(fields), protected=areas)


L47X: Final = _vendor({"BFB2": (20, 0), "DUALBANK": (21, 1), "nBOOT1": (23, 1)}, banks=2)
_SOFTWARE: Final = {"nSWBOOT0": (26, 1), "nBOOT0": (27, 1)}
L49X: Final = _vendor({"BFB2": (20, 0), "DUALBANK": (21, 1), "nBOOT1": (23, 1)} | _SOFTWARE, banks=2)
"""STM32L496 and 4A6."""
L4_PLUS: Final = _vendor(
    {"BFB2": (20, 0), "DBANK": (22, 1), "nBOOT1": (23, 1)} | _SOFTWARE,
    banks=2,
    shown=(0x1FF0_0000, 0x1FF0_1000),
)
"""STM32L4R/S, L4P5/Q5."""
L4_SINGLE: Final = _vendor({"nBOOT1": (23, 1)} | _SOFTWARE, banks=1)
"""STM32L41x to L46x."""
G4_DUAL: Final = _vendor(
    {"BFB2": (20, 0), "DBANK": (22, 1), "nBOOT1": (23, 1)} | _SOFTWARE,
    banks=2,
    shown=(0x1FFF_7800, 0x1FFF_F800),
    words=6,
    boot_lock=True,
)
"""STM32G47x and G48x."""
G4_SINGLE: Final = _vendor({"nBOOT1": (23, 1)} | _SOFTWARE, banks=1, boot_lock=True)
