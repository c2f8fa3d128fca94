"""``watch``: what happens, while it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from firmwarden.cli.client import StreamBroken
from firmwarden.cli.client_command import Output, as_line, client_command
from firmwarden.cli.screen import Screen, open_screen
from firmwarden.cli.text import clock_time
from firmwarden.service.measures import printable
from firmwarden.service.words import event_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.cli.client import Client
    from firmwarden.service.views import DeviceView, FeedItem

ENDS: Final = frozenset(
    {
        "attempt-failed",
        "attempt-interrupted",
        "update-succeeded",
        "update-failed",
        "update-unknown",
        "job-cancelled",
    }
)
"""Events after which a device is no longer being written to."""


@click.command()
@client_command
def watch(client: Client, output: Output) -> None:
    """Show what happens, while it happens; end it with Ctrl-C."""
    try:
        if output.as_json:
            for item in _resumed(client):
                click.echo(as_line(item))
        else:
            with open_screen() as screen:
                running: list[DeviceView] = client.get("devices")["devices"]
                for device in running:
                    job = device["job"]
                    if job is not None and job["progress"] is not None:
                        progress = job["progress"]
                        screen.progress(device["id"], progress["step"], progress["done"], progress["total"])
                for item in _resumed(client):
                    show(item, screen)
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


def show(item: FeedItem, screen: Screen) -> None:
    """Show one item of the feed."""
    data = item["data"]
    device = str(data.get("device", ""))
    if item["kind"] == "progress":
        screen.progress(device, str(data["step"]), _number(data["done"]), _number(data["total"]))
        return
    if item["kind"] == "gap":
        screen.line(gap_line(data), "warning")
        return
    if data.get("event") in ENDS:
        screen.ended(device)
    screen.line(event_line(data), str(data.get("level", "")))


def gap_line(data: Mapping[str, object]) -> str:
    """Say what was missed; after a restart the daemon knows only of its own run."""
    missed = f"{data['missed']} missed here"
    return f"... {missed}, after a restart of the daemon" if data["restarted"] else f"... {missed}"


def event_line(data: Mapping[str, object]) -> str:
    """Write a log event as one line: when, which device, what, why, and the rest as key=value."""
    what, rest = event_in_words(data)
    head = (clock_time(str(data["timestamp"])), str(data.get("device") or "firmwarden"), what)
    return printable("  ".join((*head, rest)).rstrip())


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
