"""Faults that a simulated device can be asked for, as values, and the text they are written in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar

from firmwarden.protocol.mdfu.packet import AbortCause, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SYNTAX: Final = """\
A fault is written KIND[@POINT=VALUE][,KEY=VALUE...]. Everything counts from 0, like the chunks in the causes that a
host reports; of bytes it is said how many have passed.

\b
Points:
  rx, tx   when so many bytes have gone to the device or left it,
           since the start or since the last time
  frame    from this frame of a direction on
  command  from this executed command on
  chunk    at this WRITE_CHUNK of a transfer
  step     at get-client-info, start-transfer, write-chunk,
           get-image-state or end-transfer
  p        by chance, with this probability each time
  every    every so many seconds

\b
Kinds, the points they take, and their keys:
  drop        frame, p       a frame vanishes; dir=rx|tx|both (both)
  corrupt     frame, p       one bit of it turns over; dir=
  duplicate   frame, p       it comes twice; dir=
  delay       frame, p       it comes late; s=SECONDS, dir=
  line-error  frame, p       the device's UART reports an error inside it
  noise       p, every       random bytes before an answer, or at any time;
                             bytes=N (16)
  cut         rx, tx, command, chunk, step
                             the port vanishes; back=SECONDS (never),
                             power=kept|lost (kept): without power what is
                             in RAM is lost, and a page under way tears
  wedge       -, rx          the port takes bytes, nobody drains them;
                             back=SECONDS (never)
  mute        -, command, chunk, step
                             the device hears nothing; for=SECONDS (ever)
  lose        command, chunk, step, p
                             a command is executed, its answer lost
  reboot      command, chunk, step
                             the device resets; when=before|after (before)
                             the command is executed
  abort       command, chunk, step
                             it refuses; cause=NAME|NUMBER|none (none)

times=K or times=always says how often; once is meant unless the point is p, every or none.

\b
Examples:
  abort@chunk=3,cause=erase-error
  cut@rx=5000,back=0.5,power=lost
  drop@p=0.01,dir=tx
"""


class BadFault(ValueError):
    """The text of a fault cannot be understood; the message says what was expected."""


@unique
class Direction(StrEnum):
    """Seen from the device."""

    RX = "rx"
    TX = "tx"


@unique
class Point(StrEnum):
    """What decides when a fault strikes."""

    RX = "rx"
    TX = "tx"
    FRAME = "frame"
    COMMAND = "command"
    CHUNK = "chunk"
    STEP = "step"
    CHANCE = "p"
    EVERY = "every"
    ALWAYS = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What all faults have."""

    text: str
    """As it was written."""
    point: Point
    value: float = 0
    """The number behind the point; for a step, the command's code."""
    times: int | None
    """How often it strikes, None for always."""


