"""``demo``: the real daemon updates simulated devices that misbehave, and every outcome is checked.

Nothing is staged: the daemon is the process that ``firmwarden run`` starts, with its own state on disk; the devices
are processes of ``firmwarden simulate`` behind ptys and TCP ports, and those of ``--simulated-usb``; a release is two
files dropped into a directory.  What became of each device is judged twice, by what the daemon says and by what the
device itself runs.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from firmwarden.cli.demo_cast import (
    CAST,
    IMAGE_SIZE,
    MODULES,
    NEW,
    OLD,
    PANELS,
    Role,
    configuration,
    meter_ports,
    releases,
    simulated_usb,
)
from firmwarden.cli.demo_stage import Stage
from firmwarden.cli.screen import open_screen, speak_to_nobody
from firmwarden.cli.text import paragraph, table, utc_now, width
from firmwarden.cli.why import why_lines
from firmwarden.service.measures import duration, printable, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.cli.screen import Screen
    from firmwarden.service.views import DeviceView

PATIENCE_S: Final = 50.0
"""The whole takes a quarter of this; a machine under load is slower."""


@click.command()
@click.option("--linger", is_flag=True, help="Let everything run on afterwards, until Ctrl-C.")
def demo(*, linger: bool) -> None:
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
        faults = _Demo(place).run(linger=linger)
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
    ended = "Every device ended as it should"
    click.echo(f"{ended}." if linger else f"{ended}, in {duration(time.monotonic() - started)}.")


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
        self._stage = Stage(place)
        self._client = self._stage.client
        self._names: dict[str, str] = {}  # the name of each device by its id
        # Whose last attempt failed: that others go and come, into their loaders and back, is no news.
        self._failed: set[str] = set()

    def run(self, *, linger: bool) -> list[str]:
        """Run it and return what was not as it should be.

        Args:
            linger: go on until Ctrl-C.  What a person does to the devices then is not judged.
        """
        with ExitStack() as stack:
            stage, place = self._stage, self._stage.place
            modules = stack.enter_context(
                stage.simulator(MODULES, "dspic", "--tcp", "127.0.0.1:0", report="modules")
            )
            panels = stack.enter_context(
                stage.simulator(PANELS, "generic", "--dir", str(place / "ports"), report="panels")
            )
            stage.configure(configuration(place, modules, stage.port), simulated_usb(place / "usb.json"))
            stack.enter_context(stage.daemon(len(CAST)))
            self._learn_names({**panels, **modules})
            self._introduce()
            for device_class, image in releases().items():
                stage.drop(device_class, NEW, image)
            with open_screen() as screen:
                self._watch(screen)
            devices = self._devices()
            self._conclude(devices)
            if linger:
                self._linger()
                return list(self._judge(devices))
        return [*self._judge(devices), *self._judge_devices()]

    # --- telling

    def _learn_names(self, by_address: Mapping[str, str]) -> None:
        by_port = {f"tcp-{address}": name for address, name in by_address.items()} | dict(by_address)
        by_port |= meter_ports()
        self._names = {view["id"]: by_port[view["port"]] for view in self._client.get("devices")["devices"]}

    def _introduce(self) -> None:
        for line in paragraph(
            f"The daemon runs, with its state and its log in {self._stage.place}. It found:"
        ):
            click.echo(line)
        rows = [
            (role.name, device, role.story)
            for role in CAST
            for device, name in self._names.items()
            if name == role.name
        ]
        for line in table(("", "DEVICE", ""), rows, fit=width()):
            click.echo(line)
        for line in paragraph(f"Each runs {OLD}. Release {NEW} is dropped into {self._stage.firmware} now."):
            click.echo(line)
        click.echo(f"The status page: http://127.0.0.1:{self._stage.port}/")
        click.echo()

    def _watch(self, screen: Screen) -> None:
        """Show what happens until every device has come to an end."""
        deadline = time.monotonic() + PATIENCE_S
        for item in self._client.events(0):
            if item is not None and item["kind"] != "gap":
                self._show(screen, item["data"])
            if time.monotonic() > deadline or ((item is None or item["kind"] == "log") and self._settled()):
                return

    def _settled(self) -> bool:
        devices = self._devices()
        return all(_has_ended(role, devices[role.name]) for role in CAST)

    def _show(self, screen: Screen, data: Mapping[str, Any]) -> None:
        name = self._names.get(str(data.get("device")), "")
        if "step" in data:
            screen.progress(name, data["step"], data["done"], data["total"])
            return
        if data["event"] == "attempt-started":
            self._failed.discard(name)
        detail = str(data.get("detail", "")).replace(f"{self._stage.place}/", "")
        match data["event"]:
            case "attempt-failed" if "retry_in_s" in data:
                screen.ended(name)
                self._failed.add(name)
                where = f" at {share(data['offset'], IMAGE_SIZE)}" if data.get("offset") else ""
                text = f"{data['cause']}{where}: {detail}; tried again in {duration(data['retry_in_s'])}"
                screen.line(printable(f"{name}  {text}"), "warning")
            case "update-succeeded" | "update-settled":
                screen.ended(name)
                screen.line(printable(f"{name}  updated: {data['evidence']}"), "info")
            case "update-failed":
                screen.ended(name)
                screen.line(printable(f"{name}  {data['cause']}: {detail}; not tried again"), "error")
            case "job-waiting" if data["wait"] in {role.waits for role in CAST}:
                screen.ended(name)
                screen.line(printable(f"{name}  waits: {detail}"), "warning")
            case "device-gone" if name in self._failed:
                screen.line(printable(f"{name}  is gone"), "info")
            case "device-appeared" if name in self._failed:
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
                    "" if job is None else "waits" if job["wait"] is not None else job["state"],
                    "" if job is None else str(job["attempts"]),
                    str(device["wear"]["life"]),
                    cause["code"] if cause is not None else "",
                )
            )
        click.echo()
        for line in table(("", "DEVICE", "RUNS", "JOB", "TRIED", "ERASES", "LAST CAUSE"), rows, fit=width()):
            click.echo(line)
        for device in devices.values():
            if device["latched"] or (device["job"] is not None and device["job"]["wait"] is not None):
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

    def _linger(self) -> None:
        click.echo()
        click.echo("Everything goes on running until you press Ctrl-C. To look around:")
        click.echo(f"  the status page at http://127.0.0.1:{self._stage.port}/")
        click.echo(f"  export FIRMWARDEN_SOCKET={self._stage.place / 'control.sock'}")
        click.echo(f"  {_program()} devices")
        # Whoever asked for this ends it so: it is no interruption.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()

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
        for role in CAST:
            job = devices[role.name]["job"] if role.name in devices else None
            if job is None:
                yield f"{role.name} got no job"
                continue
            if job["state"] != role.ends:
                yield f"{role.name} ended {job['state']}, not {role.ends}"
            wait = job["wait"]["kind"] if job["wait"] is not None else None
            if wait != role.waits:
                yield f"{role.name} waits for {wait}, not for {role.waits}"
            if job["attempts"] < role.attempts:
                yield f"{role.name} took {job['attempts']} attempt(s), not {role.attempts}"
            if devices[role.name]["latched"] is not (role.cause is not None):
                yield f"{role.name} is {'' if role.cause is None else 'not '}latched"
            code = job["cause"]["code"] if job["cause"] is not None else None
            if role.cause not in {None, code}:
                yield f"{role.name} ended for {code}, not for {role.cause}"

    def _judge_devices(self) -> Iterator[str]:
        """Compare what the devices themselves say with what should be."""
        roles = {role.name: role for role in CAST}
        for report in ("panels", "modules", "usb"):
            for device in json.loads((self._stage.place / f"{report}.json").read_text())["devices"]:
                role, running = roles[device["name"]], device["running"]
                version = None if running is None else running["version"]
                if device["started_partial"]:
                    yield f"{role.name} started a partial image"
                if role.fault and not any(device["faults"].values()):
                    yield f"{role.name} met no fault"
                if role.ends == "succeeded" and version != NEW:
                    yield f"{role.name} runs {version}, not {NEW}"
                if role.waits is not None and (version != OLD or device["erase_starts"]):
                    yield f"{role.name} runs {version} after {device['erase_starts']} erases, though it waits"


def _has_ended(role: Role, device: DeviceView) -> bool:
    job = device["job"]
    if job is None:
        return False
    if role.waits is not None and job["wait"] is not None:
        return job["wait"]["kind"] == role.waits
    return job["state"] in {"succeeded", "failed", "cancelled"}


def _program() -> str:
    """Write the command as it can be typed here: a virtual environment need not be on the PATH."""
    script = Path(sys.executable).with_name("firmwarden")
    return str(script) if script.exists() else "firmwarden"
