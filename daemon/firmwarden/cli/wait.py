"""``retry --wait``: one retry, watched to its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from firmwarden.cli.client import Client, Problem, StreamBroken, Unreachable
from firmwarden.cli.client_command import Output, as_line
from firmwarden.cli.text import paragraph, utc_now
from firmwarden.exit_status import ExitStatus
from firmwarden.service.words import cause_in_words, state_of_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import FeedItem, JobView, WhyView

_GOES_ON = frozenset({"queued", "running"})


def retry_and_wait(client: Client, output: Output, name: str) -> NoReturn:
    """Ask for a retry, follow the job, and leave with the status of its outcome."""
    try:
        # The stream is open before the retry is asked for, so that nothing of it is missed.
        events = client.events()
        next(events)
        sentence = client.post("devices", name, "retry")
    except (Problem, Unreachable) as exc:
        output.fail(exc, ExitStatus.NOT_STARTED)
    if not output.as_json:
        click.echo("\n".join(paragraph(sentence)))
    try:
        view, job = _follow(client, output, events, name)
    except KeyboardInterrupt:
        click.echo("No longer waiting; the daemon goes on with the job.", err=True)
        sys.exit(ExitStatus.INTERRUPTED)
    except (Problem, Unreachable) as exc:
        # The job is on disk and goes on when the daemon does; only we cannot say how it ends.
        output.fail(exc, ExitStatus.UNKNOWN)
    sys.exit(_tell(output, view, job))


def _follow(
    client: Client, output: Output, events: Iterator[FeedItem | None], name: str
) -> tuple[WhyView, JobView]:
    """Return the job when it has ended or its outcome is unknown; events only shorten the wait for answers."""
    wanted = shown = None
    while True:
        view: WhyView = client.get("devices", name, "why")
        job = view["device"]["job"]
        wanted = wanted or job
        if job is None or wanted is None or job["id"] != wanted["id"]:
            raise Problem(409, "superseded", f"Another job took the place of this one. {view['next']}")
        if job["state"] not in _GOES_ON:
            return view, job
        state = state_of_job(job, utc_now())
        if state != shown and not output.as_json:
            click.echo(f"  {state}")
        shown = state
        _await_news(output, events, view["device"]["id"])


def _await_news(output: Output, events: Iterator[FeedItem | None], device: str) -> None:
    """Return when something happened to the device, or nothing did for a while."""
    for item in events:
        if item is None or item["kind"] == "gap":
            return
        if item["data"].get("device") == device:
            if output.as_json:
                data = item["data"]
                click.echo(as_line(data if item["kind"] == "log" else {"event": "progress", **data}))
            if item["kind"] == "log":
                return
    raise StreamBroken("The daemon was stopped. It goes on with the job when it is started again.")


def _tell(output: Output, view: WhyView, job: JobView) -> ExitStatus:
    cause = job["cause"]
    match job["state"]:
        case "succeeded":
            status, meaning = ExitStatus.SUCCEEDED, f"{job['device']} runs {job['version']}."
        case "unknown":
            status, meaning = (
                ExitStatus.UNKNOWN,
                f"Whether {job['device']} runs {job['version']} is not known.",
            )
        case "failed" if cause is not None and cause["code"] == "transport-exhausted":
            status, meaning = (
                ExitStatus.EXHAUSTED,
                "Given up: there was only transport trouble, but too much of it.",
            )
        case "failed":
            status, meaning = ExitStatus.REFUSED, f"Job {job['id']} failed."
        case other:
            status, meaning = ExitStatus.REFUSED, f"Job {job['id']} is {other}."
    if output.as_json:
        record: dict[str, object] = {
            "event": "update-finished",
            "outcome": job["state"],
            "device": job["device"],
            "job": job["id"],
            "attempts": job["attempts"],
            "release": job["version"],
            "image": job["image"],
        }
        if cause is not None and status is not ExitStatus.SUCCEEDED:
            scopes = [latch["scope"] for latch in view["latches"] if latch["image"] in (None, job["image"])]
            record["cause"] = {**cause, "scope": scopes[0] if scopes else None}
        click.echo(as_line(record))
        return status
    sentences = [meaning]
    if cause is not None and status is not ExitStatus.SUCCEEDED:
        sentences += [*cause_in_words(cause), view["next"]]
    click.echo("\n".join(paragraph(" ".join(sentences))))
    return status
