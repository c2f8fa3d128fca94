"""What a memory is known to hold: bytes that were read back, found right, and not touched since.

This is where invariant 1 is kept for devices that start whatever they hold: the host forgets a stretch before
it erases or writes there, learns it when it has read it back, and leaves only when an image is known whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.protocol.dfu.segments import ADDRESS_SPACE, Segment, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Checked:
    """Knowledge of one memory during one visit of its device."""

    def __init__(self) -> None:
        self._pieces: tuple[Segment, ...] = ()

    def learn(self, segment: Segment) -> None:
        """Note what was read back."""
        self.forget(segment.address, segment.end)
        self._pieces = joined((*self._pieces, segment))

    def forget(self, start: int = 0, end: int = ADDRESS_SPACE) -> None:
        """Note that bytes from `start` on and before `end` may change."""
        self._pieces = tuple(_without(self._pieces, start, end))

    def holds(self, image: Iterable[Segment]) -> bool:
        """Tell whether every byte of an image is known; of an image without bytes nothing is."""
        pieces = joined(image)
        return bool(pieces) and all(self._holds(segment) for segment in pieces)

    def _holds(self, segment: Segment) -> bool:
        return any(
            piece.address <= segment.address
            and piece.data[segment.address - piece.address :].startswith(segment.data)
            for piece in self._pieces
        )


def _without(pieces: Iterable[Segment], start: int, end: int) -> Iterator[Segment]:
    for piece in pieces:
        if end <= piece.address or start >= piece.end:
            yield piece
            continue
        if before := piece.data[: max(0, start - piece.address)]:
            yield Segment(piece.address, before)
        if after := piece.data[max(0, end - piece.address) :]:
            yield Segment(piece.end - len(after), after)