@unique
class Mischief(StrEnum):
    """What can become of a frame on the line."""

    DROP = "drop"
    CORRUPT = "corrupt"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    LINE_ERROR = "line-error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFault(Fault):
    """A frame suffers on its way."""

    mischief: Mischief
    directions: frozenset[Direction]
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise(Fault):
    """Random bytes leave the device."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Fault):
    """The port vanishes."""

    back_s: float | None
    power_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wedge(Fault):
    """The port takes bytes and nothing drains them."""

    back_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute(Fault):
    """The device hears nothing."""

    for_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose(Fault):
    """An answer is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot(Fault):
    """The device resets."""

    after: bool
    """The command is executed before, its answer is not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort(Fault):
    """The client refuses a command."""

    cause: int | None


_ENDLESS: Final = frozenset({Point.CHANCE, Point.EVERY, Point.ALWAYS})
_AT_COMMANDS: Final = (Point.COMMAND, Point.CHUNK, Point.STEP)
_AT_FRAMES: Final = (Point.FRAME, Point.CHANCE)

_STEPS: Final = {command.name.lower().replace("_", "-"): int(command) for command in Command}
_CAUSES: Final[Mapping[str, int | None]] = {
    "none": None,
    **{cause.name.lower().replace("_", "-"): int(cause) for cause in AbortCause},
}
_DIRECTIONS: Final = {
    "rx": frozenset({Direction.RX}),
    "tx": frozenset({Direction.TX}),
    "both": frozenset(Direction),
}
_HIGHEST_BYTE: Final = 255

_Choice = TypeVar("_Choice")


class _Common(TypedDict):
    text: str
    point: Point
    value: float
    times: int | None


class _Reader:
    """Takes one fault apart, and complains with its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        head, *pairs = text.split(",")
        self.kind, self._at, self._place = head.partition("@")
        self._keys: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or key in self._keys:
                raise self.error(f"{pair!r} is not KEY=VALUE, or {key!r} is given twice")
            self._keys[key] = value

    def error(self, message: str) -> BadFault:
        return BadFault(f"fault {self.text!r}: {message}")

    def common(self, *allowed: Point) -> _Common:
        """Read what all faults have: the point, one of those allowed, and how often."""
        point, value = self._point()
        if point not in allowed:
            names = " or ".join(f"@{each}=" if each else "no point" for each in allowed)
            raise self.error(f"{self.kind} takes {names}")
        times = self._keys.pop("times", "always" if point in _ENDLESS else "1")
        return {
            "text": self.text,
            "point": point,
            "value": value,
            "times": None if times == "always" else int(self._number(times, "times", lowest=1, whole=True)),
        }

    def seconds(self, key: str) -> float | None:
        return self._number(self._keys.pop(key), key) if key in self._keys else None

    def size(self, key: str, default: int) -> int:
        return int(self._number(self._keys.pop(key, str(default)), key, lowest=1, whole=True))

    def choice(self, key: str, choices: Mapping[str, _Choice], default: str) -> _Choice:
        return self._one_of(self._keys.pop(key, default), key, choices)

    def cause(self) -> int | None:
        text = self._keys.pop("cause", "none")
        if text.isdecimal() and int(text) <= _HIGHEST_BYTE:
            return int(text)
        return self._one_of(text, "cause", _CAUSES)

    def finish(self) -> None:
        """Complain of what nobody asked for."""
        if self._keys:
            raise self.error(f"{self.kind} has no key {', '.join(self._keys)}")

    def _point(self) -> tuple[Point, float]:
        if not self._at:
            return Point.ALWAYS, 0
        name, equals, text = self._place.partition("=")
        points = {str(point): point for point in Point if point}
        if not equals or name not in points:
            raise self.error(f"expected @POINT=VALUE with POINT one of {', '.join(points)}")
        point = points[name]
        match point:
            case Point.STEP:
                return point, self._one_of(text, name, _STEPS)
            case Point.CHANCE:
                return point, self._number(text, name, highest=1)
            case Point.EVERY:
                return point, self._number(text, name, lowest=0.001)
            case Point.RX | Point.TX:
                return point, self._number(text, name, lowest=1, whole=True)
            case _:
                return point, self._number(text, name, whole=True)

    def _number(
        self, text: str, key: str, *, lowest: float = 0, highest: float = math.inf, whole: bool = False
    ) -> float:
        try:
            number = int(text) if whole else float(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest or number == math.inf:
            wanted = "a whole number" if whole else "a number"
            limit = f" from {lowest}" + (f" to {highest}" if highest < math.inf else "")
            raise self.error(f"{key} must be {wanted}{limit}, got {text!r}")
        return number

    def _one_of(self, text: str, key: str, choices: Mapping[str, _Choice]) -> _Choice:
        if text not in choices:
            raise self.error(f"{key} must be one of {', '.join(choices)}, got {text!r}")
        return choices[text]


def _line_fault(mischief: Mischief) -> Callable[[_Reader], LineFault]:
    def build(reader: _Reader) -> LineFault:
        common = reader.common(*_AT_FRAMES)
        only_rx = mischief is Mischief.LINE_ERROR
        directions = _DIRECTIONS["rx"] if only_rx else reader.choice("dir", _DIRECTIONS, "both")
        delay_s = reader.seconds("s") if mischief is Mischief.DELAY else 0.0
        if delay_s is None:
            raise reader.error("a delay needs s=SECONDS")
        return LineFault(**common, mischief=mischief, directions=directions, delay_s=delay_s)

    return build


_POWER: Final = {"kept": False, "lost": True}
_WHEN: Final = {"before": False, "after": True}

_KINDS: Final[Mapping[str, Callable[[_Reader], Fault]]] = {
    **{mischief.value: _line_fault(mischief) for mischief in Mischief},
    "noise": lambda reader: Noise(
        **reader.common(Point.CHANCE, Point.EVERY), size=reader.size("bytes", default=16)
    ),
    "cut": lambda reader: Cut(
        **reader.common(Point.RX, Point.TX, *_AT_COMMANDS),
        back_s=reader.seconds("back"),
        power_lost=reader.choice("power", _POWER, "kept"),
    ),
    "wedge": lambda reader: Wedge(**reader.common(Point.ALWAYS, Point.RX), back_s=reader.seconds("back")),
    "mute": lambda reader: Mute(**reader.common(Point.ALWAYS, *_AT_COMMANDS), for_s=reader.seconds("for")),
    "lose": lambda reader: Lose(**reader.common(*_AT_COMMANDS, Point.CHANCE)),
    "reboot": lambda reader: Reboot(
        **reader.common(*_AT_COMMANDS), after=reader.choice("when", _WHEN, "before")
    ),
    "abort": lambda reader: Abort(**reader.common(*_AT_COMMANDS), cause=reader.cause()),
}


def parse_fault(text: str) -> Fault:
    """Read a fault as it is written on the command line.

    Raises:
        BadFault: it follows no rule above.
    """
    reader = _Reader(text)
    build = _KINDS.get(reader.kind)
    if build is None:
        raise reader.error(f"there is no {reader.kind!r}, there are {', '.join(_KINDS)}")
    fault = build(reader)
    reader.finish()
    return fault
