"""What a person may tell the running daemon; each prints the sentence with which the daemon says what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from firmwarden.cli import completing
from firmwarden.cli.client_command import Output, client_command
from firmwarden.cli.wait import retry_and_wait

if TYPE_CHECKING:
    from firmwarden.cli.client import Client

_ALL = "all"
_NONE = "none"


@click.command()
@click.argument("device", shell_complete=completing.devices)
@click.option("--wait", is_flag=True, help="Wait for the outcome; the exit status is that of `update`.")
@client_command
def retry(client: Client, output: Output, device: str, *, wait: bool) -> None:
    """Try again now, without waiting for the back-off."""
    if wait:
        retry_and_wait(client, output, device)
    output.done(client.post("devices", device, "retry"))


@click.command()
@click.argument("target", metavar="DEVICE|IMAGE", shell_complete=completing.latched)
@client_command
def clear(client: Client, output: Output, target: str) -> None:
    """Lift the latches of a device, or those on an image.

    A latch is a device's own verdict, and nothing lifts it by itself: find the reason first, with `firmwarden why`.
    An image is named by its hash or the beginning of it, as `firmwarden releases` shows it.
    """
    output.done(client.post("latches", "clear", target=target))


@click.command()
@click.argument("job", type=click.IntRange(1), shell_complete=completing.open_jobs)
@client_command
def cancel(client: Client, output: Output, job: int) -> None:
    """Cancel a job, unless an erase has begun."""
    output.done(client.post("jobs", str(job), "cancel"))


@click.command()
@click.argument("device", metavar="[DEVICE|all]", default=_ALL, shell_complete=completing.devices_or_all)
@click.option("--reason", required=True, help="For whoever wonders why nothing happens.")
@client_command
def hold(client: Client, output: Output, device: str, reason: str) -> None:
    """Start nothing more on a device, or on any."""
    output.done(client.post(*_device(device), "hold", reason=reason))


@click.command()
@click.argument("device", metavar="[DEVICE|all]", default=_ALL, shell_complete=completing.devices_or_all)
@client_command
def unhold(client: Client, output: Output, device: str) -> None:
    """Lift the hold of a device, or the one on all."""
    output.done(client.post(*_device(device), "unhold"))


@click.command()
@click.argument("device", shell_complete=completing.devices)
@click.argument("version", metavar="VERSION|none", shell_complete=completing.versions_or_none)
@client_command
def pin(client: Client, output: Output, device: str, version: str) -> None:
    """Make a device run this version in place of the newest."""
    output.done(client.post("devices", device, "pin", version=None if version == _NONE else version))


@click.command()
@click.argument("device", shell_complete=completing.devices)
@click.argument("old", required=False, shell_complete=completing.devices)
@click.option(
    "--running", metavar="VERSION", shell_complete=completing.versions, help="Record that it runs this."
)
@client_command
def adopt(client: Client, output: Output, device: str, old: str | None, running: str | None) -> None:
    """Say that a device is the unit OLD, or what it runs.

    A unit that is told by its port is a new one at another port; this gives it its history back. DEVICE may also be the
    place of a loader, as a conflict or `why` names it: that is OLD, whatever its flash holds.
    """
    if (old is None) == (running is None):
        raise click.UsageError("Give either OLD, the unit that this one is, or --running VERSION.")
    output.done(client.post("devices", device, "adopt", **({"old": old} if old else {"running": running})))


@click.command()
@click.argument("device", shell_complete=completing.devices)
@client_command
def forget(client: Client, output: Output, device: str) -> None:
    """Drop a device that is gone for good."""
    output.done(client.delete("devices", device))


def _device(name: str) -> tuple[str, ...]:
    return () if name == _ALL else ("devices", name)
