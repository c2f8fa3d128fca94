"""MDFU traffic that we did not produce: recorded from pymdfu, from real clients and from wires.

Both our host and our simulated client are built on the same codecs; these bytes guard against both being
wrong in the same way.  Each line is one complete frame or packet, in hexadecimal as it was on the wire.

Origins: TV-1 to TV-16 pymdfu 2.9.0.14; TV-17 the captures in Microchip's mdfu-saleae-analyzers; TV-18 the
clients that Microchip publishes for 8-bit PIC, PIC32CM and dsPIC33A, compiled for a PC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from firmwarden.protocol.mdfu.client_info import ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.packet import Command, CommandPacket, ResponsePacket, Status


@dataclass(frozen=True, slots=True)
class CommandVector:
    """A frame from host to client and what it says."""

    name: str
    wire: bytes
    packet: CommandPacket


@dataclass(frozen=True, slots=True)
class ResponseVector:
    """A frame from client to host and what it says."""

    name: str
    wire: bytes
    packet: ResponsePacket


def _host(
    name: str,
    wire: str,
    sequence: int,
    command: Command | int,
    payload: str = "",
    *,
    sync: bool = False,
) -> CommandVector:
    packet = CommandPacket(sequence=sequence, command=command, payload=bytes.fromhex(payload), sync=sync)
    return CommandVector(name, bytes.fromhex(wire), packet)


def _client(
    name: str, wire: str, sequence: int, status: Status, payload: str = "", *, resend: bool = False
) -> ResponseVector:
    packet = ResponsePacket(sequence=sequence, status=status, payload=bytes.fromhex(payload), resend=resend)
    return ResponseVector(name, bytes.fromhex(wire), packet)


IMAGE: Final = bytes.fromhex("56 9e cc 00 a9 61 33 ff 01 02 03")
"""The file that TV-1 to TV-12 deliver, in chunks of 8 bytes."""

INFO: Final = "02 03 08 00 01 01 03 01 02 00 03 09 00 0a 00 02 32 00 04 1e 00 04 04 60 e3 16 00"
INFO_WIRE: Final = f"56 00 01 {INFO} cf 4b 9e"

INFO_AVR: Final = "01 03 00 01 00 02 03 0f 02 01 03 03 00 64 00"
INFO_DSPIC: Final = "01 03 01 03 00 02 03 80 00 01 03 03 00 64 00"
INFO_PIC32CM: Final = "01 03 01 00 00 02 03 47 00 01 03 03 00 64 00"
INFO_PIC18: Final = "01 03 01 02 00 02 03 0f 02 01 03 03 00 64 00 04 04 60 e3 16 00"

_ASK: Final = Command.GET_CLIENT_INFO
_START: Final = Command.START_TRANSFER
_WRITE: Final = Command.WRITE_CHUNK
_STATE: Final = Command.GET_IMAGE_STATE
_END: Final = Command.END_TRANSFER

_OK: Final = Status.SUCCESS
_AGAIN: Final = Status.COMMAND_NOT_EXECUTED
_ABORT: Final = Status.ABORT_FILE_TRANSFER

COMMANDS: Final = (
    _host("TV-1", "56 80 01 7f fe 9e", 0, _ASK, sync=True),
    _host("TV-2", "56 01 02 fe fd 9e", 1, _START),
    _host(
        "TV-3",
        "56 02 03 cc a9 cc 61 cc 33 00 a9 61 33 ff ff fc 9e",
        2,
        _WRITE,
        "56 9e cc 00 a9 61 33 ff",
    ),
    _host("TV-4", "56 03 03 01 02 03 f8 fa 9e", 3, _WRITE, "01 02 03"),
    _host("TV-5", "56 04 04 fb fb 9e", 4, _STATE),
    _host("TV-6", "56 05 05 fa fa 9e", 5, _END),
    _host("TV-10", "56 09 03 11 e5 fc 9e", 9, _WRITE, "11"),
    _host("TV-11-first", "56 02 03 11 22 ec da 9e", 2, _WRITE, "11 22"),
    _host("TV-11-second", "56 03 03 33 44 c9 b8 9e", 3, _WRITE, "33 44"),
    _host("TV-12-31", "56 1f 03 1d c3 fc 9e", 31, _WRITE, "1d"),
    _host("TV-12-0", "56 00 03 1e e1 fc 9e", 0, _WRITE, "1e"),
    _host("TV-12-1", "56 01 03 1f df fc 9e", 1, _WRITE, "1f"),
    _host("TV-17-state", "56 06 04 f9 fb 9e", 6, _STATE),
    _host("TV-17-end", "56 07 05 f8 fa 9e", 7, _END),
)

RESPONSES: Final = (
    _client("TV-1", INFO_WIRE, 0, _OK, INFO),
    _client("TV-2", "56 01 01 fe fe 9e", 1, _OK),
    _client("TV-3", "56 02 01 fd fe 9e", 2, _OK),
    _client("TV-4", "56 03 01 fc fe 9e", 3, _OK),
    _client("TV-5-valid", "56 04 01 01 fa fe 9e", 4, _OK, "01"),
    _client("TV-5-invalid", "56 04 01 02 f9 fe 9e", 4, _OK, "02"),
    _client("TV-6", "56 05 01 fa fe 9e", 5, _OK),
    _client("TV-7", "56 42 04 bd fb 9e", 2, _AGAIN, resend=True),
    _client("TV-7-cause-0", "56 42 04 00 bd fb 9e", 2, _AGAIN, "00", resend=True),
    _client("TV-9-address", "56 02 05 03 fa fa 9e", 2, _ABORT, "03"),
    _client("TV-9-no-cause", "56 02 05 fd fa 9e", 2, _ABORT),
    _client("TV-10", "56 42 04 03 ba fb 9e", 2, _AGAIN, "03", resend=True),
    _client("TV-12-31", "56 1f 01 e0 fe 9e", 31, _OK),
    _client("TV-12-0", "56 00 01 ff fe 9e", 0, _OK),
    _client("TV-12-1", "56 01 01 fe fe 9e", 1, _OK),
    _client("TV-13", "56 01 02 fe fd 9e", 1, Status.COMMAND_NOT_SUPPORTED),
    _client("TV-14-not-supported", "56 05 02 fa fd 9e", 5, Status.COMMAND_NOT_SUPPORTED),
    _client("TV-14-not-authorized", "56 05 03 fa fc 9e", 5, Status.NOT_AUTHORIZED),
    _client("TV-14-resend-0", "56 45 04 00 ba fb 9e", 5, _AGAIN, "00", resend=True),
    _client("TV-14-resend-1", "56 45 04 01 b9 fb 9e", 5, _AGAIN, "01", resend=True),
    _client("TV-14-resend-2", "56 45 04 02 b8 fb 9e", 5, _AGAIN, "02", resend=True),
    _client("TV-14-resend-3", "56 45 04 03 b7 fb 9e", 5, _AGAIN, "03", resend=True),
    _client("TV-14-abort", "56 05 05 fa fa 9e", 5, _ABORT),
    _client("TV-14-abort-0", "56 05 05 00 fa fa 9e", 5, _ABORT, "00"),
    _client("TV-14-abort-1", "56 05 05 01 f9 fa 9e", 5, _ABORT, "01"),
    _client("TV-14-abort-2", "56 05 05 02 f8 fa 9e", 5, _ABORT, "02"),
    _client("TV-14-abort-3", "56 05 05 03 f7 fa 9e", 5, _ABORT, "03"),
    _client("TV-14-abort-4", "56 05 05 04 f6 fa 9e", 5, _ABORT, "04"),
    _client("TV-14-abort-5", "56 05 05 05 f5 fa 9e", 5, _ABORT, "05"),
    _client("TV-14-abort-6", "56 05 05 06 f4 fa 9e", 5, _ABORT, "06"),
    _client("TV-14-abort-7", "56 05 05 07 f3 fa 9e", 5, _ABORT, "07"),
    _client("TV-17-info", f"56 00 01 {INFO_AVR} f6 81 9e", 0, _OK, INFO_AVR),
    _client("TV-17-chunk", "56 04 01 fb fe 9e", 4, _OK),
    _client("TV-17-valid", "56 06 01 01 f8 fe 9e", 6, _OK, "01"),
    _client("TV-17-end", "56 07 01 f8 fe 9e", 7, _OK),
    _client("TV-18-dspic-info", f"56 00 01 {INFO_DSPIC} f7 0e 9e", 0, _OK, INFO_DSPIC),
    _client("TV-18-dspic-damaged", "56 43 04 00 bc fb 9e", 3, _AGAIN, "00", resend=True),
    _client("TV-18-dspic-order", "56 43 04 03 b9 fb 9e", 3, _AGAIN, "03", resend=True),
    _client("TV-18-dspic-short", "56 43 04 02 ba fb 9e", 3, _AGAIN, "02", resend=True),
    _client("TV-18-dspic-line-error", "56 43 04 bc fb 9e", 3, _AGAIN, resend=True),
    _client("TV-18-dspic-unknown-command", "56 03 02 fc fd 9e", 3, Status.COMMAND_NOT_SUPPORTED),
    _client("TV-18-dspic-abort", "56 04 05 fb fa 9e", 4, _ABORT),
    _client("TV-18-pic32cm-info", f"56 00 01 {INFO_PIC32CM} f7 4a 9e", 0, _OK, INFO_PIC32CM),
    _client("TV-18-pic32cm-stale-byte", "56 02 01 01 fc fe 9e", 2, _OK, "01"),
    _client("TV-18-pic32cm-cut-info", "56 00 01 01 fe fe 9e", 0, _OK, "01"),
    _client("TV-18-pic18-info", f"56 00 01 {INFO_PIC18} 0e 06 9e", 0, _OK, INFO_PIC18),
)

BUS_COMMANDS: Final = tuple(
    bytes.fromhex(line)
    for line in (
        "80 01 7f fe",
        "01 02 fe fd",
        "02 03 56 9e cc db 5d",
        "03 04 fc fb",
        "04 05 fb fa",
    )
)
"""TV-15 and TV-16: packet and checksum as SPI and I2C carry them, without frame and escapes."""

BUS_RESPONSES: Final = tuple(
    bytes.fromhex(line)
    for line in (
        "00 01 02 03 08 00 01 01 03 01 02 00 03 03 00 05 00 04 04 60 e3 16 00 05 77",
        "01 01 fe fe",
        "02 01 fd fe",
        "03 01 01 fb fe",
        "04 01 fb fe",
        # TV-17, the I2C capture:
        "00 01 01 03 01 02 00 02 03 0f 02 01 03 03 00 64 00 04 04 00 e1 f5 05 0b 87",
    )
)

BUS_LENGTHS: Final = tuple(bytes.fromhex(line) for line in ("19 00 e6 ff", "04 00 fb ff", "05 00 fa ff"))
"""TV-15 and TV-16: lengths with the checksum of their own that polls return."""

CHECKSUMS: Final = (
    (bytes.fromhex("80 01"), 0xFE7F),
    (bytes.fromhex("00 01 01"), 0xFEFE),
    (bytes.fromhex("03 03 56 9e cc ff ff 01"), 0x5CDB),
    (bytes.fromhex("03 03 ff ff ff ff ff"), 0xFBFF),
)
"""Sums that overflow, and an odd length."""

CLIENT_INFOS: Final = (
    (
        INFO,
        ClientInfo(
            version=ProtocolVersion(1, 2, 0),
            buffer_size=8,
            default_timeout_s=1.0,
            timeouts_s=((_START, 5.0), (_STATE, 3.0)),
            inter_transaction_delay_s=0.0015,
        ),
    ),
    (
        INFO_AVR,
        ClientInfo(
            version=ProtocolVersion(0, 1, 0),
            buffer_size=527,
            default_timeout_s=10.0,
            remarks=("protocol version 0.1.0 is older than the specification",),
        ),
    ),
    (INFO_DSPIC, ClientInfo(version=ProtocolVersion(1, 3, 0), buffer_size=128, default_timeout_s=10.0)),
    (INFO_PIC32CM, ClientInfo(version=ProtocolVersion(1, 0, 0), buffer_size=71, default_timeout_s=10.0)),
    (
        INFO_PIC18,
        ClientInfo(
            version=ProtocolVersion(1, 2, 0),
            buffer_size=527,
            default_timeout_s=10.0,
            inter_transaction_delay_s=0.0015,
        ),
    ),
)
