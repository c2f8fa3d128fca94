"""Bytes that nearly are what a parser expects: valid samples with a few edits, and sometimes plain noise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from functools import reduce
from typing import TYPE_CHECKING, Final, assert_never

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_EDITS: Final = 6
_LONGEST_NOISE: Final = 300

_NUMBERS: Final = tuple(
    value.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for value in (0, 1, (1 << 8 * width) - 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1)
    for order in ("little", "big")
)
"""Where signs, sizes and sums go wrong."""

_TEXTS: Final = (
    *(
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b'"',
        b"'",
        b"=",
        b":",
        b"/",
        b"../",
        b"%s",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
    ),
    *(b"-1", b"1e999", b"9" * 40, b"\x1b[31m", b"<b>", "\u202e".encode(), b"\xff\xfe", b"\xed\xa0\x80"),
)
"""What means something to one format or another, to a terminal, or to a page."""

TOKENS: Final = st.sampled_from((*_NUMBERS, *_TEXTS)) | st.binary(max_size=8)


@unique
class Edit(Enum):
    """What is done to a sample at one place."""

    FLIP = "flip a bit"
    REPLACE = "write over what is there"
    INSERT = "put between"
    DELETE = "take out"
    REPEAT = "say twice"
    CUT = "end here"
    SWAP = "say in another order"


@dataclass(frozen=True, slots=True)
class _Step:
    edit: Edit
    at: int
    """In 65536ths of the length, so that it means something in samples of every length."""
    size: int
    token: bytes

    def applied(self, raw: bytes) -> bytes:
        at = self.at * (len(raw) + 1) >> 16
        end = min(at + self.size, len(raw))
        before, part, after = raw[:at], raw[at:end], raw[end:]
        match self.edit:
            case Edit.FLIP:
                return before + bytes((part[0] ^ 1 << self.size % 8,)) + raw[at + 1 :] if part else raw
            case Edit.REPLACE:
                return before + self.token + raw[at + len(self.token) :]
            case Edit.INSERT:
                return before + self.token + part + after
            case Edit.DELETE:
                return before + after
            case Edit.REPEAT:
                return before + part + part + after
            case Edit.CUT:
                return before
            case Edit.SWAP:
                return before + after[: self.size] + part + after[self.size :]
            case unreachable:
                assert_never(unreachable)


_STEPS: Final = st.lists(
    st.builds(
        _Step,
        st.sampled_from(Edit),
        st.integers(0, (1 << 16) - 1),
        st.integers(1, 64),
        TOKENS,
    ),
    max_size=_MOST_EDITS,
)


def mutated(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return samples with a few edits, two of them glued together, or noise."""
    edited = st.builds(
        lambda sample, steps: reduce(lambda raw, step: step.applied(raw), steps, sample),
        st.sampled_from(samples),
        _STEPS,
    )
    return st.one_of(
        edited,
        edited,
        st.builds(lambda first, second: first + second, edited, edited),
        st.binary(max_size=_LONGEST_NOISE),
    )
