"""Devices that were made to harm whoever updates them: MDFU clients behind TCP, each with one thing that it does."""

from __future__ import annotations

import socketserver
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from firmwarden.model import CauseCode
from firmwarden.protocol.mdfu.client_info import OUR_VERSION, ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.framing import Frame, FrameDecoder, encode_frame
from firmwarden.protocol.mdfu.packet import Command, CommandPacket, ResponsePacket, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CAP: Final = 1 << 16
_INFO: Final = ClientInfo(version=OUR_VERSION, buffer_size=512, default_timeout_s=0.5)
_FLOOD: Final = 4 << 20
"""Bytes that nobody asked for, in answer to each command."""

QUESTION: Final = b"VERSION?\n"

Answer = bytes | ResponsePacket | None
"""As it is, in a frame, or what an honest client says."""


@dataclass(frozen=True, slots=True)
class Impostor:
    """A device and what becomes of it."""

    name: str
    does: str
    """In words."""
    stopped: str
    """By what."""
    answer: Callable[[CommandPacket], Answer]
    cause: CauseCode
    """Why the attempt must end."""
    version: bytes = b""
    """What its application says when it is asked for its version; empty: it is not asked."""


def _info(payload: bytes) -> Callable[[CommandPacket], Answer]:
    def answer(command: CommandPacket) -> Answer:
        if command.command is not Command.GET_CLIENT_INFO:
            return None
        return ResponsePacket(sequence=command.sequence, status=Status.SUCCESS, payload=payload)

    return answer


def _always(raw: bytes) -> Callable[[CommandPacket], Answer]:
    return lambda _: raw


def _aborts(command: CommandPacket) -> Answer:
    if command.command is not Command.START_TRANSFER:
        return None
    return ResponsePacket(
        sequence=command.sequence, status=Status.ABORT_FILE_TRANSFER, payload=b"\xee\x1b[2J<script>"
    )


def _honest(_: CommandPacket) -> Answer:
    return None


_INFO_READER: Final = "every length is held to what came: `protocol/mdfu/client_info.py`"
_LINK: Final = (
    "what is read is bounded, and bytes move no deadline: `protocol/mdfu/framing.py`, `transport/channel.py`"
)

IMPOSTORS: Final = (
    Impostor(
        "info that leads out of itself",
        "client info whose lengths lead beyond its end",
        _INFO_READER,
        _info(b"\x01\xff\x01\x02"),
        CauseCode.CLIENT_INFO_MALFORMED,
    ),
    Impostor(
        "empty info", "no client info at all", _INFO_READER, _info(b""), CauseCode.CLIENT_INFO_MALFORMED
    ),
    Impostor(
        "no room",
        "a buffer of 0 bytes, in which no chunk would ever fit",
        _INFO_READER,
        _info(bytes.fromhex("01 03 01 02 00 02 03 00 00 01 03 03 00 05 00")),
        CauseCode.CLIENT_INFO_MALFORMED,
    ),
    Impostor(
        "protocol of the future",
        "a protocol version that nobody knows",
        "a newer protocol is refused: `protocol/mdfu/host.py`",
        _info(replace(_INFO, version=ProtocolVersion(99, 0)).encode()),
        CauseCode.PROTOCOL_TOO_NEW,
    ),
    Impostor(
        "babble", "megabytes of noise for an answer", _LINK, _always(b"\x55" * _FLOOD), CauseCode.NO_ANSWER
    ),
    Impostor(
        "frame without end",
        "megabytes of a frame that does not end",
        _LINK,
        _always(b"\x56" + b"\xcc" * _FLOOD),
        CauseCode.NO_ANSWER,
    ),
    Impostor(
        "unknown abort",
        "an abort for a cause that does not exist, with markup and escapes behind it",
        "undefined answers have a disposition of their own: `service/policy.py`",
        _aborts,
        CauseCode.ABORT_UNKNOWN,
    ),
    Impostor(
        "version with escapes",
        "all well, and a version that takes over the terminal",
        "what a device says is escaped where it is shown: `service/measures.py`, `log/__init__.py`",
        _honest,
        CauseCode.VERSION_MISMATCH,
        version=b"VERSION \x1b]0;owned\x07\x1b[2J<script>alert(1)</script> \n",
    ),
)


class Stage:
    """A port on which one of them waits."""

    def __init__(self, impostor: Impostor) -> None:
        stage = self
        self._impostor = impostor
        self.commands: list[Command | int] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                decoder = FrameDecoder(_CAP)
                try:
                    while data := self.request.recv(_CAP):
                        for raw in stage._answers(decoder, data):
                            self.request.sendall(raw)
                except OSError:
                    pass  # cut off, as it deserves

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def _answers(self, decoder: FrameDecoder, data: bytes) -> Iterator[bytes]:
        if data.endswith(QUESTION):
            yield self._impostor.version
        for found in decoder.feed(data):
            if isinstance(found, Frame):
                command = CommandPacket.decode(found.packet)
                self.commands.append(command.command)
                answer = self._impostor.answer(command)
                if isinstance(answer, bytes):
                    yield answer
                else:
                    yield encode_frame((answer or _as_it_should_be(command)).encode())

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _as_it_should_be(command: CommandPacket) -> ResponsePacket:
    payloads = {Command.GET_CLIENT_INFO: _INFO.encode(), Command.GET_IMAGE_STATE: b"\x01"}
    return ResponsePacket(
        sequence=command.sequence, status=Status.SUCCESS, payload=payloads.get(Command(command.command), b"")
    )
