"""What a DFU device does with each request in each state: one table, for simulators and hosts alike.

Theory of operation.  A device is always in one ``State``.  An ``Input`` comes from the bus or from a timer inside the
device.  For each pair the table has a row of ``Move``s with conditions about the device; the first whose condition
holds is made, and the last one always holds: the table is total and no device can get lost in it.  A move tells
the state after it, whether the request is answered, stalled or met with silence, and which status is then
reported.

``DFU`` is the standard.  ``DFUSE`` differs where ST's ROM does: it may be told to leave from dfuIDLE, and it never
becomes an application by a bus reset.

Two liberties are left to devices by the standard and are not in the table: to report a busy state again where it
says stall (``DNBUSY``, ``MANIFEST``), and to refuse ABORT in the two SYNC states.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, A.1 and A.2; ST AN3156, 3 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.requests import State, Status

if TYPE_CHECKING:
    from collections.abc import Container, Mapping


@unique
class Input(Enum):
    """What may happen to a device."""

    DETACH = auto()
    DNLOAD = auto()
    """With data."""
    DNLOAD_EMPTY = auto()
    """Without data: the end of a download."""
    UPLOAD = auto()
    GETSTATUS = auto()
    CLRSTATUS = auto()
    GETSTATE = auto()
    ABORT = auto()
    TIMER = auto()
    """The time that the state lasts is over: detach time-out, or the announced poll time-out."""
    BUS_RESET = auto()
    """The host reset the port; power coming back is the same."""


@unique
class Condition(Enum):
    """What a move may depend on."""

    ALWAYS = auto()
    CAN_DOWNLOAD = auto()
    """bitCanDnload is set."""
    CAN_UPLOAD = auto()
    """bitCanUpload is set."""
    TOLERANT = auto()
    """bitManifestationTolerant is set."""
    BLOCK_PENDING = auto()
    """The block that came last is still to be written, or the command to be executed."""
    ALL_RECEIVED = auto()
    """The device agrees that there is no more to come."""
    MANIFEST_PENDING = auto()
    """What was received is still to be put in force."""
    FULL_BLOCK = auto()
    """The upload filled all the bytes that were asked for."""
    FIRMWARE_VALID = auto()
    """There is an application to start."""


@unique
class Response(Enum):
    """What the host sees."""

    DONE = auto()
    """The request is carried out; for a timer or a reset, nothing is to be seen."""
    STALL = auto()
    SILENCE = auto()


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a device."""

    to: State
    response: Response = Response.DONE
    status: Status | None = None
    """Reported from then on; None: as before."""
    when: Condition = Condition.ALWAYS


Row = tuple[Move, ...]
Table = MappingProxyType[tuple[State, Input], Row]

_REQUESTS: Final = (
    Input.DETACH,
    Input.DNLOAD,
    Input.DNLOAD_EMPTY,
    Input.UPLOAD,
    Input.GETSTATUS,
    Input.CLRSTATUS,
    Input.GETSTATE,
    Input.ABORT,
)

_REFUSED: Final = Move(State.ERROR, Response.STALL, Status.ERR_STALLEDPKT)

_RESET: Final = (
    Move(State.APP_IDLE, status=Status.OK, when=Condition.FIRMWARE_VALID),
    Move(State.ERROR, status=Status.ERR_FIRMWARE),
)


def _state(
    state: State, moves: Mapping[Input, Row], *, otherwise: Move = _REFUSED, reset: Row = _RESET
) -> dict[tuple[State, Input], Row]:
    """Complete the row of a state: other requests end as `otherwise`, a timer that never runs changes nothing."""
    row: dict[Input, Row] = dict.fromkeys(_REQUESTS, (otherwise,))
    row |= {Input.TIMER: (Move(state),), Input.BUS_RESET: reset}
    row |= moves
    return {(state, each): row[each] for each in Input}


def _asked(state: State) -> dict[Input, Row]:
    """GETSTATUS and GETSTATE where they change nothing."""
    return {Input.GETSTATUS: (Move(state),), Input.GETSTATE: (Move(state),)}


_ABORTED: Final = {Input.ABORT: (Move(State.DFU_IDLE, status=Status.OK),)}

