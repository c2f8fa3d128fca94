"""What a simulated client does with the commands that concern its flash.

A loader turns commands into flash operations; it does not carry them out and knows no time.  Its state is lost at
every reset.  Nothing here is stricter than the real clients are: what they let pass, the image check has to catch.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Protocol

from firmwarden.images.formats import ImageFormat
from firmwarden.protocol.mdfu.packet import AbortCause
from firmwarden.simulate.firmware import HEADER_SIZE, Header, find_application
from firmwarden.simulate.flash import Erase, Flash, Operation, Program

if TYPE_CHECKING:
    from firmwarden.simulate.profile import Profile


class TransferAborted(Exception):
    """The client refuses what it was sent; the cause is what it answers with, None for none."""

    def __init__(self, cause: int | None) -> None:
        super().__init__("no cause" if cause is None else f"cause {cause}")
        self.cause = cause


class Loader(Protocol):
    """The file side of a client."""

    def start(self) -> tuple[Operation, ...]:
        """Prepare for a whole file from its first byte."""

    def chunk(self, data: bytes, tail: bytes) -> tuple[Operation, ...]:
        """Take the next chunk.

        Args:
            data: the chunk.
            tail: what lies behind it in the receive buffer.

        Raises:
            TransferAborted: it is refused, and nothing is done.
        """


class RawLoader:
    """Writes whatever comes one after the other, from the start of the application area on."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._started = not profile.refuses_unstarted
        self._offset = 0
        self._head = b""

    def start(self) -> tuple[Operation, ...]:
        """Erase everything and go back to the first byte."""
        self._started = True
        self._offset = 0
        self._head = b""
        return (Erase(),)

    def chunk(self, data: bytes, tail: bytes) -> tuple[Operation, ...]:
        """Write the chunk behind the one before."""
        del tail
        geometry = self._profile.flash
        if not self._started:
            raise self._refusal(AbortCause.GENERIC_CLIENT_ERROR)
        if not data:
            raise self._refusal(AbortCause.INVALID_FILE)
        if self._offset + len(data) > geometry.size:
            raise self._refusal(AbortCause.ADDRESS_ERROR)
        if len(self._head) < HEADER_SIZE:
            self._head += data
            header = Header.decode(self._head)
            foreign = header is not None and header.device_id != self._profile.device_id
            if foreign and AbortCause.INVALID_CLIENT_DEVICE_ID in self._profile.abort_causes:
                raise self._refusal(AbortCause.INVALID_CLIENT_DEVICE_ID)
        address = geometry.start + self._offset
        self._offset += len(data)
        return (Program(address, data),)

    def _refusal(self, cause: AbortCause) -> TransferAborted:
        return TransferAborted(cause if cause in self._profile.abort_causes else None)


_METADATA: Final = struct.Struct("<HB3BIHI")
_FLASH_BLOCK: Final = struct.Struct("<HBI")
_KEYS_SIZE: Final = 8
_TYPE_AT: Final = 2
_METADATA_TYPE: Final = 1
_MINOR_8BIT: Final = 3
_FLASH_TYPE: Final = 2


