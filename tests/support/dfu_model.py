"""The smallest DFU device that is right: the table of states with a memory behind it, and faults on the way.

A model to test hosts against.  It is strict where devices may be lenient: who asks while it is busy is stalled, and
then it is in dfuERROR.  It tells what it held each time it was told to start an image.
"""

from __future__ import annotations

from enum import Enum, auto, unique
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu import dfuse
from firmwarden.protocol.dfu.conversation import Control, Pause, ResetPort, SelectAlternate, Trouble
from firmwarden.protocol.dfu.descriptors import Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.memory_map import Access, MemoryMap
from firmwarden.protocol.dfu.requests import Request, Setup, State, Status, StatusReport
from firmwarden.protocol.dfu.states import DFU, DFUSE, Condition, Input, Response, move
from firmwarden.protocol.machine import Milestone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmwarden.protocol.dfu.conversation import Event, Reply
    from firmwarden.protocol.dfu.states import Table

_POLL_MS: Final = 20

_INPUTS: Final = {
    Request.DETACH: Input.DETACH,
    Request.UPLOAD: Input.UPLOAD,
    Request.GETSTATUS: Input.GETSTATUS,
    Request.CLRSTATUS: Input.CLRSTATUS,
    Request.GETSTATE: Input.GETSTATE,
    Request.ABORT: Input.ABORT,
}


@unique
class Fault(Enum):
    """What may happen to one transfer."""

    NONE = auto()
    LOST = auto()
    """It does not reach the device."""
    UNANSWERED = auto()
    """The device does what it was told, and the host does not hear of it."""
    STALLED = auto()
    """The host sees a stall, for no reason."""
    RESTART = auto()
    """The device restarts before it."""
    DECAY = auto()
    """A bit of the memory changes its mind before it."""


