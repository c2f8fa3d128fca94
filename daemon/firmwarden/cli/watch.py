"""``watch``: what happens, while it happens."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from firmwarden.cli.client import Problem, StreamBroken, Unreachable
from firmwarden.cli.client_command import Output, as_line, client_command
from firmwarden.cli.screen import Screen, open_screen
from firmwarden.cli.text import clock_time
from firmwarden.service.measures import printable
from firmwarden.service.words import event_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from firmwarden.cli.client import Client
    from firmwarden.service.views import DeviceView, FeedItem

ENDS: Final = {
    "attempt-failed": "failed",
    "attempt-interrupted": "interrupted",
    "update-succeeded": "updated",
    "update-failed": "failed",
    "update-unknown": "unknown",
    "job-cancelled": "cancelled",
}
"""Events after which a device is no longer being written to, and how that is shown beside its bar."""


@click.command()
@client_command
def watch(client: Client, output: Output) -> None:
    """Show what happens, while it happens; end it with Ctrl-C.

    On a terminal with the extra `firmwarden[cli]` there is a bar for each running update, with its rate in KiB a second
    and the time left; elsewhere a line for each event, step and tenth of a transfer.
    """
    try:
        if output.as_json:
            for item in _resumed(client):
                click.echo(as_line(item))
        else:
            with open_screen() as screen:
                names = Names(client)
                for device in names.look():
                    job = device["job"]
                    if job is not None and job["progress"] is not None:
                        progress = job["progress"]
                        name = names(device["id"])
                        screen.progress(name, progress["step"], progress["done"], progress["total"])
                for item in _resumed(client):
                    show(item, screen, names)
    except KeyboardInterrupt:
        return
    raise StreamBroken("The daemon was stopped, so there is nothing more to watch.")


def _resumed(client: Client) -> Iterator[FeedItem]:
    """Yield items; when the stream breaks off, go on where it was, as long as the daemon can be reached."""
    after: int | None = None
    while True:
        try:
            for item in client.events(after):
                if item is not None:
                    after = item["id"]
                    yield item
        except StreamBroken:
            continue  # a daemon that is gone refuses the next connection, which ends this
        return


class Names:
    """What devices are called on the screen: their id, and the label that a person knows them by."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, str] = {}

    def look(self) -> list[DeviceView]:
        """Ask for the devices, and remember their names."""
        devices: list[DeviceView] = self._client.get("devices")["devices"]
        self._known |= {
            device["id"]: f"{device['id']} ({device['label']})" if device["label"] else device["id"]
            for device in devices
        }
        return devices

    def __call__(self, device: str) -> str:
        """Return the name of a device, which may have come since."""
        if device not in self._known:
            self._known[device] = device
            with suppress(
                Problem, Unreachable
            ):  # the stream ends for the same reason, or goes on without a name
                self.look()
        return self._known[device]


def show(item: FeedItem, screen: Screen, name_of: Callable[[str], str]) -> None:
    """Show one item of the feed."""
    data = item["data"]
    device = name_of(str(data["device"])) if data.get("device") else ""
    if item["kind"] == "progress":
        screen.progress(device, str(data["step"]), _number(data["done"]), _number(data["total"]))
        return
    if item["kind"] == "gap":
        screen.line(gap_line(data), "warning")
        return
    if data.get("event") in ENDS:
        screen.ended(device, ENDS[str(data["event"])])
    screen.line(event_line(data, device), str(data.get("level", "")))


def gap_line(data: Mapping[str, object]) -> str:
    """Say what was missed; after a restart the daemon knows only of its own run."""
    missed = f"{data['missed']} missed here"
    return f"... {missed}, after a restart of the daemon" if data["restarted"] else f"... {missed}"


def event_line(data: Mapping[str, object], device: str = "") -> str:
    """Write a log event as one line: when, which device, what, why, and the rest as key=value."""
    what, rest = event_in_words(data)
    head = (clock_time(str(data["timestamp"])), device or "firmwarden", what)
    return printable("  ".join((*head, rest)).rstrip())


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