class BlockLoader:
    """Takes Microchip's block formats, one block a chunk; erases when the metadata block was accepted.

    The length in a block and the length of the chunk are ignored, as the real clients ignore them: always one write
    unit is programmed, with whatever lies in the buffer behind a short block.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._keys = struct.pack("<4H", *profile.unlock_keys)
        self._carries_keys = profile.image_format is ImageFormat.MDFU_8BIT
        self._unlocked = False

    def start(self) -> tuple[Operation, ...]:
        """Lock the flash; nothing is erased before a metadata block."""
        self._unlocked = False
        return ()

    def chunk(self, data: bytes, tail: bytes) -> tuple[Operation, ...]:
        """Take one block."""
        block = (data + tail).ljust(self._profile.buffer_size, b"\0")
        match block[_TYPE_AT] if data else None:
            case int(kind) if kind == _METADATA_TYPE:
                self._check_metadata(block)
                self._unlocked = True
                return (Erase(),)
            case int(kind) if kind == _FLASH_TYPE and self._unlocked:
                return (self._flash_block(block),)
            case _:
                raise TransferAborted(AbortCause.INVALID_FILE)

    def _check_metadata(self, block: bytes) -> None:
        geometry = self._profile.flash
        _, _, _, minor, major, device_id, write_size, start = _METADATA.unpack_from(block)
        if self._carries_keys:
            # Of the format's minor version this client wants at least its own, the 32-bit one at most its own.
            version_fits = major == 0 and minor >= _MINOR_8BIT
            keys_fit = block[_METADATA.size :][:_KEYS_SIZE] == self._keys
        else:
            version_fits = (major, minor) == (1, 0)
            keys_fit = True
        place = (device_id, write_size, start)
        mine = (self._profile.device_id, geometry.write_size, geometry.start)
        if not version_fits or not keys_fit or place != mine:
            raise TransferAborted(AbortCause.INVALID_FILE)

    def _flash_block(self, block: bytes) -> Program:
        geometry = self._profile.flash
        _, _, address = _FLASH_BLOCK.unpack_from(block)
        aligned = (address - geometry.start) % geometry.write_size == 0
        if not aligned or not geometry.start <= address <= geometry.end - geometry.write_size:
            raise TransferAborted(AbortCause.ADDRESS_ERROR)
        data_at = _FLASH_BLOCK.size
        if self._carries_keys:
            if block[data_at : data_at + _KEYS_SIZE] != self._keys:
                raise TransferAborted(AbortCause.INVALID_FILE)
            data_at += _KEYS_SIZE
        return Program(address, block[data_at : data_at + geometry.write_size])


def make_loader(profile: Profile) -> Loader:
    """Return the loader of a family as it is after a reset."""
    return RawLoader(profile) if profile.image_format is ImageFormat.RAW else BlockLoader(profile)


def install(profile: Profile, update_file: bytes, flash: Flash) -> None:
    """Write an update file as a factory does, in no time.

    Raises:
        TransferAborted: the loader refuses it.
    """
    loader = make_loader(profile)
    operations = loader.start()
    for operation in operations:
        flash.apply(operation)
    for offset in range(0, len(update_file), profile.buffer_size):
        chunk = update_file[offset : offset + profile.buffer_size]
        for operation in loader.chunk(chunk, b""):
            flash.apply(operation)
        flash.note_source(chunk)


def is_whole(profile: Profile, flash: Flash) -> bool:
    """Tell, from what was accepted and not from what the device believes, whether the flash holds a whole file.

    The accepted chunks are written to an empty flash: they must make a complete application there, and this flash must
    hold the same.
    """
    header = find_application(flash, profile.device_id)
    if header is None:
        return False
    ideal = Flash(profile.flash)
    try:
        install(profile, flash.source, ideal)
    except TransferAborted:
        return False
    start = profile.flash.start
    return flash.read(start, header.size) == ideal.read(start, header.size)


class Inspection:
    """What the device finds in its flash, and what is really there; looked at anew only when the flash changed.

    Both take a hash of all of it, and are asked for several times in a row.
    """

    def __init__(self, profile: Profile, flash: Flash) -> None:
        self._profile = profile
        self._flash = flash
        self._found: tuple[int, Header | None] = (-1, None)
        self._whole: tuple[int, bool] = (-1, False)

    def application(self) -> Header | None:
        """Return the header of the application that the device takes for complete."""
        if self._found[0] != self._flash.changes:
            self._found = (self._flash.changes, find_application(self._flash, self._profile.device_id))
        return self._found[1]

    def is_whole(self) -> bool:
        """Tell whether it is one, made by a whole update file."""
        if self._whole[0] != self._flash.changes:
            self._whole = (self._flash.changes, is_whole(self._profile, self._flash))
        return self._whole[1]
