"""The command ``firmwarden``: its commands, in the order in which one meets them."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from firmwarden import __version__
from firmwarden.cli import act, ask, daemon, once, provision, rollout, sign, state, watch, why
from firmwarden.cli.screen import speak_to_nobody

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECTIONS: Final[dict[str, tuple[click.Command, ...]]] = {
    "The daemon": (daemon.run, daemon.check, daemon.hand_back, state.backup, state.restore),
    "One device, without the daemon": (once.update, once.info, once.plan, provision.provision),
    "Releases": (sign.keygen, sign.sign, sign.bundle, sign.verify),
    "Ask the running daemon": (
        ask.status,
        ask.devices,
        ask.releases,
        ask.jobs,
        ask.history,
        rollout.rollout,
        why.why,
        watch.watch,
    ),
    "Tell the running daemon": (
        act.retry,
        act.clear,
        act.cancel,
        act.hold,
        act.unhold,
        act.pin,
        act.adopt,
        act.forget,
        rollout.resume,
        rollout.recall,
    ),
}

LAZY: Final = {
    "demo": ("firmwarden.cli.demo.command", "demo", "Watch the real daemon update simulated devices."),
    "simulate": ("firmwarden.simulate.command", "simulate", "Run simulated devices to test against."),
}
"""Commands whose modules import half the package: module, attribute, and what the list of commands says."""


_CANNOT_BE_WRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class _Commands(click.Group):
    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - as click has it
        try:
            return super().main(*args, **extra)
        except OSError as exc:
            # A pipe that was closed is click's business.
            if exc.errno not in _CANNOT_BE_WRITTEN or exc.filename is not None:
                raise
            speak_to_nobody()  # what is in the buffer would be tried again at the end
            click.echo(f"firmwarden: The output cannot be written: {exc.strerror}.", err=True)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module, name, _ = LAZY[cmd_name]
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)  # noqa: S101 - LAZY says so
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        # As click does it, but for the commands that take long to import.
        texts = {name: command.get_short_help_str() for name, command in self.commands.items()}
        texts |= {name: text for name, (_, _, text) in LAZY.items()}
        names = [
            CompletionItem(name, help=text) for name, text in texts.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {
            title: [(command.name or "", command.get_short_help_str(70)) for command in commands]
            for title, commands in SECTIONS.items()
        }
        sections["Try it out"] = [(name, text) for name, (_, _, text) in LAZY.items()]
        longest = max(len(name) for rows in sections.values() for name, _ in rows)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{longest}}", text) for name, text in rows])


@click.group(
    name="firmwarden",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="firmwarden", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Keep the firmware of attached microcontrollers what it should be.

    Drop a release into the firmware directory; every attached device that should run it runs it, or is left able
    to try again, and `firmwarden why DEVICE` says why.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


for _commands in SECTIONS.values():
    for _command in _commands:
        main.add_command(_command)
