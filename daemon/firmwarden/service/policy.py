"""What follows when an attempt ends without success.  Pure, and the only place that decides it.

Drivers say what was observed (a ``Cause``); the planner says when a job may run; here, one table says what each
cause means: tried again because it was only transport, or final because the device itself gave a verdict.
A device's own verdict is never retried by itself (invariant 3): repeating an erase that failed only wears the
flash out.  Tests walk every ``CauseCode`` and every member of every protocol's enums through ``decide``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final

from firmwarden.model import Cause, CauseCode, LatchScope, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

SEQUENCE_AFTER_REBOOT: Final = 1
"""A client that reset in the middle of a transfer expects sequence number 1 next and may take a stray chunk with
that number for the first of a file (MDFU clients of the 8- and 32-bit families power up so)."""


@unique
class Disposition(Enum):
    """What a cause means."""

    RETRY = "transport only: tried again within the budgets"
    AGAIN = "the device was seen, and not what it should run: tried again within the budgets"
    SUSPECT = "the device's verdict on the image, or on the pair: final here, one other unit may try it"
    FINAL_PAIR = "the device's verdict on this image: final for the pair"
    FINAL_DEVICE = "the device's verdict on itself: nothing more is written to it"
    UNKNOWN = "the link died in the last step: the device is asked again"
    RELEASED = "nobody's fault: the job waits or ends without a verdict"


DISPOSITIONS: Final[Mapping[CauseCode, Disposition]] = {
    CauseCode.NO_ANSWER: Disposition.RETRY,
    CauseCode.RETRIES_EXHAUSTED: Disposition.RETRY,
    CauseCode.LINK_LOST: Disposition.RETRY,
    CauseCode.OPEN_FAILED: Disposition.RETRY,
    CauseCode.CLIENT_REBOOTED: Disposition.RETRY,
    CauseCode.OUT_OF_STEP: Disposition.RETRY,
    CauseCode.STUCK_BUSY: Disposition.RETRY,
    CauseCode.ENTRY_FAILED: Disposition.RETRY,
    CauseCode.INTERRUPTED: Disposition.RETRY,
    CauseCode.IMAGE_UNAVAILABLE: Disposition.RETRY,
    CauseCode.DEFECT: Disposition.RETRY,
    CauseCode.INVALID_FILE: Disposition.SUSPECT,
    CauseCode.ADDRESS_ERROR: Disposition.SUSPECT,
    CauseCode.WRONG_TARGET: Disposition.SUSPECT,
    CauseCode.WRONG_DEVICE_ID: Disposition.FINAL_PAIR,
    CauseCode.VERSION_REFUSED: Disposition.FINAL_PAIR,
    CauseCode.ERASE_ERROR: Disposition.FINAL_DEVICE,
    CauseCode.WRITE_ERROR: Disposition.FINAL_DEVICE,
    CauseCode.READ_ERROR: Disposition.FINAL_DEVICE,
    CauseCode.NOT_BLANK: Disposition.FINAL_DEVICE,
    CauseCode.VERIFY_ERROR: Disposition.FINAL_DEVICE,
    CauseCode.READ_PROTECTED: Disposition.FINAL_DEVICE,
    CauseCode.READ_BACK_DIFFERS: Disposition.FINAL_DEVICE,
    CauseCode.CLIENT_ERROR: Disposition.FINAL_PAIR,
    CauseCode.FIRMWARE_CORRUPT: Disposition.FINAL_PAIR,
    CauseCode.VENDOR_ERROR: Disposition.FINAL_PAIR,
    CauseCode.ABORT_WITHOUT_CAUSE: Disposition.FINAL_PAIR,
    CauseCode.ABORT_UNKNOWN: Disposition.FINAL_PAIR,
    CauseCode.NOT_AUTHORIZED: Disposition.FINAL_PAIR,
    CauseCode.NOT_SUPPORTED: Disposition.FINAL_PAIR,
    CauseCode.IMAGE_INVALID: Disposition.FINAL_PAIR,
    CauseCode.CLIENT_INFO_MALFORMED: Disposition.FINAL_PAIR,
    CauseCode.PROTOCOL_TOO_NEW: Disposition.FINAL_DEVICE,
    CauseCode.IMAGE_UNFIT: Disposition.FINAL_PAIR,
    CauseCode.VERSION_MISMATCH: Disposition.FINAL_PAIR,
    CauseCode.UNHEALTHY: Disposition.FINAL_PAIR,
    CauseCode.RECALLED: Disposition.RELEASED,
    CauseCode.END_UNANSWERED: Disposition.UNKNOWN,
    CauseCode.NOT_STARTED: Disposition.AGAIN,
    CauseCode.TRANSPORT_EXHAUSTED: Disposition.RELEASED,
    CauseCode.PORT_HELD: Disposition.RELEASED,
    CauseCode.STATE_UNWRITABLE: Disposition.RELEASED,
    CauseCode.CANCELLED: Disposition.RELEASED,
    CauseCode.WITHDRAWN: Disposition.RELEASED,
    CauseCode.STOPPING: Disposition.RELEASED,
}
"""What each cause means; every ``CauseCode`` is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What transport trouble may cost, from the configuration of the class."""

    attempts: int = 5
    back_off_s: float = 2.0
    back_off_longest_s: float = 900.0
    jitter: float = 0.2
    """Share of the back-off by which it is moved either way, so that a rack does not retry in step."""
    presence_s: float = 86_400.0
    again_after_s: float = 86_400.0
    erases_a_day: int = 10
    erases_a_life: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known when an attempt ends."""

    attempts: int
    """Attempts at this job so far, this one included."""
    present_s: float
    """How long the job was tried: its attempts and the pauses between them while the device was here."""
    stray_verdicts: int = 0
    """Earlier attempts of this job that ended as ``may_be_stray`` says."""
    other_suspects: int = 0
    """Other units on which this image has a latch of a suspect cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Queue the job again."""

    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """End the job as failed."""

    code: CauseCode
    """Of the job: the attempt's own, or ``transport-exhausted``."""
    latches: tuple[LatchScope, ...] = ()


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Keep the outcome unknown and ask the device."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the job back as it was: no verdict, no attempt counted against it."""


