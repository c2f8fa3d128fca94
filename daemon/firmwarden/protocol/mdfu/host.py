"""The MDFU host: who says what when, from the first question to the command that starts the new image.

Theory of operation.  A conversation is a walk over ``Phase``.  In some phases a command is under way, and
``exchange`` deals with the line until there is an answer; the others are milestones, where the driver decides
or journals and comes back when it has.  What may follow what is a table per conversation:

* ``UPDATE``, the whole of it, for ``MdfuHost``;
* ``CONFIRMATION``, for ``MdfuConfirm``: what became of an END_TRANSFER that nobody answered;
* ``DISCOVERY``, for ``MdfuInfo``: the first question alone, which changes nothing on any client.

Two rules are beyond discussion.  END_TRANSFER makes every client start whatever it holds, so the only way
into ENDING leads through VALID: the client's own word that the image is complete.  And an abort is final: no
table has a way on from one, since a host that erases and writes again and again wears the flash out
unnoticed.

Source: MDFU Protocol Specification 1.0.0 (DS50003743), 3.2 and 3.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto, unique
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from firmwarden.errors import AttemptFailed, BadImage
from firmwarden.model import Cause, CauseCode, LinkStats
from firmwarden.protocol.machine import Milestone, Quiet, Receive, Send
from firmwarden.protocol.mdfu.client_info import (
    DISCOVERY_TIMEOUT_S,
    OUR_VERSION,
    ClientInfo,
    MalformedClientInfo,
)
from firmwarden.protocol.mdfu.exchange import Exchange, GaveUp, Manner
from firmwarden.protocol.mdfu.framing import encode_frame, longest_frame
from firmwarden.protocol.mdfu.packet import (
    HEADER_SIZE,
    SEQUENCE_NUMBERS,
    AbortCause,
    Command,
    CommandPacket,
    ImageState,
    MalformedPacket,
    ResponsePacket,
    Status,
    next_sequence,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN_DELAY_S: Final = 0.01
"""Inter-transaction delay to keep until the client has told its own."""

_END_TRIES: Final = 3
"""A client resets at once after END_TRANSFER: two resends tell whether the answer or the command was lost."""

_LONGEST_CLIENT_INFO: Final = 64
"""Twice the data that protocol 1.3 can fill, for the time it takes on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set."""

    retries: int = 5
    """Resends of one command."""
    update_resends: int = 200
    """Resends of all commands together: a dying link shows as that, not as an update that takes for ever."""
    discovery_s: float = 10.0
    """How long to ask for an answer at first contact; a client that still erases is deaf for so long."""
    accept_newer: bool = False
    """Go on although the client speaks a newer protocol than ours."""
    honour_delay: bool = False
    """Keep the client's inter-transaction delay, which has a meaning on SPI and I2C only."""


@dataclass(frozen=True, slots=True)
class Discovered(Milestone):
    """The client told its parameters; nothing on it has changed.  Time to check the image against them."""

    info: ClientInfo


@dataclass(frozen=True, slots=True)
class ReadyToStart(Milestone):
    """START_TRANSFER is next, and some clients erase then: it must be on disk before."""


@dataclass(frozen=True, slots=True)
class ImageValid(Milestone):
    """The client calls the image valid; END_TRANSFER is next, and must be on disk before."""


@dataclass(frozen=True, slots=True)
class Ended(Milestone):
    """END_TRANSFER was sent.  Unless the client acknowledged it, nobody knows whether it starts the image."""

    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Silent(Milestone):
    """No loader answers: it may have left to start the image."""


@unique
class Phase(Enum):
    """How far a conversation has come."""

    BEGINNING = auto()
    DISCOVERING = auto()
    DISCOVERED = auto()
    READY_TO_START = auto()
    STARTING = auto()
    WRITING = auto()
    CHECKING = auto()
    VALID = auto()
    ENDING = auto()
    ENDED = auto()
    UNACKNOWLEDGED = auto()
    SILENT = auto()


@unique
class Reply(Enum):
    """What moves a conversation on."""

    DONE = auto()
    """The command succeeded."""
    LAST = auto()
    """As DONE, and no byte of the image is left to send."""
    SILENCE = auto()
    """Nothing usable came back."""
    GO_ON = auto()
    """The driver asks for the first event, or comes back from a milestone."""


Transitions = MappingProxyType[tuple[Phase, Reply], Phase]

_BEGIN: Final[Mapping[tuple[Phase, Reply], Phase]] = {
    (Phase.BEGINNING, Reply.GO_ON): Phase.DISCOVERING,
}

