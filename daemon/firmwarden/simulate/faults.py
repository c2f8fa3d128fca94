"""Faults that a simulated device can be asked for, as values, and the text they are written in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, TypedDict

from firmwarden.protocol.mdfu.packet import AbortCause, Command
from firmwarden.simulate.fault_text import FaultText

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


class _Common(TypedDict):
    text: str
    point: Point
    value: float
    times: int | None


def _common(text: FaultText, *allowed: Point) -> _Common:
    """Read what all faults have: the point, one of those allowed, and how often."""
    point, value = _point(text)
    if point not in allowed:
        names = " or ".join(f"@{each}=" if each else "no point" for each in allowed)
        raise text.error(f"{text.kind} takes {names}")
    times = text.times("always" if point in _ENDLESS else "1")
    return {"text": text.text, "point": point, "value": value, "times": times}


def _point(text: FaultText) -> tuple[Point, float]:
    place = text.point(point for point in Point if point)
    if place is None:
        return Point.ALWAYS, 0
    name, value = place
    point = Point(name)
    match point:
        case Point.STEP:
            return point, text.one_of(value, name, _STEPS)
        case Point.CHANCE:
            return point, text.number(value, name, highest=1)
        case Point.EVERY:
            return point, text.number(value, name, lowest=0.001)
        case Point.RX | Point.TX:
            return point, text.number(value, name, lowest=1, whole=True)
        case _:
            return point, text.number(value, name, whole=True)


def _cause(text: FaultText) -> int | None:
    cause = text.word("cause", "none")
    if cause.isdecimal() and int(cause) <= _HIGHEST_BYTE:
        return int(cause)
    return text.one_of(cause, "cause", _CAUSES)


def _line_fault(mischief: Mischief) -> Callable[[FaultText], LineFault]:
    def build(text: FaultText) -> LineFault:
        common = _common(text, *_AT_FRAMES)
        only_rx = mischief is Mischief.LINE_ERROR
        directions = _DIRECTIONS["rx"] if only_rx else text.choice("dir", _DIRECTIONS, "both")
        delay_s = text.seconds("s") if mischief is Mischief.DELAY else 0.0
        if delay_s is None:
            raise text.error("a delay needs s=SECONDS")
        return LineFault(**common, mischief=mischief, directions=directions, delay_s=delay_s)

    return build


_POWER: Final = {"kept": False, "lost": True}
_WHEN: Final = {"before": False, "after": True}

_KINDS: Final[Mapping[str, Callable[[FaultText], Fault]]] = {
    **{mischief.value: _line_fault(mischief) for mischief in Mischief},
    "noise": lambda text: Noise(
        **_common(text, Point.CHANCE, Point.EVERY), size=text.count("bytes", "16", lowest=1)
    ),
    "cut": lambda text: Cut(
        **_common(text, Point.RX, Point.TX, *_AT_COMMANDS),
        back_s=text.seconds("back"),
        power_lost=text.choice("power", _POWER, "kept"),
    ),
    "wedge": lambda text: Wedge(**_common(text, Point.ALWAYS, Point.RX), back_s=text.seconds("back")),
    "mute": lambda text: Mute(**_common(text, Point.ALWAYS, *_AT_COMMANDS), for_s=text.seconds("for")),
    "lose": lambda text: Lose(**_common(text, *_AT_COMMANDS, Point.CHANCE)),
    "reboot": lambda text: Reboot(**_common(text, *_AT_COMMANDS), after=text.choice("when", _WHEN, "before")),
    "abort": lambda text: Abort(**_common(text, *_AT_COMMANDS), cause=_cause(text)),
}


def parse_fault(text: str) -> Fault:
    """Read a fault as it is written on the command line.

    Raises:
        BadFault: it follows no rule above.
    """
    reader = FaultText(text)
    fault = reader.choice_of(_KINDS)(reader)
    reader.finish()
    return fault
