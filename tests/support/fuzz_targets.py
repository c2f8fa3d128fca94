"""Everything that reads what an attacker may have written, as one table: what it may answer, and how much.

A reader takes any bytes and returns something, or raises one of the errors that it promises, with a reason that can be
told.  What it returns is bounded by what it was given, so that no short text fills the memory.
"""

from __future__ import annotations

import io
import re
import struct
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import anyio
import h11

from firmwarden.app.archive import FORMAT, BadBackup, Contents, member_of, pack, unpack
from firmwarden.control.access import Access, Guard, Rules
from firmwarden.control.app import make_app
from firmwarden.control.form import FormReader
from firmwarden.control.peer import Remote, User
from firmwarden.control.problems import BadRequest
from firmwarden.errors import AttemptFailed, BadImage, BadManifest
from firmwarden.images import bundle, dfu_suffix, intel_hex, mcuboot
from firmwarden.images.cas import LARGEST_IMAGE, hash_of
from firmwarden.images.dfu_suffix import DfuSuffix
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.images.manifest import parse_manifest
from firmwarden.images.mdfu_image import BlockLayout, describe
from firmwarden.images.minisign import BadKey, BadSignature, PublicKey, Signature
from firmwarden.model import UnixGroup
from firmwarden.protocol.dfu import dfuse
from firmwarden.protocol.dfu.conversation import Trouble
from firmwarden.protocol.dfu.descriptors import (
    FunctionalDescriptor,
    MalformedDescriptor,
    decode_string,
    find_dfu,
)
from firmwarden.protocol.dfu.memory_map import MalformedMap, MemoryMap
from firmwarden.protocol.dfu.requests import MalformedTransfer, Setup, StatusReport, decode_state
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.strings import read_serial
from firmwarden.protocol.machine import Receive, Send
from firmwarden.protocol.mdfu.client_info import ClientInfo, MalformedClientInfo
from firmwarden.protocol.mdfu.framing import FrameDecoder, encode_frame
from firmwarden.protocol.mdfu.host import Ended, MdfuHost, Settings
from firmwarden.protocol.mdfu.packet import CommandPacket, MalformedPacket, ResponsePacket
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES
from firmwarden.transport.sysfs import text
from firmwarden.transport.usb_sysfs import active_configuration
from support import mcuboot as mcuboot_images
from support import mdfu_vectors as vectors
from support.dfu_script import run
from support.drop import manifest_of
from support.form import BOUNDARY, CONTENT_TYPE, form, part, release_form
from support.memory_desk import MemoryDesk
from support.mutation import mutated
from support.zips import Member, archive, deflated

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from firmwarden.control.peer import Peer
    from firmwarden.protocol.dfu.conversation import Event, Reply

_LONGEST_REASON: Final = 4096
"""Characters: it is kept, logged, and shown in tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader, and what it promises."""

    name: str
    read: Callable[[bytes], object]
    samples: tuple[bytes, ...]
    """What it takes."""
    refusals: tuple[type[Exception], ...]
    """What it may raise, and nothing else."""
    seal: Callable[[bytes], bytes] = bytes
    """Makes checksums right, so that what lies behind them is reached."""
    per_byte: int = 32
    """Bytes of the result for each that was given ..."""
    room: int = 4096
    """... and so many more."""

    @property
    def inputs(self) -> SearchStrategy[bytes]:
        """Bytes to try: what it takes, changed; half of it with checksums that are right."""
        raw = mutated(self.samples)
        return raw | raw.map(self.seal)

    def try_out(self, raw: bytes) -> None:
        """Have it read something, and hold it to its word."""
        try:
            result = self.read(raw)
        except self.refusals as exc:
            reason = str(exc)
            assert 0 < len(reason) <= _LONGEST_REASON
            assert reason.isprintable()
        else:
            assert weight(result) <= self.per_byte * len(raw) + self.room