_FINISH: Final[Mapping[tuple[Phase, Reply], Phase]] = {
    (Phase.CHECKING, Reply.DONE): Phase.VALID,
    (Phase.VALID, Reply.GO_ON): Phase.ENDING,
    (Phase.ENDING, Reply.DONE): Phase.ENDED,
    (Phase.ENDING, Reply.SILENCE): Phase.UNACKNOWLEDGED,
}

UPDATE: Final[Transitions] = MappingProxyType(
    {
        **_BEGIN,
        (Phase.DISCOVERING, Reply.DONE): Phase.DISCOVERED,
        (Phase.DISCOVERED, Reply.GO_ON): Phase.READY_TO_START,
        (Phase.READY_TO_START, Reply.GO_ON): Phase.STARTING,
        (Phase.STARTING, Reply.DONE): Phase.WRITING,
        (Phase.WRITING, Reply.DONE): Phase.WRITING,
        (Phase.WRITING, Reply.LAST): Phase.CHECKING,
        **_FINISH,
    }
)

CONFIRMATION: Final[Transitions] = MappingProxyType(
    {
        **_BEGIN,
        (Phase.DISCOVERING, Reply.DONE): Phase.CHECKING,
        (Phase.DISCOVERING, Reply.SILENCE): Phase.SILENT,
        **_FINISH,
    }
)

DISCOVERY: Final[Transitions] = MappingProxyType(
    {
        **_BEGIN,
        (Phase.DISCOVERING, Reply.DONE): Phase.DISCOVERED,
    }
)

COMMANDS: Final[Mapping[Phase, Command]] = MappingProxyType(
    {
        Phase.DISCOVERING: Command.GET_CLIENT_INFO,
        Phase.STARTING: Command.START_TRANSFER,
        Phase.WRITING: Command.WRITE_CHUNK,
        Phase.CHECKING: Command.GET_IMAGE_STATE,
        Phase.ENDING: Command.END_TRANSFER,
    }
)
"""The command that is under way in a phase; a phase that is not here is a milestone."""

ABORT_CODES: Final[Mapping[AbortCause, CauseCode]] = MappingProxyType(
    {
        AbortCause.GENERIC_CLIENT_ERROR: CauseCode.CLIENT_ERROR,
        AbortCause.INVALID_FILE: CauseCode.INVALID_FILE,
        AbortCause.INVALID_CLIENT_DEVICE_ID: CauseCode.WRONG_DEVICE_ID,
        AbortCause.ADDRESS_ERROR: CauseCode.ADDRESS_ERROR,
        AbortCause.ERASE_ERROR: CauseCode.ERASE_ERROR,
        AbortCause.WRITE_ERROR: CauseCode.WRITE_ERROR,
        AbortCause.READ_ERROR: CauseCode.READ_ERROR,
        AbortCause.APPLICATION_VERSION_ERROR: CauseCode.VERSION_REFUSED,
    }
)
"""What an attempt ended with when the client aborted."""

_REFUSALS: Final[Mapping[Status, CauseCode]] = MappingProxyType(
    {
        Status.COMMAND_NOT_SUPPORTED: CauseCode.NOT_SUPPORTED,
        Status.NOT_AUTHORIZED: CauseCode.NOT_AUTHORIZED,
    }
)

_MILESTONES: Final[Mapping[Phase, Milestone]] = MappingProxyType(
    {
        Phase.READY_TO_START: ReadyToStart(),
        Phase.VALID: ImageValid(),
        Phase.ENDED: Ended(acknowledged=True),
        Phase.UNACKNOWLEDGED: Ended(acknowledged=False),
        Phase.SILENT: Silent(),
    }
)


def _is_client_info(answer: ResponsePacket) -> bool:
    if answer.status is not Status.SUCCESS:
        return False
    try:
        ClientInfo.decode(answer.payload)
    except MalformedClientInfo:
        return False
    return True


def _tells_image_state(answer: ResponsePacket) -> bool:
    return answer.status is not Status.SUCCESS or bool(answer.payload)


_STOPPABLE: Final = frozenset(
    {Phase.DISCOVERING, Phase.READY_TO_START, Phase.STARTING, Phase.WRITING, Phase.CHECKING}
)

_PLAIN: Final = Manner()
_MANNERS: Final[Mapping[Command, Manner]] = MappingProxyType(
    {
        Command.GET_CLIENT_INFO: Manner(
            answer_size=longest_frame(HEADER_SIZE + _LONGEST_CLIENT_INFO),
            usable=_is_client_info,
            patient=True,
        ),
        Command.START_TRANSFER: _PLAIN,
        Command.WRITE_CHUNK: _PLAIN,
        Command.GET_IMAGE_STATE: Manner(usable=_tells_image_state),
        Command.END_TRANSFER: _PLAIN,
    }
)

