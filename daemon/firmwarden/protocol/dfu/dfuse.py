"""DfuSe commands: what ST added to DNLOAD and UPLOAD, as frozen values.

A download with block number 0 is a command; with number 2 and up it is data, for the address
``pointer + (number - 2) * transfer size``.  An upload with block number 0 tells which commands there are.
Whatever was downloaded is carried out by the GETSTATUS that follows it, not before.

Source: ST AN3156 rev. 17, 4 to 8; UM0424, 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from firmwarden.protocol.dfu.segments import ADDRESS_SPACE

COMMAND_BLOCK: Final = 0
FIRST_DATA_BLOCK: Final = 2
"""Number 1 is reserved."""
LAST_DATA_BLOCK: Final = 0xFFFF
"""Here numbers do not wrap: they are offsets."""

DEFAULT_POINTER: Final = 0x0800_0000
"""Where the address pointer stands until it is set."""


class MalformedCommand(ValueError):
    """The bytes are no DfuSe command."""


@unique
class Code(IntEnum):
    """The first byte of a command, and what "get" lists."""

    GET_COMMANDS = 0x00
    SET_ADDRESS = 0x21
    ERASE = 0x41
    READ_UNPROTECT = 0x92


def _with_address(code: Code, address: int) -> bytes:
    if not 0 <= address < ADDRESS_SPACE:
        raise ValueError(f"address 0x{address:x} does not fit 32 bits")
    return bytes((code,)) + address.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class SetAddress:
    """Move the address pointer."""

    address: int

    def encode(self) -> bytes:
        """Return the data of the download."""
        return _with_address(Code.SET_ADDRESS, self.address)


@dataclass(frozen=True, slots=True)
class ErasePage:
    """Erase the page that contains `address`."""

    address: int

    def encode(self) -> bytes:
        """Return the data of the download."""
        return _with_address(Code.ERASE, self.address)


@dataclass(frozen=True, slots=True)
class MassErase:
    """Erase all flash that is not write-protected."""

    def encode(self) -> bytes:
        """Return the data of the download."""
        return bytes((Code.ERASE,))


@dataclass(frozen=True, slots=True)
class ReadUnprotect:
    """Lift the read protection: this erases all flash and RAM, and resets the device."""

    def encode(self) -> bytes:
        """Return the data of the download."""
        return bytes((Code.READ_UNPROTECT,))


Command = SetAddress | ErasePage | MassErase | ReadUnprotect


def decode(data: bytes) -> Command:
    """Read the data of a download with block number 0; raises MalformedCommand."""
    match data[:1], len(data):
        case b"\x21", 5:
            return SetAddress(int.from_bytes(data[1:], "little"))
        case b"\x41", 5:
            return ErasePage(int.from_bytes(data[1:], "little"))
        case b"\x41", 1:
            return MassErase()
        case b"\x92", 1:
            return ReadUnprotect()
        case _:
            raise MalformedCommand(f"no DfuSe command: {data[:16].hex()} ({len(data)} byte(s))")


def block_address(pointer: int, block: int, transfer_size: int) -> int:
    """Return where a data block belongs.

    AN3156 calls the factor "length of the data buffer"; ROMs multiply by the transfer size that they announced.
    """
    return pointer + (block - FIRST_DATA_BLOCK) * transfer_size
