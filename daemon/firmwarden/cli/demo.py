"""``demo``: the real daemon updates simulated devices that misbehave, and every outcome is checked.

Nothing is staged: the daemon is the process that ``firmwarden run`` starts, with its own state on disk; the devices
are processes of ``firmwarden simulate`` behind ptys and TCP ports; a release is two files dropped into a
directory.  What became of each device is judged twice, by what the daemon says and by what the device itself runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from firmwarden.cli.client import Client, Unreachable
from firmwarden.cli.screen import open_screen, speak_to_nobody
from firmwarden.cli.text import duration, paragraph, printable, share, table, utc_now, width
from firmwarden.cli.why import why_lines
from firmwarden.simulate.firmware import make_update_file
from firmwarden.simulate.profile import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.cli.screen import Screen
    from firmwarden.service.views import DeviceView

PATIENCE_S: Final = 50.0
"""The whole takes a quarter of this; a machine under load is slower."""
STARTING_S: Final = 15.0
ENDING_S: Final = 20.0
OLD: Final = "1.4.0"
NEW: Final = "2.0.0"
IMAGE_SIZE: Final = 64 * 1024
_BAUD: Final = 230_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One device of the demo and what should become of it."""

    name: str
    story: str
    fault: str = ""
    ends: str = "succeeded"
    attempts: int = 1
    cause: str | None = None


PANELS: Final = (
    Role(name="panel-0001", story="healthy"),
    Role(
        name="panel-0002",
        story="its cable is pulled and its power lost half-way, for a moment",
        fault="cut@rx=33000,back=1,power=lost",
        attempts=2,
    ),
    Role(
        name="panel-0003",
        story="its flash is worn out: it refuses a page and says so",
        fault="abort@chunk=90,cause=write-error,times=always",
        ends="failed",
        cause="write-error",
    ),
    Role(name="panel-0004", story="healthy, on a noisy line", fault="corrupt@p=0.02"),
)
MODULES: Final = (
    Role(name="io-module-0001", story="healthy, over TCP"),
    Role(
        name="io-module-0002", story="over TCP; restarts in the middle", fault="reboot@chunk=200", attempts=2
    ),
)


@click.command()
def demo() -> None:
    """Watch the real daemon update simulated devices, in under a minute.

    Exits with 0 only if every device ended as it should.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        place = Path(tempfile.mkdtemp(prefix="firmwarden-demo-"))
    except OSError as exc:
        raise click.ClickException(f"There is no directory for temporary files: {exc.strerror}.") from exc
    started = time.monotonic()
    kept = False
    try:
        faults = _Demo(place).run()
        kept = bool(faults)
    except click.ClickException:
        kept = True
        raise
    except SystemExit:
        click.echo("Interrupted: the daemon and the devices are stopped, and nothing of them is left.")
        raise
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
    for fault in faults:
        click.secho(printable(f"Not as it should be: {fault}"), fg="red")
    if faults:
        click.echo(f"Everything is left in {place}; the daemon's log is daemon.log.")
        sys.exit(1)
    click.echo(f"Every device ended as it should, in {duration(time.monotonic() - started)}.")


def _interrupted(number: int, _frame: object) -> NoReturn:
    """Leave by way of everything that ends a process or removes a file; once is enough."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        speak_to_nobody()  # the terminal is gone
    sys.exit(128 + number)


