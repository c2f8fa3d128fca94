"""What a person may tell the running daemon; each prints the sentence with which the daemon says what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from firmwarden.cli import completing
from firmwarden.cli.client_command import Output, client_command, examples
from firmwarden.cli.wait import retry_and_wait

if TYPE_CHECKING:
    from firmwarden.cli.client import Client

_ALL = "all"
_NONE = "none"


def _seconds(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    from firmwarden.toml.values import seconds  # else every command starts slower

    try:
        return seconds(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no duration, such as 30min, 2h or 3d.") from None


@click.command(
    epilog=examples(
        "firmwarden retry k3f9q2",
        "timeout 10m firmwarden retry panel-7 --wait",
    )
)
@click.argument("device", shell_complete=completing.devices)
@click.option("--wait", is_flag=True, help="Wait for the outcome; the exit status is that of `update`.")
@client_command
def retry(client: Client, output: Output, device: str, *, wait: bool) -> None:
    """Try again now, without waiting for the back-off.

    What failed, was cancelled, waits for its back-off or a condition, or has an unknown outcome is tried again. A latch
    has to be lifted first, with `firmwarden clear`.

    With --wait the exit status is that of `firmwarden update`: 0 when the device runs the image, 1 when it refused it,
    2 when nothing is sent before a person does something, 3 when there was too much transport trouble, 4 when the
    outcome is not known, and 130 when the waiting was interrupted.
    """
    if wait:
        retry_and_wait(client, output, device)
    output.done(client.post("devices", device, "retry"))


@click.command(
    epilog=examples(
        "firmwarden clear panel-7",
        "firmwarden clear c73981babdd7",
    )
)
@click.argument("target", metavar="DEVICE|IMAGE", shell_complete=completing.latched)
@client_command
def clear(client: Client, output: Output, target: str) -> None:
    """Lift the latches of a device, or those on an image.

    A latch is a device's own verdict, and nothing lifts it by itself: find the reason first, with `firmwarden why`.
    An image is named by its hash or the beginning of it, at least 6 digits, as `firmwarden releases` shows it. What
    was latched is not tried again by that alone; `firmwarden retry` does.
    """
    output.done(client.post("latches", "clear", target=target))


@click.command()
@click.argument("job", type=click.IntRange(1), shell_complete=completing.open_jobs)
@client_command
def cancel(client: Client, output: Output, job: int) -> None:
    """Cancel a job, unless an erase has begun.

    JOB is its number, as `firmwarden jobs` shows it. A job that runs ends at its next safe point; stopping it later
    would leave a device without a complete image.
    """
    output.done(client.post("jobs", str(job), "cancel"))


@click.command(
    epilog=examples(
        'firmwarden hold panel-7 --reason "on loan until Friday"',
        'firmwarden hold all --reason "trade fair" --for 8h',
    )
)
@click.argument("device", metavar="[DEVICE|all]", default=_ALL, shell_complete=completing.devices_or_all)
@click.option("--reason", required=True, help="One line, for whoever wonders why nothing happens.")
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    callback=_seconds,
    help="End it by itself, e.g. after 30min, 2h or 3d.",
)
@click.option("--owner", metavar="NAME", help="In whose name it is held.  [default: you]")
@client_command
def hold(
    client: Client, output: Output, device: str, *, reason: str, for_s: float | None, owner: str | None
) -> None:
    """Start nothing more on a device, or on any.

    What runs goes on to its end. Without DEVICE everything is held. A hold survives restarts, until
    `firmwarden unhold` lifts it or its time is over. Several owners may hold the same; who holds it again replaces the
    own hold.
    """
    more = {key: value for key, value in (("for_s", for_s), ("owner", owner)) if value is not None}
    output.done(client.post(*_device(device), "hold", reason=reason, **more))


@click.command()
@click.argument("device", metavar="[DEVICE|all]", default=_ALL, shell_complete=completing.devices_or_all)
@click.option("--owner", metavar="NAME", help="Whose hold it is.  [default: yours, or the only one]")
@client_command
def unhold(client: Client, output: Output, device: str, owner: str | None) -> None:
    """Lift the hold of a device, or the one on all.

    The two are lifted apart: a device that is held itself stays so when the hold on all is lifted. Where several hold
    the same, your own hold is lifted, or that of the owner whom you name.
    """
    output.done(client.post(*_device(device), "unhold", **({} if owner is None else {"owner": owner})))


@click.command(
    epilog=examples(
        "firmwarden pin panel-7 2.3.1",
        "firmwarden pin panel-7 2.3.1 --allow-downgrade",
        "firmwarden pin panel-7 none",
    )
)
@click.argument("device", shell_complete=completing.devices)
@click.argument("version", metavar="VERSION|none", shell_complete=completing.versions_or_none)
@click.option("--allow-downgrade", is_flag=True, help="Let it go back to this version, once.")
@client_command
def pin(client: Client, output: Output, device: str, version: str, *, allow_downgrade: bool) -> None:
    """Make a device run this version in place of the newest.

    It is given the version as soon as a release of it is in the firmware directory. With `none` it follows the newest
    again.

    With --allow-downgrade the version may be older than what the device runs, and its sequence lower than the one
    with which the device was confirmed. That is on record with who allowed it and when, counts for one update that
    succeeds, and is withdrawn by the next `pin` of the device.
    """
    if allow_downgrade and version == _NONE:
        raise click.UsageError("--allow-downgrade needs the VERSION to which the device may go back.")
    more = {"allow_downgrade": True} if allow_downgrade else {}
    output.done(client.post("devices", device, "pin", version=None if version == _NONE else version, **more))


@click.command(
    epilog=examples(
        "firmwarden adopt k3f9q2 panel-7",
        "firmwarden adopt usb-1-1.4 panel-7",
        "firmwarden adopt panel-7 --running 2.3.1",
    )
)
@click.argument("device", shell_complete=completing.devices)
@click.argument("old", required=False, shell_complete=completing.devices)
@click.option(
    "--running",
    metavar="VERSION",
    shell_complete=completing.versions,
    help="Record that it runs this; nothing is sent to it.",
)
@client_command
def adopt(client: Client, output: Output, device: str, old: str | None, running: str | None) -> None:
    """Say that a device is the unit OLD, or what it runs.

    A unit that is told by its port is a new one at another port; this gives it its history, wear and latches back.
    DEVICE may also be the place of a loader, as a conflict or `why` names it: that is OLD, whatever its flash holds.
    """
    if (old is None) == (running is None):
        raise click.UsageError("Give either OLD, the unit that this one is, or --running VERSION.")
    output.done(client.post("devices", device, "adopt", **({"old": old} if old else {"running": running})))


@click.command()
@click.argument("device", shell_complete=completing.devices)
@client_command
def forget(client: Client, output: Output, device: str) -> None:
    """Drop a device that is gone for good.

    It must not be plugged in. Its wear and latches are kept, should it ever come back.
    """
    output.done(client.delete("devices", device))


def _device(name: str) -> tuple[str, ...]:
    return () if name == _ALL else ("devices", name)
