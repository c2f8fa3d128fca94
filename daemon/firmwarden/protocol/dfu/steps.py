"""The steps that every DFU conversation is made of: ask, wait while the device is busy, bring it back to idle.

A poll time-out is the device's promise, and some break it: one wait is capped, all waits of one step together are
capped, and a device that says "busy, ask again in 0 ms" a hundred times is stuck.  A stall while the device was known
to be busy may mean that it still is (ROMs of STM32L4 while they erase): asked again three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Control, Conversation, Pause, Reply, Trouble
from firmwarden.protocol.dfu.descriptors import DFUSE, Attribute, DfuInterface, FunctionalDescriptor
from firmwarden.protocol.dfu.quirks import STANDARD, Quirks, Tongue
from firmwarden.protocol.dfu.requests import (
    STATE_SIZE,
    STATUS_SIZE,
    MalformedTransfer,
    Request,
    Setup,
    State,
    StatusReport,
    decode_state,
)
from firmwarden.protocol.dfu.verdicts import failure, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmwarden.errors import AttemptFailed

TRANSFER_TIMEOUT_S: Final = 5.0
"""For whatever is not known to take longer; dfu-util and fwupd wait so long."""

LONGEST_PAUSE_S: Final = 60.0
LONGEST_WAIT_S: Final = 120.0
"""For one block or one command, as in fwupd."""

SHORTEST_PAUSE_S: Final = 0.005
"""For a device that gives no time, or none that can be meant."""

_ZERO_POLLS: Final = 100
"""dfu-util gives up there: a Black Magic Probe once stayed busy for ever."""
_STALLED_POLLS: Final = 3

_IDLE_ROUNDS: Final = 6

_PENDING: Final = frozenset({State.DNLOAD_SYNC, State.MANIFEST_SYNC})
"""Where something may wait to be carried out by the next GETSTATUS."""

_TROUBLES: Final[Mapping[Trouble, CauseCode]] = MappingProxyType(
    {
        Trouble.STALL: CauseCode.OUT_OF_STEP,
        Trouble.TIMED_OUT: CauseCode.NO_ANSWER,
        Trouble.GONE: CauseCode.LINK_LOST,
        Trouble.BROKEN: CauseCode.LINK_LOST,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A DFU interface as a conversation has to know it."""

    interface: int
    functional: FunctionalDescriptor
    quirks: Quirks = STANDARD

    @classmethod
    def of(cls, interface: DfuInterface, quirks: Quirks) -> Self:
        """Take an interface as its device described it.

        Raises:
            AttemptFailed: the device does not describe it, or does not speak DFU behind it.
        """
        if quirks.tongue is not Tongue.DFU:
            raise failure(CauseCode.NOT_SUPPORTED, f"the device speaks {quirks.tongue.value}, not DFU")
        if interface.functional is None:
            raise failure(
                CauseCode.CLIENT_INFO_MALFORMED,
                f"interface {interface.number} has no DFU functional descriptor",
            )
        return cls(interface=interface.number, functional=interface.functional, quirks=quirks)

    @property
    def version(self) -> int:
        """BcdDFUVersion, corrected."""
        return self.functional.version if self.quirks.version is None else self.quirks.version

    @property
    def dfuse(self) -> bool:
        """True when the device speaks ST's extension."""
        return self.version == DFUSE

    @property
    def can_download(self) -> bool:
        """True when the device takes data."""
        return Attribute.CAN_DOWNLOAD in self.functional.attributes

    @property
    def can_upload(self) -> bool:
        """True when the device gives data, and what it gives is of use."""
        return Attribute.CAN_UPLOAD in self.functional.attributes and not self.quirks.upload_is_broken

    @property
    def tolerates_manifestation(self) -> bool:
        """True when the device goes on answering once it has an image: it has not made room for one beforehand."""
        return Attribute.MANIFESTATION_TOLERANT in self.functional.attributes

    def ask(
        self,
        request: Request,
        *,
        value: int = 0,
        data: bytes = b"",
        length: int = 0,
        timeout_s: float = TRANSFER_TIMEOUT_S,
    ) -> Control:
        """Return the transfer for a request; `length` is for those that bring data."""
        setup = Setup.of(request, interface=self.interface, value=value, length=len(data) or length)
        return Control(setup, timeout_s, data)


def lost(trouble: Trouble, what: str, *, offset: int | None = None) -> AttemptFailed:
    """Return the error for a transfer that was not answered."""
    return failure(_TROUBLES[trouble], f"{trouble.value} at {what}", offset=offset)


