"""Where a demo is played: a directory, the real daemon in it, simulated devices as processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from firmwarden.app.signing import make_key, read_key, sign
from firmwarden.cli.client import Client, Unreachable
from firmwarden.cli.demo.role import BAUD, OLD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firmwarden.cli.demo.role import Role

STARTING_S: Final = 15.0
USUAL_PORT: Final = 8642
"""That of the configuration's example."""
ENDING_S: Final = 20.0
_PLACE_OF_PACKAGE: Final = str(Path(__file__).parents[3])
"""Told to what the demo starts: as a Debian package it is where no Python looks by itself."""


class Stage:
    """A directory of its own, and what runs in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.firmware = place / "firmware"
        self.config = place / "firmwarden.toml"
        self.usb = place / "usb.toml"
        self.client = Client(place / "control.sock")
        self.port = _free_port()
        self._public_key = make_key(place / "demo", None).encode()
        self._key = read_key(place / "demo.key", lambda: b"")

    def prepare(self, classes: str, usb: str) -> None:
        """Write what the daemon reads: its configuration and what is on the USB."""
        self.usb.write_text(usb, encoding="utf-8")
        self.firmware.mkdir()
        self.configure(classes)

    def configure(self, classes: str) -> None:
        """Write the configuration with these classes, for the next start."""
        configuration = f"""\
[firmwarden]
firmware_dir = "{self.firmware}"
state_dir = "{self.place / "state"}"
socket = "{self.place / "control.sock"}"
listen = "127.0.0.1:{self.port}"
grace = 0
scan_interval = "500ms"

[[key]]
name = "demo"
public = "{self._public_key}"
classes = ["*"]

{classes}"""
        self.config.write_text(configuration, encoding="utf-8")

    @contextmanager
    def process(self, *arguments: str, log: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command of this program; its standard error goes to a file, its input ends when we do."""
        with (self.place / log).open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "firmwarden", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONPATH": _PLACE_OF_PACKAGE},
            )
        with process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(ENDING_S)
                except subprocess.TimeoutExpired:
                    process.kill()

    @contextmanager
    def simulator(
        self, roles: Sequence[Role], profile: str, *where: str, report: str
    ) -> Iterator[dict[str, str]]:
        """Start the devices of one class; yields the name of each by its address."""
        name = roles[0].name.removesuffix("0001") + "{serial}"
        faults = [
            argument
            for number, role in enumerate(roles, 1)
            if role.fault
            for argument in ("--fault", f"{number}:{role.fault}")
        ]
        with self.process(
            *("simulate", "mdfu", *where, "--name", name, "--count", str(len(roles)), "--profile", profile),
            *(
                "--stop-with-stdin",
                "--version",
                OLD,
                "--paced",
                str(BAUD),
                "--flash-time",
                "0.1",
                "--report",
                str(self.place / f"{report}.json"),
                *faults,
            ),
            log=f"{report}.log",
        ) as process:
            assert process.stdout is not None  # noqa: S101  (it is a pipe)
            line = process.stdout.readline()
            if not line:
                raise click.ClickException(
                    f"The simulated devices do not start; see {self.place / f'{report}.log'}."
                )
            yield {str(each["address"]): str(each["name"]) for each in json.loads(line)["devices"]}

    @contextmanager
    def daemon(self, devices: int) -> Iterator[subprocess.Popen[str]]:
        """Run the daemon; yields when it is ready and has found so many devices."""
        command = ("run", "--config", str(self.config), "--simulated-usb", str(self.usb))
        with self.process(*command, log="daemon.log") as process:
            deadline = time.monotonic() + STARTING_S
            while not self._is_ready(devices):
                if time.monotonic() > deadline:
                    raise click.ClickException(
                        f"The daemon does not start, or does not find its devices; see {self.place / 'daemon.log'}."
                    )
                time.sleep(0.05)
            yield process

    def _is_ready(self, devices: int) -> bool:
        try:
            ready = self.client.get("status")["state"] == "ready"
            # What has just been plugged in is not on the bus at once.
            return ready and len(self.client.get("devices")["devices"]) == devices
        except Unreachable:
            return False

    def drop(self, device_class: str, version: str, image: bytes) -> None:
        """Drop a release as one should: the image, the signature, then the manifest, each renamed into place."""
        name = f"{device_class}-{version}"
        manifest = f"""\
[release]
device = "{device_class}"
version = "{version}"
image = "{name}.img"
sha256 = "{hashlib.sha256(image).hexdigest()}"
size = {len(image)}
"""
        made = self.place / f"{name}.toml"
        made.write_text(manifest, encoding="utf-8")
        _put(self.firmware / f"{name}.img", image)
        for each in (sign(made, self._key), made):
            _put(self.firmware / each.name, each.read_bytes())


def _free_port() -> int:
    """Find a port for the status page: the usual one, or any other."""
    for port in (USUAL_PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise click.ClickException("There is no free TCP port on the loopback interface.")


def _put(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
