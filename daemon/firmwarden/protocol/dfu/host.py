"""The DFU host for the standard's own devices: which mode, into DFU mode, download, manifestation, back again.

Theory of operation.  ``identify`` and ``detach`` are for a device in either personality.  ``DfuHost`` is one visit of
a device in DFU mode.  What it may do depends on what has been done, by its ``Stage``; a step that is begun and does
not come to its end, by failure or because the conversation was closed, has left the stage before it and has not
reached the one behind it.  ``NEEDS`` is the table.

Three steps can start an image.  ``manifest``, whose empty DNLOAD puts the received image in force, needs a download
that was taken to its last byte; ``attach``, which resets the device into it, a manifestation in which the device
reported no error; ``return_untouched`` resets a device to which no byte was downloaded, into the image that was there
before.  A host that was cut off in the last of this is followed by another with ``reset_if_waiting`` (invariant 1).
Nothing else in this module sends an empty DNLOAD, or resets a device in DFU mode.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, 5 to 7; dfu-util 0.11 and fwupd for
what devices make of it.
"""

from __future__ import annotations

from enum import Enum, auto, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.errors import BadImage
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import (
    Conversation,
    Pause,
    Progress,
    ResetPort,
    Trouble,
    Writing,
)
from firmwarden.protocol.dfu.descriptors import DFUSE, Attribute, DfuInterface
from firmwarden.protocol.dfu.quirks import Mode, Quirks
from firmwarden.protocol.dfu.requests import BLOCK_NUMBERS, Request, State, StatusReport
from firmwarden.protocol.dfu.steps import (
    LONGEST_WAIT_S,
    TRANSFER_TIMEOUT_S,
    Unit,
    ask_state,
    expect,
    lost,
    make_idle,
    pause_after,
    poll,
    refused,
    settle,
    status,
)
from firmwarden.protocol.dfu.verdicts import failure, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

_DETACH_TIMEOUT_MS: Final = 1000
"""What hosts ask for, unless the device allows less."""

_PROTOCOL_RUN_TIME: Final = 1
_PROTOCOL_DFU: Final = 2

_BUSY_DOWNLOADING: Final = frozenset({State.DNLOAD_SYNC, State.DNBUSY})

_SILENT_MANIFEST_S: Final = 1.0
"""Some devices need so long before they answer again while they manifest."""

_SILENT_ASKS: Final = 6
"""How often a device is asked again before its silence is believed."""


class OutOfTurn(RuntimeError):
    """A step was begun that the steps before do not allow: a defect in the caller."""


def announced_mode(interface: DfuInterface, quirks: Quirks) -> Mode | None:
    """Tell a device's personality from its descriptors; None when they do not tell."""
    if quirks.mode is not None:
        return quirks.mode
    protocols = {alternate.protocol for alternate in interface.alternates}
    if _PROTOCOL_DFU in protocols:
        return Mode.DFU
    if _PROTOCOL_RUN_TIME in protocols:
        return Mode.RUN_TIME
    # DFU 1.0 has 0 in both modes.
    if interface.alone or (interface.functional and interface.functional.version == DFUSE):
        return Mode.DFU
    return None


def identify(unit: Unit, announced: Mode | None) -> Conversation[Mode]:
    """Ask a device for its personality: its state decides, where it tells one.

    Raises:
        AttemptFailed: it does not answer, and that cannot be an application's way to say so.
    """
    state = yield from ask_state(unit)
    if isinstance(state, State):
        return Mode.RUN_TIME if state.in_application else Mode.DFU
    if state is Trouble.STALL and announced is not Mode.DFU:
        return Mode.RUN_TIME  # not all applications know GETSTATE
    if state is Trouble.STALL:
        return Mode.DFU  # busy with what an earlier host began
    raise lost(state, "GETSTATE")


def detach(unit: Unit) -> Conversation[None]:
    """Send a device from its application into DFU mode; it is then looked for on its port.

    Whether it goes is seen by its coming back and by nothing else: many restart instead of answering.  A device
    that turns out to be in DFU mode is left alone.
    """
    report = yield from poll(unit)
    state = report.state if isinstance(report, StatusReport) else State.APP_IDLE
    if not state.in_application:
        return
    if state is State.APP_IDLE:
        timeout_ms = min(_DETACH_TIMEOUT_MS, unit.functional.detach_timeout_ms)
        yield unit.ask(Request.DETACH, value=timeout_ms)
    if Attribute.WILL_DETACH not in unit.functional.attributes:
        yield ResetPort()