Decision = Retry | Fail | AskAgain | Release


def may_be_stray(cause: Cause) -> bool:
    """Whether an "invalid file" may come from a client that rebooted in mid-transfer rather than from the file.

    Such a client takes the chunk that happens to carry sequence number 1 for the first of a file and refuses it.
    """
    return (
        cause.code is CauseCode.INVALID_FILE
        and cause.sequence == SEQUENCE_AFTER_REBOOT
        and cause.chunk is not None
        and cause.chunk > 0
    )


def back_off_s(attempts: int, budgets: Budgets, dice: float) -> float:
    """Seconds to wait after ``attempts`` failed attempts; ``dice`` is uniform in [0, 1)."""
    doublings = min(max(attempts - 1, 0), 62)  # 2**62 s is beyond any ceiling and still fits a float exactly
    base = min(budgets.back_off_s * 2.0**doublings, budgets.back_off_longest_s)
    return base * (1.0 + budgets.jitter * (2.0 * dice - 1.0))


def decide(cause: Cause, *, phase: Phase, history: History, budgets: Budgets, dice: float) -> Decision:
    """Say what follows an attempt that ended with ``cause`` while ``phase`` stood on disk.

    Args:
        cause: what the driver observed.
        phase: the attempt's phase on disk; in ``ending`` a transport fault cannot tell success from failure.
        history: of the job and the image.
        budgets: of the class.
        dice: uniform in [0, 1), for the jitter.
    """
    match DISPOSITIONS[cause.code]:
        case Disposition.RETRY | Disposition.RELEASED if phase is Phase.ENDING:
            return AskAgain()
        case Disposition.RETRY | Disposition.AGAIN:
            return _retry(history, budgets, dice)
        case Disposition.SUSPECT if may_be_stray(cause) and history.stray_verdicts == 0:
            # One fresh attempt, whatever the budgets say: with none left, the verdict would be lost instead.
            return Retry(delay_s=back_off_s(history.attempts, budgets, dice))
        case Disposition.SUSPECT if history.other_suspects > 0:
            return Fail(code=cause.code, latches=(LatchScope.PAIR, LatchScope.IMAGE))
        case Disposition.SUSPECT | Disposition.FINAL_PAIR:
            return Fail(code=cause.code, latches=(LatchScope.PAIR,))
        case Disposition.FINAL_DEVICE:
            return Fail(code=cause.code, latches=(LatchScope.DEVICE,))
        case Disposition.UNKNOWN:
            return AskAgain()
        case Disposition.RELEASED:
            return Release()


