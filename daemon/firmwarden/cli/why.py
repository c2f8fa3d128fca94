"""``why``: the whole story of one device, for somebody who was not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from firmwarden.cli import completing
from firmwarden.cli.client_command import Output, client_command, examples
from firmwarden.cli.text import at, paragraph, utc_now, with_local_times
from firmwarden.service.measures import ago, printable
from firmwarden.service.words import (
    cause_in_words,
    findings_told_once,
    outcome_in_words,
    sentence,
    state_of_device,
    tries_in_words,
    what_it_stops,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from firmwarden.cli.client import Client
    from firmwarden.service.views import DeviceView, LatchView, WhyView

_INDENT = "  "


@click.command(
    epilog=examples(
        "firmwarden why k3f9q2",
        "firmwarden why panel-7 --json | jq -r .next",
    )
)
@click.argument("device", shell_complete=completing.devices)
@client_command
def why(client: Client, output: Output, device: str) -> None:
    """Say why a device runs what it runs, and what would change it.

    What it should run and why; what it runs, since when, and how that is known; what was tried, and what the device
    answered; what happens next, and when; and the commands that would change that.

    DEVICE is its id as `firmwarden devices` shows it, the beginning of one, or its label; or the port of what is in
    conflict.
    """
    found: WhyView = client.get("devices", device, "why")
    output.records([found], lambda: why_lines(found, utc_now()))


def why_lines(view: WhyView, now: datetime) -> Iterator[str]:
    """Write the story: where it stands, what should be, what is, what stops it, what was tried, what comes."""
    device = view["device"]
    label = f" ({device['label']})" if device["label"] else ""
    state = with_local_times(state_of_device(device, now), now)
    yield from paragraph(f"{device['id']}{label}: {state}", indent=_INDENT, first="")
    yield from paragraph(_where(device, now), indent=_INDENT)
    yield from _section("It should run", with_local_times(view["should_run"], now))
    yield from _floor(device)
    yield from _section("It runs", with_local_times(view["runs"], now))
    if device["good_version"] is not None and device["good_version"] != device["running_version"]:
        yield from paragraph(f"It kept well with {device['good_version']} before.", indent=_INDENT)
    if device["held"] is not None:
        yield from _section("It is held", f"By {with_local_times(device['held'], now)}.")
    if device["port_lent"] is not None:
        yield from _section("Its port is lent", sentence(with_local_times(device["port_lent"], now)))
    if device["conflict"] is not None:
        yield from _section("It is not clear which unit this is", f"{device['conflict']}.")
    if view["latches"]:
        yield ""
        yield "It is stopped"
        for latch in view["latches"]:
            yield from paragraph(
                _latch(latch, view["latches"], now), indent=_INDENT * 2, first=f"{_INDENT}- "
            )
    yield ""
    yield "What was tried, newest first"
    yield from _tries(view, now)
    yield from _section("What happens next", with_local_times(view["next"], now))
    if view["power_cuts"]:
        yield ""
        condition = ", if nothing protects the device" if view["doubted"] else ""
        yield f"What a power cut in an update would leave{condition}"
        for part in view["power_cuts"]:
            leaves = f"{part['does']}: {part['if_interrupted']}"
            yield from paragraph(leaves, indent=_INDENT * 2, first=f"{_INDENT}- ")
    if view["commands"]:
        yield ""
        yield "What you can do"
        # Not wrapped: they are there to be copied.
        yield from (f"{_INDENT}{printable(command)}" for command in view["commands"])


def _section(title: str, text: str) -> Iterator[str]:
    yield ""
    yield title
    yield from paragraph(text, indent=_INDENT)


def _floor(device: DeviceView) -> Iterator[str]:
    """Tell what anti-rollback keeps from the device."""
    if device["floor"] is not None:
        allowed = f", but {device['may_go_back_to']} once" if device["may_go_back_to"] else ""
        floor = f"Nothing with a sequence below {device['floor']} is given to it{allowed}."
        yield from paragraph(floor, indent=_INDENT)


def _tries(view: WhyView, now: datetime) -> Iterator[str]:
    """Tell each attempt, and what all of them cost."""
    for attempt, findings in findings_told_once(view["attempts"], view["latches"]):
        what = f"attempt {attempt['number']} of job {attempt['job']}, to {attempt['version']}"
        headline = f"{at(attempt['started_at'], now)}: {what}: {outcome_in_words(attempt)}"
        yield from paragraph(headline, indent=_INDENT * 2, first=f"{_INDENT}- ")
        yield from paragraph(findings, indent=_INDENT * 2)
    if not view["attempts"]:
        yield f"{_INDENT}Nothing yet."
    wear = view["device"]["wear"]
    erases = (
        f"Erases begun: {wear['today']} of {wear['today_budget']} today, "
        f"{wear['life']} of {wear['life_budget']} in its life."
    )
    yield from paragraph(" ".join([*tries_in_words(view["device"]), erases]), indent=_INDENT)


def _where(device: DeviceView, now: datetime) -> str:
    here = "here" if device["present"] else f"away, last seen {ago(device['last_seen'], now)}"
    place = f" at {device['port']}" if device["port"] else ""
    article = "An" if device["device_class"].startswith(("a", "e", "i", "o")) else "A"
    return (
        f"{article} {device['device_class']}, {here}{place}, known as {device['identity']}, "
        f"first seen {ago(device['first_seen'], now)}."
    )


def _latch(latch: LatchView, latches: Sequence[LatchView], now: datetime) -> str:
    return (
        f"{what_it_stops(latch, latches)}, since {at(latch['set_at'], now)}. "
        f"{' '.join(cause_in_words(latch['cause']))} To lift it: `{latch['clear']}`"
    )