_CHUNK_HEADS: Final = tuple(
    CommandPacket(sequence=sequence, command=Command.WRITE_CHUNK).encode()
    for sequence in range(SEQUENCE_NUMBERS)
)


class _Conversation:
    """What the conversations share: a walk over a table, one command at a time.

    Attributes:
        info: what the client told of itself, once it has.
        bytes_accepted: bytes of the image that the client acknowledged; meant to be sampled.
        chunks_accepted: chunks that the client acknowledged.
    """

    transitions: ClassVar[Transitions]

    def __init__(self, settings: Settings, image: bytes | memoryview = b"") -> None:
        self.info: ClientInfo | None = None
        self.bytes_accepted = 0
        self.chunks_accepted = 0
        self._settings = settings
        self._image = image
        self._exchange = Exchange(settings.update_resends)
        self._phase = Phase.BEGINNING
        self._command: Command | None = None
        self._sequence = SEQUENCE_NUMBERS - 1  # 0 is next
        self._stopping = False
        self._chunk_size = 0
        self._timeouts_s = {Command.GET_CLIENT_INFO: DISCOVERY_TIMEOUT_S}
        self._tries = dict.fromkeys(Command, settings.retries + 1)
        self._tries[Command.GET_CLIENT_INFO] = max(1, ceil(settings.discovery_s / DISCOVERY_TIMEOUT_S))
        self._tries[Command.END_TRANSFER] = _END_TRIES
        self._delay_s = _UNKNOWN_DELAY_S if settings.honour_delay else 0.0

    @property
    def phase(self) -> Phase:
        """How far the conversation has come."""
        return self._phase

    @property
    def stats(self) -> LinkStats:
        """The counters of the wire as they stand."""
        return self._exchange.stats

    def request_stop(self) -> None:
        """End the conversation at the next answer, or at once while the client is still being looked for.

        It then ends with an AttemptFailed whose cause is CANCELLED.  Once the client has called the image
        valid it goes on to its end instead: a device that runs beats one that waits in its loader.
        """
        self._stopping = True

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._exchange.receive(data)

    def timed_out(self) -> None:
        """Note that the answer to the last Send is overdue."""
        self._exchange.timed_out()

    def next_event(self) -> Send | Receive | Quiet | Milestone:
        """Move on and say what to do.

        Raises:
            AttemptFailed: the client refused, cannot be reached, or was to be left alone (`request_stop`).
        """
        if self._command is None:
            return self._move(Reply.GO_ON)
        if self._stopping and self._phase is Phase.DISCOVERING:
            raise self._failure(CauseCode.CANCELLED, "stopped before anything was changed")
        try:
            event = self._exchange.next_event()
        except GaveUp as gave_up:
            return self._move(self._silence(gave_up))
        if isinstance(event, ResponsePacket):
            return self._move(self._judge(event))
        return event

    def _move(self, reply: Reply) -> Send | Receive | Quiet | Milestone:
        self._phase = phase = self.transitions[self._phase, reply]
        if self._stopping and phase in _STOPPABLE:
            raise self._failure(CauseCode.CANCELLED, f"stopped before {phase.name}")
        self._command = COMMANDS.get(phase)
        if self._command is not None:
            self._sequence = next_sequence(self._sequence)
            return self._begin(self._command)
        if phase is Phase.DISCOVERED and self.info is not None:
            return Discovered(self.info)
        return _MILESTONES[phase]

    def _begin(self, command: Command) -> Send:
        if command is Command.WRITE_CHUNK:
            end = self.bytes_accepted + self._chunk_size
            packet = _CHUNK_HEADS[self._sequence] + self._image[self.bytes_accepted : end]
        else:
            sync = command is Command.GET_CLIENT_INFO
            packet = CommandPacket(sequence=self._sequence, command=command, sync=sync).encode()
        return self._exchange.begin(
            command,
            self._sequence,
            encode_frame(packet),
            manner=_MANNERS[command],
            timeout_s=self._timeouts_s[command],
            tries=self._tries[command],
            delay_s=self._delay_s,
        )

    def _judge(self, answer: ResponsePacket) -> Reply:
        """Take the answer to the command under way; raises AttemptFailed when it is a refusal."""
        if answer.status is not Status.SUCCESS:
            raise self._refusal(answer)
        if self._command is Command.WRITE_CHUNK:
            self.chunks_accepted += 1
            self.bytes_accepted = min(self.bytes_accepted + self._chunk_size, len(self._image))
            return Reply.LAST if self.bytes_accepted == len(self._image) else Reply.DONE
        if self._command is Command.GET_CLIENT_INFO:
            self._learn(answer.payload)
        elif self._command is Command.GET_IMAGE_STATE and answer.payload[0] != ImageState.VALID:
            detail = f"the client calls the image invalid (state {answer.payload[0]})"
            raise self._failure(CauseCode.IMAGE_INVALID, detail)
        return Reply.DONE

    def _learn(self, payload: bytes) -> None:
        try:
            info = ClientInfo.decode(payload)
        except MalformedClientInfo as exc:
            raise self._failure(CauseCode.CLIENT_INFO_MALFORMED, str(exc)) from exc
        if self._exchange.echoed:
            # The commands that follow read as refusals when they come back.
            detail = "the line sends back what it is sent, so answers cannot be told from commands"
            raise self._failure(CauseCode.RETRIES_EXHAUSTED, detail)
        if info.version.newer_than_ours and not self._settings.accept_newer:
            detail = f"the client speaks MDFU {info.version}, we speak up to {OUR_VERSION}"
            raise self._failure(CauseCode.PROTOCOL_TOO_NEW, detail)
        self.info = info
        self._chunk_size = info.buffer_size
        self._timeouts_s = {command: info.timeout_s(command) for command in Command}
        if self._settings.honour_delay and info.inter_transaction_delay_s is not None:
            self._delay_s = info.inter_transaction_delay_s

    def _silence(self, gave_up: GaveUp) -> Reply:
        """Where the table has an answer to silence it is a reply like any other; else it ends the attempt."""
        # A client resets right after END_TRANSFER, so whatever garbles its last words is as good as silence.
        silent = gave_up.code is CauseCode.NO_ANSWER or self._phase is Phase.ENDING
        if not silent or (self._phase, Reply.SILENCE) not in self.transitions:
            raise self._failure(gave_up.code, gave_up.detail) from gave_up
        return Reply.SILENCE

    def _refusal(self, answer: ResponsePacket) -> AttemptFailed:
        name = "the answer" if self._command is None else self._command.name
        if answer.status is not Status.ABORT_FILE_TRANSFER:
            return self._failure(_REFUSALS[answer.status], f"the client refused {name}: {answer.status.name}")
        match answer.abort_cause:
            case None:
                return self._failure(CauseCode.ABORT_WITHOUT_CAUSE, f"the client aborted at {name}")
            case AbortCause() as cause:
                detail = f"the client aborted at {name}: {cause.name}"
                return self._failure(ABORT_CODES[cause], detail)
            case unknown:
                detail = f"the client aborted at {name} with the unknown cause {unknown}"
                return self._failure(CauseCode.ABORT_UNKNOWN, detail)

    def _failure(self, code: CauseCode, detail: str) -> AttemptFailed:
        return AttemptFailed(
            Cause(
                code=code,
                detail=detail,
                raw=self._exchange.raw,
                offset=self.bytes_accepted if self._image else None,
                chunk=self.chunks_accepted if self._phase is Phase.WRITING else None,
                sequence=self._sequence,
            )
        )


