"""Waits that only this process knows: for a port, for what a driver left to a person, for an answer that did not come.

Each is measured by the clock that never jumps.  A start forgets them all, and so looks once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf
from typing import TYPE_CHECKING, Final

from firmwarden.model import Wait, WaitKind
from firmwarden.service.policy import back_off_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from firmwarden.errors import MustWait
    from firmwarden.model import DeviceId
    from firmwarden.service.clock import Clock
    from firmwarden.service.policy import Budgets

PORT_HELD_FIRST_S: Final = 2.0
PORT_HELD_LONGEST_S: Final = 60.0
"""A port that somebody else has is looked at again after a pause that doubles between these."""


@dataclass(frozen=True, slots=True)
class _Pause:
    """One wait."""

    kind: WaitKind
    detail: str
    ends_at: float
    """Boot clock; infinite where it does not end by itself."""
    count: int = 1
    """How often it was begun."""
    settled_at: float = 0.0
    """Boot clock: a plug before that is not a person's doing, and does not end it."""
    outlasts_plugs: bool = False
    """No plug ends it."""

    def wait(self, boot: float, wall: float) -> Wait | None:
        """As others see it; None when it is over."""
        left = self.ends_at - boot
        if left <= 0.0:
            return None
        return Wait(kind=self.kind, detail=self.detail, until=None if isinf(left) else wall + left)


class Pauses:
    """Of each device, what keeps it from the next attempt, and what from the next question."""

    def __init__(self, clock: Clock, dice: Callable[[], float]) -> None:
        """Take the time; ``dice`` is uniform in [0, 1), for the jitter."""
        self._clock = clock
        self._dice = dice
        self._before_attempts: dict[DeviceId, _Pause] = {}
        self._before_questions: dict[DeviceId, _Pause] = {}

    @property
    def before_attempts(self) -> dict[DeviceId, Wait]:
        """The waits that a person's ``retry`` ends."""
        return self._waits(self._before_attempts)

    @property
    def before_questions(self) -> dict[DeviceId, Wait]:
        """The waits of devices whose outcome is unknown, until they are asked again."""
        return self._waits(self._before_questions)

    @property
    def coming_back(self) -> AbstractSet[DeviceId]:
        """Devices that were just sent back into their applications, and may come and go of themselves."""
        now = self._clock.boot()
        return {device for device, pause in self._before_attempts.items() if now < pause.settled_at}

    def port_held(self, device: DeviceId, detail: str) -> None:
        """Let a device wait whose port somebody else has, the longer the more often that was so."""
        known = self._before_attempts.get(device)
        count = 1 if known is None else known.count + 1
        pause_s = min(PORT_HELD_FIRST_S * 2.0 ** min(count - 1, 10), PORT_HELD_LONGEST_S)
        self._before_attempts[device] = _Pause(
            WaitKind.PORT_HELD, detail, self._clock.boot() + pause_s, count
        )

    def must_wait(self, device: DeviceId, reason: MustWait, *, settles_s: float) -> None:
        """Let a device wait for what its driver leaves to a person.

        Args:
            device: which.
            reason: what the driver found.
            settles_s: seconds until it is back in its application; that it comes back in them is nobody's doing.
        """
        detail = str(reason)
        if reason.left_in_loader:
            # A power cycle starts its application again, and must not take that from it each time.
            detail += (
                "; it had to be left in its loader, so it is looked at again only when a person retries "
                "or the configuration is reloaded"
            )
        self._before_attempts[device] = _Pause(
            reason.kind,
            detail,
            inf,
            settled_at=self._clock.boot() + settles_s,
            outlasts_plugs=reason.left_in_loader,
        )

    def unanswered(self, device: DeviceId, budgets: Budgets, *, asked: bool, settles_s: float) -> None:
        """Ask about an unknown outcome later, a bounded number of times.

        Args:
            device: which.
            budgets: of its class; as many questions are asked as attempts may be made.
            asked: a question has gone unanswered, and not only an attempt ended so.
            settles_s: as for ``must_wait``.
        """
        known = self._before_questions.get(device)
        count = (0 if known is None else known.count) + asked
        now = self._clock.boot()
        if count >= budgets.attempts:
            detail = (
                f"asked {count} times without an answer; asked again when it is plugged anew or at a start"
            )
            ends_at = inf
        else:
            detail = "the device gave no answer yet"
            ends_at = now + back_off_s(count + 1, budgets, self._dice())
        self._before_questions[device] = _Pause(WaitKind.BACK_OFF, detail, ends_at, count, now + settles_s)

    def answered(self, device: DeviceId) -> None:
        """Forget about questions to a device: its outcome is known."""
        self._before_questions.pop(device, None)

    def over(self, device: DeviceId) -> None:
        """Let nothing here keep a device from an attempt any more."""
        self._before_attempts.pop(device, None)

    def all_over(self) -> None:
        """Let nothing here keep any device from an attempt: what was left to a person may be mended."""
        self._before_attempts.clear()

    def plugged(self, devices: Sequence[DeviceId]) -> None:
        """End what a plug ends."""
        now = self._clock.boot()
        for pauses in (self._before_attempts, self._before_questions):
            for device in devices:
                pause = pauses.get(device)
                if pause is not None and pause.settled_at <= now and not pause.outlasts_plugs:
                    del pauses[device]

    def _waits(self, pauses: Mapping[DeviceId, _Pause]) -> dict[DeviceId, Wait]:
        boot, wall = self._clock.boot(), self._clock.wall()
        waits = {device: pause.wait(boot, wall) for device, pause in pauses.items()}
        return {device: wait for device, wait in waits.items() if wait is not None}