def weight(value: object) -> int:
    """Return about how many bytes of an attacker's choice a value holds."""
    match value:
        case bytes() | bytearray() | str():
            return len(value)
        case None | bool() | int() | float() | Enum():
            return 8
        case Mapping():
            return 8 + sum(weight(key) + weight(each) for key, each in value.items())
        case tuple() | list() | set() | frozenset():
            return 8 + sum(map(weight, value))
        case _ if is_dataclass(value):
            return 8 + sum(weight(getattr(value, field.name)) for field in fields(value))
        case _:
            raise TypeError(type(value))


# --- images


_BASE: Final = 0x0800_0000
_ST: Final = DfuSuffix(vendor=0x0483, product=0xDF11, device=0, dfu=0x011A)
_DFUSE: Final = DfuseFile(
    targets=(
        DfuseTarget(alternate=0, name="ST...", elements=(Segment(_BASE, b"code"), Segment(_BASE + 64, b"x"))),
        DfuseTarget(alternate=1, elements=(Segment(0x1000, b"data"),)),
    ),
    suffix=_ST,
).encode()


_SIGNATURE: Final = Signature(
    key_id=bytes(range(8)), signature=bytes(64), trusted_comment="panel 1.0.0", comment_signature=bytes(64)
)


def _sealed_suffix(raw: bytes) -> bytes:
    return raw[:-4] + dfu_suffix.checksum(raw[:-4]).to_bytes(4, "little")


def _sealed_records(raw: bytes) -> bytes:
    """Give each record of Intel HEX the sum that it needs."""

    def sealed(match: re.Match[bytes]) -> bytes:
        record = bytes.fromhex(match[1].decode())[:-1]
        return b":%s" % (record + bytes((-sum(record) & 0xFF,))).hex().upper().encode()

    return re.sub(rb":((?:[0-9A-Fa-f]{2})+)", sealed, raw)


_HEX: Final = (
    b":020000040800F2\n:0400000061626364F2\n:0400100065666768D2\n:0400000508000000EF\n:00000001FF\n",
    b":020000021000EC\r\n:01000000619E\r\n:00000001FF\r\n",
)


_MANIFEST: Final = manifest_of(b"image" * 20)
_MEMBERS: Final = (
    Member(name=b"panel.toml", content=_MANIFEST),
    Member(name=b"panel.toml.minisig", content=_SIGNATURE.encode()),
    Member(name=b"panel.img", content=b"image" * 20),
)
_BUNDLES: Final = (
    archive(*_MEMBERS),
    archive(*(replace(each, packed=deflated(each.content), method=8) for each in _MEMBERS)),
)


def _sealed_members(raw: bytes) -> bytes:
    """Give each member that is stored the sum that it needs, in both places (PKWARE's APPNOTE.TXT, 4.4.7)."""
    sealed = bytearray(raw)
    entries = (each.start() for each in re.finditer(rb"PK\x01\x02", raw))
    for local in re.finditer(rb"(?s)PK\x03\x04.{26}", raw):
        method, size, name, extra = struct.unpack("<8xH8xL4xHH", local[0])
        start = local.end() + name + extra
        if method == 0:
            sum_ = zlib.crc32(raw[start : start + size]).to_bytes(4, "little")
            sealed[local.start() + 14 : local.start() + 18] = sum_
            if (entry := next(entries, None)) is not None and entry + 20 <= len(raw):
                sealed[entry + 16 : entry + 20] = sum_
    return bytes(sealed)


_MCUBOOT: Final = (
    mcuboot_images.GOLDEN,
    mcuboot_images.GOLDEN[:84] + mcuboot_images.part(0x6907),  # without a hash: changes do not end it
)


def _read_dfuse(raw: bytes) -> object:
    return DfuseFile.decode(raw).encode()


# --- MDFU


_ANSWERS: Final = [vector.wire for vector in vectors.RESPONSES if vector.name in {"TV-1", "TV-2", "TV-3"}]
_PIECES: Final = b"\xff\xff"
"""Parts what comes at once from what comes later; twice, a time-out is between."""


def _frames(raw: bytes) -> object:
    decoder = FrameDecoder(64)
    at_once = decoder.feed(raw)
    bit_by_bit = FrameDecoder(64)
    assert [found for byte in raw for found in bit_by_bit.feed(bytes((byte,)))] == at_once
    return at_once