def speaks_by_now(cause: Cause) -> bool:
    """Whether a client that was refused for its protocol's version is one that we can talk to.

    Args:
        cause: of the refusal; what the client had answered tells the version.
    """
    try:
        info = ClientInfo.decode(ResponsePacket.decode(cause.raw).payload)
    except (MalformedPacket, MalformedClientInfo):
        return False
    return not info.version.newer_than_ours


class MdfuHost(_Conversation):
    """Delivers one image: discovery, transfer, check, end.

    Milestones in order: Discovered, ReadyToStart, ImageValid, Ended.

    Args:
        image: what to deliver; it is not copied.
        settings: what an operator may set.

    Raises:
        BadImage: the image is empty.  Delivered all the same, it would erase the device and leave it so.
    """

    transitions = UPDATE

    def __init__(self, image: bytes | memoryview, settings: Settings | None = None) -> None:
        if not image:
            raise BadImage("the image is empty")
        super().__init__(settings or Settings(), image)


class MdfuConfirm(_Conversation):
    """Finds out what became of a client whose END_TRANSFER was not acknowledged.

    A client that answers is still in its loader: if it calls its image valid, it is sent END_TRANSFER again.
    Milestones: Silent, or ImageValid and Ended.
    """

    transitions = CONFIRMATION

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings or Settings())


class MdfuInfo(_Conversation):
    """Asks a client for its parameters and nothing else.  Milestone: Discovered."""

    transitions = DISCOVERY

    def __init__(self, settings: Settings | None = None) -> None:
        # To be told what a client speaks is the point, however new it is.
        super().__init__(replace(settings or Settings(), accept_newer=True))
