"""Tells what happens on the stage as a person would follow it, and what became of everybody."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from firmwarden.cli.screen import open_screen
from firmwarden.cli.text import paragraph, table, utc_now, width
from firmwarden.cli.why import why_lines
from firmwarden.service.measures import duration, printable, share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from firmwarden.cli.demo.role import Role
    from firmwarden.cli.demo.stage import Stage
    from firmwarden.cli.screen import Screen
    from firmwarden.service.views import DeviceView

_USUAL_WAITS: Final = frozenset({"absent", "back-off", "canary", "slot"})
"""They come and go with everybody."""


class Telling:
    """What is told of the devices of one cast."""

    def __init__(self, stage: Stage, cast: Sequence[Role], by_port: Mapping[str, str]) -> None:
        """Take who plays.

        Args:
            stage: where.
            cast: the devices.
            by_port: the name of each by where the daemon sees it; the daemon runs and has found them.
        """
        self._stage = stage
        self._client = stage.client
        self._cast = cast
        self._names = {view["id"]: by_port[view["port"]] for view in self._client.get("devices")["devices"]}
        # Whose last attempt failed: that others go and come, into their loaders and back, is no news.
        self._failed: set[str] = set()
        self._seen = 0  # the last event that was told
        self._sizes: dict[str, int] = {}  # of the images that are under way

    def introduce(self, then: str) -> None:
        """Say who is there, and what happens ``then``."""
        for line in paragraph(
            f"The daemon runs, with its state and its log in {self._stage.place}. It found:"
        ):
            click.echo(line)
        rows = [
            (role.name, device, role.story)
            for role in self._cast
            for device, name in self._names.items()
            if name == role.name
        ]
        for line in table(("", "DEVICE", ""), rows, fit=width()):
            click.echo(line)
        for line in paragraph(then):
            click.echo(line)
        click.echo(f"The status page: http://127.0.0.1:{self._stage.port}/")
        click.echo()

    def say(self, text: str) -> None:
        """Say what is done to everybody."""
        click.echo()
        for line in paragraph(text):
            click.echo(line)
        click.echo()

    def watch(self, *, until: Callable[[], bool], patience_s: float) -> None:
        """Show what happens until something is so, for so long at most, and all that made it so."""
        deadline = time.monotonic() + patience_s
        last: int | None = None
        with open_screen() as screen:
            for item in self._client.events(self._seen):
                if item is not None:
                    self._seen = item["id"]
                    if item["kind"] != "gap":
                        self._show(screen, item["data"])
                # The stream comes behind what the daemon answers.
                if last is None and until():
                    last = self._client.get("status")["last_event"]
                if time.monotonic() > deadline or (last is not None and self._seen >= last):
                    return

    def devices(self) -> dict[str, DeviceView]:
        """Return what the daemon says, by the names of the devices."""
        views = {
            self._names.get(view["id"], view["id"]): view for view in self._client.get("devices")["devices"]
        }
        return dict(sorted(views.items()))

    def conclude(self, devices: Mapping[str, DeviceView]) -> None:
        """Say what became of each, and why of those that were not updated: of one where several fared alike."""
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
        told = set()
        for row, device in zip(rows, devices.values(), strict=True):
            fate = (device["device_class"], row[2], row[3], row[6])
            if fate in told or not (device["latched"] or row[3] == "waits"):
                continue
            told.add(fate)
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

    def linger(self) -> None:
        """Let everything run on until Ctrl-C."""
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

    def _show(self, screen: Screen, data: Mapping[str, Any]) -> None:
        name = self._names.get(str(data.get("device")), "")
        if "step" in data:
            self._sizes[name] = data["total"]
            screen.progress(name, data["step"], data["done"], data["total"])
            return
        if data["event"] == "attempt-started":
            self._failed.discard(name)
        detail = str(data.get("detail", "")).replace(f"{self._stage.place}/", "")
        match data["event"]:
            case "attempt-failed" if "retry_in_s" in data:
                screen.ended(name)
                self._failed.add(name)
                where = (
                    f" at {share(data['offset'], self._sizes[name])}"
                    if data.get("offset") and name in self._sizes
                    else ""
                )
                text = f"{data['cause']}{where}: {detail}; tried again in {duration(data['retry_in_s'])}"
                screen.line(printable(f"{name}  {text}"), "warning")
            case "update-succeeded" | "update-settled":
                screen.ended(name)
                screen.line(printable(f"{name}  updated: {data['evidence']}"), "info")
            case "update-failed":
                screen.ended(name)
                screen.line(printable(f"{name}  {data['cause']}: {detail}; not tried again"), "error")
            case "job-waiting" if data["wait"] not in _USUAL_WAITS:
                screen.ended(name)
                screen.line(printable(f"{name}  waits: {detail}"), "warning")
            case "probation-failed":
                screen.line(printable(f"{name}  is not well with it: {detail}"), "error")
            case "rollout-started" | "wave-started" | "rollout-done" | "rollout-stopped" as event:
                screen.line(*_of_rollout(event, data))
            case "device-gone" | "device-appeared" as event if name in self._failed:
                screen.line(f"{name}  is {'gone' if event == 'device-gone' else 'back'}", "info")
            case _:
                pass


def _of_rollout(event: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """Say in a line how far a release has come; how grave that is comes with it."""
    match event:
        case "rollout-started":
            text = f"goes out: first to {data['places']} of {data['devices']}"
        case "wave-started":
            text = f"goes further: to {data['places']} of {data['devices']}"
        case "rollout-done":
            text = f"is out: {data['devices']} keep well with it, {data['failed']} failed"
        case _:
            text = f"goes no further: {data['detail']}"
    level = "error" if event == "rollout-stopped" else "info"
    return printable(f"{data['device_class']} {data['release']}  {text}"), level


def _program() -> str:
    """Write the command as it can be typed here: a virtual environment need not be on the PATH."""
    script = Path(sys.executable).with_name("firmwarden")
    return str(script) if script.exists() else "firmwarden"
