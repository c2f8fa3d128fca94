"""How a simulated client takes frames off the line, with the weaknesses of the real ones.

The strict decoder that the host uses finds the frames; this module says what a client makes of those that
are damaged.  Real clients do not reject a bad escape as such, they meet it in the checksum: the answer is the same.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.protocol.mdfu.framing import Damage, Frame, FrameDecoder, checksum
from firmwarden.protocol.mdfu.packet import HEADER_SIZE, NotExecutedCause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.simulate.profile import Profile

_ESCAPE: Final = 0xCC
_CHECKSUM_SIZE: Final = 2

DAMAGED: Final = NotExecutedCause.TRANSPORT_INTEGRITY_CHECK_ERROR
TOO_LONG: Final = NotExecutedCause.COMMAND_TOO_LONG
TOO_SHORT: Final = NotExecutedCause.COMMAND_TOO_SHORT


class Crash(Enum):
    """The client runs wild."""

    UNDERFLOW = auto()


class Receiver:
    """The receive buffer of one client."""

    __slots__ = ("_decoder", "_profile")

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._decoder = FrameDecoder(HEADER_SIZE + profile.buffer_size)

    def feed(self, data: bytes) -> Iterator[bytes | NotExecutedCause | Crash]:
        """Take bytes; return packets, and for what is none the cause to refuse it with."""
        for frame in self._decoder.feed(data):
            if isinstance(frame, Frame):
                yield frame.packet
                continue
            match frame.damage:
                case Damage.CUT_OFF:
                    # The next start code begins anew; nothing is said about it.
                    pass
                case Damage.TOO_LONG:
                    yield TOO_LONG
                case Damage.CHECKSUM | Damage.ESCAPE:
                    yield DAMAGED
                case Damage.TOO_SHORT:
                    yield self._short(_unescape(frame.raw))
                case unreachable:
                    assert_never(unreachable)

    def clear(self) -> None:
        """Forget a frame that has begun."""
        self._decoder.clear()

    def line_error(self, frame: bytes) -> NotExecutedCause:
        """Return what is made of the rest of a frame behind a line error in its middle."""
        rest = len(frame) // 2 - 1
        return TOO_SHORT if rest < HEADER_SIZE + _CHECKSUM_SIZE else DAMAGED

    def _short(self, body: bytes) -> bytes | NotExecutedCause | Crash:
        if len(body) < _CHECKSUM_SIZE:
            return Crash.UNDERFLOW if self._profile.resets_on_underflow else DAMAGED
        packet, check = body[:-_CHECKSUM_SIZE], body[-_CHECKSUM_SIZE:]
        if checksum(packet) != int.from_bytes(check, "little"):
            return DAMAGED
        return body if self._profile.executes_short_frames else TOO_SHORT


def _unescape(escaped: bytes) -> bytes:
    """Unescape as the clients do: whatever follows the escape code is inverted."""
    body = bytearray()
    codes = iter(escaped)
    for code in codes:
        body.append(~next(codes, 0) & 0xFF if code == _ESCAPE else code)
    return bytes(body)
