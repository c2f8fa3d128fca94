"""Talking to a simulated device by hand: one command at a time, on a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from firmwarden.protocol.mdfu.framing import Frame, FrameDecoder, encode_frame
from firmwarden.protocol.mdfu.packet import Command, CommandPacket, ResponsePacket, next_sequence
from firmwarden.simulate.client import SimClient, SimEvent
from firmwarden.simulate.faults import parse_fault
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES, Profile
from firmwarden.simulate.settings import DeviceSettings

if TYPE_CHECKING:
    from firmwarden.simulate.application import Dialogue

PATIENCE_S: Final = 10.0
"""What all real clients announce."""


class Hand:
    """A device that has just been switched on, and somebody who types frames."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.events: list[SimEvent] = []
        self.client = SimClient(settings, self.events.append)
        self.now = 0.0
        self.number = 0
        self.client.power_on(0.0)
        self.heard = self.wait(settings.profile.boot_s)

    def say(self, data: bytes) -> bytes:
        """Send bytes; return what comes back at once."""
        return self.client.feed(data, self.now)

    def say_hex(self, text: str) -> str:
        return self.say(bytes.fromhex(text)).hex(" ")

    def wait(self, seconds: float) -> bytes:
        """Let time pass; return what comes meanwhile."""
        until = self.now + seconds
        said = b""
        while (wake_at := self.client.wake_at) is not None and wake_at <= until:
            self.now = max(self.now, wake_at)
            said += self.client.poll(self.now)
        self.now = until
        return said

    def await_bytes(self, patience_s: float = PATIENCE_S) -> bytes:
        """Let time pass until something comes."""
        until = self.now + patience_s
        while (wake_at := self.client.wake_at) is not None and wake_at <= until:
            self.now = max(self.now, wake_at)
            if said := self.client.poll(self.now):
                return said
        self.now = until
        return b""

    def frame(
        self, command: Command | int, payload: bytes = b"", *, sync: bool = False, number: int | None = None
    ) -> bytes:
        """Return a command's frame and remember its number."""
        if sync:
            self.number = 0
        if number is not None:
            self.number = number
        packet = CommandPacket(sequence=self.number, command=command, payload=payload, sync=sync)
        return encode_frame(packet.encode())

    def ask(
        self, command: Command | int, payload: bytes = b"", *, sync: bool = False, number: int | None = None
    ) -> ResponsePacket | None:
        """Execute one command; return its answer, the first if there are more."""
        frame = self.frame(command, payload, sync=sync, number=number)
        said = self.say(frame) or self.await_bytes()
        answers = [item for item in FrameDecoder(256).feed(said) if isinstance(item, Frame)]
        if not answers:
            return None
        answer = ResponsePacket.decode(answers[0].packet)
        if not answer.resend:
            self.number = next_sequence(self.number)
        return answer

    def begin(self) -> None:
        """Say hello and start a transfer."""
        self.expect(Command.GET_CLIENT_INFO, sync=True)
        self.expect(Command.START_TRANSFER)

    def send(self, file: bytes) -> None:
        """Send chunks."""
        size = self.client.profile.buffer_size
        for offset in range(0, len(file), size):
            self.expect(Command.WRITE_CHUNK, file[offset : offset + size])

    def update(self, file: bytes) -> None:
        """Do a whole update as it should be, and let the device restart."""
        self.begin()
        self.send(file)
        assert self.expect(Command.GET_IMAGE_STATE).payload == b"\x01"
        self.expect(Command.END_TRANSFER)
        self.wait(1)

    def expect(self, command: Command, payload: bytes = b"", *, sync: bool = False) -> ResponsePacket:
        """Execute one command that succeeds."""
        answer = self.ask(command, payload, sync=sync)
        assert answer is not None, command
        assert (answer.status.name, answer.resend) == ("SUCCESS", False), answer
        return answer

    def kinds(self) -> list[str]:
        """Return the kinds of what happened so far."""
        return [event.kind for event in self.events]


class Choices(TypedDict, total=False):
    """What `DeviceSettings` takes."""

    installed: bytes | None
    stay_in_loader: bool
    flash_time: float
    baud: int | None
    dialogue: Dialogue
    seed: int


def hand(profile: Profile | str = "generic", *faults: str, **settings: Unpack[Choices]) -> Hand:
    """Return a device with nothing installed and a flash that takes no time, unless said otherwise."""
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    settings.setdefault("flash_time", 0.0)
    return Hand(
        DeviceSettings(profile=chosen, faults=tuple(parse_fault(text) for text in faults), **settings)
    )


def update_file(profile: Profile | str = "generic", version: str = "2.0.0", size: int = 4000) -> bytes:
    """Return an update file."""
    return make_update_file(PROFILES[profile] if isinstance(profile, str) else profile, version, size=size)