def _packets(raw: bytes) -> object:
    found: list[object] = []
    for packet in (CommandPacket, ResponsePacket):
        with suppress(MalformedPacket):
            found.append(packet.decode(raw))
    return found


def _conversation(raw: bytes) -> object:
    """Let a whole update talk to a client that answers so."""
    host = MdfuHost(bytes(range(20)), Settings(retries=3))
    sent = 0
    for piece in raw.split(_PIECES):
        while not isinstance(event := host.next_event(), Receive | Ended):
            sent += len(event.data) if isinstance(event, Send) else 0
        if isinstance(event, Ended):
            return sent, True
        if piece:
            host.receive(piece)
        else:
            host.timed_out()
    return sent, False


# --- USB


_CONFIGURATION: Final = bytes.fromhex(
    "09 02 2d 00 01 01 00 c0 32  09 04 00 00 00 fe 01 02 04  09 04 00 01 00 fe 01 02 05  09 21 0b ff 00 00 08 1a 01"
    "09 04 01 00 00 03 00 00 00"
)
_DEVICE: Final = bytes.fromhex("12 01 00 01 00 00 00 40 83 04 11 df 00 22 01 02 03 01")
_SERIAL: Final = b"\x1a\x03" + "STM32FxSTM32".encode("utf-16-le")
_MAP: Final = b"@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg"


def _descriptors(raw: bytes) -> object:
    return find_dfu(active_configuration(raw, 1))


def _serial(raw: bytes) -> object:
    """Ask a device that answers so: each answer has its length in front, and 255 is a refusal."""
    answers = io.BytesIO(raw)

    def answer(_: Event) -> Reply:
        head = answers.read(1)
        if not head:
            return Trouble.GONE
        return Trouble.STALL if head == b"\xff" else answers.read(head[0])

    return run(read_serial("utf-16-le"), answer)


def _transfers(raw: bytes) -> object:
    found: list[object] = []
    for decode in (StatusReport.decode, decode_state, FunctionalDescriptor.decode, Setup.decode):
        with suppress(MalformedTransfer, MalformedDescriptor):
            found.append(decode(raw))
    with suppress(dfuse.MalformedCommand):
        found.append(dfuse.decode(raw))
    return found


def _shown(raw: bytes) -> object:
    shown = text(raw)
    assert shown.isprintable()
    return shown


# --- who asks the service


_REQUESTS: Final = (
    b"GET /v1/devices?class=panel HTTP/1.1\nHost: localhost\n\n",
    b"GET /v1/history?limit=3&device=k3f9q2 HTTP/1.1\nHost: x\nAccept: text/html\n\n",
    b'POST /v1/hold HTTP/1.1\nHost: x\nContent-Type: application/json\n\n{"reason": "fair week"}',
    b'POST /v1/devices/k3f9q2/pin HTTP/1.1\nHost: x\n\n{"version": "2.6.0"}',
    b"POST /v1/releases HTTP/1.1\nHost: x\nContent-Type: %s\n\n%s"
    % (CONTENT_TYPE.encode(), release_form(manifest_of(b"image"), b"image")),
    b"POST /v1/bundles HTTP/1.1\nHost: x\nContent-Type: %s\n\n%s"
    % (CONTENT_TYPE.encode(), form(part("bundle", _BUNDLES[0], "panel.fwz"))),
    b'POST /v1/rollouts/panel/recall HTTP/1.1\nHost: x\n\n{"reason": "it is ill"}',
    b"GET / HTTP/1.1\nHost: 127.0.0.1:8642\nOrigin: http://127.0.0.1:8642\n\n",
)

_RULES: Final = Rules(act_group=UnixGroup(name="root", gid=0), token="a-token-of-some-length")
_PEERS: Final[tuple[Peer, ...]] = (User(uid=0, gids=frozenset()), Remote(host="192.0.2.1"))


@cache
def _application() -> Guard:
    stopping = anyio.Event()
    stopping.set()  # event streams end at once
    return Guard(make_app(MemoryDesk(), stopping), Access(_RULES))


