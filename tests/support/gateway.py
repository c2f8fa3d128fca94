"""A gateway as its user has it: a configuration, a firmware directory, the daemon, the command line, and devices."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from firmwarden.cli.client import Client
from firmwarden.events import CATALOGUE, LogEvent
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES
from support.processes import PATIENCE_S, Process, Record, close_all
from support.signing import signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from firmwarden.images.secret_key import SecretKey
    from firmwarden.service.views import DeviceView, JobView
    from firmwarden.simulate.dfu.report import DfuReport
    from firmwarden.simulate.report import DeviceReport

PROGRAM: Final = (sys.executable, "-m", "firmwarden")

OLD: Final = "1.0.0"
NEW: Final = "2.0.0"

SEND: Final = r'enter = { method = "send", send = "BOOTLOADER!\n", expect = "OK", timeout = "300ms" }'
QUERY: Final = r"""version_query = { send = "VERSION?\n", expect = 'VERSION (\S+)\s', timeout = "500ms" }"""
QUICK: Final = """\
settle = "150ms"
boot_delay = "200ms"
mdfu = { discovery = "1s" }
retry = { back_off = "100ms", back_off_max = "500ms" }"""
"""Simulated devices start in a tenth of a second, and nothing is gained by waiting for them as for real ones."""
USUAL: Final = (SEND, QUERY, QUICK)

LOADER: Final = ("--version", OLD, "--stay-in-loader")
"""Options for devices that are met without the daemon: the command line knows no way into a loader."""


def device_class(name: str, match: str, *more: str, signed: bool = False) -> str:
    """Write a class; ``more`` is in place of what is usual for simulated devices."""
    return "\n".join(
        (
            "[[device]]",
            f'name = "{name}"',
            'driver = "mdfu"',
            f"match = {{ {match} }}",
            f"require_signature = {json.dumps(signed)}",
            *(more or USUAL),
            "",
        )
    )


def key_table(name: str, key: SecretKey, *more: str) -> str:
    """Write a key that is trusted for every class."""
    public = key.public.encode()
    return "\n".join(("[[key]]", f'name = "{name}"', f'public = "{public}"', 'classes = ["*"]', *more, ""))


def image(version: str = NEW, *, size: int = 16_384, profile: str = "generic") -> bytes:
    """Make an update file that simulated devices take."""
    return make_update_file(PROFILES[profile], version, size=size)


class Rack:
    """Simulated devices in one process."""

    def __init__(self, place: Path, name: str, *options: object, tcp: bool = False) -> None:
        """Start them.

        Args:
            place: gets a directory of their ports, and their report.
            name: of the rack, and the start of the devices' names.
            options: of ``firmwarden simulate mdfu``.
            tcp: on TCP ports in place of ptys.
        """
        self.ports = place / name
        self._report = place / f"{name}.json"
        where = ("--tcp", "127.0.0.1:0") if tcp else ("--dir", self.ports)
        self.process = Process(
            name,
            *(*PROGRAM, "simulate", "mdfu", "--stop-with-stdin", "--report", self._report),
            *("--name", f"{name}-{{serial}}", "--flash-time", 0.02, *where, *options),
        )
        devices = self.process.wait_for("ready")["devices"]
        self.addresses: dict[str, str] = {device["name"]: device["address"] for device in devices}

    @property
    def match(self) -> str:
        """What of a class matches them."""
        if self.ports.exists():
            return f'path = "{self.ports}/{self.process.name}-*"'
        return f"tcp = {json.dumps(list(self.addresses.values()))}"

    def names(self) -> dict[str, str]:
        """Return the names of the devices by what the daemon calls their ports."""
        return {
            address if address.startswith("/") else f"tcp-{address}": name
            for name, address in self.addresses.items()
        }

    def wait_for(self, event: str, name: str, *, after: int = 0, **keys: Any) -> Record:  # noqa: ANN401
        """Wait for something that happens to a device."""
        return self.process.wait_for(event, device=name, after=after, **keys)

    def report(self) -> dict[str, DeviceReport]:
        """Stop them, and return what they say of themselves: the truth."""
        if self.process.running:
            self.process.stop()
        return self.told()

    def told(self) -> dict[str, DeviceReport]:
        """Return what they last said of themselves, a tenth of a second ago at most."""
        devices: list[DeviceReport] = json.loads(self._report.read_text())["devices"]
        return {device["name"]: device for device in devices}


class SimulatedUsb:
    """Simulated devices within the daemon, in place of the USB."""

    def __init__(self, place: Path, *devices: Mapping[str, object]) -> None:
        self.file = place / "usb.toml"
        self._report = place / "usb.json"
        self._names = {f"usb-sim-{device['port']}": str(device["name"]) for device in devices}
        tables = [
            "\n".join(["[[device]]", *(f"{key} = {_toml(value)}" for key, value in device.items())])
            for device in devices
        ]
        self.file.write_text("\n\n".join([f'report = "{self._report.name}"', *tables]), encoding="utf-8")

    def names(self) -> dict[str, str]:
        """Return the names of the devices by what the daemon calls their ports."""
        return self._names

    def told(self) -> dict[str, DfuReport]:
        """Return what they last said of themselves; the truth, when the daemon has ended."""
        devices: list[DfuReport] = json.loads(self._report.read_text())["devices"]
        return {device["name"]: device for device in devices}


class Gateway:
    """Everything in one directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.firmware = place / "firmware"
        self.state = place / "state"
        self.socket = place / "control.sock"
        self.config = place / "firmwarden.toml"
        self.client = Client(self.socket)
        self.daemons: list[Process] = []
        """All that ran, the current one last."""
        self.racks: list[Rack] = []
        self.usb: SimulatedUsb | None = None
        self._others: list[Process] = []
        self._environment = {"FIRMWARDEN_SOCKET": str(self.socket), "COLUMNS": "1000"}
        self.firmware.mkdir()

    def rack(self, name: str, *options: object, tcp: bool = False) -> Rack:
        """Start simulated devices."""
        self.racks.append(Rack(self.place, name, *options, tcp=tcp))
        return self.racks[-1]

    def plug(self, *devices: Mapping[str, object]) -> SimulatedUsb:
        """Have simulated devices in place of the USB, described as in a file for them."""
        self.usb = SimulatedUsb(self.place, *devices)
        return self.usb

    def configure(self, *classes: str, **settings: object) -> None:
        """Write the configuration."""
        table = {
            "firmware_dir": str(self.firmware),
            "state_dir": str(self.state),
            "socket": str(self.socket),
            **settings,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        self.config.write_text("\n".join(("[firmwarden]", *lines, "", *classes)), encoding="utf-8")

    def drop(
        self,
        device: str,
        version: str,
        content: bytes,
        *,
        name: str | None = None,
        sequence: int | None = None,
        by: SecretKey | None = None,
    ) -> str:
        """Drop a release as one should: image, signature, manifest, each renamed into place; return its hash."""
        name = name or f"{device}-{version}"
        digest = hashlib.sha256(content).hexdigest()
        put(self.firmware / f"{name}.img", content)
        said = manifest(device, version, f"{name}.img", content, sequence=sequence).encode()
        if by is not None:
            put(self.firmware / f"{name}.toml.minisig", signature(said, by))
        put(self.firmware / f"{name}.toml", said)
        return digest

    # --- the daemon

    @property
    def daemon(self) -> Process:
        return self.daemons[-1]

    def launch(self) -> Process:
        """Start the daemon, and do not wait for anything."""
        number = len(self.daemons) + 1
        usb = () if self.usb is None else ("--simulated-usb", self.usb.file)
        self.daemons.append(Process(f"daemon {number}", *PROGRAM, "run", "--config", self.config, *usb))
        return self.daemon

    def start(self) -> Process:
        """Start the daemon and wait until it is ready."""
        self.launch().wait_for("daemon-ready")
        return self.daemon

    def reload(self, outcome: str = "config-reloaded") -> Record:
        """Have it read its configuration anew."""
        mark = self.daemon.mark
        self.daemon.send(signal.SIGHUP)
        return self.daemon.wait_for(outcome, after=mark)

    # --- asking and telling

    def command(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command of the program."""
        return subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=os.environ | self._environment,
        )

    def begin(self, *arguments: object) -> Process:
        """Start a command of the program beside everything else."""
        words = [str(each) for each in arguments]
        self._others.append(
            Process(" ".join(("firmwarden", *words)), *PROGRAM, *words, env=self._environment)
        )
        return self._others[-1]

    def devices(self) -> list[DeviceView]:
        """List what the daemon knows."""
        found: list[DeviceView] = self.client.get("devices")["devices"]
        return found

    def device(self, name: str) -> DeviceView:
        """Look one up by the name that the simulator gave it."""
        racks = [*self.racks, *([self.usb] if self.usb is not None else ())]
        port = next(port for rack in racks for port, known in rack.names().items() if known == name)
        return next(device for device in self.devices() if device["port"] == port)

    def id(self, name: str) -> str:
        """Return what the daemon calls a device."""
        return self.device(name)["id"]

    def why(self, name: str) -> Any:  # noqa: ANN401  (JSON)
        return self.client.get("devices", self.id(name), "why")

    def job(self, name: str, *states: str) -> JobView:
        """Wait until the job of a device is in one of these states, and return it."""

        def reached() -> JobView | None:
            job = self.device(name)["job"]
            return job if job is not None and job["state"] in states else None

        return self.daemon.until(reached, f"a job of {name} that is {' or '.join(states)}")

    def runs(self, name: str, version: str) -> None:
        """Wait until a device is known to run a version."""
        self.daemon.until(
            lambda: self.device(name)["running_version"] == version, f"{name} running {version}"
        )

    # --- the end

    def close(self) -> None:
        """Stop everything, show what was said, and hold the logs to the catalogue."""
        close_all([*(rack.process for rack in self.racks), *self._others, *self.daemons])
        assert_catalogued(line for daemon in self.daemons for line in daemon.lines)


def _toml(value: object) -> str:
    """Write a value; what is nested in arrays and tables is so in JSON too, but for the tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def manifest(device: str, version: str, name: str, content: bytes, *, sequence: int | None = None) -> str:
    """Write the manifest of an image."""
    return "\n".join(
        (
            "[release]",
            f'device = "{device}"',
            f'version = "{version}"',
            *(() if sequence is None else (f"sequence = {sequence}",)),
            f'image = "{name}"',
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
            f"size = {len(content)}",
            "",
        )
    )


def put(path: Path, content: bytes) -> None:
    """Write a file so that nobody meets half of it."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def assert_catalogued(lines: Iterable[str]) -> None:
    """Hold each line of a daemon's log to the catalogue: its event is there, with its level and no other keys."""
    faults = set()
    for line in lines:
        if not line.startswith("{"):
            continue  # what is said before there is a log
        record = json.loads(line)
        try:
            entry = CATALOGUE[LogEvent(record["event"])]
        except ValueError:
            faults.add(f"{record['event']} is not in the catalogue")
            continue
        if record["level"] != entry.level:
            faults.add(f"{record['event']} is {record['level']}, and {entry.level} in the catalogue")
        faults |= {
            f"{record['event']} has {key}, which the catalogue lacks"
            for key in record.keys() - {"event", "level", "timestamp", *entry.keys}
        }
    assert not faults, "\n".join(sorted(faults))