class ModelDevice:
    """A device in DFU mode.

    Attributes:
        state: where it stands.
        memory: what it holds: for DfuSe its flash, else what it received.
        started: what it held, each time it was told to start it.
        transfers: how many there were.
    """

    def __init__(
        self,
        functional: FunctionalDescriptor,
        layout: MemoryMap | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.state = State.DFU_IDLE
        self.status = Status.OK
        self.started: list[bytes] = []
        self.transfers = 0
        self._faults = iter(faults)
        self._functional = functional
        self._layout = layout
        self._table: Table = DFU if layout is None else DFUSE
        self._base = layout.regions[0].address if layout else 0
        self.memory = bytearray(b"\xff" * (layout.regions[0].end - self._base) if layout else b"")
        self._pointer = dfuse.DEFAULT_POINTER
        self._pending: tuple[int, bytes] | None = None
        self._manifesting = False
        self._verdict: Status | None = None
        self._to_go_s = 0.0
        self._full = False

    def answer(self, event: Event) -> Reply:
        """Do what a shell would, with this device on the bus."""
        match event:
            case Control():
                return self._transfer(event.setup, event.data)
            case Pause():
                self._to_go_s -= event.duration_s
                if self._to_go_s <= 1e-9:
                    self._happens(Input.TIMER)
            case ResetPort():
                self._happens(Input.BUS_RESET)
            case SelectAlternate() | Milestone():
                pass
        return b""

    def behave(self) -> None:
        """Have no faults any more."""
        self._faults = iter(())

    def restart(self) -> None:
        """Lose power for a moment."""
        self.state, self.status = State.DFU_IDLE, Status.OK
        self._pending, self._manifesting, self._verdict = None, False, None
        self._pointer = dfuse.DEFAULT_POINTER

    def _transfer(self, setup: Setup, data: bytes) -> Reply:
        self.transfers += 1
        fault = next(self._faults, Fault.NONE)
        match fault:
            case Fault.LOST:
                return Trouble.TIMED_OUT
            case Fault.STALLED:
                return Trouble.STALL
            case Fault.RESTART:
                self.restart()
            case Fault.DECAY if self.memory:
                self.memory[self.transfers * 7 % len(self.memory)] ^= 0x10
            case _:
                pass
        reply = self._carry_out(setup, data)
        return Trouble.TIMED_OUT if fault is Fault.UNANSWERED else reply

    def _carry_out(self, setup: Setup, data: bytes) -> Reply:
        request = setup.dfu_request
        assert request is not None
        content = self._content(setup) if request is Request.UPLOAD else b""
        if content is None:
            self.state, self.status = State.ERROR, Status.ERR_TARGET
            return Trouble.STALL
        self._full = len(content) == setup.length
        kind = Input.DNLOAD if setup.length else Input.DNLOAD_EMPTY
        match self._happens(_INPUTS.get(request, kind)):
            case Response.STALL:
                return Trouble.STALL
            case Response.SILENCE:
                return Trouble.TIMED_OUT
            case Response.DONE:
                return self._carried_out(request, setup, data) or content

    def _carried_out(self, request: Request, setup: Setup, data: bytes) -> bytes:
        match request:
            case Request.DNLOAD if setup.length:
                self._pending = (setup.value, data)
            case Request.DNLOAD:
                self._manifesting = True
            case Request.ABORT:
                self._pending, self._manifesting = None, False
            case Request.GETSTATUS:
                return self._report()
            case Request.GETSTATE:
                return bytes((self.state,))
            case Request.UPLOAD | Request.DETACH | Request.CLRSTATUS:
                pass
        return b""

    def _report(self) -> bytes:
        busy = self.state in {State.DNBUSY, State.MANIFEST}
        if self.state is State.DNBUSY:
            self._execute()
        if self.state is State.DNLOAD_IDLE and self._verdict is not None:
            self.state, self.status, self._verdict = State.ERROR, self._verdict, None
        if self.state is State.MANIFEST:
            self.started.append(bytes(self.memory))
            self._manifesting = False
        if busy:
            self._to_go_s = _POLL_MS / 1000
        poll_ms = _POLL_MS if busy else 0
        return StatusReport(status=self.status, state=self.state, poll_timeout_ms=poll_ms).encode()

    def _happens(self, happens: Input) -> Response:
        step = move(self._table, self.state, happens, self._holds())
        self.state = step.to
        if step.status is not None:
            self.status = step.status
        return step.response

    def _holds(self) -> set[Condition]:
        attributes = self._functional.attributes
        facts = {
            Condition.CAN_DOWNLOAD: Attribute.CAN_DOWNLOAD in attributes,
            Condition.CAN_UPLOAD: Attribute.CAN_UPLOAD in attributes,
            Condition.TOLERANT: Attribute.MANIFESTATION_TOLERANT in attributes,
            Condition.BLOCK_PENDING: self._pending is not None,
            Condition.MANIFEST_PENDING: self._manifesting,
            Condition.ALL_RECEIVED: True,
            Condition.FULL_BLOCK: self._full,
            Condition.FIRMWARE_VALID: False,
        }
        return {condition for condition, holds in facts.items() if holds}

    def _execute(self) -> None:
        assert self._pending is not None
        (block, data), self._pending = self._pending, None
        if self._layout is None:
            if block == 0:
                self.memory.clear()
            self.memory += data
        elif block == dfuse.COMMAND_BLOCK:
            self._command(dfuse.decode(data), self._layout)
        else:
            address = dfuse.block_address(self._pointer, block, self._functional.transfer_size)
            if not self._layout.allows(address, address + len(data), Access.WRITE):
                self._verdict = Status.ERR_TARGET
                return
            for offset, byte in enumerate(data, start=address - self._base):
                self.memory[offset] &= byte  # flash: only an erase sets bits

    def _command(self, command: dfuse.Command, layout: MemoryMap) -> None:
        match command:
            case dfuse.SetAddress(address):
                if layout.allows(address, address + 1, Access.READ):
                    self._pointer = address
                else:
                    self._verdict = Status.ERR_TARGET
            case dfuse.ErasePage(address):
                for sector in layout.sectors(address, address + 1):
                    start = sector.address - self._base
                    self.memory[start : start + sector.size] = b"\xff" * sector.size
            case dfuse.MassErase():
                self.memory[:] = b"\xff" * len(self.memory)
            case dfuse.ReadUnprotect():
                raise AssertionError("no host of ours sends that")

    def _content(self, setup: Setup) -> bytes | None:
        if self._layout is None:
            start = setup.value * self._functional.transfer_size
            return bytes(self.memory[start : start + setup.length])
        if setup.value == dfuse.COMMAND_BLOCK:
            return bytes(dfuse.Code)
        start = dfuse.block_address(self._pointer, setup.value, self._functional.transfer_size) - self._base
        if start + setup.length > len(self.memory):
            return None
        return bytes(self.memory[start : start + setup.length])