DFU: Final[Table] = MappingProxyType(
    {
        **_state(
            State.APP_IDLE,
            {**_asked(State.APP_IDLE), Input.DETACH: (Move(State.APP_DETACH),)},
            otherwise=Move(State.APP_IDLE, Response.STALL),
            reset=(Move(State.APP_IDLE),),
        ),
        **_state(
            State.APP_DETACH,
            {**_asked(State.APP_DETACH), Input.TIMER: (Move(State.APP_IDLE),)},
            otherwise=Move(State.APP_IDLE, Response.STALL),
            reset=(Move(State.DFU_IDLE, status=Status.OK),),
        ),
        **_state(
            State.DFU_IDLE,
            {
                **_asked(State.DFU_IDLE),
                **_ABORTED,
                Input.DNLOAD: (Move(State.DNLOAD_SYNC, when=Condition.CAN_DOWNLOAD), _REFUSED),
                Input.UPLOAD: (Move(State.UPLOAD_IDLE, when=Condition.CAN_UPLOAD), _REFUSED),
            },
        ),
        **_state(
            State.DNLOAD_SYNC,
            {
                **_asked(State.DNLOAD_SYNC),
                **_ABORTED,
                Input.GETSTATUS: (Move(State.DNBUSY, when=Condition.BLOCK_PENDING), Move(State.DNLOAD_IDLE)),
            },
        ),
        **_state(State.DNBUSY, {Input.TIMER: (Move(State.DNLOAD_SYNC),)}),
        **_state(
            State.DNLOAD_IDLE,
            {
                **_asked(State.DNLOAD_IDLE),
                **_ABORTED,
                Input.DNLOAD: (Move(State.DNLOAD_SYNC),),
                Input.DNLOAD_EMPTY: (
                    Move(State.MANIFEST_SYNC, when=Condition.ALL_RECEIVED),
                    Move(State.ERROR, Response.STALL, Status.ERR_NOTDONE),
                ),
            },
        ),
        **_state(
            State.MANIFEST_SYNC,
            {
                **_asked(State.MANIFEST_SYNC),
                **_ABORTED,
                Input.GETSTATUS: (
                    Move(State.MANIFEST, when=Condition.MANIFEST_PENDING),
                    Move(State.DFU_IDLE, when=Condition.TOLERANT),
                    Move(State.MANIFEST),
                ),
            },
        ),
        **_state(
            State.MANIFEST,
            {
                Input.TIMER: (
                    Move(State.MANIFEST_SYNC, when=Condition.TOLERANT),
                    Move(State.MANIFEST_WAIT_RESET),
                )
            },
        ),
        **_state(
            State.MANIFEST_WAIT_RESET,
            {},
            otherwise=Move(State.MANIFEST_WAIT_RESET, Response.SILENCE),
            reset=(Move(State.APP_IDLE, status=Status.OK),),
        ),
        **_state(
            State.UPLOAD_IDLE,
            {
                **_asked(State.UPLOAD_IDLE),
                **_ABORTED,
                Input.UPLOAD: (
                    Move(State.UPLOAD_IDLE, when=Condition.FULL_BLOCK),
                    Move(State.DFU_IDLE),
                ),
            },
        ),
        **_state(
            State.ERROR,
            {**_asked(State.ERROR), Input.CLRSTATUS: (Move(State.DFU_IDLE, status=Status.OK),)},
        ),
    }
)
"""DFU 1.0 and 1.1."""

_ST_RESET: Final = (Move(State.DFU_IDLE, status=Status.OK),)

DFUSE: Final[Table] = MappingProxyType(
    {
        **DFU,
        **{
            (state, Input.BUS_RESET): _ST_RESET
            for state in State
            if not state.in_application and state is not State.MANIFEST_WAIT_RESET
        },
        # AN3156, 7: the leave command is taken in dfuDNLOAD-IDLE and in dfuIDLE.
        (State.DFU_IDLE, Input.DNLOAD_EMPTY): (
            Move(State.MANIFEST_SYNC, when=Condition.CAN_DOWNLOAD),
            _REFUSED,
        ),
    }
)
"""DfuSe, as in the ROM of STM32."""


def move(table: Table, state: State, happens: Input, holds: Container[Condition]) -> Move:
    """Return the move that a device makes, `holds` being the conditions that are true of it."""
    return next(each for each in table[state, happens] if each.when is Condition.ALWAYS or each.when in holds)


def outcomes(table: Table, state: State, happens: Input) -> frozenset[State]:
    """Return every state in which a device may be afterwards."""
    return frozenset(each.to for each in table[state, happens])