def _retry(history: History, budgets: Budgets, dice: float) -> Decision:
    if history.attempts >= budgets.attempts or history.present_s >= budgets.presence_s:
        return Fail(code=CauseCode.TRANSPORT_EXHAUSTED)
    return Retry(delay_s=back_off_s(history.attempts, budgets, dice))


MEANINGS: Final[Mapping[CauseCode, str]] = {
    CauseCode.NO_ANSWER: "no loader answered on the port",
    CauseCode.RETRIES_EXHAUSTED: "too many commands had to be sent again: the line is bad",
    CauseCode.LINK_LOST: "the port or the connection went away in the middle",
    CauseCode.OPEN_FAILED: "the port could not be opened or the connection was refused",
    CauseCode.CLIENT_REBOOTED: "the device restarted in the middle of the transfer",
    CauseCode.OUT_OF_STEP: "the device answered what its protocol does not have at that point",
    CauseCode.STUCK_BUSY: "the device stayed busy for longer than anything may take",
    CauseCode.ENTRY_FAILED: "the device could not be brought into its loader",
    CauseCode.INTERRUPTED: "Firmwarden itself was stopped in the middle",
    CauseCode.TRANSPORT_EXHAUSTED: "only transport trouble, but the budget of attempts or time is used up",
    CauseCode.CLIENT_ERROR: "the device reported an error of its own without saying which",
    CauseCode.INVALID_FILE: "the device calls the file invalid (some report a wrong device type so too)",
    CauseCode.WRONG_DEVICE_ID: "the device says that the file is for another device",
    CauseCode.ADDRESS_ERROR: "the device says that the file contains an illegal address",
    CauseCode.WRONG_TARGET: "the device says that the file, or an address in it, is not for it",
    CauseCode.ERASE_ERROR: "the device could not erase its flash",
    CauseCode.WRITE_ERROR: "the device could not program its flash",
    CauseCode.READ_ERROR: "the device could not read its flash back",
    CauseCode.NOT_BLANK: "the device erased its flash and found it not blank",
    CauseCode.VERIFY_ERROR: "the device compared what it wrote and found it different",
    CauseCode.READ_PROTECTED: "the device's flash is read-protected: its loader neither reads nor writes it",
    CauseCode.READ_BACK_DIFFERS: "read back twice, the flash does not hold what was written, and no error was reported",
    CauseCode.FIRMWARE_CORRUPT: "the device received everything and cannot start it",
    CauseCode.VENDOR_ERROR: "the device reported an error that only its vendor can explain",
    CauseCode.VERSION_REFUSED: "the device refuses this version of the application",
    CauseCode.ABORT_WITHOUT_CAUSE: "the device aborted without giving a cause",
    CauseCode.ABORT_UNKNOWN: "the device aborted with a cause that the protocol does not define",
    CauseCode.NOT_AUTHORIZED: "the device says that the command is not authorized",
    CauseCode.NOT_SUPPORTED: "the device does not know a command that the update needs",
    CauseCode.IMAGE_INVALID: "the device received everything and calls the image invalid",
    CauseCode.CLIENT_INFO_MALFORMED: "the device describes itself in a way that cannot be read",
    CauseCode.PROTOCOL_TOO_NEW: "the device speaks a newer protocol than this Firmwarden",
    CauseCode.IMAGE_UNFIT: "the image cannot fit this device; nothing was erased",
    CauseCode.VERSION_MISMATCH: "after the update the device tells another version than the release's",
    CauseCode.UNHEALTHY: "after the update the device did not keep well",
    CauseCode.RECALLED: "a person called the release back",
    CauseCode.END_UNANSWERED: "the image is on the device and valid; whether it was started is not known",
    CauseCode.NOT_STARTED: "told to start the image, the device is in its loader, or may run the one from before",
    CauseCode.PORT_HELD: "another process has the port",
    CauseCode.IMAGE_UNAVAILABLE: "the stored image cannot be read or is damaged",
    CauseCode.STATE_UNWRITABLE: "Firmwarden could not write down its next step, so it took none",
    CauseCode.DEFECT: "a defect in Firmwarden itself ended the attempt",
    CauseCode.CANCELLED: "a person cancelled the job",
    CauseCode.WITHDRAWN: "the release is no longer wanted for the device",
    CauseCode.STOPPING: "Firmwarden is stopping",
}
"""What each cause means, for people."""
