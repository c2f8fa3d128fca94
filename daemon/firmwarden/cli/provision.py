"""``provision``: the option bit that failsafe updates rely on, shown, asked for, written once."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from firmwarden.cli.client_command import as_line, json_option
from firmwarden.cli.target import parse_usb
from firmwarden.cli.text import on_terminal, paragraph, table, width
from firmwarden.errors import FirmwardenError, LinkError, NotFound, Refused
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmwarden.app.named_usb import UsbTarget
    from firmwarden.app.provision import Survey
    from firmwarden.drivers.boot.option_block import Change

_DONE: Final = 0
_FAILED: Final = 1
_NOTHING_SENT: Final = 2

_WAY_IN: Final = (
    "To bring a device into the loader in its ROM, hold BOOT0 high while it is reset or plugged in, and until this is "
    "over; it then comes as 0483:df11."
)

_RISK: Final = (
    "The loader erases the option bytes before it programs them, and restarts. If the power fails in these few "
    "hundredths of a second the part may come up read-protected, or locked for good. Do it on a bench, with a "
    "supply that is sure."
)
_QUESTIONS: Final = (
    "What cannot be seen from here: does the application set VTOR before it enables an interrupt? The ROM stays "
    "mapped at address 0, and one that does not is dead wherever the ROM starts it. Try the very image on one device "
    "first. And bank 2 must never begin with what looks like a stack pointer: the ROM would start that."
)
_L476: Final = (
    "One user saw an STM32L476 refuse BFB2 over DFU, and nobody knows why. Set it with a debugger instead, or from "
    "the application."
)
_HIDDEN: Final = (
    "Its loader shows the option bytes of bank 1 alone: what a write that was cut left in those of bank 2, only a "
    "debugger shows."
)
_UNSEEN: Final = (
    "Its loader shows those of bank 1 alone. The write renews those of bank 2 last, and if the power failed just then, "
    "bank 2 may be protected now; only a debugger shows that."
)

ENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "done": "Done: the device has restarted, and its option bytes were read back: they are as they should "
        "be. Now take its power away and give it back, and see that its application starts.",
        "unchanged": f"Not done: the option bytes were read back, and they are as they were. {_L476}",
        "different": "The option bytes were read back, and they are neither as they were nor as they should be. "
        "Do not update this device. Look at it with a debugger.",
        "read-protected": "The loader is back and refuses to be read. The option bytes were probably cut, and the part "
        "is read-protected now. A debugger can lift that, which erases the flash; option bytes come after that.",
        "not-read": "The loader is back, and the option bytes could not be read, so what they are is not known. "
        "Run this command again.",
        "application-runs": "The device has restarted into something else than its loader, so the option bytes could "
        f"not be read back, and what they are is not known. {_WAY_IN} Then run this command again: it says.",
        "gone": "The device has not come back, so what its option bytes are is not known. Without an image it "
        "should be in its loader; one whose application does not set VTOR is dead now, until BOOT0 brings it into its "
        "loader.",
    }
)
"""What to say of each `Result`, by its value: the module that has them takes long to import."""


class _Usb(click.ParamType["UsbTarget"]):
    name = "VID:PID[@TOPOLOGY][,SERIAL]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UsbTarget:  # noqa: ANN401
        from firmwarden.app.named_usb import UsbTarget

        try:
            ids, topology, serial = parse_usb(value)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}.", param, ctx)
        return UsbTarget(ids=ids, topology=topology, serial=serial)


class _Part(click.ParamType[str]):
    name = "PART"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        from firmwarden.drivers.boot.provisioning import setting_of

        part = str(value).strip().upper()
        try:
            setting_of(part)
        except Refused as exc:
            self.fail(f"{part}: {exc}.", param, ctx)
        return part


@click.command()
@click.option("--usb", type=_Usb(), required=True, help="The device, in its loader.")
@click.option("--part", type=_Part(), required=True, help="What it is, e.g. STM32L476RG.")
@click.option(
    "--failsafe", type=click.Choice(("bfb2",)), required=True, help="What updates of it shall rely on."
)
@click.option("--yes", is_flag=True, help="Write without asking.")
@json_option
def provision(*, usb: UsbTarget, part: str, failsafe: str, yes: bool, as_json: bool) -> None:
    """Set the option bit that failsafe updates rely on.

    Once in the life of a device, on a bench. What would be written is shown first. The exit status is 0 when the bit
    is set, 1 when the device refused or what became of it is not known, and 2 when nothing was sent or nothing was
    confirmed.
    """
    from firmwarden.app import provision as app

    teller = _Teller(as_json=as_json)
    try:
        survey = app.survey(part, usb.find())
    except NotFound as exc:
        teller.end("not-started", f"{exc}. {_WAY_IN}", _NOTHING_SENT)
    except LinkError as exc:
        teller.end("not-started", f"{exc}.", _NOTHING_SENT)
    except FirmwardenError as exc:
        teller.end("refused", f"It is left alone: {exc}. Nothing was written.", _FAILED)
    teller.show(survey, failsafe)
    if survey.change.nothing_to_do:
        said = f"{survey.change.bit} is set already. Nothing was written."
        if not survey.change.all_seen:
            said = f"{said} {_HIDDEN}"
        teller.end("nothing-to-do", said, _DONE)
    asks = not as_json and on_terminal() and sys.stdin.isatty()
    if not yes and not (asks and _says_yes(part)):
        teller.end(
            "not-confirmed", "Nothing was written: it takes your yes, here or as --yes.", _NOTHING_SENT
        )
    teller.remark("Writing, and waiting for the device to come back.")
    try:
        ending = app.provision(survey)
    except FirmwardenError as exc:
        teller.end("refused", f"{exc}. Nothing was written.", _FAILED)
    said = ENDS[ending.result.value]
    done = ending.result.value == "done"
    if done and not survey.change.all_seen:
        said = f"{said} {_UNSEEN}"
    if ending.detail:
        said = f"{said} What was seen: {ending.detail}."
    teller.end(ending.result.value, said, _DONE if done else _FAILED)


def _says_yes(part: str) -> bool:
    answer = click.prompt(f"Type {part}, or yes, to write it", default="", show_default=False)
    return answer.strip().upper() in {part, "YES"}


class _Teller:
    """Says what was found, and how it ended."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def show(self, survey: Survey, failsafe: str) -> None:
        """Say what would be written."""
        from firmwarden.drivers.usb_place import told

        facts, bit = survey.way.seen.facts, survey.change.bit
        if self._as_json:
            words = [
                {
                    "address": f"0x{each.address:08x}",
                    "now": f"0x{each.before:08x}",
                    "then": f"0x{each.after:08x}",
                }
                for each in survey.change.words()
            ]
            said = {"event": "provision-planned", "topology": facts.topology, "serial": facts.serial}
            said |= {"part": survey.part, "failsafe": failsafe, "bit": str(bit)}
            click.echo(as_line({**said, "words": words}))
            return
        click.echo(
            printable(f"{survey.part} at {facts.topology}, as {told(facts)}, for failsafe = {failsafe}")
        )
        for line in _shown(survey.change):
            click.echo(line)

    def remark(self, sentence: str) -> None:
        """Say what takes a while."""
        if not self._as_json:
            click.echo(sentence)

    def end(self, outcome: str, detail: str, status: int) -> NoReturn:
        """Say how it ended, and leave."""
        if self._as_json:
            click.echo(as_line({"event": "provision-finished", "outcome": outcome, "detail": detail}))
        else:
            done = status == _DONE
            click.echo("\n".join(paragraph(detail, first="" if done else "firmwarden: ")), err=not done)
        sys.exit(status)


def _shown(change: Change) -> Iterator[str]:
    yield ""
    rows = [
        (f"0x{each.address:08x}", f"0x{each.before:08x}", f"0x{each.after:08x}") for each in change.words()
    ]
    yield from table(
        ("ADDRESS", "NOW", "THEN"),
        [(address, before, "" if before == after else after) for address, before, after in rows],
        fit=width(),
    )
    yield ""
    if not change.nothing_to_do:
        yield from paragraph(f"{change.bit} is the only bit that changes; the complements follow. {_RISK}")
        yield ""
        yield from paragraph(_QUESTIONS)
        yield ""