def reset_if_waiting(unit: Unit, *, told: bool) -> Conversation[bool]:
    """Give a device the reset that it waits for after its manifestation, and tell whether it did.

    Such a device answers nothing any more, by the standard; some still tell their state.  But one that is silent may
    also be at work, or have been missed: so silence counts when it lasts for as long as anything may take, and only for
    a device that is known to have the whole image.

    Args:
        unit: the device.
        told: an earlier host told it that this is all, and was cut off before it could reset it.

    Raises:
        AttemptFailed: its answer is none that DFU has.
    """
    state = yield from ask_state(unit)
    for _ in range(_SILENT_ASKS):
        if state is not Trouble.TIMED_OUT or not told:
            break
        yield Pause(LONGEST_WAIT_S / _SILENT_ASKS)
        state = yield from ask_state(unit)
    if state is State.MANIFEST_WAIT_RESET or (told and state is Trouble.TIMED_OUT):
        yield ResetPort()
        return True
    return False


@unique
class Stage(Enum):
    """How far a visit has come."""

    NOTHING = auto()
    TRANSFERRED = auto()
    """The device took every byte of an image."""
    MANIFESTED = auto()
    """The device was told that this is all, and reported no error."""


@unique
class Step(Enum):
    """What a host may do to a device in DFU mode."""

    DOWNLOAD = auto()
    UPLOAD = auto()
    MANIFEST = auto()
    ATTACH = auto()


NEEDS: Final[Mapping[Step, frozenset[Stage]]] = MappingProxyType(
    {
        Step.DOWNLOAD: frozenset(Stage),
        Step.UPLOAD: frozenset({Stage.NOTHING, Stage.MANIFESTED}),
        Step.MANIFEST: frozenset({Stage.TRANSFERRED}),
        Step.ATTACH: frozenset({Stage.MANIFESTED}),
    }
)
"""The stages in which each step may be begun."""


@unique
class Manifested(Enum):
    """How a manifestation ended, if not with an error."""

    IDLE = "the device put the image in force and is idle"
    WAITS = "the device put the image in force and waits for a reset"
    SILENT = "the device took the image and answers no more"
    UNHEARD = "the device was told that this is all, and was not heard again"


