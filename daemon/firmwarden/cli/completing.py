"""Completes what only the running daemon knows: devices, jobs, images, versions.

This runs while somebody types: it takes no longer than one notices, and nothing that goes wrong is said.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from firmwarden.cli.client import Client, find_socket
from firmwarden.service.measures import IMAGE_SHOWN, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import click
    from click.shell_completion import CompletionItem

    Offer = tuple[str, str]
    """What may be typed, and what it is."""
    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

ANSWER_S: Final = 0.5
"""A daemon that takes longer than the person who types is not waited for."""

_PLAIN: Final = re.compile(r"[\w@%+,./-]+", re.ASCII)
"""What no shell takes for anything but a word, in bash also ``:`` and ``=``.  A label that is none is offered beside
the id that it belongs to."""


def _offers(source: Callable[[Client, click.Context], Iterable[Offer]]) -> Completer:
    @functools.wraps(source)
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            path = find_socket(ctx.params.get("socket_path"), ctx.params.get("config"))
            found = dict(source(Client(path, answer_s=ANSWER_S), ctx))
        except Exception:  # noqa: BLE001 - whatever it is, it must not get between a person and a command line
            return []
        return [
            CompletionItem(value, help=printable(what))
            for value, what in found.items()
            if value.startswith(incomplete) and _PLAIN.fullmatch(value)
        ]

    return complete


@_offers
def devices(client: Client, _ctx: click.Context) -> Iterator[Offer]:
    """Offer each device by its id, then by its label."""
    return _devices(client)


@_offers
def devices_or_all(client: Client, _ctx: click.Context) -> Iterator[Offer]:
    """Offer what ``hold`` takes."""
    yield "all", "every device"
    yield from _devices(client)


@_offers
def open_jobs(client: Client, _ctx: click.Context) -> Iterator[Offer]:
    """Offer the jobs that may be cancelled."""
    for device in client.get("devices")["devices"]:
        job = device["job"]
        if job is not None and job["state"] in {"queued", "running", "unknown"}:
            yield str(job["id"]), f"{job['version']} for {device['label'] or device['id']}, {job['state']}"


@_offers
def latched(client: Client, _ctx: click.Context) -> Iterator[Offer]:
    """Offer what ``clear`` takes: the devices and images that a latch stops."""
    for latch in client.get("latches")["latches"]:
        target = latch["device"] if latch["scope"] != "image" else latch["image"][:IMAGE_SHOWN]
        yield target, f"{latch['scope']}: {latch['cause']['meaning']}"


@_offers
def classes(client: Client, _ctx: click.Context) -> Iterator[Offer]:
    """Offer the classes of which there is a release."""
    for release in client.get("releases")["releases"]:
        if release["device_class"]:
            yield release["device_class"], release["manifest"]


@_offers
def versions(client: Client, ctx: click.Context) -> Iterator[Offer]:
    """Offer the versions that there are for the device that was named before."""
    return _versions(client, ctx)


@_offers
def versions_or_none(client: Client, ctx: click.Context) -> Iterator[Offer]:
    """Offer what ``pin`` takes."""
    yield "none", "the newest again"
    yield from _versions(client, ctx)


def _devices(client: Client) -> Iterator[Offer]:
    found = client.get("devices")["devices"]
    for device in found:
        yield device["id"], f"{device['label'] or device['port']}, {device['device_class']}"
    for device in found:
        yield device["label"], device["id"]


def _versions(client: Client, ctx: click.Context) -> Iterator[Offer]:
    # Beside an option that is not complete yet, click has not read the arguments.
    device = ctx.params.get("device")
    of_class = client.get("devices", device)["device_class"] if device else None
    for release in client.get("releases")["releases"]:
        if release["version"] and of_class in {None, release["device_class"]}:
            yield release["version"], release["manifest"]
