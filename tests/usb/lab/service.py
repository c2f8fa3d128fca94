"""The service as its user has it: a unit of systemd's, a configuration in /etc, a journal."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from firmwarden.cli.client import DEFAULT_CONFIG, DEFAULT_SOCKET, Client
from lab.waiting import until
from support.gateway import assert_catalogued, manifest, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.service.views import DeviceView, JobView
    from support.processes import Record

UNIT: Final = "firmwarden.service"
SOCKET_UNIT: Final = "firmwarden.socket"
STATE: Final = Path("/var/lib/firmwarden")
FIRMWARE: Final = STATE / "firmware"
_LEVELS: Final = {"3": "error", "4": "warning", "6": "info", "7": "debug"}
"""syslog(3)"""
_DROP_IN: Final = Path("/etc/systemd/system/firmwarden.service.d/test.conf")
_SOCKET_DROP_IN: Final = Path("/etc/systemd/system/firmwarden.socket.d/test.conf")


def systemctl(*words: str) -> str:
    """Ask or tell the service manager."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"systemctl {' '.join(words)}: {done.stderr}\n{journal_of(UNIT)}"
    return done.stdout.strip()


def journal_of(unit: str, *options: str) -> str:
    """Return what a unit wrote, and what systemd says of it."""
    command = ["journalctl", "--unit", unit, "--output=cat", "--quiet", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _drop_in(path: Path, section: str, lines: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((f"[{section}]", *lines, "")))
    systemctl("daemon-reload")


def _record(entry: Mapping[str, str | list[int]]) -> Record:
    """Take an event out of an entry of the journal, which keeps texts: what was a number or a list is one again."""
    fields = {
        # What is not printable comes as its bytes: journalctl(1), --output=json.
        name.removeprefix("FIRMWARDEN_").lower(): value if isinstance(value, str) else bytes(value).decode()
        for name, value in entry.items()
        if name.startswith("FIRMWARDEN_")
    }
    return {"level": _LEVELS[str(entry["PRIORITY"])], **{name: _value(text) for name, text in fields.items()}}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Service:
    """One life of the gateway, from an empty state directory on."""

    def __init__(self) -> None:
        self.client = Client(DEFAULT_SOCKET)
        shown = subprocess.run(
            ["journalctl", "--lines=0", "--show-cursor"], capture_output=True, text=True, check=True
        )
        # Not --after-cursor: with a filter it leaves out the first that is found, for what the cursor is at.  That is
        # systemd's, about the end of the test before.
        self._since = f"--cursor={shown.stdout.partition('cursor: ')[2].strip()}"
        for each in STATE.glob("*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        # Releases may lie there before the service starts; it is systemd that gives the directory to its user.
        FIRMWARE.mkdir(parents=True)

    # --- the unit

    def configure(self, *classes: str, **settings: object) -> None:
        """Write the configuration."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        DEFAULT_CONFIG.parent.mkdir(exist_ok=True)
        DEFAULT_CONFIG.write_text("\n".join(("[firmwarden]", *lines, "", *classes)), encoding="utf-8")

    def unit(self, *lines: str) -> None:
        """Change the unit as an operator would, with a drop-in; without lines, back to what ships."""
        _drop_in(_DROP_IN, "Service", lines)

    @contextmanager
    def socket(self, *lines: str) -> Iterator[None]:
        """Have systemd hold the socket, by a unit with these lines in a drop-in."""
        self.stop()
        _drop_in(_SOCKET_DROP_IN, "Socket", lines)
        systemctl("start", SOCKET_UNIT)
        try:
            yield
        finally:
            self.stop()
            systemctl("stop", SOCKET_UNIT)
            _drop_in(_SOCKET_DROP_IN, "Socket", ())

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        systemctl("start", UNIT)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        systemctl("stop", UNIT)

    def kill(self) -> None:
        """Kill the daemon, and wait until systemd has started it again and it is ready."""
        killed = int(self.property("NRestarts"))
        os.kill(int(self.property("MainPID")), signal.SIGKILL)
        self.restarted(killed + 1)

    def restarted(self, times: int) -> None:
        """Wait until systemd has started it again so often, in all, and it is ready: before, nobody answers."""
        until(lambda: int(self.property("NRestarts")) >= times, "a restart")
        until(lambda: self.property("ActiveState") == "active", "a daemon that is ready")

    def property(self, name: str, unit: str = UNIT) -> str:
        """Ask systemd for a property of the unit."""
        return systemctl("show", "--property", name, "--value", unit)

    def close(self) -> None:
        """Stop it, and hold its journal to what must be true of every run."""
        self.stop()
        if _DROP_IN.exists():
            _DROP_IN.unlink()
            systemctl("daemon-reload")
        journal = self.journal()
        print(journal)
        assert "Traceback" not in journal
        records = self.records()
        assert [record["exception"] for record in records if "exception" in record] == []
        assert_catalogued(json.dumps(record) for record in records)

    # --- what it says

    def journal(self, *matches: str) -> str:
        """Return its journal since the start of the test, as people read it."""
        return journal_of(UNIT, self._since, *matches)

    def records(self, *matches: str) -> list[Record]:
        """Return the events in it, made of the fields that the journal keeps."""
        entries = journal_of(UNIT, self._since, "--output=json", "--all", *matches).splitlines()
        return [_record(entry) for line in entries if "FIRMWARDEN_EVENT" in (entry := json.loads(line))]

    def said(self, event: str, **keys: object) -> list[Record]:
        """List the events of this name with these keys."""
        return [
            record
            for record in self.records(f"FIRMWARDEN_EVENT={event}")
            if all(record.get(key) == value for key, value in keys.items())
        ]

    def wait_for(self, event: str, *, count: int = 1, **keys: object) -> Record:
        """Wait until an event was logged, for the first time or more often, and return that."""

        def found() -> Record | None:
            records = self.said(event, **keys)
            return records[count - 1] if len(records) >= count else None

        return until(found, f"{event} {keys}")

    # --- what it knows

    def devices(self) -> list[DeviceView]:
        """List the devices that it knows."""
        found: list[DeviceView] = self.client.get("devices")["devices"]
        return found

    def device(self) -> DeviceView:
        """Return the only one."""
        (device,) = self.devices()
        return device

    def why(self) -> Any:  # noqa: ANN401  (JSON)
        """Ask why the only device is as it is."""
        return self.client.get("devices", self.device()["id"], "why")

    def job(self, *states: str) -> JobView:
        """Wait until the job of the only device is in one of these states, and return it."""

        def reached() -> JobView | None:
            found = self.devices()
            job = found[0]["job"] if found else None
            return job if job is not None and job["state"] in states else None

        return until(reached, f"a job that is {' or '.join(states)}")

    def runs(self, version: str, *, count: int = 1) -> None:
        """Wait until so many devices are known to run a version."""
        until(
            lambda: [each["running_version"] for each in self.devices()] == [version] * count,
            f"{count} device(s) running {version}",
        )

    def drop(self, device: str, version: str, content: bytes) -> str:
        """Drop a release: the image, then its manifest; return the image's hash."""
        name = f"{device}-{version}"
        put(FIRMWARE / f"{name}.img", content)
        put(FIRMWARE / f"{name}.toml", manifest(device, version, f"{name}.img", content).encode())
        return hashlib.sha256(content).hexdigest()