def expect(reply: Reply, what: str, *, offset: int | None = None) -> bytes:
    """Return the data of an answer; raises AttemptFailed when there is none."""
    if isinstance(reply, Trouble):
        raise lost(reply, what, offset=offset)
    return reply


def poll(unit: Unit, timeout_s: float = TRANSFER_TIMEOUT_S) -> Conversation[StatusReport | Trouble]:
    """GETSTATUS, for who can do with trouble.

    Raises:
        AttemptFailed: the answer is none that DFU has.
    """
    reply = yield unit.ask(Request.GETSTATUS, length=STATUS_SIZE, timeout_s=timeout_s)
    if isinstance(reply, Trouble):
        return reply
    try:
        return StatusReport.decode(reply)
    except MalformedTransfer as exc:
        raise failure(CauseCode.OUT_OF_STEP, f"GETSTATUS: {exc}", raw=reply) from exc


def status(unit: Unit, what: str, timeout_s: float = TRANSFER_TIMEOUT_S) -> Conversation[StatusReport]:
    """GETSTATUS after `what`, for who needs an answer; raises AttemptFailed without one."""
    report = yield from poll(unit, timeout_s)
    if isinstance(report, Trouble):
        raise lost(report, f"GETSTATUS after {what}")
    return report


def refused(unit: Unit, what: str, trouble: Trouble, offset: int | None = None) -> Conversation[None]:
    """Find out why a request was not taken, and raise that as AttemptFailed."""
    if trouble is not Trouble.STALL:
        raise lost(trouble, what, offset=offset)
    report = yield from status(unit, what)
    if report.state is State.ERROR:
        raise verdict(report, what, dfuse=unit.dfuse, offset=offset)
    raise lost(trouble, what, offset=offset)


def settle(
    unit: Unit,
    what: str,
    report: StatusReport,
    *,
    busy: frozenset[State],
    goal: State,
    offset: int | None = None,
    longest_s: float = LONGEST_WAIT_S,
    least_pause_s: float = 0.0,
    timeout_s: float = TRANSFER_TIMEOUT_S,
) -> Conversation[None]:
    """Wait until the device that gave `report` after `what` is in the state `goal`.

    It is left alone between polls for as long as it says, and for `least_pause_s`.

    Raises:
        AttemptFailed: it failed, fell into a state that is neither that nor busy, or stayed busy.
    """
    waited_s = 0.0
    zeros = stalls = 0
    while report.state is not goal:
        if report.state not in busy:
            raise _astray(unit, what, report, offset)
        zeros = zeros + 1 if report.poll_timeout_ms == 0 else 0
        pause_s = max(pause_after(unit, report), least_pause_s)
        if waited_s + pause_s > longest_s or (zeros >= _ZERO_POLLS and not unit.quirks.polls_without_time):
            detail = f"the device stays busy at {what}, after {waited_s:.3g} s of waiting as it said"
            raise failure(CauseCode.STUCK_BUSY, detail, raw=report.encode(), offset=offset)
        waited_s += pause_s
        yield Pause(pause_s)
        answer = yield from poll(unit, timeout_s)
        if isinstance(answer, StatusReport):
            report = answer
        elif answer is Trouble.STALL and stalls < _STALLED_POLLS:
            stalls += 1
        else:
            raise lost(answer, f"GETSTATUS after {what}", offset=offset)


def pause_after(unit: Unit, report: StatusReport) -> float:
    """Return how long to leave a device alone that gave this report, in seconds."""
    if report.poll_timeout_ms == 0 or unit.quirks.poll_timeouts_are_garbage:
        return SHORTEST_PAUSE_S
    return min(report.poll_timeout_ms / 1000, LONGEST_PAUSE_S)


def _astray(unit: Unit, what: str, report: StatusReport, offset: int | None) -> AttemptFailed:
    if report.state is State.ERROR:
        return verdict(report, what, dfuse=unit.dfuse, offset=offset)
    # These are where a device is that has just come up.
    restarted = report.state.in_application or report.state is State.DFU_IDLE
    return failure(
        CauseCode.CLIENT_REBOOTED if restarted else CauseCode.OUT_OF_STEP,
        f"the device is in {report.state.name} after {what}",
        raw=report.encode(),
        offset=offset,
    )


