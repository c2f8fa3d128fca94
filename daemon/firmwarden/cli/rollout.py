"""How releases go out in waves, and what a person may say to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from firmwarden.cli import completing
from firmwarden.cli.client_command import Output, client_command, examples
from firmwarden.cli.text import paragraph, table, utc_now, width
from firmwarden.service.measures import ago, ahead
from firmwarden.service.words import sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from firmwarden.cli.client import Client
    from firmwarden.service.views import RolloutMemberView, RolloutView

_NONE: Final = (
    "No release is on its way. Those of a class whose table in the configuration has `rollout` go to a few devices "
    "first, then to the others in waves."
)
_INDENT: Final = "  "
_STAGES: Final = {
    "good": "runs it well",
    "proving": "runs it, and has yet to show that it keeps well",
    "failed": "failed",
    "under-way": "is being updated",
    "out": "not tried",
}


@click.command(epilog=examples("firmwarden rollout", "firmwarden rollout front-panel"))
@click.argument("device_class", metavar="[CLASS]", required=False, shell_complete=completing.classes)
@client_command
def rollout(client: Client, output: Output, device_class: str | None) -> None:
    """Show how far releases have come.

    A class whose table in the configuration has `rollout` gives a release to a few devices first, then in waves. With
    CLASS its devices are listed: those that were given it, then the others in the order in which they will be.
    """
    found: list[RolloutView] = client.get("rollouts")["rollouts"]
    if device_class is None:
        output.records(found, lambda: rollout_lines(found, utc_now()))
        return
    members: list[RolloutMemberView] = client.get("rollouts", device_class)["devices"]
    own = [view for view in found if view["device_class"] == device_class]
    output.records(members, lambda: [*rollout_lines(own, utc_now()), *member_lines(members)])


@click.command()
@click.argument("device_class", metavar="CLASS", shell_complete=completing.classes)
@client_command
def resume(client: Client, output: Output, device_class: str) -> None:
    """Let a rollout go on that has stopped.

    It goes on where it stopped. The failures that stopped it count no more; the next one may stop it again. Where the
    image is latched, `firmwarden clear` comes first.
    """
    output.done(client.post("rollouts", device_class, "resume"))


@click.command(epilog=examples('firmwarden recall front-panel --reason "hums at night"'))
@click.argument("device_class", metavar="CLASS", shell_complete=completing.classes)
@click.option("--reason", required=True, help="One line, for whoever wonders.")
@client_command
def recall(client: Client, output: Output, device_class: str, *, reason: str) -> None:
    """Call the newest release of a class back.

    No device is given it any more, and those that run it go back to what they kept well with before, where that is
    known. To undo this, lift the latch on the image with `firmwarden clear`; a rollout needs `firmwarden resume`.
    """
    output.done(client.post("rollouts", device_class, "recall", reason=reason))


def rollout_lines(views: list[RolloutView], now: datetime) -> Iterator[str]:
    """Write how each release stands, and what a person can do where it does not go on by itself."""
    if not views:
        yield from paragraph(_NONE)
    for view in views:
        yield from paragraph(f"{standing(view, now)}.", indent=_INDENT, first="")
        yield from paragraph(
            f"Given to {view['tried']} of {view['devices']} devices (it began {ago(view['began_at'], now)}): "
            f"well {view['well']}, failed {view['failed']}.",
            indent=_INDENT,
        )
        if view["next"]:
            yield from paragraph(sentence(view["next"]), indent=_INDENT)


def standing(view: RolloutView, now: datetime) -> str:
    """Say in one clause which release it is and how it stands."""
    until = f", over {ahead(view['until'], now)}" if view["until"] is not None else ""
    return f"{view['device_class']} {view['version']} {view['standing']}{until}"


def member_lines(views: list[RolloutMemberView]) -> list[str]:
    """Write the table of the devices in a rollout."""
    if not views:
        return []
    rows = [(view["device"], view["label"], view["version"], _stage(view)) for view in views]
    return ["", *table(("DEVICE", "LABEL", "VERSION", "STATE"), rows, fit=width())]


def _stage(view: RolloutMemberView) -> str:
    if view["wave"] is not None:
        told = f"has its turn in wave {view['wave']}" if view["wave"] else "has its turn among the canaries"
    else:
        told = _STAGES[view["stage"]]
    return told if view["present"] else f"{told}, away"
