"""The DFU interface of a simulated device: requests in, answers out, by the protocol's own table of states.

What a download means is a `Tongue`'s business, how a loader misbehaves is a matter of its `Traits`; this module is what
they have in common.  Everything that changes is in one `Standing`, which can be copied.

The loader can hold an answer back until its work is done: `Withheld` tells until when.  The request is then to be made
again, as a host controller does with a transfer that is not acknowledged, or to be dropped when the host has had
enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, unique
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from firmwarden.protocol.dfu import dfuse
from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.descriptors import Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.requests import Request, State, Status, StatusReport
from firmwarden.protocol.dfu.states import Condition, Input, Response, Table, move
from firmwarden.simulate.dfu.traits import Leaving, Traits, WhileBusy

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.conversation import Reply
    from firmwarden.protocol.dfu.requests import Setup
    from firmwarden.simulate.dfu.chip import Operation
    from firmwarden.simulate.dfu.work import Worker

_TICK_S: Final = 1e-9

_INPUTS: Final = {
    Request.DETACH: Input.DETACH,
    Request.UPLOAD: Input.UPLOAD,
    Request.GETSTATUS: Input.GETSTATUS,
    Request.CLRSTATUS: Input.CLRSTATUS,
    Request.GETSTATE: Input.GETSTATE,
    Request.ABORT: Input.ABORT,
}

_BUSY: Final = frozenset({State.DNBUSY, State.MANIFEST})

_FOREVER: Final = float("inf")

_STUCK_POLL_MS: Final = 100
"""What a device announces that will never be done."""


@unique
class Then(Enum):
    """What the device is to do next, by its own."""

    NOTHING = "nothing"
    LOAD_OPTIONS = "reset, and load the option bytes, when its work is done"
    LEAVE = "leave for the address that the pointer has"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Job:
    """What carrying out a download comes to."""

    operations: tuple[Operation, ...] = ()
    status: Status = Status.OK
    """Reported when it is over."""
    poll_ms: int | None = None
    """The poll time-out to announce; None: as long as it takes."""
    then: Then = Then.NOTHING
    sticks: bool = False
    """It never ends, as far as the host is told."""


@dataclass(slots=True)
class Standing:
    """Where a DFU interface stands; all that is lost in a reset."""

    state: State
    status: Status = Status.OK
    timer_at: float | None = None
    pending: tuple[int, bytes] | None = None
    """Downloaded, and not yet carried out."""
    manifesting: bool = False
    verdict: Status = Status.OK
    """Of the work under way."""
    then: Then = Then.NOTHING
    withheld: bool = False
    """The GETSTATUS that began the work was not answered yet."""
    stuck: bool = False
    pointer: int = dfuse.DEFAULT_POINTER
    spoilt: bool = False
    """A misaligned write was made: no other will succeed."""
    received: int = 0
    """Bytes of a stream."""
    held_back: bytes = b""
    """The beginning of a stream, which is written last."""


class Tongue(Protocol):
    """What downloads and uploads mean."""

    table: Table
    functional: FunctionalDescriptor
    leaves: bool
    """The end of a download makes the device leave; else it puts what came in force."""

    def refuses(self, standing: Standing, block: int, data: bytes) -> Status | None:
        """Return why a download is stalled at once; None if it is taken."""

    def begin(self, standing: Standing, block: int, data: bytes) -> Job:
        """Carry a download out."""

    def finish(self, standing: Standing) -> Job:
        """Put in force what was received."""

    def upload(self, standing: Standing, block: int, length: int) -> bytes | Status | None:
        """Return contents, or why there are none; None: reading them crashed the loader."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """No answer yet."""

    until: float


class Engine:
    """A DFU interface.

    Attributes:
        at: where it stands.

    Args:
        tongue: what it speaks.
        traits: how it misbehaves.
        worker: does the work on the flash.
        interface: its number.
        state: where it begins.
    """

    def __init__(
        self,
        tongue: Tongue,
        traits: Traits,
        worker: Worker,
        *,
        interface: int = 0,
        state: State = State.DFU_IDLE,
    ) -> None:
        self.at = Standing(state)
        self._interface = interface
        self._tongue = tongue
        self._traits = traits
        self._worker = worker

    @property
    def wake_at(self) -> float | None:
        """When `tick` changes something."""
        if self.at.timer_at is None or self.at.timer_at == _FOREVER or self.at.withheld:
            return None
        return max(self.at.timer_at, self._worker.busy_until)

    def tick(self, now: float) -> None:
        """Let the time pass."""
        at = self.wake_at
        if at is not None and at <= now + _TICK_S:
            self.at.timer_at = None
            self._happens(Input.TIMER)
            if self.at.state is State.MANIFEST_WAIT_RESET and self.at.verdict is not Status.OK:
                self._fail(self.at.verdict)

    def bus_reset(self) -> None:
        """Begin anew; work on the flash goes on."""
        state = move(self._tongue.table, self.at.state, Input.BUS_RESET, self._holds())
        then = self.at.then if self.at.then is Then.LOAD_OPTIONS else Then.NOTHING
        self.at = Standing(state.to, state.status or Status.OK, then=then)

    def detach(self, timeout_ms: int, now: float) -> None:
        """Start the timer that a DETACH starts."""
        self.at.timer_at = now + min(timeout_ms, self._tongue.functional.detach_timeout_ms) / 1000

    def stick(self) -> None:
        """Be busy for ever."""
        self.at.timer_at = _FOREVER

    def request(self, setup: Setup, data: bytes, now: float) -> Reply | Withheld:
        """Take a class request."""
        request = setup.dfu_request
        if request is None or setup.index & 0xFF != self._interface:
            return Trouble.STALL
        out_of_turn = self._out_of_turn(request, now)
        if out_of_turn is not None:
            return out_of_turn
        happens = _INPUTS.get(request) or (Input.DNLOAD if setup.length else Input.DNLOAD_EMPTY)
        content = self._content(happens, setup, data) if self._would_move(happens) else b""
        if isinstance(content, Trouble):
            return content
        match self._happens(happens, full=len(content) == setup.length):
            case Response.STALL:
                return Trouble.STALL
            case Response.SILENCE:
                return Trouble.TIMED_OUT
            case Response.DONE:
                pass
        return content if request is Request.UPLOAD else self._done(request, setup, data, now)

    # --- inside --------------------------------------------------------------------------------------------

    def _content(self, happens: Input, setup: Setup, data: bytes) -> bytes | Trouble:
        """Return what an upload gives, nothing for other requests, or why a request is refused."""
        content: bytes | Status | None = b""
        if happens is Input.DNLOAD:
            content = self._tongue.refuses(self.at, setup.value, data) or b""
        elif happens is Input.UPLOAD:
            content = self._tongue.upload(self.at, setup.value, setup.length)
        if happens in {Input.DNLOAD, Input.UPLOAD} and setup.length > self._tongue.functional.transfer_size:
            content = Status.ERR_STALLEDPKT
        if content is None:
            self.at.then = Then.RESET
            return Trouble.GONE
        return self._fail(content) if isinstance(content, Status) else content

    def _done(self, request: Request, setup: Setup, data: bytes, now: float) -> Reply | Withheld:
        at = self.at
        match request:
            case Request.DNLOAD if setup.length:
                at.pending = (setup.value, data)
            case Request.DNLOAD:
                at.manifesting = True
                return self._leaves_early()
            case Request.ABORT | Request.CLRSTATUS:
                # Either ends a stream: the next one begins with its first block.
                self.at = Standing(at.state, pointer=at.pointer, spoilt=at.spoilt)
            case Request.GETSTATUS:
                return self._status(now)
            case Request.GETSTATE:
                return bytes((at.state,))
            case Request.DETACH:
                self.detach(setup.value, now)
            case Request.UPLOAD:
                pass
        return b""

    def _status(self, now: float) -> Reply | Withheld:
        at = self.at
        poll_ms = 0
        if at.state is State.DNBUSY and at.pending is not None:
            (block, data), at.pending = at.pending, None
            poll_ms = self._begin(self._tongue.begin(at, block, data), now)
            if self._traits.works_in_transfer:
                at.withheld = True
                return self._withheld_report(now)
        elif at.state is State.MANIFEST:
            if at.manifesting:
                at.manifesting = False
                poll_ms = self._begin(self._tongue.finish(at), now)
            if at.then is Then.LEAVE and self._traits.leaving is Leaving.STALLS:
                return Trouble.STALL
        elif at.state in {State.DNLOAD_IDLE, State.DFU_IDLE} and at.verdict is not Status.OK:
            at.state, at.status, at.verdict = State.ERROR, at.verdict, Status.OK
        elif at.state is State.DNLOAD_IDLE and self._traits.reports_program_errors and self._worker.refused:
            at.state, at.status = State.ERROR, Status.ERR_PROG
        return self._report(poll_ms)

    def _begin(self, job: Job, now: float) -> int:
        done_at = self._worker.begin(job.operations, now)
        poll_ms = _milliseconds(done_at - now) if job.poll_ms is None else job.poll_ms
        self.at.verdict, self.at.then, self.at.stuck = job.status, job.then, job.sticks
        self.at.timer_at = _FOREVER if job.sticks else now + poll_ms / 1000
        return poll_ms

    def _out_of_turn(self, request: Request, now: float) -> Reply | Withheld | None:
        """Answer what devices take that the table does not know; None: as the table says."""
        if request is Request.CLRSTATUS and self._cleared_out_of_turn():
            return b""
        if request is Request.GETSTATUS and self.at.state in _BUSY:
            return self._while_busy(now)
        return None

    def _while_busy(self, now: float) -> Reply | Withheld | None:
        """Answer a GETSTATUS while the device is busy."""
        if self.at.withheld:
            return self._withheld_report(now)
        timer_at = self.wake_at
        left_ms = _milliseconds(timer_at - now) if timer_at is not None else _STUCK_POLL_MS
        match self._traits.while_busy:
            case WhileBusy.REFUSES if not self.at.stuck and self.at.timer_at != _FOREVER:
                return None
            case WhileBusy.REPORTS | WhileBusy.REFUSES:
                return self._report(max(left_ms, 1))
            case WhileBusy.STALLS:
                return Trouble.STALL
            case WhileBusy.WITHHOLDS:
                return Withheld(timer_at) if timer_at is not None else self._report(max(left_ms, 1))

    def _withheld_report(self, now: float) -> Reply | Withheld:
        """Answer the GETSTATUS that began the work, when it is done."""
        until = self._worker.busy_until
        if now + _TICK_S < until:
            return Withheld(until)
        self.at.withheld = False
        self.at.timer_at = _FOREVER if self.at.stuck else now
        return self._report(0)

    def _cleared_out_of_turn(self) -> bool:
        """Take a CLRSTATUS outside dfuERROR as ST's device library does: it is an error itself."""
        at = self.at
        lenient = self._traits.clears_anywhere and not at.state.in_application and at.state not in _BUSY
        if at.state is State.ERROR or not (at.stuck or lenient):
            return False
        self.at = Standing(State.ERROR, Status.ERR_UNKNOWN, pointer=at.pointer)
        return True

    def _leaves_early(self) -> Reply:
        if not self._tongue.leaves:
            return b""
        match self._traits.leaving:
            case Leaving.VANISHES:
                self.at.then = Then.LEAVE
            case Leaving.UNASKED:
                self.at.then = Then.LEAVE
                return Trouble.GONE
            case Leaving.REPORTS | Leaving.STALLS:
                pass
        return b""

    def _report(self, poll_ms: int) -> bytes:
        return StatusReport(
            status=self.at.status, state=self.at.state, poll_timeout_ms=min(poll_ms, (1 << 24) - 1)
        ).encode()

    def _fail(self, status: Status) -> Trouble:
        self.at = replace(
            self.at, state=State.ERROR, status=status, pending=None, verdict=Status.OK, timer_at=None
        )
        return Trouble.STALL

    def _would_move(self, happens: Input) -> bool:
        return move(self._tongue.table, self.at.state, happens, self._holds()).response is Response.DONE

    def _happens(self, happens: Input, *, full: bool = False) -> Response:
        step = move(self._tongue.table, self.at.state, happens, self._holds(full=full))
        self.at.state = step.to
        if step.status is not None:
            self.at.status = step.status
        return step.response

    def _holds(self, *, full: bool = False) -> set[Condition]:
        attributes = self._tongue.functional.attributes
        facts = {
            Condition.CAN_DOWNLOAD: Attribute.CAN_DOWNLOAD in attributes,
            Condition.CAN_UPLOAD: Attribute.CAN_UPLOAD in attributes,
            Condition.TOLERANT: Attribute.MANIFESTATION_TOLERANT in attributes,
            Condition.BLOCK_PENDING: self.at.pending is not None,
            Condition.MANIFEST_PENDING: self.at.manifesting,
            Condition.ALL_RECEIVED: True,
            Condition.FULL_BLOCK: full,
            # A device in plain DFU mode starts its program anew, which finds out by itself.
            Condition.FIRMWARE_VALID: True,
        }
        return {condition for condition, holds in facts.items() if holds}


def _milliseconds(duration_s: float) -> int:
    """Return a duration as a poll time-out that is not too short."""
    return ceil((duration_s - _TICK_S) * 1000)
