"""One MDFU command and the wait for its answer: the part of the protocol that survives a bad line.

Theory of operation.  A client only ever answers, and it remembers the number and the answer of the last
command that it executed.  So whatever got lost or damaged, the cure is the same: send the very same frame
again.  If the command was executed before, the client replays its answer; if not, it executes it now.  Three
rules keep this safe, and most of what looks odd below follows from them:

* Only an answer with the number of the command counts.  Any other is late or a duplicate; it is dropped and
  does not move the deadline.  A host that took it would stay one answer behind for the rest of the update.
* A resend may get two answers, when the first was slow rather than lost.  So the line must fall quiet before
  the next command: clients are deaf while they execute or transmit.
* A client that wants something sent again (RESEND) says which number it wants.  If that is the one that was
  sent, or the one after it, a resend helps.  Any other means that the client has lost the session; most
  likely it rebooted.

``REACTIONS`` and ``DISCOVERY_REACTIONS`` are all the decisions there are.

Source: MDFU Protocol Specification 1.0.0 (DS50003743), 3.3 to 3.8, and what Microchip's clients do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import TYPE_CHECKING, Final, assert_never

from firmwarden.model import CauseCode, LinkStats
from firmwarden.protocol.machine import Quiet, Receive, Send
from firmwarden.protocol.mdfu.framing import (
    Damage,
    DamagedFrame,
    Frame,
    FrameDecoder,
    encode_frame,
    longest_frame,
)
from firmwarden.protocol.mdfu.packet import (
    HEADER_SIZE,
    SEQUENCE_NUMBERS,
    Command,
    MalformedPacket,
    NotExecutedCause,
    ResponsePacket,
    Status,
    next_sequence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

QUIET_S: Final = 0.05
"""Longer than a serial adapter holds bytes back (16 ms) and than a short frame takes at 2400 baud (25 ms)."""

LONGEST_QUIET_S: Final = 1.0
"""A peer that never stops talking must not hold us; what it says is judged by its number anyway."""

_LONGEST_RESPONSE: Final = HEADER_SIZE + 1024
"""Client info is the longest answer: 34 bytes in protocol 1.3, a list that later versions may extend.  Thirty
times as much is generous, and still nothing to worry about for every device at once."""


@unique
class Observation(Enum):
    """What can be seen while an answer is awaited, in words for a person."""

    ANSWER = "answered"
    UNUSABLE = "the answer lacks the data that belongs to it"
    STRAY = "an answer to another command"
    ECHO = "the first question came back"
    NOT_EXECUTED = "the client asked for it again"
    ANSWER_LOST = "executed, but the answer was lost and the repeat arrived damaged"
    ANSWER_GONE = "executed, but the answer was lost and the client cannot repeat it"
    LOST_SYNC = "the client expects another command"
    DAMAGED = "the answer arrived damaged"
    CUT_OFF = "an answer was cut off by the next one"
    TIMED_OUT = "no answer in time"


_NOT_FOR_US: Final = frozenset({Observation.STRAY, Observation.ECHO})


@unique
class Reaction(Enum):
    """What follows from an observation."""

    ACCEPT = auto()
    WAIT = auto()
    """Go on waiting, with the same deadline."""
    DOUBT = auto()
    """As WAIT; but what is doubted again after the next resend is accepted as it is."""
    RESEND = auto()
    GIVE_UP = auto()


REACTIONS: Final[Mapping[Observation, Reaction]] = {
    Observation.ANSWER: Reaction.ACCEPT,
    Observation.UNUSABLE: Reaction.RESEND,
    Observation.STRAY: Reaction.WAIT,
    Observation.ECHO: Reaction.WAIT,
    Observation.NOT_EXECUTED: Reaction.RESEND,
    Observation.ANSWER_LOST: Reaction.RESEND,
    # No success may be assumed: the answer that is gone can have been an abort.
    Observation.ANSWER_GONE: Reaction.RESEND,
    Observation.LOST_SYNC: Reaction.GIVE_UP,
    Observation.DAMAGED: Reaction.RESEND,
    # The frame that has begun may be the answer.
    Observation.CUT_OFF: Reaction.WAIT,
    Observation.TIMED_OUT: Reaction.RESEND,
}

DISCOVERY_REACTIONS: Final[Mapping[Observation, Reaction]] = {
    **REACTIONS,
    # An answer to an earlier host's command that by chance had number 0 may still arrive; and Microchip's
    # 32-bit client cuts its client info short when it replays it after an error.  Asking again cures both.
    Observation.UNUSABLE: Reaction.DOUBT,
    # There is no session yet that could be lost.
    Observation.LOST_SYNC: Reaction.RESEND,
    # An application that prints its log is no reason to hurry: discovery is patient by time.
    Observation.DAMAGED: Reaction.WAIT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the answer to one kind of command is awaited."""

    answer_size: int = longest_frame(HEADER_SIZE + 1)
    """Most bytes on the wire.  An answer without data may carry one: a cause, or some client's stale byte."""
    usable: Callable[[ResponsePacket], bool] | None = None
    """Whether an answer has the data that it must have; None where it needs none."""
    patient: bool = False
    """For discovery: other reactions, and what it sends again is not charged to the update's budget."""


