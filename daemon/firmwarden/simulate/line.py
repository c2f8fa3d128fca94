"""The wire between a simulated device and its port: bytes take time, frames suffer, the port can vanish.

Seen from the device: ``rx`` is what the host sends, ``tx`` what the device sends.
"""

from __future__ import annotations

from enum import StrEnum, unique
from functools import partial
from typing import TYPE_CHECKING, Final

from firmwarden.simulate.agenda import Agenda, Life
from firmwarden.simulate.faults import Direction

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmwarden.simulate.faultplan import FaultPlan, OnTheLine
    from firmwarden.simulate.faults import Fault

_BITS_PER_BYTE: Final = 10
_END_CODE: Final = b"\x9e"


@unique
class Link(StrEnum):
    """What the port is like."""

    UP = "up"
    DOWN = "down"
    """It is not there."""
    WEDGED = "wedged"
    """It takes what the host writes, as far as its buffers go, and hands nothing on."""


class Line:
    """Both directions of one device's wire.

    Args:
        baud: how fast bytes move; None for in no time.
        plan: the faults.
        agenda: what the device has to do.
        hear: is given what reaches the device, and when.
        struck: is given the faults that strike at a count of bytes, and when.
    """

    def __init__(
        self,
        *,
        baud: int | None,
        plan: FaultPlan,
        agenda: Agenda,
        hear: Callable[[bytes, float], None],
        struck: Callable[[Fault, float], None],
    ) -> None:
        self.byte_s = _BITS_PER_BYTE / baud if baud else 0.0
        self.state = Link.UP
        self.losses = 0
        """How often the port vanished: it may be back before anybody looks."""
        self.tx_free_at = 0.0
        """When all has left that was transmitted so far."""
        self._rx_free_at = 0.0
        self._plan = plan
        self._agenda = agenda
        self._hear = hear
        self._struck = struck
        self._out: list[bytes] = []
        self._rx_frame = b""

    def is_up(self) -> bool:
        """Tell whether bytes pass."""
        return self.state is Link.UP

    def feed(self, data: bytes, now: float) -> None:
        """Take what the host sends."""
        if not self.is_up():
            return
        if self.byte_s:
            self._rx_free_at = max(now, self._rx_free_at) + len(data) * self.byte_s
            self._agenda.add(self._rx_free_at, Life.LINK, partial(self._arrive, data))
        else:
            self._arrive(data, now)

    def transmit(self, data: bytes, now: float) -> None:
        """Send bytes to the host; they are handed over when the last of them has left."""
        if not self.is_up():
            return
        if self.byte_s:
            self.tx_free_at = max(now, self.tx_free_at) + len(data) * self.byte_s
            self._agenda.add(self.tx_free_at, Life.LINK, partial(self._depart, data))
        else:
            self._depart(data, now)

    def transmit_frame(self, frame: bytes, now: float) -> None:
        """Send one frame, which line faults can hit."""
        if self._plan.watches_answers:
            self.transmit(self._plan.noise_before_answer(), now)
        if not self._plan.watches_line[Direction.TX]:
            self.transmit(frame, now)
            return
        for item in self._plan.frame(Direction.TX, frame):
            if item.delay_s:
                self._agenda.add(now + item.delay_s, Life.LINK, partial(self.transmit, item.data))
            else:
                self.transmit(item.data, now)

    def spoil(self, data: bytes, now: float, receive: Callable[[OnTheLine, float], None]) -> None:
        """Lead received bytes through the line faults, frame by frame; `receive` gets what is left of each."""
        *frames, self._rx_frame = (self._rx_frame + data).split(_END_CODE)
        for frame in frames:
            for item in self._plan.frame(Direction.RX, frame + _END_CODE):
                if item.delay_s:
                    self._agenda.add(now + item.delay_s, Life.LINK, partial(receive, item))
                else:
                    receive(item, now)

    def take(self) -> bytes:
        """Return what has left since the last call."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def go_down(self) -> None:
        """Lose the port, and with it everything that is under way."""
        self.state = Link.DOWN
        self.losses += 1
        self._agenda.strike_out(Life.LINK)
        self._rx_frame = b""

    def come_up(self, now: float) -> None:
        """Have a port, a new one after a loss."""
        self.state = Link.UP
        self._rx_free_at = self.tx_free_at = now
        for period_s, babble in self._plan.noise_periods():
            self._babble(period_s, babble, now)

    def wedge(self) -> None:
        """Hand on nothing more, in either direction."""
        self.state = Link.WEDGED
        self._agenda.strike_out(Life.LINK)

    def _babble(self, period_s: float, babble: Callable[[], bytes], now: float) -> None:
        def speak(when: float) -> None:
            noise = babble()
            if noise:
                self.transmit(noise, when)
                self._babble(period_s, babble, when)

        self._agenda.add(now + period_s, Life.LINK, speak)

    def _arrive(self, data: bytes, now: float) -> None:
        if not self._plan.watches_bytes[Direction.RX]:
            self._hear(data, now)
            return
        for piece, struck in self._plan.pieces(Direction.RX, data):
            left = len(self._out)
            self._hear(piece, now)
            if struck:
                # What the last byte made the device answer would leave after it: too late.
                del self._out[left:]
            for fault in struck:
                self._struck(fault, now)
            if not self.is_up():
                return

    def _depart(self, data: bytes, now: float) -> None:
        if not self.is_up():
            return
        if not self._plan.watches_bytes[Direction.TX]:
            self._out.append(data)
            return
        for piece, struck in self._plan.pieces(Direction.TX, data):
            self._out.append(piece)
            for fault in struck:
                self._struck(fault, now)
            if not self.is_up():
                return
