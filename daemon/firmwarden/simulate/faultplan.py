"""Faults at work in one device: which strike now, from counters and a seeded source of chance."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.protocol.mdfu.packet import Command
from firmwarden.simulate.faults import (
    Direction,
    Fault,
    LineFault,
    Mischief,
    Mute,
    Noise,
    Point,
    Wedge,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_AT_BYTES: Final = {Point.RX: Direction.RX, Point.TX: Direction.TX}


@dataclass(slots=True)
class _Armed:
    """One fault that waits for its moment."""

    fault: Fault
    rng: random.Random
    fired: int = 0
    target: int = field(init=False)
    """For faults at a count of bytes: the count at which it strikes next."""

    def __post_init__(self) -> None:
        self.target = int(self.fault.value)

    @property
    def spent(self) -> bool:
        """True when it never strikes again."""
        return self.fault.times is not None and self.fired >= self.fault.times

    def strikes(self, *, reached: bool) -> bool:
        """Tell whether it strikes now, and note that it does."""
        if self.spent:
            return False
        if self.fault.point is Point.CHANCE:
            reached = self.rng.random() < self.fault.value
        if reached:
            self.fired += 1
        return reached


@dataclass(frozen=True, slots=True)
class OnTheLine:
    """A frame, or what is left of it, that is handed on."""

    data: bytes
    delay_s: float = 0.0
    line_error: bool = False
    """The UART reported an error while it came in."""


class FaultPlan:
    """All faults of one device.

    Each has its own source of chance, so one fault more does not change when the others strike.
    """

    def __init__(self, faults: Iterable[Fault], seed: str) -> None:
        self._all = [
            # Reproducible, not secret.
            _Armed(fault, random.Random(f"{seed}/{number}/{fault.text}"))  # noqa: S311
            for number, fault in enumerate(faults)
        ]
        self._bytes = {
            direction: [armed for armed in self._all if armed.fault.point is point]
            for point, direction in _AT_BYTES.items()
        }
        self._line = {
            direction: [
                armed
                for armed in self._all
                if isinstance(armed.fault, LineFault) and direction in armed.fault.directions
            ]
            for direction in Direction
        }
        self._noise = [armed for armed in self._all if isinstance(armed.fault, Noise)]
        self._commands = [
            armed
            for armed in self._all
            if not isinstance(armed.fault, LineFault | Noise)
            and armed.fault.point not in (Point.RX, Point.TX, Point.ALWAYS)
        ]
        self._passed = dict.fromkeys(Direction, 0)
        self._frames = dict.fromkeys(Direction, 0)
        self.watches_bytes = {direction: bool(armed) for direction, armed in self._bytes.items()}
        """Whether `pieces` cuts anything."""
        self.watches_line = {direction: bool(armed) for direction, armed in self._line.items()}
        self.watches_commands = bool(self._commands)
        self.watches_answers = any(armed.fault.point is Point.CHANCE for armed in self._noise)

    @property
    def fired(self) -> dict[str, int]:
        """How often each fault struck, by its text."""
        return {armed.fault.text: armed.fired for armed in self._all}

    def from_the_start(self) -> list[Fault]:
        """Return the faults that are there as soon as the device is."""
        return [
            armed.fault
            for armed in self._all
            if isinstance(armed.fault, Mute | Wedge)
            and armed.fault.point is Point.ALWAYS
            and armed.strikes(reached=True)
        ]

    def pieces(self, direction: Direction, data: bytes) -> Iterator[tuple[bytes, list[Fault]]]:
        """Cut bytes where faults strike: each piece comes with the faults that strike right after it."""
        while data:
            passed = self._passed[direction]
            waiting = [armed.target - passed for armed in self._bytes[direction] if not armed.spent]
            piece = data[: min(waiting, default=len(data))]
            data = data[len(piece) :]
            self._passed[direction] = passed = passed + len(piece)
            struck = []
            for armed in self._bytes[direction]:
                if armed.strikes(reached=armed.target == passed):
                    armed.target += int(armed.fault.value)
                    struck.append(armed.fault)
            yield piece, struck

    def frame(self, direction: Direction, data: bytes) -> list[OnTheLine]:
        """Send a whole frame through all line faults and return what comes out."""
        number = self._frames[direction]
        self._frames[direction] += 1
        frames = [OnTheLine(data)]
        for armed in self._line[direction]:
            if isinstance(armed.fault, LineFault) and armed.strikes(reached=armed.fault.value <= number):
                frames = [hurt for frame in frames for hurt in _spoil(frame, armed.fault, armed.rng)]
        return frames

    def command(self, number: int, command: Command | int, chunk: int) -> list[Fault]:
        """Return the faults that strike at an executed command.

        Args:
            number: of the executed command.
            command: which one.
            chunk: for WRITE_CHUNK, its number in the transfer.
        """
        struck = []
        for armed in self._commands:
            value = armed.fault.value
            match armed.fault.point:
                case Point.COMMAND:
                    reached = value <= number
                case Point.CHUNK:
                    reached = command is Command.WRITE_CHUNK and value == chunk
                case Point.STEP:
                    reached = value == command
                case _:
                    reached = False
            if armed.strikes(reached=reached):
                struck.append(armed.fault)
        return struck

    def noise_before_answer(self) -> bytes:
        """Return what is babbled before an answer."""
        return b"".join(
            self._babble(armed)
            for armed in self._noise
            if armed.fault.point is Point.CHANCE and armed.strikes(reached=False)
        )

    def noise_periods(self) -> list[tuple[float, Callable[[], bytes]]]:
        """Return, for each periodic noise, its period and what makes the next bytes of it (none when it is over)."""

        def next_noise(armed: _Armed) -> Callable[[], bytes]:
            return lambda: self._babble(armed) if armed.strikes(reached=True) else b""

        return [
            (armed.fault.value, next_noise(armed))
            for armed in self._noise
            if armed.fault.point is Point.EVERY
        ]

    @staticmethod
    def _babble(armed: _Armed) -> bytes:
        return armed.rng.randbytes(armed.fault.size) if isinstance(armed.fault, Noise) else b""


def _spoil(frame: OnTheLine, fault: LineFault, rng: random.Random) -> list[OnTheLine]:
    match fault.mischief:
        case Mischief.DROP:
            return []
        case Mischief.CORRUPT:
            hurt = bytearray(frame.data)
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
            return [replace(frame, data=bytes(hurt))]
        case Mischief.DUPLICATE:
            return [frame, frame]
        case Mischief.DELAY:
            return [replace(frame, delay_s=frame.delay_s + fault.delay_s)]
        case Mischief.LINE_ERROR:
            return [replace(frame, line_error=True)]
        case unreachable:
            assert_never(unreachable)
