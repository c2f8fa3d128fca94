"""One device without the daemon: ``update``, ``info``, and ``plan IMAGE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from firmwarden.cli.ask import show_plan
from firmwarden.cli.client_command import Output, as_line, client_command, examples, json_option
from firmwarden.cli.screen import Screen, open_screen, speak_to_nobody
from firmwarden.cli.target import needed, target_options
from firmwarden.cli.text import paragraph, table, width
from firmwarden.errors import AttemptFailed, BadImage, FirmwardenError, NotFound
from firmwarden.exit_status import ExitStatus
from firmwarden.service.measures import duration, printable
from firmwarden.service.words import cause_in_words, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.app.named import Target
    from firmwarden.app.once import Plan
    from firmwarden.cli.client import Client

_HINTS: Final = {
    "no-answer": "Perhaps its application runs: this command knows no way into the loader, a class of the daemon "
    "may. Or the baud rate is another.",
    "entry-failed": "Perhaps its loader goes by other ids: --loader VID:PID names them.",
}
"""What to think of first where only transport trouble was seen, by the last cause."""

_IMAGE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(
    epilog=examples(
        "firmwarden update panel-2.4.0.img --serial /dev/ttyACM0 --baud 460800",
        "firmwarden update io-2.4.0.img --tcp 10.0.0.7:5559",
        "firmwarden update meter.bin --usb 0483:df11@1-1.4 --address 0x08000000",
    )
)
@click.argument("image", type=_IMAGE)
@json_option
@target_options
def update(target: Target | None, image: Path, *, as_json: bool) -> None:
    """Update one device now, without the daemon.

    It has to be in its loader or get there by DFU's detach. Transport trouble is tried again for 60 seconds. Nothing of
    it is remembered.

    The exit status is 0 when the device runs the image, 1 when it refused it, 2 when nothing was sent, 3 when there was
    too much transport trouble, 4 when the outcome is not known, and 130 when it was interrupted before its end.
    """
    from firmwarden.app.once import UpdateOrder, update_once

    order = UpdateOrder(image=image, target=needed(target))
    with open_screen() as screen:
        narrator = _Narrator(screen, as_json=as_json)
        try:
            status = update_once(order, narrator.report)
        except (FirmwardenError, KeyboardInterrupt) as exc:
            # From the first byte on a signal is the update's own business: it tells what it leaves behind.
            detail = str(exc) or "Interrupted before anything was sent to the device."
            cause = {"code": "not-started", "scope": None, "detail": detail}
            narrator.report({"event": "update-finished", "outcome": "not-started", "cause": cause})
            status = ExitStatus.NOT_STARTED
    sys.exit(status)


@click.command(
    epilog=examples(
        "firmwarden info --serial /dev/ttyACM0",
    )
)
@json_option
@target_options
def info(target: Target | None, *, as_json: bool) -> None:
    """Ask a device's loader what it is.

    This opens the port, and some boards reset when that happens. Nothing on the device changes.
    """
    from firmwarden.app.once import info_once

    output = Output(as_json=as_json)
    try:
        found = info_once(needed(target))
    except FirmwardenError as exc:
        _fail(output, exc)
    output.records(
        [found],
        lambda: table(("FIELD", "VALUE"), [(key, str(each)) for key, each in found.items()], fit=width()),
    )


@click.command(
    epilog=examples(
        "firmwarden plan",
        "firmwarden plan meter.dfu --usb 1209:0001",
    )
)
@click.argument("image", type=_IMAGE, required=False)
@client_command
@target_options
def plan(target: Target | None, client: Client, output: Output, image: Path | None) -> None:
    """Say what would happen, and why not.

    Without IMAGE the running daemon is asked about every device. With it, and a device named, every step of that
    update is told, and what an interruption in it would leave; nothing on the device changes.
    """
    if image is None:
        if target is not None:
            raise click.UsageError("Which image? `firmwarden plan IMAGE` with the device named.")
        show_plan(client, output)
        return
    from firmwarden.app.once import UpdateOrder, plan_once

    try:
        found = plan_once(UpdateOrder(image=image, target=needed(target)))
    except FirmwardenError as exc:
        _fail(output, exc)
    output.records(
        (
            {"step": step.step.value, "does": step.does, "if_interrupted": step.if_interrupted}
            for step in found.steps
        ),
        lambda: _plan_lines(found),
    )


def _plan_lines(plan: Plan) -> Iterator[str]:
    if plan.remark:
        yield from paragraph(plan.remark)
    for step in plan.steps:
        yield from paragraph(step.does, first=f"{step.step.value:8} ", indent=" " * 9)
        yield from paragraph(f"If interrupted: {step.if_interrupted}", indent=" " * 9)


class _Narrator:
    """Tells an update while it happens."""

    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._attempt = 0
        self._waiting = ""
        self._last_cause = ""

    def report(self, event: Mapping[str, Any]) -> None:
        """Take one event of the update: as the log has it, a sample of progress, or the end.

        An output that is gone, say a closed pipe or a full disk, does not break the update off.
        """
        try:
            self._tell(event)
        except OSError:
            speak_to_nobody()

    def _tell(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            click.echo(as_line(event))
            return
        match event["event"]:
            case "image-taken" | "warning" as kind:
                self._remark(event["detail"], warning=kind == "warning")
            case "progress":
                self._screen.progress("", event["step"], event["done"], event["total"])
            case "attempt-started" if event["number"] != self._attempt:
                # An attempt that meets a port that is taken is no attempt, and the next one has the same number.
                self._attempt = event["number"]
                self._screen.line(f"Attempt {self._attempt}", "info")
            case "job-waiting" if event["wait"] == "port-held" and event["detail"] != self._waiting:
                self._screen.ended("")
                self._waiting = event["detail"]
                self._screen.line(printable(f"Waiting: {self._waiting}"), "warning")
            case "attempt-failed" if event["cause"] != "stopping":
                self._last_cause = event["cause"]
                self._screen.ended("")
                again = event.get("retry_in_s")
                then = f"; again in {duration(again)}" if again is not None else ""
                self._screen.line(printable(f"Failed: {event['detail']} ({event['cause']}){then}"), "warning")
            case "update-finished":
                self._screen.ended("")
                level = "info" if event["outcome"] == "succeeded" else "error"
                for line in paragraph(_end_in_words(event, self._last_cause)):
                    self._screen.line(line, level)

    def _remark(self, detail: str, *, warning: bool) -> None:
        self._screen.ended("")
        for line in paragraph(f"Warning: {detail}." if warning else detail):
            self._screen.line(line, "warning" if warning else "info")


def _end_in_words(event: Mapping[str, Any], last_cause: str = "") -> str:
    """Say how it ended, why, what that leaves on the device, and what to do."""
    cause, evidence = event.get("cause"), event.get("evidence", "")
    match event["outcome"]:
        case "succeeded":
            return f"Updated: {evidence}." if evidence else "Updated."
        case "unknown":
            start = "The outcome is not known."
            end = "See what the device runs when it has been off and on again; it can be updated anew in any case."
        case "not-started":
            start, end = "Nothing was sent to the device.", ""
        case "interrupted":
            return f"Interrupted: {cause['detail']}." if cause is not None else "Interrupted."
        case _:
            refused = cause is not None and cause["scope"] is not None
            start = "Refused by the device." if refused else "Not updated."
            left = "The device holds no complete image now, and needs another update."
            end = left if event.get("complete") is False else _HINTS.get(last_cause, "")
    told = (
        [] if cause is None else cause_in_words(cause) if "meaning" in cause else [sentence(cause["detail"])]
    )
    if cause is None and evidence:
        told = [sentence(evidence)]
    return " ".join(filter(None, (start, *told, end)))


def _fail(output: Output, exc: FirmwardenError) -> NoReturn:
    if isinstance(exc, AttemptFailed):
        from firmwarden.service.telling import cause_view

        told = [*cause_in_words(cause_view(exc.cause)), _HINTS.get(exc.cause.code.value, "")]
        exc = FirmwardenError(" ".join(filter(None, told)))
    output.fail(exc, 2 if isinstance(exc, NotFound | BadImage) else 1)
