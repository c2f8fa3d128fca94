"""``retry --wait``: one retry, or the job that runs already, watched to its end."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NoReturn

import click

from firmwarden.cli.client import Client, Problem, StreamBroken, Unreachable
from firmwarden.cli.client_command import Output, as_line
from firmwarden.cli.screen import Screen, open_screen
from firmwarden.cli.text import paragraph, utc_now, with_local_times
from firmwarden.cli.watch import ENDS, show
from firmwarden.exit_status import ExitStatus
from firmwarden.service.measures import printable
from firmwarden.service.words import cause_in_words, state_of_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmwarden.service.views import CauseView, FeedItem, JobView, RolloutView, WaitView, WhyView

_GOES_ON = frozenset({"queued", "running"})
_FOR_A_PERSON = frozenset({"failsafe", "identity", "passed-over"})
_UNLESS_IT_ENDS = frozenset({"hold", "wear"})
"""For a person where nothing says when it ends by itself."""

_HALTED = frozenset({"stopped", "recalled"})
"""Rollouts that only a person lets go on."""

_LOOK_AGAIN_S = 1.0
"""The retry may just have ended a wait; the daemon plans anew at once."""


def retry_and_wait(client: Client, output: Output, name: str) -> NoReturn:
    """Ask for a retry, follow the job, and leave with the status of its outcome."""
    try:
        # The stream is open before the retry is asked for, so that nothing of it is missed.
        events = client.events()
        next(events)
        sentence = _retry(client, name)
    except (Problem, Unreachable) as exc:
        output.fail(exc, ExitStatus.NOT_STARTED)
    if not output.as_json:
        click.echo("\n".join(paragraph(sentence)))
    try:
        with nullcontext() if output.as_json else open_screen() as screen:
            view, job = _Following(client, screen, events, name).to_the_end()
    except KeyboardInterrupt:
        click.echo("No longer waiting; the daemon goes on with the job.", err=True)
        sys.exit(ExitStatus.INTERRUPTED)
    except (Problem, Unreachable) as exc:
        # The job is on disk and goes on when the daemon does; only we cannot say how it ends.
        output.fail(exc, ExitStatus.UNKNOWN)
    sys.exit(_tell(output, view, job))


def is_for_a_person(wait: WaitView) -> bool:
    """Whether only a person can end a wait."""
    return wait["kind"] in _FOR_A_PERSON or (wait["kind"] in _UNLESS_IT_ENDS and wait["until"] is None)


def _retry(client: Client, name: str) -> str:
    """Ask for a retry, and return what was done; a job that runs already is the try that was asked for.

    Raises:
        Problem: the daemon says no for another reason.
        Unreachable: it says nothing.
    """
    try:
        return client.post("devices", name, "retry")
    except Problem as problem:
        if problem.kind != "refused":
            raise
        view: WhyView = client.get("devices", name, "why")
        job = view["device"]["job"]
        if job is None or job["state"] != "running":
            raise
        return str(problem)


class _Following:
    """Follows one job on a screen, or as JSON lines where there is none."""

    def __init__(
        self, client: Client, screen: Screen | None, events: Iterator[FeedItem | None], name: str
    ) -> None:
        self._client = client
        self._screen = screen
        self._events = events
        self._name = name
        self._shown = ""

    def to_the_end(self) -> tuple[WhyView, JobView]:
        """Return the job when it has ended, waits for a person, or has an unknown outcome."""
        wanted = stuck = None
        while True:
            view: WhyView = self._client.get("devices", self._name, "why")
            job = view["device"]["job"]
            wanted = wanted or job
            if job is None or wanted is None or job["id"] != wanted["id"]:
                raise Problem(409, "superseded", f"Another job took the place of this one. {view['next']}")
            if job["state"] not in _GOES_ON:
                return view, job
            self._show(job)
            if self._waits_for_a_person(job):
                if job["wait"] == stuck:
                    return view, job
                stuck = job["wait"]
                time.sleep(_LOOK_AGAIN_S)
            else:
                stuck = None
                self._await_news(view["device"]["id"])

    def _waits_for_a_person(self, job: JobView) -> bool:
        wait = job["wait"]
        if wait is None or wait["kind"] != "canary":
            return wait is not None and is_for_a_person(wait)
        rollouts: list[RolloutView] = self._client.get("rollouts")["rollouts"]
        meant = (job["device_class"], job["image"])
        return any(
            (each["device_class"], each["image"]) == meant and each["state"] in _HALTED for each in rollouts
        )

    def _show(self, job: JobView) -> None:
        running = f"updating to {job['version']}, attempt {job['attempts']}"
        state = running if job["state"] == "running" else state_of_job(job, utc_now())
        if state != self._shown and self._screen is not None:
            self._screen.line(printable(f"  {state}"), "info")
        self._shown = state

    def _await_news(self, device: str) -> None:
        """Return when something happened to the device, or nothing did for a while; events only shorten the wait."""
        for item in self._events:
            if item is None or item["kind"] == "gap":
                return
            if item["data"].get("device") == device:
                self._tell_event(item)
                if item["kind"] == "log":
                    return
        raise StreamBroken("The daemon was stopped. It goes on with the job when it is started again.")

    def _tell_event(self, item: FeedItem) -> None:
        data = item["data"]
        if self._screen is None:
            click.echo(as_line(data if item["kind"] == "log" else {"event": "progress", **data}))
        elif item["kind"] == "progress":
            show(item, self._screen, str)
        elif data.get("event") in ENDS:
            self._screen.ended(str(data["device"]))


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
        case "queued":
            cause = None
            status, meaning = (
                ExitStatus.NOT_STARTED,
                f"Job {job['id']} waits for what only a person can do. {with_local_times(view['next'], utc_now())}",
            )
        case other:
            status, meaning = ExitStatus.REFUSED, f"Job {job['id']} is {other}."
    if output.as_json:
        record: dict[str, object] = {
            "event": "update-finished",
            "outcome": "not-started" if status is ExitStatus.NOT_STARTED else job["state"],
            "device": job["device"],
            "job": job["id"],
            "attempts": job["attempts"],
            "release": job["version"],
            "image": job["image"],
        }
        if cause is not None and status is not ExitStatus.SUCCEEDED:
            scopes = [latch["scope"] for latch in view["latches"] if latch["image"] in (None, job["image"])]
            record["cause"] = {**cause, "scope": scopes[0] if scopes else None}
        if status is ExitStatus.NOT_STARTED:
            record["cause"] = {"code": "not-started", "scope": None, "detail": view["next"]}
        click.echo(as_line(record))
        return status
    for line in _in_words(meaning, None if status is ExitStatus.SUCCEEDED else cause, view):
        click.echo(line)
    return status


def _in_words(meaning: str, cause: CauseView | None, view: WhyView) -> Iterator[str]:
    """Tell the outcome, and where it was no success what `why` says of what follows."""
    yield from paragraph(" ".join([meaning, *(cause_in_words(cause) if cause is not None else ())]))
    if cause is None:
        return
    yield from ("", "What happens next", *paragraph(with_local_times(view["next"], utc_now()), indent="  "))
    if view["commands"]:
        yield from ("", "What you can do", *(f"  {printable(command)}" for command in view["commands"]))
