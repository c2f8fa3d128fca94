"""Runs the programs that are measured, and reads what they cost."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from firmwarden.cli.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BIN: Final = Path(sys.executable).parent
FIRMWARDEN: Final = str(BIN / "firmwarden")
HERE: Final = Path(__file__).parent
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(HERE.parent)}


class BenchFailed(Exception):
    """A program did not do its work, so nothing was measured."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one or several processes cost."""

    wall_s: float
    cpu_s: float
    rss_mib: float


def run_all(commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None) -> Usage:
    """Run commands at the same time, to their ends."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | (environment or {}),
            )
            for command in commands
        ]
        cpu_s = rss_kib = 0.0
        failed = 0
        for process in processes:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            failed += process.returncode != 0
            cpu_s += used.ru_utime + used.ru_stime
            rss_kib += used.ru_maxrss
        wall_s = time.monotonic() - began
        if failed:
            output.seek(0)
            text = output.read().decode(errors="replace")
            raise BenchFailed(f"{failed} of {len(commands)} failed: {' '.join(commands[0])}\n{text[-2_000:]}")
    return Usage(wall_s, cpu_s, rss_kib / 1024)


def firmwarden_update(image: Path, port: str, baud: int = 115_200) -> list[str]:
    """The command of ours that updates one device, behind a serial port or TCP."""
    target = ["--serial", port, "--baud", str(baud)] if port.startswith("/") else ["--tcp", port]
    return [str(BIN / "firmwarden"), "update", str(image), *target]


def pymdfu_update(image: Path, port: str, baud: int = 115_200) -> list[str]:
    """The same with Microchip's host."""
    host, _, number = port.rpartition(":")
    tool = (
        ["serial", "--port", port, "--baudrate", str(baud)]
        if port.startswith("/")
        else ["network", "--host", host, "--port", number]
    )
    return [str(BIN / "pymdfu"), "update", "--image", str(image), "--tool", *tool]


class Clients:
    """Light clients in a process of their own."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self.directory = directory
        self.ports: list[str] = json.loads(self._line())

    @classmethod
    @contextmanager
    def running(
        cls, place: Path, *, count: int, chunk: int, baud: int | None = None, tcp: bool = False
    ) -> Iterator[Self]:
        """Start them and wait until their ports are there."""
        with tempfile.TemporaryDirectory(dir=place) as name:
            command = [
                sys.executable,
                "-m",
                "bench.light_client",
                name,
                f"--count={count}",
                f"--chunk={chunk}",
            ]
            if baud is not None:
                command.append(f"--baud={baud}")
            if tcp:
                command.append("--tcp")
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
            ) as process:
                yield cls(process, Path(name))
                assert process.stdin is not None
                process.stdin.close()

    def updated(self, image: bytes, *, each: int = 1) -> list[dict[str, float]]:
        """Return what the devices saw since the last call, after making sure that all of them got the image."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        reports: list[dict[str, float]] = json.loads(self._line())
        expected = (each, 0, len(image), zlib.crc32(image))
        for port, report in zip(self.ports, reports, strict=True):
            got = (report["updates"], report["resends"], report["size"], report["crc"])
            if got != expected:
                raise BenchFailed(f"{port}: updates, resends, size and CRC are {got}, not {expected}")
        return reports

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("the light clients died")
        return line


class DaemonRun:
    """The real daemon in a process of its own, watched through its log."""

    def __init__(self, place: Path, clients: Clients, program: Sequence[str]) -> None:
        self._firmware = place / "firmware"
        self._firmware.mkdir()
        self.socket = place / "control.sock"
        config = place / "firmwarden.toml"
        config.write_text(
            f"""
[firmwarden]
firmware_dir = "{self._firmware}"
state_dir = "{place}/state"
socket = "{self.socket}"
parallel = {len(clients.ports)}

[[device]]
name = "light"
driver = "mdfu"
match = {{ path = "{clients.directory}/light-*" }}
baud = 115200
require_signature = false
""",
            encoding="utf-8",
        )
        began = time.monotonic()
        self._process = subprocess.Popen(
            [*program, "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
        )
        self.wait_for("daemon-ready")
        self.ready_s = time.monotonic() - began

    @classmethod
    @contextmanager
    def running(cls, place: Path, clients: Clients, program: Sequence[str] | None = None) -> Iterator[Self]:
        """Start the daemon, wait until it is ready, and stop it in the end."""
        with tempfile.TemporaryDirectory(dir=place) as name:
            run = cls(Path(name), clients, program or [FIRMWARDEN, "run"])
            try:
                yield run
            finally:
                run.stop()

    def wait_for(self, event: str, count: int = 1) -> None:
        """Read the log until an event was told so often."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if not line.startswith("{"):
                raise BenchFailed(f"the daemon breaks down: {line}")
            told: dict[str, Any] = json.loads(line)
            if told["event"] in {"attempt-failed", "update-failed", "update-unknown", "store-failed"}:
                raise BenchFailed(f"the daemon tells: {line}")
            count -= told["event"] == event
            if count == 0:
                return
        raise BenchFailed(f"the daemon died before it told {event}")

    def drop(self, image: bytes) -> None:
        """Put a release where the daemon looks."""
        (self._firmware / "light.bin").write_bytes(image)
        half = self._firmware / ".light.toml"
        half.write_text(_manifest(image), encoding="utf-8")
        half.rename(self._firmware / "light.toml")

    def scrape(self) -> int:
        """Ask for its metrics as Prometheus does, and return how many bytes came."""
        connection = HTTPConnection("localhost")
        with socket.socket(socket.AF_UNIX) as connection.sock:
            connection.sock.connect(str(self.socket))
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise BenchFailed(f"a scrape was answered {answer.status}")
            return len(answer.read())

    def first_device(self) -> str:
        """Return the id of one of its devices."""
        found: str = Client(self.socket).get("devices")["devices"][0]["id"]
        return found

    @property
    def cpu_s(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def memory_mib(self, kind: str) -> float:
        """Resident memory: ``VmRSS`` now, ``VmHWM`` at its highest."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(status.partition(f"{kind}:")[2].split()[0]) / 1024

    def stop(self) -> None:
        """End it as a service manager does."""
        self._process.terminate()
        self._process.communicate(timeout=60)


def _manifest(image: bytes) -> str:
    return f"""
[release]
device = "light"
version = "1.0.0"
image = "light.bin"
sha256 = "{hashlib.sha256(image).hexdigest()}"
size = {len(image)}
"""
