"""The file transfer of a simulated client: what each command asks of the flash, and what is answered to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmwarden.protocol.mdfu.framing import checksum
from firmwarden.protocol.mdfu.packet import COMMANDS, HEADER_SIZE, Command, ImageState, Status
from firmwarden.simulate.loader import TransferAborted, make_loader

if TYPE_CHECKING:
    from firmwarden.simulate.flash import Flash, Operation
    from firmwarden.simulate.loader import Inspection
    from firmwarden.simulate.profile import Profile

_CHECKSUM_SIZE: Final = 2


@dataclass(slots=True)
class Work:
    """A command under way: what it does to the flash, what will be answered, what follows."""

    command: Command | int
    status: Status = Status.SUCCESS
    data: bytes = b""
    operations: tuple[Operation, ...] = ()
    chunk: bytes | None = None
    """Part of the update file that is accepted with it."""
    duration_s: float = 0.0
    resets: bool = False
    """The client resets after the answer."""
    answered: bool = True
    begun_at: float | None = None
    """None for work that is not timed."""


class Transfer:
    """Turns commands into work.  It is in RAM: a reset makes a new one."""

    __slots__ = ("_flash", "_info", "_inspection", "_loader", "_profile", "chunk_number")

    def __init__(self, profile: Profile, flash: Flash, inspection: Inspection) -> None:
        self._profile = profile
        self._flash = flash
        self._inspection = inspection
        self._loader = make_loader(profile)
        self._info = profile.info.encode()
        self.chunk_number = 0
        """Of the next WRITE_CHUNK."""

    def plan(self, packet: bytes) -> Work:
        """Find out what a command leads to."""
        command = COMMANDS.get(packet[1], packet[1])
        work = Work(command)
        try:
            match command:
                case Command.GET_CLIENT_INFO:
                    work.data = self._info
                case Command.START_TRANSFER:
                    self.chunk_number = 0
                    work.operations = self._loader.start()
                case Command.WRITE_CHUNK:
                    self.chunk_number += 1
                    chunk = packet[HEADER_SIZE:]
                    # A short block is programmed with what lies behind it: the frame's checksum.
                    short = len(chunk) < self._profile.buffer_size
                    tail = checksum(packet).to_bytes(_CHECKSUM_SIZE, "little") if short else b""
                    work.operations = self._loader.chunk(chunk, tail)
                    work.chunk = chunk
                case Command.GET_IMAGE_STATE:
                    valid = self._inspection.application() is not None
                    work.data = bytes((ImageState.VALID if valid else ImageState.INVALID,))
                    work.duration_s = self._profile.flash.check_s
                    work.resets = self._profile.resets_after_failure and not valid
                case Command.END_TRANSFER:
                    work.resets = True
                case _:
                    work.status = Status.COMMAND_NOT_SUPPORTED
        except TransferAborted as refusal:
            return self.abort(command, refusal.cause)
        for operation in work.operations:
            work.duration_s += self._flash.duration_s(operation)
        return work

    def abort(self, command: Command | int, cause: int | None) -> Work:
        """Return the work of a command that is refused."""
        return Work(
            command,
            status=Status.ABORT_FILE_TRANSFER,
            data=b"" if cause is None else bytes((cause,)),
            resets=self._profile.resets_after_failure,
        )
