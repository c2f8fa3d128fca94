"""The service as its user has it: a unit of systemd's, a configuration in /etc, a journal."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from firmwarden.cli.client import DEFAULT_CONFIG, DEFAULT_SOCKET, Client
from lab.waiting import until
from support.gateway import assert_catalogued, manifest, put

if TYPE_CHECKING:
    from firmwarden.service.views import DeviceView, JobView
    from support.processes import Record

UNIT: Final = "firmwarden.service"
STATE: Final = Path("/var/lib/firmwarden")
FIRMWARE: Final = STATE / "firmware"
_DROP_IN: Final = Path("/etc/systemd/system/firmwarden.service.d/test.conf")


def systemctl(*words: str) -> str:
    """Ask or tell the service manager."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"systemctl {' '.join(words)}: {done.stderr}\n{journal_of(UNIT)}"
    return done.stdout.strip()


def journal_of(unit: str, *options: str) -> str:
    """Return what a unit wrote, and what systemd says of it."""
    command = ["journalctl", "--unit", unit, "--output=cat", "--quiet", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Service:
    """One life of the gateway, from an empty state directory on."""

    def __init__(self) -> None:
        self.client = Client(DEFAULT_SOCKET)
        shown = subprocess.run(
            ["journalctl", "--lines=0", "--show-cursor"], capture_output=True, text=True, check=True
        )
        self._since = f"--after-cursor={shown.stdout.partition('cursor: ')[2].strip()}"
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
        _DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        _DROP_IN.write_text("\n".join(("[Service]", *lines, "")))
        systemctl("daemon-reload")

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        systemctl("start", UNIT)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        systemctl("stop", UNIT)

    def property(self, name: str) -> str:
        """Ask systemd for a property of the unit."""
        return systemctl("show", "--property", name, "--value", UNIT)

    def close(self) -> None:
        """Stop it, and hold its journal to what must be true of every run."""
        self.stop()
        if _DROP_IN.exists():
            _DROP_IN.unlink()
            systemctl("daemon-reload")
        journal = self.journal()
        print(journal)
        assert "Traceback" not in journal
        assert_catalogued(journal.splitlines())

    # --- what it says

    def journal(self) -> str:
        """Return its journal since the start of the test."""
        return journal_of(UNIT, self._since)

    def said(self, event: str, **keys: object) -> list[Record]:
        """List the events of this name with these keys."""
        records = [json.loads(line) for line in self.journal().splitlines() if line.startswith("{")]
        return [
            record
            for record in records
            if record["event"] == event and all(record.get(key) == value for key, value in keys.items())
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