class DfuHost:
    """One visit of a device in DFU mode, which is not DfuSe.

    Attributes:
        stage: how far it has come.
        touched: something was downloaded, or may have been.
    """

    def __init__(self, unit: Unit) -> None:
        self.stage = Stage.NOTHING
        self._unit = unit
        self.touched = False
        self._blocks = 0

    def _begin(self, step: Step) -> None:
        if self.stage not in NEEDS[step]:
            raise OutOfTurn(f"{step.name} in the stage {self.stage.name}")

    def download(self, image: bytes) -> Conversation[None]:
        """Send an image to its last byte.  Milestones: Writing, then Progress after each block.

        Raises:
            BadImage: there is nothing in it.
            AttemptFailed: the device refused it or cannot be reached.
        """
        self._begin(Step.DOWNLOAD)
        self.stage = Stage.NOTHING
        unit = self._unit
        if not image:
            raise BadImage("the image is empty")
        if not unit.can_download:
            raise failure(CauseCode.NOT_SUPPORTED, "the device takes no downloads")
        yield from make_idle(unit)
        yield Writing()
        self.touched = True
        size = unit.functional.block_size
        for block, offset in enumerate(range(0, len(image), size)):
            data = image[offset : offset + size]
            what = f"block {block}"
            reply = yield unit.ask(Request.DNLOAD, value=block % BLOCK_NUMBERS, data=data)
            if isinstance(reply, Trouble):
                yield from refused(unit, what, reply, offset)
            report = yield from status(unit, what)
            yield from settle(
                unit, what, report, busy=_BUSY_DOWNLOADING, goal=State.DNLOAD_IDLE, offset=offset
            )
            yield Progress(offset + len(data), len(image))
        self._blocks = -(-len(image) // size)
        self.stage = Stage.TRANSFERRED

    def manifest(self) -> Conversation[Manifested]:
        """Tell the device that it has the whole image; it may start it.

        Where it was not heard again nobody knows whether it got that, and it is not sent back either.

        Raises:
            OutOfTurn: it has not.
            AttemptFailed: the device found fault with the image.
        """
        self._begin(Step.MANIFEST)
        self.stage = Stage.NOTHING
        unit, what = self._unit, "manifestation"
        reply = yield unit.ask(Request.DNLOAD, value=self._blocks % BLOCK_NUMBERS)
        if isinstance(reply, Trouble):
            yield from refused(unit, what, reply)
        manifested = yield from self._await_manifestation(what)
        if manifested is not Manifested.UNHEARD:
            self.stage = Stage.MANIFESTED
        return manifested

    def _await_manifestation(self, what: str) -> Conversation[Manifested]:
        unit = self._unit
        # A tolerant device has to answer again, and waits for no reset: as long as it is silent it may be at work.
        believed_s = LONGEST_WAIT_S if unit.tolerates_manifestation else _SILENT_MANIFEST_S
        waited_s, silent_s, silent = 0.0, 0.0, Manifested.UNHEARD
        while waited_s <= LONGEST_WAIT_S:
            report = yield from poll(unit)
            if isinstance(report, Trouble):
                if report is Trouble.GONE or silent_s >= believed_s:
                    return silent
                silent_s += _SILENT_MANIFEST_S
                if report is Trouble.TIMED_OUT:
                    silent_s += TRANSFER_TIMEOUT_S
                yield Pause(_SILENT_MANIFEST_S)
                continue
            waited_s, silent_s = waited_s + silent_s, 0.0
            pause_s = pause_after(unit, report)
            match report.state:
                case State.DFU_IDLE:
                    return Manifested.IDLE
                case State.MANIFEST_WAIT_RESET:
                    return Manifested.WAITS
                case State.MANIFEST_SYNC | State.MANIFEST:
                    silent = Manifested.SILENT
                    waited_s += pause_s
                    yield Pause(pause_s)
                case State.ERROR:
                    raise verdict(report, what, dfuse=False)
                case state if state.in_application:
                    return Manifested.SILENT  # it has left already
                case state:
                    detail = f"the device is in {state.name} after {what}"
                    raise failure(CauseCode.OUT_OF_STEP, detail, raw=report.encode())
        raise failure(CauseCode.STUCK_BUSY, f"the device stays busy at {what}")

    def attach(self) -> Conversation[None]:
        """Send the device back into its application, which is the new one.

        Raises:
            OutOfTurn: no image was put in force.
        """
        self._begin(Step.ATTACH)
        self.stage = Stage.NOTHING
        yield from self._to_application()

    def _to_application(self) -> Conversation[None]:
        if self._unit.quirks.detach_leaves:
            yield self._unit.ask(Request.DETACH, value=_DETACH_TIMEOUT_MS)
        else:
            yield ResetPort()

    def return_untouched(self) -> Conversation[None]:
        """Send a device back into its application that was brought here from it, and to which nothing was sent since.

        It starts what ran a moment ago: the reset is a person's who changed his mind, not the end of an update.

        Raises:
            OutOfTurn: something was downloaded in this visit.  Nothing was sent.
            AttemptFailed: the device is not idle.
        """
        if self.touched:
            raise OutOfTurn("return, after a download was begun")
        yield from make_idle(self._unit)
        yield from self._to_application()

    def holds(self, image: bytes) -> Conversation[bool]:
        """Tell whether what the device gives begins with an image; it is read as long as it does.

        A device that gives nothing does not hold it, as far as anybody can tell.  Milestones: Progress.

        Raises:
            AttemptFailed: the device cannot be reached.
        """
        self._begin(Step.UPLOAD)
        unit = self._unit
        yield from make_idle(unit)
        size = unit.functional.block_size
        for block, offset in enumerate(range(0, len(image), size)):
            wanted = image[offset : offset + size]
            reply = yield unit.ask(Request.UPLOAD, value=block % BLOCK_NUMBERS, length=size)
            if reply is Trouble.STALL or expect(reply, "upload")[: len(wanted)] != wanted:
                yield from make_idle(unit)
                return False
            yield Progress(offset + len(wanted), len(image))
        yield from make_idle(unit)
        return True
