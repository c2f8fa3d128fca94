"""Questions to the running daemon that are answered with a table or a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from firmwarden.cli import completing
from firmwarden.cli.client_command import Output, client_command
from firmwarden.cli.rollout import standing
from firmwarden.cli.text import day_and_time, paragraph, table, utc_now, width, with_local_times
from firmwarden.service.measures import IMAGE_SHOWN, ago, size
from firmwarden.service.words import state_of_device, state_of_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from firmwarden.cli.client import Client
    from firmwarden.service.views import (
        DeviceView,
        HistoryView,
        JobView,
        PlanView,
        ReleaseView,
        StatusView,
    )


_BY_ID = "/dev/serial/by-id/"
_DEV = "/dev/"

_HISTORY_SHOWN = 50


@click.command()
@client_command
def status(client: Client, output: Output) -> None:
    """Say how the daemon and its devices are as a whole.

    What needs a person is listed last, with the command that tells more of it.
    """
    found: StatusView = client.get("status")
    output.records([found], lambda: status_lines(found, utc_now()))


@click.command()
@client_command
def devices(client: Client, output: Output) -> None:
    """List the devices: what each runs and should run.

    STATE is the one thing that matters most about each; `firmwarden why DEVICE` tells the rest.
    """
    found: list[DeviceView] = client.get("devices")["devices"]
    output.records(found, lambda: device_lines(found, utc_now()))


@click.command()
@client_command
def releases(client: Client, output: Output) -> None:
    """List the releases, refused ones with the reason.

    A release is a manifest NAME.toml beside its image in the firmware directory, or in a bundle NAME.fwz with it. IMAGE
    is the beginning of its hash.
    """
    found: list[ReleaseView] = client.get("releases")["releases"]
    problems: list[str] = [] if found else client.get("status")["problems"]
    output.records(found, lambda: release_lines(found, problems))


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), help="At most so many, the newest.  [default: 50]")
@client_command
def jobs(client: Client, output: Output, limit: int | None) -> None:
    """List the jobs, newest first.

    A job is one release for one device, with all its attempts.
    """
    found: list[JobView] = client.get("jobs", limit=limit)["jobs"]
    output.records(found, lambda: job_lines(found, utc_now()))


@click.command()
@click.argument("device", required=False, shell_complete=completing.devices)
@click.option("--limit", type=click.IntRange(1, 1000), help="At most so many, the newest.  [default: 50]")
@client_command
def history(client: Client, output: Output, device: str | None, limit: int | None) -> None:
    """List what was tried and what people did, newest first.

    Without DEVICE that of all devices, and who put which release into the firmware directory.
    """
    found: HistoryView = client.get("history", device=device, limit=limit)
    records = [
        *({"kind": "attempt", **attempt} for attempt in found["attempts"]),
        *({"kind": "action", **action} for action in found["actions"]),
    ]
    records.sort(key=lambda record: str(record.get("started_at") or record.get("at")), reverse=True)
    newest = limit or _HISTORY_SHOWN
    output.records(records[:newest], lambda: history_lines(found, newest))


def show_plan(client: Client, output: Output) -> None:
    """Print what would happen to each device now, and why not."""
    found: list[PlanView] = client.get("plan")["plan"]
    output.records(found, lambda: plan_lines(found))


def status_lines(view: StatusView, now: datetime) -> Iterator[str]:
    """Write the status: what needs a person stands last, where the eye is."""
    yield f"Firmwarden {view['version']} is {view['state']}, started {ago(view['started_at'], now)}."
    trial = f", {view['on_probation']} on probation" if view["on_probation"] else ""
    yield f"Devices   {view['devices']} known, {view['present']} here{trial}"
    waits = ", ".join(f"{wait['kind']} {wait['jobs']}" for wait in view["waits"])
    waiting = f"{view['waiting']} waiting{f' ({waits})' if waits else ''}"
    yield f"Updates   {view['running']} running, {waiting}, {view['unknown']} with unknown outcome"
    yield f"Releases  {view['releases']} accepted, {view['refused_releases']} refused"
    for rollout in view["rollouts"]:
        if rollout["state"] not in {"done", "stopped"}:
            yield from paragraph(f"{standing(rollout, now)}.", first="Rollout   ", indent=" " * 10)
    needs = list(_needs(view))
    if needs:
        yield ""
        yield "For you to look at:"
    for need in needs:
        yield from paragraph(with_local_times(need, now), first="- ", indent="  ")


def _needs(view: StatusView) -> Iterator[str]:
    """Tell what needs a person, with the command that tells more of it."""
    if view["held"]:
        yield f"Everything is held by {view['held']}. `firmwarden unhold all` lifts it."
    if view["latches"]:
        yield (
            f"Latches that stop devices: {view['latches']}. `firmwarden devices` shows which, "
            "`firmwarden why DEVICE` shows why and how to lift them."
        )
    if view["failed"]:
        yield (
            f"Ended without success: {view['failed']}. `firmwarden devices` shows where, "
            "`firmwarden why DEVICE` shows why and what comes next."
        )
    if view["waiting_for_you"]:
        yield (
            f"Waiting for what only you can do: {view['waiting_for_you']}. `firmwarden devices` shows where, "
            "`firmwarden why DEVICE` shows what it is."
        )
    for rollout in view["rollouts"]:
        if rollout["state"] == "stopped":
            named = f"{rollout['device_class']} {rollout['version']}"
            yield (
                f"The rollout of {named} {rollout['standing']}. `firmwarden rollout {rollout['device_class']}` shows "
                f"where; {rollout['next']}."
            )
    if view["refused_releases"]:
        yield "`firmwarden releases` says why a release is refused."
    if view["unsigned_classes"]:
        yield (
            f"Classes that take releases without a signature: {', '.join(view['unsigned_classes'])}. Whoever can write "
            "to the firmware directory decides what their devices run."
        )
    for conflict in view["conflicts"]:
        told = any(port in conflict["detail"] for port in conflict["ports"])
        yield ("" if told else f"{', '.join(conflict['ports'])}: ") + conflict["detail"]
    yield from view["problems"]


def device_lines(views: list[DeviceView], now: datetime) -> list[str]:
    """Write the table of devices."""
    if not views:
        return ["No device has been seen yet. `firmwarden check` shows what the configuration matches."]
    return table(
        ("DEVICE", "LABEL", "PORT", "CLASS", "RUNS", "SHOULD RUN", "STATE"),
        [
            (
                view["id"],
                view["label"],
                # A label is there to be recognised by; without one this tells units apart.
                "" if view["label"] else view["port"].removeprefix(_BY_ID).removeprefix(_DEV),
                view["device_class"],
                "no complete image" if view["complete"] is False else view["running_version"] or "not known",
                _should_run(view),
                with_local_times(state_of_device(view, now), now),
            )
            for view in views
        ],
        fit=width(),
    )


def _should_run(view: DeviceView) -> str:
    notes = []
    if view["pinned"]:
        notes.append("pinned" if view["pinned"] == view["desired_version"] else f"pinned to {view['pinned']}")
    if view["stopped_version"]:
        notes.append(f"{view['stopped_version']} is stopped")
    return (view["desired_version"] or "-") + (f" ({', '.join(notes)})" if notes else "")


def release_lines(views: list[ReleaseView], problems: list[str]) -> list[str]:
    """Write the table of releases; where there is none, ``problems`` may be why."""
    if not views:
        none = (
            "No release is known. A release is a manifest NAME.toml beside its image in the firmware directory, or in "
            "a bundle NAME.fwz with it."
        )
        return [line for text in (none, *problems) for line in paragraph(text)]
    return table(
        ("MANIFEST", "CLASS", "VERSION", "SIZE", "IMAGE", "SIGNED BY", "STATE"),
        [
            (
                view["manifest"],
                view["device_class"] or "",
                view["version"] or "",
                size(view["size"]) if view["size"] is not None else "",
                (view["image"] or "")[:IMAGE_SHOWN],
                view["signed_by"] or "",
                f"refused: {view['reason']}"
                if view["state"] == "refused"
                else "accepted, but a latch keeps it from every device"
                if view["latched"]
                else f"accepted, but {view['reason']}"
                if view["reason"]
                else "accepted",
            )
            for view in views
        ],
        fit=width(),
    )


def job_lines(views: list[JobView], now: datetime) -> list[str]:
    """Write the table of jobs."""
    if not views:
        return ["There was no job yet: no device has needed a release."]
    return table(
        ("JOB", "DEVICE", "VERSION", "TRIED", "CHANGED", "STATE"),
        [
            (
                str(view["id"]),
                view["device"],
                view["version"],
                str(view["attempts"]),
                ago(view["updated_at"], now),
                state_of_job(view, now),
            )
            for view in views
        ],
        fit=width(),
    )


def history_lines(view: HistoryView, newest: int) -> list[str]:
    """Write the newest attempts and actions, so many together, as one table by time."""
    rows = [
        (
            attempt["started_at"],
            attempt["device"],
            f"attempt {attempt['number']} of job {attempt['job']} at {attempt['version']}: {attempt['outcome']}"
            + (f", {attempt['cause']['code']}: {attempt['cause']['detail']}" if attempt["cause"] else ""),
        )
        for attempt in view["attempts"]
    ]
    rows += [
        (action["at"], action["target"], f"{action['who']}: {action['what']} {action['detail']}".rstrip())
        for action in view["actions"]
    ]
    if not rows:
        return ["Nothing was tried and nobody did anything yet."]
    rows.sort(reverse=True)
    return table(
        ("WHEN", "CONCERNS", "WHAT"),
        [(day_and_time(at), target, what) for at, target, what in rows[:newest]],
        fit=width(),
    )


def plan_lines(views: list[PlanView]) -> list[str]:
    """Write what would happen to each device."""
    if not views:
        return ["No device is known, so there is nothing to plan."]
    return table(
        ("DEVICE", "LABEL", "WHAT", "VERSION", "WHY"),
        [
            (view["device"], view["label"], view["decision"], view["version"] or "", view["reason"])
            for view in views
        ],
        fit=width(),
    )
