"""The bench's own device must not let a wrong update pass for a fast one."""

import zlib
from random import Random

import pytest

from bench.light_client import LightClient, make_answers
from firmwarden.protocol.mdfu.framing import encode_frame
from firmwarden.protocol.mdfu.host import Ended, MdfuHost
from firmwarden.protocol.mdfu.packet import Command, CommandPacket
from support.wire import Answer, Wire

IMAGE = Random(1).randbytes(5_000)


class Device:
    def __init__(self) -> None:
        self.client = LightClient(descriptor=-1, answers=make_answers(512), byte_time_s=1e-3)

    def hear(self, data: bytes) -> list[Answer]:
        # In two pieces, as a pty hands over what is longer than its buffer.
        assert self.client.take(data[:5], 1.0) is None
        answered = self.client.take(data[5:], 2.0)
        assert answered is not None
        answer, due = answered
        assert due == pytest.approx(1.0 + (len(data) + len(answer)) * 1e-3)
        return [(0.0, answer)]


def test_an_update_is_taken_and_what_arrived_is_told() -> None:
    device = Device()
    wire = Wire(MdfuHost(IMAGE), device)
    assert wire.run_through(Ended)[-1] == Ended(acknowledged=True)
    told = device.client.report()
    assert (told["updates"], told["resends"]) == (1, 0)
    assert (told["size"], told["crc"]) == (len(IMAGE), zlib.crc32(IMAGE))
    _discovery, *frames = wire.sent
    answers = 6 * (len(frames) - 1) + 7  # one of them says that the image is valid
    assert told["wire_s"] == pytest.approx((sum(len(data) for _, data in frames) + answers) * 1e-3)


def test_a_chunk_that_comes_twice_counts_once() -> None:
    client = Device().client
    chunk = CommandPacket(sequence=3, command=Command.WRITE_CHUNK, payload=b"abc").encode()
    for _ in range(2):
        client.take(encode_frame(chunk), 0.0)
    told = client.report()
    assert (told["size"], told["resends"]) == (3, 1)


def test_a_damaged_frame_does_not_pass() -> None:
    client = Device().client
    frame = encode_frame(CommandPacket(sequence=3, command=Command.WRITE_CHUNK, payload=b"abc").encode())
    client.take(frame.replace(b"b", b"x"), 0.0)
    with pytest.raises(ValueError, match="checksum"):
        client.report()
