"""A simulated DFU device on a clock of its own, the images that tests put into it, and two ways to speak to it.

`Bench.answer` is the shell of a conversation, as a driver has one; `Bench.say` makes one bare transfer and returns the
bytes that came.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from firmwarden.protocol.dfu.conversation import Control, Pause, ResetPort, SelectAlternate, Trouble
from firmwarden.protocol.dfu.requests import Setup
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.machine import Milestone
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.engine import Withheld
from firmwarden.simulate.dfu.firmware import Firmware, RunTime
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS, Part
from firmwarden.simulate.dfu.settings import DfuSettings
from support.dfu_script import hexadecimal, run

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.conversation import Conversation, Event, Reply

_T = TypeVar("_T")

L476: Final = PARTS["stm32l476"].small(8)

STATUS: Final = "A1 03 00 00 00 00 06 00"


def image(name: str, part: Part, size: int, *, base: int = FLASH_BASE, **more: object) -> Firmware:
    """Make an application with vectors that a part's bank check takes, and bytes all its own."""
    stack = part.stacks[0][0] + 0x1000
    head = stack.to_bytes(4, "little") + (base + 0x201).to_bytes(4, "little")
    seed = sum(name.encode())
    body = bytes((seed + 7 * index + (index >> 8)) % 251 + 1 for index in range(size - len(head)))
    run_time = RunTime(name=f"application {name}")
    firmware = Firmware(name=name, segments=(Segment(base, head + body),), entry=base, run_time=run_time)
    return replace(firmware, **more)  # type: ignore[arg-type]


def settings(part: Part = L476, *images: Firmware, **more: object) -> DfuSettings:
    """Describe a device that left the factory with the first image in bank 1."""
    installed = {1: images[:1]} if images else {}
    return replace(DfuSettings(part=part, known=images, installed=installed), **more)  # type: ignore[arg-type]


class Bench:
    """A device, with power, at a time that nobody else keeps."""

    def __init__(self, what: DfuSettings, *, on: bool = True) -> None:
        self.device = SimDfu(what)
        self.now = 0.0
        if on:
            self.device.power_on(self.now)
            self.wait(1.0)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.device.poll(self.now)

    def cycle(self) -> None:
        """Take the power away, give it back, and wait until the device is up."""
        self.device.lose_power(self.now)
        self.device.power_on(self.now)
        self.wait(1.0)

    def transfer(self, setup: Setup, data: bytes = b"", timeout_s: float = 60.0) -> Reply:
        """Make a transfer, for as long as it takes."""
        deadline = self.now + timeout_s
        while isinstance(reply := self.device.control(setup, data, self.now), Withheld):
            self.now = min(reply.until, deadline)
            if reply.until > deadline:
                return Trouble.TIMED_OUT
        return reply

    def answer(self, event: Event) -> Reply:
        """Do what a shell of a conversation does."""
        match event:
            case Control():
                return self.transfer(event.setup, event.data, event.timeout_s)
            case SelectAlternate():
                setup = Setup(
                    request_type=1, request=11, value=event.setting, index=event.interface, length=0
                )
                return self.transfer(setup)
            case Pause():
                self.wait(event.duration_s)
            case ResetPort():
                self.device.bus_reset(self.now)
            case Milestone():
                pass
        return b""

    def run(self, conversation: Conversation[_T]) -> _T:
        """Drive a conversation to its end."""
        return run(conversation, self.answer)

    def say(self, text: str) -> str:
        """Make one transfer, written as in a trace, and return what came in the same spelling."""
        raw = hexadecimal(text)
        reply = self.transfer(Setup.decode(raw[:8]), raw[8:])
        return reply.hex(" ") if isinstance(reply, bytes) else reply.name

    def trace(self, text: str) -> None:
        """Play a trace: a transfer a line with the answer behind an arrow; ``pause`` with a number of seconds."""
        for line in text.strip().splitlines():
            said, _, wanted = line.partition("#")[0].partition("->")
            if not said.strip():
                continue
            if said.split()[0] == "pause":
                self.wait(float(said.split()[1]))
                continue
            came = self.say(said)
            wanted = wanted.strip()
            if wanted not in Trouble.__members__:
                wanted = hexadecimal(wanted.replace("ok", "")).hex(" ")
            assert came == wanted, f"{said.strip()}: {came}, not {wanted}"

    def command(self, payload: str) -> str:
        """Carry a DfuSe command out, and return the status at its end."""
        size = len(hexadecimal(payload))
        if (came := self.say(f"21 01 00 00 00 00 {size:02x} 00 {payload}")) != "":
            return came
        return self.settle()

    def write(self, address: int, data: bytes) -> str:
        """Write a block at an address, and return the status at its end."""
        came = self.command(f"21 {address.to_bytes(4, 'little').hex()}")
        if came.split()[4:5] != ["05"]:
            return came
        size = len(data).to_bytes(2, "little").hex()
        if (came := self.say(f"21 01 02 00 00 00 {size} {data.hex()}")) != "":
            return came
        return self.settle()

    def settle(self) -> str:
        """Poll until the device is no longer busy; return what it said last."""
        while True:
            came = self.say(STATUS)
            raw = came.split()
            if raw[4:5] not in (["03"], ["04"]):
                return came
            self.wait(int.from_bytes(bytes.fromhex("".join(raw[1:4])), "little") / 1000)