class _Demo:
    """One run, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._firmware = place / "firmware"
        self._client = Client(place / "control.sock")
        self._names: dict[str, str] = {}  # the name of each device by its id

    def run(self) -> list[str]:
        """Run it and return what was not as it should be."""
        with ExitStack() as stack:
            modules = stack.enter_context(self._simulator(MODULES, "dspic", "--tcp", "127.0.0.1:0"))
            panels = stack.enter_context(
                self._simulator(PANELS, "generic", "--dir", str(self._place / "ports"))
            )
            self._configure(modules)
            stack.enter_context(self._daemon())
            self._learn_names({**panels, **modules})
            self._introduce()
            self._drop("front-panel", "generic")
            self._drop("io-module", "dspic")
            with open_screen() as screen:
                self._watch(screen)
            devices = self._devices()
            self._conclude(devices)
        return [*self._judge(devices), *self._judge_devices()]

    # --- starting

    @contextmanager
    def _process(self, *arguments: str, log: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command of this program; its standard error goes to a file, its input ends when we do."""
        with (self._place / log).open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "firmwarden", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
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
    def _simulator(self, roles: tuple[Role, ...], profile: str, *where: str) -> Iterator[dict[str, str]]:
        """Start the devices of one class; yields the name of each by its address."""
        report = self._place / f"{profile}.json"
        name = roles[0].name.removesuffix("0001") + "{serial}"
        faults = [
            argument
            for number, role in enumerate(roles, 1)
            if role.fault
            for argument in ("--fault", f"{number}:{role.fault}")
        ]
        with self._process(
            *("simulate", "mdfu", *where, "--name", name, "--count", str(len(roles)), "--profile", profile),
            *(
                "--stop-with-stdin",
                "--version",
                OLD,
                "--paced",
                str(_BAUD),
                "--flash-time",
                "0.1",
                "--report",
                str(report),
                *faults,
            ),
            log=f"{profile}.log",
        ) as process:
            ready = json.loads(self._first_line(process, f"{profile}.log"))
            yield {str(each["address"]): str(each["name"]) for each in ready["devices"]}

    def _first_line(self, process: subprocess.Popen[str], log: str) -> str:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        line = process.stdout.readline()
        if not line:
            raise click.ClickException(f"The simulated devices do not start; see {self._place / log}.")
        return line

    def _configure(self, modules: Mapping[str, str]) -> None:
        endpoints = ", ".join(f'"{address}"' for address in modules)
        common = """\
driver = "mdfu"
enter = { method = "send", send = "BOOTLOADER!\\n", expect = "OK" }
version_query = { send = "VERSION?\\n", expect = 'VERSION (\\S+)\\s' }
boot_delay = "500ms"
"""
        (self._place / "firmwarden.toml").write_text(
            f"""\
[firmwarden]
firmware_dir = "{self._firmware}"
state_dir = "{self._place / "state"}"
socket = "{self._place / "control.sock"}"
grace = 0

[[device]]
name = "front-panel"
match = {{ path = "{self._place / "ports"}/panel-*" }}
baud = {_BAUD}
{common}
[[device]]
name = "io-module"
match = {{ tcp = [{endpoints}] }}
{common}""",
            encoding="utf-8",
        )
        self._firmware.mkdir()

    @contextmanager
    def _daemon(self) -> Iterator[None]:
        with self._process("run", "--config", str(self._place / "firmwarden.toml"), log="daemon.log"):
            deadline = time.monotonic() + STARTING_S
            while not self._is_ready():
                if time.monotonic() > deadline:
                    raise click.ClickException(
                        f"The daemon does not start; see {self._place / 'daemon.log'}."
                    )
                time.sleep(0.05)
            yield

    def _is_ready(self) -> bool:
        try:
            return bool(self._client.get("status")["state"] == "ready")
        except Unreachable:
            return False

    def _learn_names(self, by_address: Mapping[str, str]) -> None:
        by_port = {f"tcp-{address}": name for address, name in by_address.items()} | dict(by_address)
        self._names = {view["id"]: by_port[view["port"]] for view in self._client.get("devices")["devices"]}

    def _drop(self, device_class: str, profile: str) -> None:
        """Drop a release as one should: the image, then its manifest, each renamed into place."""
        image = make_update_file(PROFILES[profile], NEW, size=IMAGE_SIZE)
        _put(self._firmware / f"{device_class}-{NEW}.img", image)
        manifest = f"""\
[release]
device = "{device_class}"
version = "{NEW}"
image = "{device_class}-{NEW}.img"
sha256 = "{hashlib.sha256(image).hexdigest()}"
size = {len(image)}
"""
        _put(self._firmware / f"{device_class}-{NEW}.toml", manifest.encode())

    # --- telling

    def _introduce(self) -> None:
        for line in paragraph(f"The daemon runs, with its state and its log in {self._place}. It found:"):
            click.echo(line)
        rows = [
            (role.name, device, role.story)
            for role in (*PANELS, *MODULES)
            for device, name in self._names.items()
            if name == role.name
        ]
        for line in table(("", "DEVICE", ""), rows, fit=width()):
            click.echo(line)
        for line in paragraph(f"Each runs {OLD}. Release {NEW} is dropped into {self._firmware} now."):
            click.echo(line)
        click.echo()

    def _watch(self, screen: Screen) -> None:
        """Show what happens until every device has come to an end."""
        deadline = time.monotonic() + PATIENCE_S
        for item in self._client.events(0):
            if item is not None:
                self._show(screen, item["data"])
            if time.monotonic() > deadline or ((item is None or item["kind"] == "log") and self._settled()):
                return

    def _settled(self) -> bool:
        jobs = [device["job"] for device in self._devices().values()]
        return all(job is not None and job["state"] in {"succeeded", "failed", "cancelled"} for job in jobs)

    def _show(self, screen: Screen, data: Mapping[str, Any]) -> None:
        name = self._names.get(str(data.get("device")), "")
        if "step" in data:
            screen.progress(name, data["step"], data["done"], data["total"])
            return
        detail = str(data.get("detail", "")).replace(f"{self._place}/", "")
        match data["event"]:
            case "attempt-failed" if "retry_in_s" in data:
                screen.ended(name)
                where = f" at {share(data['offset'], IMAGE_SIZE)}" if data.get("offset") else ""
                text = f"{data['cause']}{where}: {detail}; tried again in {duration(data['retry_in_s'])}"
                screen.line(printable(f"{name}  {text}"), "warning")
            case "update-succeeded" | "update-settled":
                screen.ended(name)
                screen.line(printable(f"{name}  updated: {data['evidence']}"), "info")
            case "update-failed":
                screen.ended(name)
                screen.line(printable(f"{name}  {data['cause']}: {detail}; not tried again"), "error")
            case "device-gone":
                screen.line(printable(f"{name}  is gone"), "info")
            case "device-appeared":
                screen.line(printable(f"{name}  is back"), "info")
            case _:
                pass

    def _conclude(self, devices: Mapping[str, DeviceView]) -> None:
        rows = []
        for name, device in devices.items():
            job = device["job"]
            cause = job["cause"] if job is not None else None
            rows.append(
                (
                    name,
                    device["id"],
                    "no complete image"
                    if device["complete"] is False
                    else device["running_version"] or "not known",
                    "" if job is None else job["state"],
                    "" if job is None else str(job["attempts"]),
                    str(device["wear"]["life"]),
                    cause["code"] if cause is not None else "",
                )
            )
        click.echo()
        for line in table(("", "DEVICE", "RUNS", "JOB", "TRIED", "ERASES", "LAST CAUSE"), rows, fit=width()):
            click.echo(line)
        for device in devices.values():
            if device["latched"]:
                click.echo()
                click.echo(f"$ firmwarden why {device['id']}")
                for line in why_lines(self._client.get("devices", device["id"], "why"), utc_now()):
                    click.echo(line)
        click.echo()
        for line in paragraph(
            "`firmwarden why DEVICE` tells the like of every device, `firmwarden history DEVICE` what was tried; "
            "the README says how to run the daemon for your own."
        ):
            click.echo(line)

    # --- judging

    def _devices(self) -> dict[str, DeviceView]:
        """What the daemon says, by the names of the devices."""
        views = {
            self._names.get(view["id"], view["id"]): view for view in self._client.get("devices")["devices"]
        }
        return dict(sorted(views.items()))

    @staticmethod
    def _judge(devices: Mapping[str, DeviceView]) -> Iterator[str]:
        """Compare what the daemon says with what should be."""
        for role in (*PANELS, *MODULES):
            job = devices[role.name]["job"] if role.name in devices else None
            if job is None:
                yield f"{role.name} got no job"
                continue
            if job["state"] != role.ends:
                yield f"{role.name} ended {job['state']}, not {role.ends}"
            if job["attempts"] < role.attempts:
                yield f"{role.name} took {job['attempts']} attempt(s), not {role.attempts}"
            if devices[role.name]["latched"] is not (role.cause is not None):
                yield f"{role.name} is {'' if role.cause is None else 'not '}latched"
            code = job["cause"]["code"] if job["cause"] is not None else None
            if role.cause not in {None, code}:
                yield f"{role.name} ended for {code}, not for {role.cause}"

    def _judge_devices(self) -> Iterator[str]:
        """Compare what the devices themselves say with what should be."""
        ends = {role.name: role.ends for role in (*PANELS, *MODULES)}
        for profile in ("generic", "dspic"):
            for device in json.loads((self._place / f"{profile}.json").read_text())["devices"]:
                name, running = device["name"], device["running"]
                if device["started_partial"]:
                    yield f"{name} started a partial image"
                if ends[name] == "succeeded" and (running is None or running["version"] != NEW):
                    yield f"{name} runs {running}, not {NEW}"


def _put(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