def _request(raw: bytes) -> object:
    """Have the application answer a request, from a user of this machine and from the network."""
    head, end, body = raw.partition(b"\n\n")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + end)
    event = connection.next_event()
    if not isinstance(event, h11.Request):
        return None
    path, _, query = event.target.partition(b"?")
    scope = {
        "type": "http",
        "method": event.method.decode("ascii"),
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "headers": list(event.headers),
    }
    return [anyio.run(_answer, dict(scope), body, peer) for peer in _PEERS]


async def _answer(scope: dict[str, Any], body: bytes, peer: Peer) -> int:
    """Do what the server does for the application."""
    scope["state"] = {"peer": peer, "abort": lambda: None, "crowded": False}
    said: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401  ASGI
        if message["type"] == "http.response.start":
            said.append(message["status"])

    await _application()(scope, receive, send)
    [status] = said
    assert status < 500 or status == 503
    return status


def _form(raw: bytes) -> object:
    reader = FormReader(CONTENT_TYPE, {"manifest": 1 << 10, "image": 1 << 10})
    for start in range(0, len(raw), 61):
        reader.feed(raw[start : start + 61])
    return reader.finish()


# --- backups


def _a_backup() -> bytes:
    image = b"an image"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "images").mkdir()
        (place / "firmwarden.db").write_bytes(b"the database")
        (place / "images" / hash_of(image)).write_bytes(image)
        contents = Contents(
            format=FORMAT,
            firmwarden="1.0",
            schema_version=2,
            made_at="2026-01-01T00:00:00.000Z",
            host="gateway",
            members=(member_of(place, "firmwarden.db"), member_of(place, f"images/{hash_of(image)}")),
        )
        out = io.BytesIO()
        pack(contents, place, out)
        return out.getvalue()


def _unpacked(raw: bytes) -> object:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name, "within")
        place.mkdir()
        try:
            unpack(io.BytesIO(raw), place)
        finally:
            assert [each.name for each in Path(name).iterdir()] == ["within"]
            assert not any(each.is_symlink() for each in place.rglob("*"))
        return {str(each): each.read_bytes() for each in place.rglob("*") if each.is_file()}


def _sealed_headers(raw: bytes) -> bytes:
    """Give what may be a header of a tar the sum that it needs (POSIX.1-1988, ustar)."""
    blocks = [raw[start : start + 512] for start in range(0, len(raw), 512)]
    return b"".join(map(_sealed_header, blocks))


def _sealed_header(block: bytes) -> bytes:
    if len(block) < 512 or block[257:262] != b"ustar":
        return block
    total = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
    return block[:148] + b"%06o\0 " % total + block[156:]


