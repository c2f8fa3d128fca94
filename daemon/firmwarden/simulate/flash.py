"""The flash memory of a simulated device: pages that wear, writes that only clear bits, power that can go.

An operation is a value with a duration.  Whoever runs the device applies it when its time has passed, or tears it
when the power goes before: a torn page holds neither the old bytes nor the new ones.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from random import Random

_ERASED: Final = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The part of a device's flash that holds the application, and how long work on it takes."""

    start: int
    """Address of the first byte."""
    size: int
    page_size: int
    """The least that can be erased."""
    write_size: int
    """The least that can be programmed."""
    erase_s: float
    """Time to erase one page."""
    write_s: float
    """Time to program ``write_size`` bytes."""
    check_s: float
    """Time to check the whole application."""

    def __post_init__(self) -> None:
        if self.size % self.page_size or self.page_size % self.write_size:
            raise ValueError("pages must fill the memory, and writes must fill the pages")

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return self.size // self.page_size

    @property
    def end(self) -> int:
        """Address after the last byte."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase every page."""


@dataclass(frozen=True, slots=True)
class Program:
    """Write bytes to an address; bits can be cleared only."""

    address: int
    data: bytes


Operation = Erase | Program


class SavedFlash(TypedDict):
    """Everything a flash holds, fit for JSON."""

    pages: dict[str, str]
    wear: list[int]
    erase_starts: int
    source: str


class Flash:
    """Pages and their wear; what survives every loss of power."""

    __slots__ = ("_source", "changes", "erase_starts", "geometry", "pages", "wear")

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.pages: dict[int, bytes] = {}
        """Contents by page number; an erased page is not listed."""
        self.wear = [0] * geometry.pages
        self.erase_starts = 0
        self.changes = 0
        """Grows with everything that happens to the contents."""
        self._source: list[bytes] = []

    @property
    def source(self) -> bytes:
        """Every chunk of update files that was accepted since the last erase, joined.

        This is the model's knowledge, not the device's: it tells whether what the device found complete really is.
        """
        return b"".join(self._source)

    def note_source(self, chunk: bytes) -> None:
        """Remember an accepted chunk."""
        self.changes += 1
        self._source.append(chunk)

    def forget_wear(self) -> None:
        """Be as new, with the same contents."""
        self.wear = [0] * self.geometry.pages
        self.erase_starts = 0

    def duration_s(self, operation: Operation) -> float:
        """Return how long an operation takes."""
        match operation:
            case Erase():
                return self.geometry.erase_s * self.geometry.pages
            case Program(data=data):
                return self.geometry.write_s * -(-len(data) // self.geometry.write_size)

    def apply(self, operation: Operation) -> None:
        """Carry out an operation in full."""
        self.changes += 1
        match operation:
            case Erase():
                self._begin_erase()
                self.pages.clear()
                self.wear = [count + 1 for count in self.wear]
            case Program(address=address, data=data):
                self._program(address - self.geometry.start, data)

    def tear(self, operation: Operation, share: float, rng: Random) -> None:
        """Carry out only a share of an operation: the power went; the page then under way is garbage."""
        self.changes += 1
        match operation:
            case Erase():
                self._begin_erase()
                page = min(int(share * self.geometry.pages), self.geometry.pages - 1)
                for done in range(page):
                    self.pages.pop(done, None)
                    self.wear[done] += 1
                self.wear[page] += 1
                # Cells drift towards 1 at their own pace.
                old = self.pages.get(page, b"\xff" * self.geometry.page_size)
                drift = rng.randbytes(len(old))
                self.pages[page] = bytes(before | bits for before, bits in zip(old, drift, strict=True))
            case Program(address=address, data=data):
                unit = self.geometry.write_size
                done = int(share * len(data)) // unit * unit
                self._program(address - self.geometry.start, data[:done])
                torn = data[done : done + unit]
                drift = rng.randbytes(len(torn))
                half = bytes(after | bits for after, bits in zip(torn, drift, strict=True))
                self._program(address - self.geometry.start + done, half)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes from an address on, as far as there is memory."""
        first = address - self.geometry.start
        page_size = self.geometry.page_size
        blank = b"\xff" * page_size
        low, high = first // page_size, -(-min(first + size, self.geometry.size) // page_size)
        joined = b"".join(self.pages.get(page, blank) for page in range(low, high))
        return joined[first - low * page_size :][:size]

    def save(self) -> SavedFlash:
        """Return everything, fit for JSON."""
        return {
            "pages": {str(page): base64.b64encode(data).decode() for page, data in self.pages.items()},
            "wear": self.wear,
            "erase_starts": self.erase_starts,
            "source": base64.b64encode(self.source).decode(),
        }

    def load(self, saved: SavedFlash) -> None:
        """Take over what `save` returned; raises ValueError when it is from another geometry."""
        pages = {int(page): base64.b64decode(data) for page, data in saved["pages"].items()}
        if len(saved["wear"]) != self.geometry.pages or any(
            page not in range(self.geometry.pages) or len(data) != self.geometry.page_size
            for page, data in pages.items()
        ):
            raise ValueError("the saved flash is not of this device's size")
        self.changes += 1
        self.pages = pages
        self.wear = saved["wear"]
        self.erase_starts = saved["erase_starts"]
        self._source = [base64.b64decode(saved["source"])]

    def _begin_erase(self) -> None:
        self.erase_starts += 1
        self._source.clear()

    def _program(self, offset: int, data: bytes) -> None:
        page_size = self.geometry.page_size
        page, within = divmod(offset, page_size)
        if within + len(data) > page_size:
            head = page_size - within
            self._program(offset, data[:head])
            self._program(offset + head, data[head:])
            return
        old = self.pages.get(page)
        if old is None:
            if len(data) < page_size:
                data = b"\xff" * within + data + b"\xff" * (page_size - within - len(data))
        else:
            covered = old[within : within + len(data)]
            if covered.count(_ERASED) != len(covered):
                data = bytes(before & after for before, after in zip(covered, data, strict=True))
            data = old[:within] + data + old[within + len(data) :]
        self.pages[page] = data
