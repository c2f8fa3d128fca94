"""A running simulator on real ptys or sockets: its events, its report, and a host that opens its ports."""

from __future__ import annotations

import json
import os
import sys
import termios
import tty
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Self

import anyio

from firmwarden.simulate.server import Simulator
from firmwarden.simulate.settings import PtyPlaces, SimulatorSettings, TcpPlaces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path
    from types import TracebackType

    from firmwarden.simulate.report import DeviceReport
    from firmwarden.simulate.settings import DeviceSettings


@dataclass
class Running:
    """A simulator in this process."""

    simulator: Simulator | None = None
    events: list[dict[str, object]] = field(default_factory=list)
    _news: anyio.Event = field(default_factory=anyio.Event)

    def notify(self, event: dict[str, object]) -> None:
        self.events.append(event)
        self._news.set()
        self._news = anyio.Event()

    async def until(self, kind: str, times: int = 1) -> dict[str, object]:
        """Wait until something has happened so many times."""
        while True:
            found = [event for event in self.events if event["event"] == kind]
            if len(found) >= times:
                return found[times - 1]
            await self._news.wait()

    def address(self, number: int = 0) -> str:
        assert self.simulator is not None
        return self.simulator.ports[number].address


@asynccontextmanager
async def simulated(
    *devices: DeviceSettings,
    places: PtyPlaces | TcpPlaces,
    report: Path | None = None,
    flash_directory: Path | None = None,
) -> AsyncGenerator[Running]:
    """Run a simulator in this process."""
    running = Running()
    settings = SimulatorSettings(
        devices=devices, places=places, report=report, flash_directory=flash_directory
    )
    async with Simulator(settings, running.notify) as running.simulator:
        yield running


class Tty:
    """A host that has a port open."""

    def __init__(self, path: str, speed: int = termios.B115200) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.fd)
        attributes = termios.tcgetattr(self.fd)
        attributes[4] = attributes[5] = speed
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def send(self, data: bytes) -> int:
        """Write what the port takes."""
        return os.write(self.fd, data)

    async def receive(self, size: int = 1) -> bytes:
        """Return at least so many bytes, fewer when the port vanishes."""
        data = b""
        while len(data) < size:
            await anyio.wait_readable(self.fd)
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                return data
            if not piece:
                return data
            data += piece
        return data


class Process:
    """A simulator in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "firmwarden", "simulate", "mdfu", *arguments]
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        self.ready = self.next_event()
        assert self.ready["event"] == "ready"

    @property
    def addresses(self) -> list[str]:
        devices = self.ready["devices"]
        assert isinstance(devices, list)
        return [device["address"] for device in devices]

    def next_event(self) -> dict[str, object]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the simulator ended"
        event: dict[str, object] = json.loads(line)
        return event

    def until(self, kind: str) -> dict[str, object]:
        """Return the next event of a kind."""
        while True:
            event = self.next_event()
            if event["event"] == kind:
                return event


@contextmanager
def simulator_process(*arguments: str) -> Generator[Process]:
    """Run a simulator in a process of its own; what it leaves behind is the test's."""
    simulator = Process(*arguments)
    with simulator.process:
        try:
            yield simulator
        finally:
            simulator.process.terminate()


def read_report(path: Path) -> list[DeviceReport]:
    """Return the report's devices."""
    devices: list[DeviceReport] = json.loads(path.read_text())["devices"]
    return devices