TARGETS: Final = (
    Target(
        name="manifest",
        read=lambda raw: parse_manifest(raw, "panel.toml"),
        samples=(
            manifest_of(b"image"),
            manifest_of(b"image", version="build 7", replacing={"sequence": 7}),
        ),
        refusals=(BadManifest,),
    ),
    Target(
        name="signature",
        read=Signature.decode,
        samples=(_SIGNATURE.encode(),),
        refusals=(BadSignature,),
    ),
    Target(
        name="bundle",
        read=lambda raw: bundle.unpack(raw, "panel.fwz"),
        samples=_BUNDLES,
        refusals=(BadManifest,),
        seal=_sealed_members,
        per_byte=1100,  # deflate
    ),
    Target(
        name="MCUboot image",
        read=mcuboot.parse,
        samples=_MCUBOOT,
        refusals=(BadImage,),
    ),
    Target(
        name="key",
        read=lambda raw: PublicKey.decode(raw.decode(errors="replace")),
        samples=(PublicKey(bytes(8), bytes(range(32))).encode().encode(),),
        refusals=(BadKey,),
    ),
    Target(
        name="mdfu-8bit image",
        read=lambda raw: describe(raw, BlockLayout.MCU8),
        samples=(make_update_file(PROFILES["pic8"], "1.0.0", size=96),),
        refusals=(BadImage,),
    ),
    Target(
        name="mdfu-32bit image",
        read=lambda raw: describe(raw, BlockLayout.MCU32),
        samples=(make_update_file(PROFILES["pic32"], "1.0.0", size=96),),
        refusals=(BadImage,),
    ),
    Target(
        name="Intel HEX",
        read=intel_hex.segments,
        samples=_HEX,
        refusals=(BadImage,),
        seal=_sealed_records,
    ),
    Target(
        name="Intel HEX without gaps",
        read=lambda raw: intel_hex.parse(raw).data,
        samples=_HEX,
        refusals=(BadImage,),
        seal=_sealed_records,
        room=LARGEST_IMAGE,
    ),
    Target(
        name="DFU suffix",
        read=dfu_suffix.split,
        samples=(dfu_suffix.append(b"image", DfuSuffix()), dfu_suffix.append(b"image", _ST)),
        refusals=(BadImage,),
        seal=_sealed_suffix,
    ),
    Target(
        name="DfuSe file",
        read=_read_dfuse,
        samples=(_DFUSE,),
        refusals=(BadImage,),
        seal=_sealed_suffix,
    ),
    Target(
        name="MDFU frames",
        read=_frames,
        samples=tuple(vector.wire for vector in (*vectors.COMMANDS, *vectors.RESPONSES)),
        refusals=(),
    ),
    Target(
        name="MDFU packets",
        read=_packets,
        samples=tuple(vector.packet.encode() for vector in (*vectors.COMMANDS, *vectors.RESPONSES)),
        refusals=(),
    ),
    Target(
        name="MDFU client info",
        read=ClientInfo.decode,
        samples=tuple(bytes.fromhex(raw) for raw, _ in vectors.CLIENT_INFOS),
        refusals=(MalformedClientInfo,),
        per_byte=64,
    ),
    Target(
        name="MDFU client",
        read=_conversation,
        samples=(_PIECES.join(_ANSWERS), _PIECES.join((_ANSWERS[0], b"", _ANSWERS[1], b"", _ANSWERS[2]))),
        refusals=(AttemptFailed,),
        seal=lambda raw: _PIECES.join(
            encode_frame(piece[1:-3]) if piece else b"" for piece in raw.split(_PIECES)
        ),
    ),
    Target(
        name="USB descriptors",
        read=_descriptors,
        samples=(_DEVICE + _CONFIGURATION,),
        refusals=(MalformedDescriptor,),
    ),
    Target(
        name="USB strings",
        read=decode_string,
        samples=(_SERIAL,),
        refusals=(MalformedDescriptor,),
    ),
    Target(
        name="USB strings by the kernel",
        read=_shown,
        samples=("Pump é\n".encode(), b"0000000000C1"),
        refusals=(),
    ),
    Target(
        name="USB serial number",
        read=_serial,
        samples=(
            b"\x12" + _DEVICE + b"\x1a" + _SERIAL,
            b"\x12" + _DEVICE + b"\xff\x04\x04\x03\x09\x04\x1a" + _SERIAL,
        ),
        refusals=(AttemptFailed, MalformedDescriptor),
    ),
    Target(
        name="DFU transfers",
        read=_transfers,
        samples=(
            bytes.fromhex("00 20 00 00 04 00"),
            bytes.fromhex("09 21 0b ff 00 00 08 1a 01"),
            bytes.fromhex("41 00 00 00 08"),
            bytes.fromhex("21 01 00 00 00 00 05 00"),
        ),
        refusals=(),
        per_byte=64,
    ),
    Target(
        name="DfuSe memory map",
        read=lambda raw: MemoryMap.parse(raw.decode(errors="replace")),
        samples=(
            _MAP,
            b"@Device Feature/0xFFFF0000/01*004 e",
            b"@Flash /0x08000000/0256*0002Kg/0x1000/1*1Ba",
        ),
        refusals=(MalformedMap,),
    ),
    Target(
        name="requests",
        read=_request,
        samples=_REQUESTS,
        refusals=(h11.RemoteProtocolError,),
    ),
    Target(
        name="forms",
        read=_form,
        samples=(release_form(manifest_of(b"image"), b"image"), f"--{BOUNDARY}--\r\n".encode()),
        refusals=(BadRequest,),
    ),
    Target(
        name="backup",
        read=_unpacked,
        samples=(_a_backup(),),
        refusals=(BadBackup,),
        seal=_sealed_headers,
    ),
)