class GaveUp(Exception):
    """No usable answer could be had; what that means is for the conversation to say."""

    def __init__(self, code: CauseCode, detail: str, raw: bytes) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.raw = raw


@unique
class _State(Enum):
    WAITING = auto()
    UNQUIET = auto()
    """The line is to fall quiet, then the frame is sent again."""
    READY = auto()
    """The frame is to be sent again."""
    SETTLING = auto()
    """The answer is here, another one may follow: the line is to fall quiet before the next command."""
    ANSWERED = auto()
    FAILED = auto()


_RECEIVE: Final = Receive()
_QUIET: Final = Quiet(QUIET_S, LONGEST_QUIET_S)

_SUCCESSES: Final = tuple(
    ResponsePacket(sequence=sequence, status=Status.SUCCESS) for sequence in range(SEQUENCE_NUMBERS)
)
_SUCCESS_FRAMES: Final = tuple(encode_frame(success.encode()) for success in _SUCCESSES)


class Exchange:
    """Sends one command after the other and finds the answer to each.

    Args:
        resend_budget: resends that all commands together may use.
    """

    def __init__(self, resend_budget: int) -> None:
        self._decoder = FrameDecoder(_LONGEST_RESPONSE)
        self._resend_budget = resend_budget
        self._state = _State.ANSWERED
        # Of the command under way:
        self._command = Command.GET_CLIENT_INFO
        self._sequence = 0
        self._manner = Manner()
        self._send = Send(b"", 0.0, 0)
        self._plain_success = b""
        self._tries = 0
        self._tries_left = 0
        self._heard = False
        self._doubted: ResponsePacket | None = None
        self._doubted_before = False
        self._raw = b""
        self._response = _SUCCESSES[0]
        self._failure: GaveUp | None = None
        # Of the whole conversation:
        self._echo_at: int | None = None  # the number of resends so far when the first question came back
        self._commands = 0
        self._resends = 0
        self._timeouts = 0
        self._damaged = 0
        self._strays = 0
        self._sent_bytes = 0
        self._received_bytes = 0

    @property
    def raw(self) -> bytes:
        """What was last received as an answer to the command under way, damaged or not."""
        return self._raw

    @property
    def echoed(self) -> bool:
        """Whether the question that is answered now came back too, so that the line must echo all that it is sent."""
        return self._echo_at == self._resends

    @property
    def stats(self) -> LinkStats:
        """The counters as they stand."""
        return LinkStats(
            commands=self._commands,
            resends=self._resends,
            timeouts=self._timeouts,
            damaged=self._damaged,
            strays=self._strays,
            sent_bytes=self._sent_bytes,
            received_bytes=self._received_bytes,
        )

    def begin(
        self,
        command: Command,
        sequence: int,
        frame: bytes,
        *,
        manner: Manner,
        timeout_s: float,
        tries: int,
        delay_s: float,
    ) -> Send:
        """Take the next command and return what sends it; every resend is the same, byte for byte."""
        self._command = command
        self._sequence = sequence
        self._manner = manner
        self._send = Send(frame, timeout_s, manner.answer_size, delay_s)
        self._plain_success = _SUCCESS_FRAMES[sequence] if manner.usable is None else b""
        self._tries = self._tries_left = tries
        self._heard = False
        self._doubted = None
        self._doubted_before = False
        self._raw = b""
        self._commands += 1
        return self._transmit()

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._received_bytes += len(data)
        # Nearly all that is ever received: the one frame that lets an update go on, in one piece.  Its start
        # byte ends whatever the decoder holds, so there is no need to ask.
        if data == self._plain_success and self._state is _State.WAITING:
            self._accept(_SUCCESSES[self._sequence])
            return
        for found in self._decoder.feed(data):
            self._observe(found)

    def timed_out(self) -> None:
        """Note that the answer is overdue."""
        if self._state is _State.WAITING:
            self._timeouts += 1
            self._react(Observation.TIMED_OUT)

    def next_event(self) -> Send | Receive | Quiet | ResponsePacket:
        """Return the answer if it is there, else what the shell has to do.

        Raises:
            GaveUp: the tries are spent or the session is lost.
        """
        state = self._state
        if state is _State.ANSWERED:
            return self._response
        if state is _State.WAITING:
            return _RECEIVE
        if state is _State.READY:
            return self._transmit()
        if self._failure is not None:
            raise self._failure
        # UNQUIET or SETTLING.  What the decoder holds is discarded with the rest.
        self._decoder.clear()
        self._state = _State.READY if state is _State.UNQUIET else _State.ANSWERED
        return _QUIET

    def _transmit(self) -> Send:
        self._sent_bytes += len(self._send.data)
        self._state = _State.WAITING
        return self._send

    def _observe(self, found: Frame | DamagedFrame) -> None:
        if isinstance(found, DamagedFrame):
            cut_off = found.damage is Damage.CUT_OFF
            self._note_damage(Observation.CUT_OFF if cut_off else Observation.DAMAGED, found.raw)
            return
        try:
            response = ResponsePacket.decode(found.packet)
        except MalformedPacket:
            self._note_damage(Observation.DAMAGED, found.packet)
            return
        observation = self._classify(response)
        if self._manner.patient and encode_frame(found.packet) == self._send.data:
            # It reads as a success without data, but no answer has the bit that marks the first question.
            observation = Observation.ECHO
            self._echo_at = self._resends
        if observation in _NOT_FOR_US or self._state is not _State.WAITING:
            self._strays += 1
        if self._state is _State.WAITING:
            self._raw = found.packet
            self._response = response
            self._react(observation)

    def _note_damage(self, observation: Observation, raw: bytes) -> None:
        self._damaged += 1
        if self._state is _State.WAITING:
            self._raw = raw
            self._react(observation)

    def _classify(self, response: ResponsePacket) -> Observation:
        if response.resend:  # whatever the status says
            return _read_resend(self._sequence, response)
        if response.sequence != self._sequence:
            return Observation.STRAY
        if response.status is Status.COMMAND_NOT_EXECUTED:
            return Observation.NOT_EXECUTED
        if self._manner.usable is not None and not self._manner.usable(response):
            return Observation.UNUSABLE
        return Observation.ANSWER

    def _react(self, observation: Observation) -> None:
        reactions = DISCOVERY_REACTIONS if self._manner.patient else REACTIONS
        match reactions[observation]:
            case Reaction.ACCEPT:
                self._accept(self._response)
            case Reaction.WAIT:
                pass
            case Reaction.DOUBT:
                self._heard = True
                self._doubted = self._response
            case Reaction.RESEND:
                self._send_again(observation)
            case Reaction.GIVE_UP:
                self._give_up(CauseCode.CLIENT_REBOOTED, observation.value)
            case unreachable:
                assert_never(unreachable)

    def _accept(self, answer: ResponsePacket) -> None:
        self._response = answer
        self._state = _State.ANSWERED if self._tries_left == self._tries else _State.SETTLING

    def _send_again(self, observation: Observation) -> None:
        if self._doubted is not None and self._doubted_before:
            self._accept(self._doubted)
            return
        self._doubted_before = self._doubted is not None
        self._doubted = None
        self._heard = self._heard or observation is not Observation.TIMED_OUT
        self._tries_left -= 1
        if self._tries_left == 0:
            code = CauseCode.RETRIES_EXHAUSTED if self._heard else CauseCode.NO_ANSWER
            self._give_up(code, f"sent {self._tries} time(s): {observation.value}")
            return
        if not self._manner.patient:
            if self._resend_budget == 0:
                detail = f"no resends left for this update: {observation.value}"
                self._give_up(CauseCode.RETRIES_EXHAUSTED, detail)
                return
            self._resend_budget -= 1
        self._resends += 1
        self._state = _State.UNQUIET

    def _give_up(self, code: CauseCode, detail: str) -> None:
        self._failure = GaveUp(code, f"{self._command.name} number {self._sequence}: {detail}", self._raw)
        self._state = _State.FAILED


def _read_resend(sent: int, response: ResponsePacket) -> Observation:
    """Tell from the number that a client wants what became of the command that was sent."""
    if response.sequence == sent:
        return Observation.NOT_EXECUTED
    if response.sequence == next_sequence(sent):
        out_of_order = response.not_executed_cause is NotExecutedCause.SEQUENCE_NUMBER_INVALID
        return Observation.ANSWER_GONE if out_of_order else Observation.ANSWER_LOST
    return Observation.LOST_SYNC