@unique
class _Way(Enum):
    """What brings a device nearer to dfuIDLE."""

    THERE = auto()
    ABORT = auto()
    CLEAR = auto()
    WAIT = auto()
    NONE = auto()


_WAYS: Final[Mapping[State, _Way]] = MappingProxyType(
    {
        State.APP_IDLE: _Way.NONE,
        State.APP_DETACH: _Way.NONE,
        State.DFU_IDLE: _Way.THERE,
        State.DNLOAD_SYNC: _Way.WAIT,
        State.DNBUSY: _Way.WAIT,
        State.DNLOAD_IDLE: _Way.ABORT,
        State.MANIFEST_SYNC: _Way.WAIT,
        State.MANIFEST: _Way.WAIT,
        # Only a reset leads on from here, and it would start what the device holds: not ours to do.
        State.MANIFEST_WAIT_RESET: _Way.NONE,
        State.UPLOAD_IDLE: _Way.ABORT,
        # CLRSTATUS is sent in no other state: some ROMs stall it there.
        State.ERROR: _Way.CLEAR,
    }
)


def make_idle(unit: Unit) -> Conversation[StatusReport]:
    """Bring a device to dfuIDLE, wherever an earlier host left it, and return what it reported first.

    The first report is worth a look: it may be an error that the last host never read.  What the last host said and
    did not ask about any more is not carried out: a DfuSe device does that when it is asked for its status, and it
    may be an erase of another host's, or the command to leave.  So it is asked for its state first, which changes
    nothing, and whatever waits for a status is aborted.

    Raises:
        AttemptFailed: the device cannot be brought there; in run-time mode, among others.
    """
    if (yield from _tell_state(unit)) in _PENDING:
        # Where the standard has no ABORT there, the device ends in dfuERROR and has forgotten it, too.
        aborted = yield unit.ask(Request.ABORT)
        if aborted is not Trouble.STALL:
            expect(aborted, "ABORT")
    first = report = yield from _patient_status(unit)
    for _ in range(_IDLE_ROUNDS):
        match _WAYS[report.state]:
            case _Way.THERE:
                return first
            case _Way.ABORT:
                expect((yield unit.ask(Request.ABORT)), "ABORT")
            case _Way.CLEAR:
                expect((yield unit.ask(Request.CLRSTATUS)), "CLRSTATUS")
            case _Way.WAIT:
                yield Pause(max(pause_after(unit, report), 2 * SHORTEST_PAUSE_S))
            case _Way.NONE:
                break
        report = yield from _patient_status(unit)
    raise failure(
        CauseCode.STUCK_BUSY if _WAYS[report.state] is _Way.WAIT else CauseCode.OUT_OF_STEP,
        f"the device is in {report.state.name} and cannot be brought to dfuIDLE",
        raw=report.encode(),
    )


def ask_state(unit: Unit) -> Conversation[State | Trouble]:
    """GETSTATE, which has no consequences.

    Raises:
        AttemptFailed: the answer is none that DFU has.
    """
    reply = yield unit.ask(Request.GETSTATE, length=STATE_SIZE)
    if isinstance(reply, Trouble):
        return reply
    try:
        return decode_state(reply)
    except MalformedTransfer as exc:
        raise failure(CauseCode.OUT_OF_STEP, f"GETSTATE: {exc}", raw=reply) from exc


def _tell_state(unit: Unit) -> Conversation[State | None]:
    """Return the state; None when the device refuses to tell it, as some do while they are busy."""
    state = yield from ask_state(unit)
    if isinstance(state, State):
        return state
    if state is Trouble.STALL:
        return None
    raise lost(state, "GETSTATE")


def _patient_status(unit: Unit) -> Conversation[StatusReport]:
    """GETSTATUS to a device that may be busy with what an earlier host began, and stall."""
    for _ in range(_STALLED_POLLS):
        report = yield from poll(unit)
        if isinstance(report, StatusReport):
            return report
        if report is not Trouble.STALL:
            raise lost(report, "GETSTATUS")
        yield Pause(10 * SHORTEST_PAUSE_S)
    return (yield from status(unit, "three that stalled"))


def abort(unit: Unit) -> Conversation[None]:
    """ABORT from a state in which that is safe, and see the device idle.

    Raises:
        AttemptFailed: it is not.
    """
    expect((yield unit.ask(Request.ABORT)), "ABORT")
    report = yield from status(unit, "ABORT")
    if report.state is not State.DFU_IDLE:
        raise _astray(unit, "ABORT", report, None)
